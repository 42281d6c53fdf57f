"""Owns the manifest of each run: all that made the run what it was, and the way back to a launch like it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from app import __version__
from app.core.catalog.facts import ModelFacts
from app.core.catalog.gguf_facts import shards_of
from app.core.catalog.read import read_facts
from app.core.control import Manifest
from app.core.errors import EngineNotInstalled, EngineRoomError, ModelChanged, ModelMissing, SettingInvalid, UnknownRun
from app.core.profiles import Profile
from app.core.redaction import HIDDEN, shown_profile
from app.core.seat import Wanted
from app.core.snapshot import InstallationView, ProfileCard, RunView
from app.daemon.database import Database
from app.daemon.library import Library
from app.daemon.preparing import Prepared
from app.daemon.tasks import Tasks
from app.engines.base import Installation

log = logging.getLogger(__name__)

PIECE_BYTES = 1024**2  # of each end of each file that a fingerprint is made of
FORCED = "+forced"
LIVE = 16  # manifests kept at hand: of the present runs and of those that are repeated

T = TypeVar("T")
FindEngine = Callable[[Profile], Installation | None]


class Manifests:
    """A manifest is written when its run begins, and again as more of it is known; it goes when its run is pruned.

    All methods belong to the event loop; files are read in a thread.
    """

    def __init__(self, database: Database, library: Library, find_engine: FindEngine) -> None:
        self._database = database
        self._library = library
        self._find_engine = find_engine
        self._live: dict[str, Manifest] = {}
        self._tasks = Tasks()

    # --- a run that is being made ---

    def note(self, run: RunView, prepared: Prepared) -> None:
        """Called whenever a run is kept: the first time its launch has just become a value, later it has come further."""
        known = self._live.get(run.id)
        if known is None and run.ended_at_unix is None and prepared.launch is not None:
            self._begin(run, prepared)
        elif known is not None and (known.stages != prepared.stages or known.run != run):
            self._keep(replace(known, run=run, stages=dict(prepared.stages)))

    def _begin(self, run: RunView, prepared: Prepared) -> None:
        assert prepared.launch is not None
        gpus = prepared.before
        cards = [gpu for gpu in gpus.gpus if gpu.uuid in prepared.launch.gpu_uuids] if gpus is not None else []
        again = (earlier for earlier, card in self._library.recalled.items() if card is prepared.card)
        manifest = Manifest(
            run=run,
            profile=shown_profile(prepared.profile),
            settings=prepared.family.effective_settings(prepared.launch),
            model_path=prepared.card.model_path,
            installation=_view(prepared.installation),
            driver_version=gpus.driver_version if gpus is not None else None,
            gpus=tuple(f"{gpu.name} {gpu.uuid}" for gpu in cards),
            product_version=__version__,
            as_run=next(again, "").removesuffix(FORCED),
        )
        self._keep(manifest)
        work = self._identify(run.id, Path(manifest.model_path), prepared.installation)
        self._tasks.start(work, f"fingerprints for {run.id}")

    async def _identify(self, run_id: str, path: Path, installation: Installation) -> None:
        try:
            found = await asyncio.to_thread(identity, path)
            engine = await asyncio.to_thread(engine_fingerprint, installation)
        except OSError as error:
            log.info("the files of %s could not be fingerprinted: %s", run_id, error)
            return
        manifest = self._live.get(run_id)
        if manifest is not None:
            self._keep(
                replace(
                    manifest,
                    model_bytes=found.bytes,
                    model_modified_unix=found.modified_unix,
                    model_fingerprint=found.fingerprint,
                    engine_fingerprint=engine,
                )
            )

    def _keep(self, manifest: Manifest) -> None:
        _put(self._live, manifest.run.id, manifest)
        self._tasks.start(self._write(manifest), f"keep the manifest of {manifest.run.id}")

    async def _write(self, manifest: Manifest) -> None:
        try:
            await self._database.keep_manifest(manifest)
        except Exception as error:  # the database tells its own trouble, and a launch must not fail of it
            log.warning("the manifest of %s could not be written: %s", manifest.run.id, error)

    async def of(self, run: RunView) -> Manifest:
        """Raises UnknownRun for a run that was made before there were manifests."""
        manifest = self._live.get(run.id) or await self._database.manifest(run.id)
        if manifest is None:
            raise UnknownRun(
                f"Nothing more is known of the run {run.id} than its command line.",
                "It was made by an earlier version of Engine Room; a new run is kept with all that made it.",
            )
        return replace(manifest, run=run)

    # --- the way back ---

    async def recall(self, run: RunView, *, force: bool = False) -> ProfileCard:
        """The run's profile as a card that can be loaded again, pinned to the run's own engine; the library has it now.

        Raises ModelMissing, ModelChanged or EngineNotInstalled when it could not be the same again, SettingInvalid when
        a secret of it is gone. `force` takes the file and the engine that are there now.
        """
        manifest = await self.of(run)
        profile = with_secrets(manifest.profile, self._present(manifest.profile.id))
        facts = await asyncio.to_thread(_checked_model, manifest, force)
        card = ProfileCard(
            profile=await self._with_engine(profile, manifest, force),
            facts=facts,
            model_path=manifest.model_path,
            available=True,
            engine_available=True,
        )
        _put(self._library.recalled, recall_key(run.id, force), card)
        return card

    async def recall_wanted(self) -> None:
        """After an unexpected end: what was wanted may have been an earlier run, whose profile is needed again."""
        for text in await self._database.recall_all("wanted:"):
            try:
                wanted = msgspec.json.decode(text, type=Wanted)
                run = await self._database.run(wanted.as_run.removesuffix(FORCED)) if wanted.as_run else None
                if run is not None:
                    await self.recall(run, force=wanted.as_run.endswith(FORCED))
            except (msgspec.DecodeError, EngineRoomError) as error:
                log.warning("what was wanted cannot be prepared: %s", error)

    def _present(self, profile_id: str) -> Profile | None:
        try:
            return self._library.card(profile_id).profile
        except EngineRoomError:
            return None

    async def _with_engine(self, profile: Profile, manifest: Manifest, force: bool) -> Profile:
        then = manifest.installation
        if then is None:
            return profile
        pinned = replace(profile, installation=then.id)
        try:
            found = self._find_engine(pinned)
        except EngineNotInstalled:
            found = None
        if found is not None and await asyncio.to_thread(_is_the_same, found, manifest):
            return pinned
        if force:
            return profile
        build = " ".join(part for part in (manifest.run.engine_build or then.family, then.accelerator.upper()) if part)
        now = "; another build is there now" if found is not None else ""
        raise EngineNotInstalled(
            f"The engine of that run, {build}, is not at {then.path} any more{now}.",
            "Install it again, or run with the engine that is there (--force).",
        )

    async def close(self) -> None:
        """Waits until what was kept is written."""
        await self._tasks.settle()


def recall_key(run_id: str, force: bool) -> str:
    """The name of a recalled profile in a wish: by force it may be another load than without."""
    return run_id + FORCED if force else run_id


def _put(shelf: dict[str, T], key: str, value: T) -> None:
    """Newest last, bounded."""
    shelf.pop(key, None)
    shelf[key] = value
    while len(shelf) > LIVE:
        del shelf[next(iter(shelf))]


# --- which model it was ----------------------------------------------------------------------------------------------


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    bytes: int
    modified_unix: float
    fingerprint: str


def identity(path: Path) -> Identity:
    """Size, age and fingerprint of a model: all parts of a split one, or the files of a folder. Raises OSError.

    The fingerprint is over the first and the last MiB and the size of each file: it changes when the file is replaced or
    downloaded anew in another quantisation, and reading it costs milliseconds whatever the model's size.
    """
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else shards_of(path)
    digest = hashlib.blake2b(digest_size=16)
    total, modified = 0, 0.0
    for file in files:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            digest.update(size.to_bytes(8, "little"))
            for at in dict.fromkeys((0, max(0, size - PIECE_BYTES))):
                opened.seek(at)
                digest.update(opened.read(PIECE_BYTES))
        total += size
        modified = max(modified, file.stat().st_mtime)
    return Identity(bytes=total, modified_unix=modified, fingerprint=digest.hexdigest())


def engine_fingerprint(installation: Installation) -> str:
    """Over the program as far as `identity` reads it, and name, size and age of the libraries beside it. Raises OSError.

    Of a Python package: over its interpreter and its version. A program's version says nothing here, because it is a
    guess until the program has been asked.
    """
    if installation.client:  # of an image that is still to be fetched, its name says as much as can be known
        return installation.fingerprint or installation.executable
    program = Path(installation.executable).resolve()
    digest = hashlib.blake2b(identity(program).fingerprint.encode(), digest_size=16)
    for library in sorted(program.parent.glob("lib*.so*")):
        about = library.stat()
        digest.update(f"{library.name} {about.st_size} {about.st_mtime_ns}\n".encode())
    if program.name.startswith("python"):
        digest.update(installation.version.encode())
    return digest.hexdigest()


def _is_the_same(found: Installation, manifest: Manifest) -> bool:
    then = manifest.installation
    assert then is not None
    if found.accelerator != then.accelerator:
        return False
    try:
        return not manifest.engine_fingerprint or engine_fingerprint(found) == manifest.engine_fingerprint
    except OSError:
        return False


def _checked_model(manifest: Manifest, force: bool) -> ModelFacts | None:
    """The model's facts, when it is still the one of that run; raises ModelMissing, ModelUnreadable or ModelChanged.

    None for a name of a hub: what lies behind it is the engine's to find.
    """
    path = Path(manifest.model_path)
    if not path.is_absolute():
        return None
    try:
        now = identity(path)
    except OSError as error:
        raise ModelMissing(
            f"The model of that run, {path}, is not there any more: {error.strerror}.",
            "Put the file back, or load another profile.",
        ) from error
    if not force and manifest.model_fingerprint and now.fingerprint != manifest.model_fingerprint:
        raise ModelChanged(
            f"The model of that run has changed since: {path} held {_size(manifest.model_bytes)} then and holds"
            f" {_size(now.bytes)} now, with other content.",
            "Put the former file back, or run with the file that is there (--force).",
        )
    return read_facts(path)


def _size(count: int | None) -> str:
    return "an unknown number of bytes" if count is None else f"{count:,} bytes"


# --- what is not kept -------------------------------------------------------------------------------------------------


def with_secrets(then: Profile, now: Profile | None) -> Profile:
    """`then`, a profile as it was kept, with its secrets, which are not kept, taken from the profile as it is now.

    Raises SettingInvalid naming what cannot be filled in.
    """
    values = now.environment if now is not None else {}
    lost = [name for name, value in then.environment.items() if value == HIDDEN and name not in values]
    arguments = then.extra_arguments
    if now is not None and arguments == shown_profile(now).extra_arguments:
        arguments = now.extra_arguments
    elif any(HIDDEN in argument for argument in arguments):
        lost.append("extra_arguments")
    if lost:
        raise SettingInvalid(
            f"The profile {then.id} of that run had secrets that are not kept and that it does not have now:"
            f" {', '.join(lost)}.",
            "Put them into the profile again, or load the profile as it is.",
        )
    return replace(then, environment=_filled(then.environment, values), extra_arguments=arguments)


def _filled(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    return {name: now[name] if value == HIDDEN else value for name, value in then.items()}


def _view(installation: Installation) -> InstallationView:
    return InstallationView(
        id=installation.id or installation.executable,
        family=installation.family,
        version=installation.version,
        build=installation.build,
        accelerator=installation.accelerator,
        devices=installation.devices,
        features=installation.features,
        source=installation.source,
        path=installation.executable,
    )
