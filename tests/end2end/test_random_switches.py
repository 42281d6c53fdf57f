"""Random switches among all installed engines and all seats: afterwards the daemon holds what it held before, and nothing else
is there (I1, I7, I16): no process, no port, no descriptor, no thread, no file."""

import contextlib
import itertools
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from app.core import lifecycle
from app.core.snapshot import SeatView
from app.wiring import FILE_THREADS
from tests.end2end.sweep import SURVIVAL_SECONDS
from tests.engines.tiny_folder import write_tiny_folder
from tests.rig.custody import processes_of, unheld_shared_files
from tests.rig.daemon import Daemon, chat_body, streamed, uds_client
from tests.rig.home import Home, entries_below
from tests.rig.ports import binds
from tests.rig.real_engines import BUILT, put_into, write_profile
from tests.rig.waiting import TooLate, eventually

pytestmark = [
    pytest.mark.engines,  # minutes: the long suites of real engines run with `--engines`
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # as in the sweep
]

SEED = 20_261_121
VLLM = "ENGINE_ROOM_VLLM"
LOAD_SECONDS = 900  # only vLLM takes longer than seconds
SEATS = ("main", "second")
SETTLED = lifecycle.Ready | lifecycle.Idle | lifecycle.Failed


class Footprint(NamedTuple):
    """What the daemon holds: descriptors by kind, threads by name; and what lies about."""

    descriptors: Counter[str]
    threads: Counter[str]
    files: frozenset[Path]

    def beyond(self, before: "Footprint") -> dict[str, object]:
        """What is there now and was not before."""
        more = {
            "descriptors": dict(self.descriptors - before.descriptors),
            "threads": dict(self.threads - before.threads),
            "files": sorted(map(str, self.files - before.files)),
        }
        return {name: value for name, value in more.items() if value}


def kind_of(target: str) -> str:
    """A descriptor's kind: sockets and pipes count together, a file by its name."""
    return target.partition(":")[0] if not target.startswith("/") else target


def footprint(daemon: Daemon) -> Footprint:
    home = daemon.home
    process = Path(f"/proc/{daemon.pid}")
    targets = []
    for entry in (process / "fd").iterdir():
        try:
            targets.append(str(entry.readlink()))
        except OSError:
            continue  # closed while we looked
    kept = (".log", ".sqlite3", "-wal", "-shm", ".jsonl", "images.json")
    places = [home.folder / "state", Path(home.environment["TMPDIR"]), home.runtime_home]
    files = {file for place in places for file in entries_below(place) if not file.name.endswith(kept)}
    if (
        "PYTEST_XDIST_WORKER" not in os.environ
    ):  # beside other tests nobody can tell whose it is: test_shared_memory.py does
        files |= unheld_shared_files()
    threads: Counter[str] = Counter()
    for task in (process / "task").iterdir():
        with contextlib.suppress(OSError):  # it ended while we looked
            threads[(task / "comm").read_text().strip()] += 1
    assert threads.pop("files", 0) <= FILE_THREADS  # made as they are needed, and kept
    return Footprint(Counter(map(kind_of, targets)), threads, frozenset(files))


def look_at_logs_at_once(daemon: Daemon) -> None:
    """Asks for more at once than the daemon has threads for its files: what it makes once and keeps, it has made then."""
    run = daemon.seat().run
    assert run is not None

    def look(_: int) -> None:
        with uds_client(daemon.home.paths.socket) as client:
            client.get(f"/control/runs/{run.id}/log?from=0&limit=200000").raise_for_status()

    with ThreadPoolExecutor(24) as crowd:
        list(crowd.map(look, range(96)))


def settle(daemon: Daemon, seat: str) -> None:
    daemon.wait_seat(lambda view: isinstance(view.phase, SETTLED), LOAD_SECONDS, seat, "the seat comes to rest")


def unload_all(daemon: Daemon) -> None:
    for seat in SEATS:
        daemon.unload(seat)
    for seat in SEATS:
        daemon.wait_phase(lifecycle.Idle, deadline=60, seat=seat)


def ask(daemon: Daemon, model: str, patient: bool) -> None:
    """One short answer; the impatient leave in the middle of it."""
    with daemon.gateway() as client:
        if not patient:
            next(streamed(client, model=model, max_tokens=200), None)
            return
        try:
            client.post("/chat/completions", json=chat_body(model, max_tokens=8))
        except httpx.HTTPError as error:
            raise AssertionError(f"a request without an outcome (I6): {error}") from error


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Short, so that the runs' own folders are made in it."""
    with tempfile.TemporaryDirectory(prefix="er-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("families", "switches"),
    [(("llama.cpp",), 8), (("llama.cpp", *BUILT), 30), (("vllm", "llama-server", "llama-cpp-python"), 20)],
    ids=["built in", "all engines", "with vLLM"],
)
def test_random_switches_leave_nothing_behind(
    home: Home,
    daemon: Daemon,
    noise_model: Path,
    tmp_path: Path,
    temporary: Path,
    families: tuple[str, ...],
    switches: int,
) -> None:
    folder = write_tiny_folder(tmp_path / "folder", width=128, layers=4)
    if "vllm" in families and not os.environ.get(VLLM):
        pytest.skip(f"no vLLM here: {VLLM} names the Python of one")
    home.environment["TMPDIR"] = str(temporary)
    home.settings(supervision={"drain_seconds": 0.5, "stop_grace_seconds": 3, "seats": list(SEATS)})
    profiles: dict[str, list[str]] = {seat: [] for seat in SEATS}
    for family, seat, twin in itertools.product(families, SEATS, "ab"):
        name, model, more = f"{family}-{seat}-{twin}", noise_model, {}
        if family == "vllm":
            if seat != SEATS[0]:
                continue  # a start takes a minute: one seat with it is enough
            home.environment[VLLM] = os.environ[VLLM]
            model, more = folder, {"kv_cache_mib": 256, "eager": True}
        else:
            put_into(home, family)
        profiles[seat].append(write_profile(home, name, family, model, seat=seat, context_tokens=512, **more))
    daemon.start()
    for seat in SEATS:  # warm: what is made once and kept
        for name in profiles[seat][::2]:
            daemon.want(name, seat)
            daemon.wait_phase(lifecycle.Ready, name, LOAD_SECONDS, seat)
            ask(daemon, name, patient=True)
            ask(daemon, name, patient=False)
    look_at_logs_at_once(daemon)
    unload_all(daemon)
    before = footprint(daemon)

    chance = random.Random(SEED)
    told: list[str] = []
    for _ in range(switches):
        seat = chance.choice(SEATS)
        name = chance.choice(profiles[seat])
        manner = chance.choice(("wait", "wait", "hurry", "ask", "leave", "unload"))
        told.append(f"{seat}: {name}, {manner}")
        daemon.want(name, seat)
        if manner == "hurry":
            continue  # the next wish meets it in the middle of its load
        if manner == "unload":
            daemon.unload(seat)
        settle(daemon, seat)
        if manner in ("ask", "leave"):
            ask(daemon, name, patient=manner == "ask")
    for seat in SEATS:
        settle(daemon, seat)
        failed = [event for event in daemon.events() if event["to"] == "Failed"]
        assert not failed, f"{failed}\n" + "\n".join(told)
    ports = {run.port for view in seats_seen(daemon) if (run := view.run) is not None and run.port}
    assert len(ports) >= switches // 2

    unload_all(daemon)
    eventually(lambda: not processes_of(home, runs_only=True), SURVIVAL_SECONDS, "no process of a run is left (I1)")
    for port in ports:
        eventually(lambda port=port: binds(port), SURVIVAL_SECONDS, f"port {port} binds again")
    left: dict[str, object] = {}

    def nothing_more() -> bool:
        nonlocal left
        left = footprint(daemon).beyond(before)
        return not left

    with contextlib.suppress(TooLate):
        eventually(nothing_more)
    assert not left, f"left over after {switches} switches: {left}\n" + "\n".join(told)


def seats_seen(daemon: Daemon) -> list[SeatView]:
    assert daemon.slices_seen is not None
    return daemon.slices_seen.seats_seen
