"""Owns what is known of the installed engines: looks again when files change, asks each build once, publishes the slice."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from app.core import control
from app.core.errors import BadRequest, EngineNotInstalled
from app.core.paths import Paths
from app.core.profiles import Profile
from app.core.snapshot import Engines, Offer, RunView, Seats
from app.daemon import docker_images, outside_engines
from app.daemon.asking import ANSWER_SECONDS, Stopped
from app.daemon.caches import disk_bytes
from app.daemon.choosing import choose, effective_pin, engine_views, named, note_of, title_of, why_none
from app.daemon.engine_choices import Choices, change_choices, choices_or_none
from app.daemon.engine_places import is_program
from app.daemon.engine_probe import Facts, FactsFile, learn, with_facts
from app.daemon.installations import at, expanded_path, installed, listed, pinned_elsewhere
from app.daemon.tasks import Tasks
from app.engines.base import Installation
from app.engines.registry import FAMILIES

log = logging.getLogger(__name__)

WATCH_SECONDS = 2.0  # between looks at the places' times of change
LOOK_SECONDS = 60.0  # between whole looks: not every place tells of changes
OUTSIDE_SECONDS = 600.0  # between questions to the container engine and Ollama
IMAGES = "images.json"  # what the container engine had when it was asked last
FIRST_LOOK_SECONDS = 5.0  # a drive that hangs must not keep the service from starting
ASKED = ("llama-server", "llama.cpp", "llama-cpp-python")  # families that are started to be asked
ASKED_LAST = ("vllm",)  # these take half a minute to answer

Offers = Callable[[Sequence[Installation]], Mapping[str, tuple[Offer, ...]]]
Key = tuple[str, str]  # family, installation's id
T = TypeVar("T")


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the files: what is there, and what was pinned."""

    rows: tuple[Installation, ...] = ()
    choices: Choices = Choices()
    stamp: tuple[object, ...] = ()
    installed_at_unix: dict[str, float] = {}
    elsewhere: dict[Key, tuple[Installation, ...]] = {}  # what pins that are paths lead to


class EngineRegistry:
    """`find` reads memory only, from any thread; everything else belongs to the event loop, and files are read in threads."""

    def __init__(
        self,
        paths: Paths,
        environ: Mapping[str, str],
        publish: Callable[[Engines], None],
        *,
        offers: Offers = lambda _: {},
        accelerators: tuple[str, ...] = (),
        tried: Mapping[str, str] | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._paths = paths
        self._environ = dict(environ)
        self._publish = publish
        self._offers = offers
        self._accelerators = accelerators
        self._tried = {"llama-server": "0.5.0", **(tried or {})}
        self._answer_seconds = answer_seconds
        self._watch_seconds = watch_seconds
        self._facts_file = FactsFile(paths.engine_facts, self._environ, answer_seconds)
        self._facts: dict[Key, Facts] = {}
        self._disk_bytes: dict[tuple[str, float], int] = {}
        self._look = Look()
        self._rows: tuple[Installation, ...] = ()  # of the look, with what they said of themselves
        self._outside = docker_images.remembered(paths.state / IMAGES)
        self._ollama: tuple[Installation, ...] = ()  # the one that runs: it comes before one that we would start
        self._elsewhere: dict[Key, tuple[Installation, ...]] = {}  # what pins that are paths lead to
        self._in_use: frozenset[Key] = frozenset()
        self._looking = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine questions")
        self._tasks = Tasks()

    # --- life ---

    async def start(self) -> None:
        """Returns when the files were looked at; what the engines say of themselves follows."""
        try:
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                self._ollama = (
                    await self._in_thread(self._ask_ollama) or ()
                )  # on the loopback: it answers at once or is not there
                await self.look()
        except TimeoutError:
            log.warning("the engines' folders take long to read; the list follows")
        self._tasks.start(self._follow(), "engines: look for changes")

    async def close(self) -> None:
        self._stop.set()
        await self._tasks.close()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        whole_at = outside_at = loop.time()
        try:
            await self._ask_all(outside=True)
        except Exception:
            log.exception("the engines could not be asked")
        while True:
            try:
                async with asyncio.timeout(self._watch_seconds):
                    await self._wake.wait()
                self._wake.clear()  # before the look: a call in the middle of it is heeded after it
                changed = True
            except TimeoutError:
                changed = await asyncio.to_thread(self._stamp, self._look.rows) != self._look.stamp
            now = loop.time()
            if not changed and now - whole_at < LOOK_SECONDS:
                continue
            whole_at = now
            try:
                outside = now - outside_at > OUTSIDE_SECONDS
                outside_at = now if outside else outside_at
                await self.look()
                await self._ask_all(outside=outside)
            except Exception:  # whatever a folder holds, the next look must come
                log.exception("the engines could not be looked for")

    def look_again(self) -> None:
        """Something was installed or removed: look soon."""
        self._wake.set()

    # --- looking and asking ---

    async def look(self) -> None:
        """Looks at all files now and publishes; starts no engine."""
        async with self._looking:
            self._look = await asyncio.to_thread(self._look_at_files)
            self._elsewhere = self._look.elsewhere
            self._show()

    def _look_at_files(self) -> Look:
        rows = tuple(listed(self._paths, self._environ))
        for row in rows:
            key = (row.family, row.id)
            known = self._facts_file.of(row)
            if known is not None:
                self._facts[key] = known
            else:
                self._facts.pop(key, None)
        choices = choices_or_none(self._paths.engine_choices)
        pins = {*self._elsewhere, *choices.pins.items()}  # a drive that hangs must hang this thread and not the service
        return Look(
            rows=rows,
            choices=choices,
            elsewhere={(family, pin): pinned_elsewhere(family, pin, self._environ) for family, pin in pins},
            stamp=self._stamp(rows),
            installed_at_unix={
                folder.name: record.installed_at_unix for folder, record in installed(self._paths.engines)
            },
        )

    def _stamp(self, rows: Sequence[Installation]) -> tuple[object, ...]:
        """Differs when an engine has come, gone or changed in a place that tells of it."""
        folders = [Path(folder) for folder in self._environ.get("PATH", "").split(os.pathsep) if folder.startswith("/")]
        watched = [self._paths.engines, self._paths.engine_choices, *folders, *(Path(row.executable) for row in rows)]
        return tuple(_modified(path) for path in watched)

    async def refresh(self) -> Engines:
        """Looks at everything now, and asks again whoever gave no good answer."""
        self._facts_file.forget_failures()
        await self.look()
        await self._ask_all(outside=True)
        return self.slice()

    async def _ask_all(self, *, outside: bool) -> None:
        """Asks every build that has not been asked since its files changed, the ones that would be used first."""
        async with self._asking:
            self._ollama = await self._in_thread(self._ask_ollama) or ()
            if not await self._ask_families(ASKED):
                return
            await self._in_thread(self._measure)
            if outside:
                self._outside = await self._in_thread(self._ask_outside) or ()
            self._show()
            await self._ask_families(ASKED_LAST)

    async def _ask_families(self, families: tuple[str, ...]) -> bool:
        """False when it was ended because we leave."""
        for row in sorted(self._look.rows, key=lambda row: not self._is_chosen(row)):
            key = (row.family, row.id)
            if row.family in families and not row.problem and key not in self._facts:
                facts = await self._in_thread(partial(self._facts_file.learn, row, self._stop))
                if facts is None:
                    return False
                if facts.problem and not is_program(Path(row.executable)):
                    self._wake.set()  # it was removed meanwhile: that is all there is to say of it
                    continue
                self._facts[key] = facts
                self._show()
        return True

    async def _in_thread(self, work: Callable[[], T]) -> T | None:
        """None when it was ended because we leave."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Stopped:
            return None

    def _ask_outside(self) -> tuple[Installation, ...]:
        found = tuple(outside_engines.images(self._environ, stop=self._stop))
        docker_images.remember(self._paths.state / IMAGES, found)
        return found

    def _ask_ollama(self) -> tuple[Installation, ...]:
        found = outside_engines.running_ollama(self._environ)
        return () if found is None else (found,)

    def _measure(self) -> None:
        """What the installer's folders take on the disk; they do not change once they are finished."""
        for name, at_unix in self._look.installed_at_unix.items():
            if (name, at_unix) not in self._disk_bytes:
                self._disk_bytes[name, at_unix] = disk_bytes(self._paths.engines / name)

    # --- telling ---

    def _show(self) -> None:
        self._rows = tuple(self._with_facts(row) for row in self._look.rows)
        self._publish(self.slice())

    def _with_facts(self, row: Installation) -> Installation:
        facts = self._facts.get((row.family, row.id))
        told = row if facts is None else with_facts(row, facts)
        note = told.note or note_of(told, facts is not None, self._tried.get(told.family, ""))
        return replace(told, note=note)

    def slice(self) -> Engines:
        """The installations as everybody sees them."""
        rows = (*self._ollama, *self._rows, *self._outside)
        more: dict[str, dict[str, object]] = {
            name: {"installed_at_unix": at_unix, "disk_bytes": self._disk_bytes.get((name, at_unix))}
            for name, at_unix in self._look.installed_at_unix.items()
        }
        for row in rows:
            above = {row.executable, *(str(folder) for folder in Path(row.executable).parents)}
            if place := next((one for one in self._look.choices.places if one in above), ""):
                more.setdefault(row.id, {})["place"] = place
        pins = self._look.choices.pins
        families = engine_views(rows, pins, in_use=self._in_use, offers=self._offers(rows), more=more)
        return Engines(families=families, accelerators=self._accelerators)

    def seats_changed(self, seats: msgspec.Struct) -> None:
        """Which engines run now is told by the seats."""
        assert isinstance(seats, Seats)
        runs = [seat.run for seat in seats.seats if seat.run is not None and seat.run.ended_at_unix is None]
        in_use = frozenset((run.engine, word) for run in runs for word in _program_of(run))
        if in_use != self._in_use:
            self._in_use = in_use
            self._publish(self.slice())

    # --- finding ---

    def find(self, family_id: str, pin: str = "") -> Installation | None:
        """The installation that a launch would use now; `pin` is a profile's."""
        rows, pin = self._candidates(family_id, pin)
        return choose(rows, pin)

    def need(self, profile: Profile) -> Installation:
        """The installation that a profile is launched with; raises EngineNotInstalled with what to do."""
        found = self.find(profile.engine, profile.installation)
        if found is None:
            raise self.why_none(profile.engine, profile.installation, profile.id)
        return found

    def why_none(self, family_id: str, pin: str = "", profile_id: str = "") -> EngineNotInstalled:
        """What to tell where `find` found nothing."""
        rows, effective = self._candidates(family_id, pin)
        others = [row for row in self._rows if row.family != family_id]
        return why_none(family_id, [*rows, *others], effective, profile_id if pin else "")

    def installation(self, installation_id: str) -> Installation | None:
        """The one of that id, whatever its family."""
        return next((row for row in (*self._rows, *self._outside) if row.id == installation_id), None)

    def known_flags(self, installation: Installation) -> frozenset[str] | None:
        """Every flag of the installation's own help; None when it has none, does not tell, or was not asked yet."""
        facts = self._facts.get((installation.family, installation.id))
        return None if facts is None or facts.flags is None else frozenset(facts.flags)

    def _candidates(self, family_id: str, profile_pin: str) -> tuple[list[Installation], str]:
        rows = [row for row in (*self._ollama, *self._rows, *self._outside) if row.family == family_id]
        pin = effective_pin(rows, profile_pin, self._look.choices.pins.get(family_id, ""))
        if pin and named(rows, pin) is None:
            key = (family_id, pin)
            if key not in self._elsewhere:
                images = family_id == docker_images.FAMILY
                find = docker_images.wanted if images else partial(pinned_elsewhere, family_id)
                self._elsewhere[key] = find(pin, self._environ)
            rows += self._elsewhere[key]
            path = expanded_path(pin, self._environ)
            pin = str(path) if path is not None else pin
        return rows, pin

    def _is_chosen(self, row: Installation) -> bool:
        found = self.find(row.family)
        return found is not None and found.id == row.id

    # --- choices ---

    async def pin(self, wish: control.Pin) -> control.Accepted:
        """Raises BadRequest for a family that there is not, EngineNotInstalled for an installation that cannot be used."""
        family_id = wish.family
        if family_id not in FAMILIES:
            raise BadRequest(f"There is no engine {family_id!r}.", f"There are: {', '.join(FAMILIES)}.")
        rows, found = self._rows, None
        if wish.installation:
            rows = tuple((await asyncio.to_thread(self._candidates, family_id, wish.installation))[0])
            path = expanded_path(wish.installation, self._environ)
            found = choose(rows, str(path) if path is not None else wish.installation)
            if found is None:
                raise self._cannot_pin(family_id, wish.installation, rows)

        def changed(before: Choices) -> Choices:
            pins = {name: pin for name, pin in before.pins.items() if name != family_id}
            return replace(before, pins={**pins, family_id: wish.installation} if found else pins)

        await asyncio.to_thread(change_choices, self._paths.engine_choices, changed)
        await self.look()
        used = self.find(family_id)
        words = f"{title_of(family_id)} uses {used.id} now." if used else self.why_none(family_id).summary
        if found is not None and used is not None and used.id != found.id:
            words = f"{found.id} is pinned, but a variable names {used.executable}, which is used as long as it is set."
        return control.Accepted(note=words)

    def _cannot_pin(self, family_id: str, pin: str, rows: Sequence[Installation]) -> EngineNotInstalled:
        usable = ", ".join(row.id for row in rows if not row.problem) or "none"
        row = named(rows, pin)
        other = named(self._rows, pin)
        if row is not None:
            summary = f"{row.id} cannot be used: {row.problem}"
        elif other is not None:
            summary = f"{other.id} is an installation of {title_of(other.family)}, not of {title_of(family_id)}."
        else:
            summary = f"There is no installation {pin[:120]!r} of {title_of(family_id)}."
        return EngineNotInstalled(summary, f"There are: {usable}. `engine-room engines list` shows them all.")

    async def add(self, wish: control.AddEngine) -> control.Accepted:
        """Remembers a place, or forgets it. Raises BadRequest when no engine is there."""
        path = expanded_path(wish.path, self._environ)
        if path is None:
            raise BadRequest(f"{wish.path[:200]!r} is not an absolute path.", "Name the program or folder in full.")
        place = normal(path)
        found: tuple[Installation, ...] = ()
        if not wish.forget:
            found = await self._in_thread(lambda: self._inspected(Path(place))) or ()

        def changed(before: Choices) -> Choices:
            others = tuple(one for one in before.places if one != place)
            return replace(before, places=others if wish.forget else (*others, place))

        await asyncio.to_thread(change_choices, self._paths.engine_choices, changed)
        await self.look()
        self.look_again()
        if wish.forget:
            return control.Accepted(note=f"{place} is not looked at any more.")
        names = ", ".join(f"{title_of(row.family)} {row.build or row.executable}" for row in found)
        return control.Accepted(note=f"Found: {names}.")

    def _inspected(self, path: Path) -> tuple[Installation, ...]:
        """The engines at a path. A program of another name must say that it is a server of llama.cpp's."""
        if not path.exists():
            raise BadRequest(f"There is nothing at {path}.", "Check the path.")
        found = at(path)
        if found and is_program(path) and found[0].executable == str(path) and not path.name.startswith("llama-server"):
            facts = learn(found[0], self._environ, seconds=self._answer_seconds, stop=self._stop)
            if not facts.version and "--model" not in (facts.flags or ()):
                found = ()
        if not found:
            raise BadRequest(
                f"No engine was found at {path}.",
                "It can be a llama-server program, a folder with builds of it, or a Python environment that has"
                " xllamacpp, llama-cpp-python or vLLM.",
            )
        return found


def _program_of(run: RunView) -> tuple[str, ...]:
    """What a run executes, as its installation names it: the program, or of a container every word that may be its image."""
    return run.argv if run.engine == docker_images.FAMILY else run.argv[:1]


def normal(path: Path) -> str:
    """Without "..", but with links as they are named: where they lead may change."""
    return os.path.normpath(path)


def _modified(path: Path) -> object:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
