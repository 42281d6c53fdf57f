"""Tells which processes are ours: identities that outlive a reused pid, the members of a run, and a signal that cannot miss.

Evidence that a process belongs to a run, any one of: the run's marker in its environment · the recorded leader's
session, while that leader lives or with the run's log as its output (a session's number may have been given away since)
· the run's log as its standard output or error, started after the leader (what overwrote its environment and left
session and parent still writes there) · being a descendant of such a process. Only processes of this account count,
and never this process or one above it. Everything here reads /proc and blocks for milliseconds at most.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from app.daemon.procfs import (
    CLEANER_SECONDS,
    FOLDER_MARK,
    KEEPER_MARK,
    OWNER_MARK,
    RUN_MARK,
    Process,
    SharedFiles,
    all_pids,
    all_processes,
    below,
    carries_mark,
    is_cleaner,
    is_ours,
    read_file,
    read_process,
    signal_process,
    wait_channel,
)

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LISTENING = "0A"


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process for good: a pid alone is given to others after its end."""

    pid: int
    start_ticks: int  # clock ticks since boot
    boot_id: str


class ProcessView(msgspec.Struct, frozen=True, kw_only=True):
    """A process as shown to a person."""

    pid: int
    name: str
    state: str  # the kernel's letter: R S D T t Z
    wchan: str = ""  # the kernel function in which it waits
    start_ticks: int = 0

    @property
    def identity(self) -> ProcessIdentity:
        return ProcessIdentity(self.pid, self.start_ticks, boot_id())

    def __str__(self) -> str:
        return f"pid {self.pid} {self.name}, state {self.state}" + (f" (waiting in {self.wchan})" if self.wchan else "")


class RunTrace(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run when its processes are looked for; the marker alone needs only the id."""

    run_id: str
    leader: ProcessIdentity | None = None
    log_path: str = ""


@functools.cache
def boot_id() -> str:
    return (read_file("/proc/sys/kernel/random/boot_id") or b"").decode().strip()


def identity(pid: int) -> ProcessIdentity | None:
    process = read_process(pid)
    return None if process is None else ProcessIdentity(pid, process.start_ticks, boot_id())


def own_identity() -> ProcessIdentity:
    found = identity(os.getpid())
    assert found is not None
    return found


def alive(known: ProcessIdentity) -> bool:
    """Whether exactly that process still runs; a zombie does not."""
    if known.boot_id != boot_id():
        return False
    process = read_process(known.pid)
    return process is not None and process.start_ticks == known.start_ticks and not process.dead


def view(pid: int) -> ProcessView | None:
    process = read_process(pid)
    if process is None:
        return None
    return _view(process)


def _view(process: Process) -> ProcessView:
    return ProcessView(
        pid=process.pid,
        name=process.name,
        state=process.state,
        wchan=wait_channel(process.pid),
        start_ticks=process.start_ticks,
    )


def signal_verified(known: ProcessIdentity, number: int) -> bool:
    """Signals that process and no other (I5); False when it has gone, is another by now, or is not this account's."""
    if known.boot_id != boot_id() or known.pid <= 1 or not _same_account(known.pid):
        return False
    return signal_process(known.pid, known.start_ticks, number)


def _same_account(pid: int) -> bool:
    for line in (read_file(f"/proc/{pid}/status") or b"").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1]) == os.getuid()
    return False


def marks(pid: int) -> dict[str, str]:
    """Our own variables in the environment that a process was started with."""
    names = {RUN_MARK, OWNER_MARK, KEEPER_MARK, FOLDER_MARK}
    pairs = (part.partition(b"=") for part in (read_file(f"/proc/{pid}/environ") or b"").split(b"\0"))
    return {key: os.fsdecode(value) for name, _, value in pairs if (key := os.fsdecode(name)) in names}


def of_run(run: RunTrace | str, keepers: Collection[int] = ()) -> list[ProcessView]:
    """Every living process of the run, oldest first; see the module's first lines for what counts as evidence.

    By its id alone only what still shows the marker is found. `keepers`: pids known to be the run's living keeper and
    guard; whatever is below them is the run's.
    """
    trace = RunTrace(run_id=run) if isinstance(run, str) else run
    processes = all_processes()
    protected = _self_and_above(processes)
    log = _file_key(trace.log_path)
    leader = trace.leader if trace.leader is not None and trace.leader.boot_id == boot_id() else None
    leader_there = leader is not None and _is(processes.get(leader.pid), leader)

    def belongs(process: Process) -> bool:
        if is_ours(process.pid) and carries_mark(process.pid, trace.run_id):
            return True
        if leader is None or process.start_ticks < leader.start_ticks:
            return False
        if leader_there and process.session == leader.pid:
            return _same_account(process.pid)
        return log is not None and is_ours(process.pid) and _writes_to(process.pid, log)

    found = {pid for pid, process in processes.items() if pid not in protected and belongs(process)}
    found |= {pid for pid in below(found | set(keepers), processes) - protected if _same_account(pid)}
    living = [processes[pid] for pid in found.difference(keepers) if not processes[pid].dead]
    return [_view(process) for process in sorted(living, key=lambda each: (each.start_ticks, each.pid))]


def _is(process: Process | None, known: ProcessIdentity) -> bool:
    return process is not None and process.start_ticks == known.start_ticks


def _self_and_above(processes: dict[int, Process]) -> set[int]:
    found, pid = set[int](), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        process = processes.get(pid)
        pid = 0 if process is None else process.parent
    return found


def _file_key(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat() if path else None
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _writes_to(pid: int, key: tuple[int, int]) -> bool:
    for descriptor in (1, 2):
        try:
            found = Path(f"/proc/{pid}/fd/{descriptor}").stat()
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == key:
            return True
    return False


def marked() -> dict[int, dict[str, str]]:
    """pid → our marks, of every living process of this account that carries a run's or a keeper's mark."""
    found: dict[int, dict[str, str]] = {}
    for pid in all_pids():
        if is_ours(pid) and (carried := marks(pid)) and (RUN_MARK in carried or KEEPER_MARK in carried):
            process = read_process(pid)
            if process is not None and not process.dead:
                found[pid] = carried
    return found


def pids_of_runs() -> dict[int, str]:
    """pid → run id of every living process that carries this daemon's marks; `RunMembers` is cheaper and sees more."""
    me = own_identity()
    mine = f"{me.pid}:{me.start_ticks}"
    return {
        pid: carried[RUN_MARK]
        for pid, carried in marked().items()
        if RUN_MARK in carried and carried.get(OWNER_MARK) == mine
    }


def physical_cores() -> int:
    """Processor cores that this process may use; two threads of one core count once."""
    cores = set[tuple[str, str]]()
    for cpu in os.sched_getaffinity(0):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(((topology / "physical_package_id").read_text(), (topology / "core_id").read_text()))
        except OSError:
            cores.add(("?", str(cpu)))
    return max(1, len(cores))


class RunMembers:
    """Which process belongs to which of our runs, cheap enough to be asked every second.

    Membership is given at birth (by parent, session or marker) and never changes, so each process is looked at once for as
    long as the same keepers are known: an engine may be seen before its keeper has told of itself.
    `keepers` tells the pids below which each run's processes live. Callable from any one thread at a time.
    """

    def __init__(self, keepers: Callable[[], dict[str, tuple[int, ...]]]) -> None:
        self._keepers = keepers
        self.heads: Callable[[], Mapping[int, str]] = (
            dict  # pid → run of what is of a run without being below its keeper
        )
        self._known: dict[int, tuple[int, str]] = {}  # pid → (start ticks, run id or "")
        self._heads: Mapping[int, str] = {}
        self._roots: dict[int, str] = {}

    def pids_of_runs(self) -> dict[int, str]:
        roots = {pid: run_id for run_id, pids in self._keepers().items() for pid in pids}
        if not roots:
            self._known = {}
            return {}
        heads = self.heads()
        if (heads, roots) != (self._heads, self._roots):  # whoever was seen before that was known is looked at again
            self._heads, self._roots, self._known = dict(heads), roots, {}
        known: dict[int, tuple[int, str]] = {}
        fresh: dict[int, Process] = {}
        for pid in all_pids():
            if pid in self._known:
                known[pid] = self._known[pid]
            elif (process := read_process(pid)) is not None:
                fresh[pid] = process
        for pid, process in fresh.items():
            known[pid] = (process.start_ticks, self._run_of(process, fresh, known, roots))
        found: dict[int, str] = {}
        for pid, (start_ticks, run_id) in list(known.items()):
            if run_id and pid not in roots:
                process = fresh.get(pid) or read_process(pid)
                if process is None or process.start_ticks != start_ticks:
                    del known[pid]  # looked at anew next time
                elif not process.dead:
                    found[pid] = run_id
        self._known = known
        return found

    def _run_of(
        self, process: Process, fresh: dict[int, Process], known: dict[int, tuple[int, str]], roots: dict[int, str]
    ) -> str:
        """The run by the nearest ancestor that is known, else by the process's own marker."""
        seen: set[int] = set()
        above: Process | None = process
        while above is not None and above.pid not in seen:
            seen.add(above.pid)
            if above.pid in self._heads:
                return self._heads[above.pid]
            if above.parent in roots:
                return roots[above.parent]
            if above.parent in known:
                if known[above.parent][1]:
                    return known[above.parent][1]
                break
            above = fresh.get(above.parent)
        run_id = marks(process.pid).get(RUN_MARK, "") if is_ours(process.pid) else ""
        return run_id if run_id in roots.values() else ""


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these processes together; pages that they share count once for each."""
    pages = 0
    for pid in pids:
        fields = (read_file(f"/proc/{pid}/statm") or b"").split()
        pages += int(fields[1]) if len(fields) > 1 else 0
    return pages * PAGE_BYTES


def cpu_ticks(pids: Iterable[int]) -> int:
    """Clock ticks that these processes have computed so far, together."""
    fields = (((read_file(f"/proc/{pid}/stat") or b"").rpartition(b")")[2]).split() for pid in pids)
    return sum(int(each[11]) + int(each[12]) for each in fields if len(each) > 12)


def anonymous_bytes(pids: Iterable[int]) -> int:
    """What these processes would give back: resident memory without pages of files, which count as available anyway."""
    total = 0
    for pid in pids:
        for line in (read_file(f"/proc/{pid}/status") or b"").splitlines():
            if line.startswith((b"RssAnon:", b"RssShmem:")):
                total += int(line.split()[1]) * 1024
    return total


def listener_owner(port: int, among: Collection[int] = ()) -> int | None:
    """The pid that listens on this TCP port; `among` are looked at first. None when nobody does or it cannot be seen."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening_inodes(table, port)}
    if not inodes:
        return None
    first = [pid for pid in among if pid > 0]
    rest = (pid for pid in all_pids() if pid not in among)
    for pid in (*first, *rest):
        try:
            with os.scandir(f"/proc/{pid}/fd") as descriptors:
                for descriptor in descriptors:
                    try:
                        if os.readlink(descriptor.path) in inodes:  # noqa: PTH115
                            return pid
                    except OSError:
                        continue
        except OSError:
            continue
    return None


def _listening_inodes(table: str, port: int) -> list[str]:
    rows = (line.split() for line in (read_file(f"/proc/net/{table}") or b"").decode().splitlines()[1:])
    return [row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port]


def end_processes(
    find: Callable[[], list[ProcessView]], grace_seconds: float, kill_seconds: float
) -> tuple[ProcessView, ...]:
    """TERM, grace, KILL (a cleaner last), look again until nobody is left and what they shared is gone too; blocks (call
    it in a thread). Returns who would not go.

    For processes that have no keeper any more; every signal is verified.
    """
    begun = time.monotonic()
    told: set[ProcessIdentity] = set()
    shared = SharedFiles()
    while True:
        living = find()
        if not living:
            shared.remove()
            return ()
        waited = time.monotonic() - begun
        if waited >= grace_seconds + kill_seconds:
            return tuple(living)
        if waited >= grace_seconds:
            seen = ((read_process(each.pid), each) for each in living)
            shared.note([process for process, each in seen if process and process.start_ticks == each.start_ticks])
        for known in (each.identity for each in living):
            if waited >= grace_seconds:
                if waited >= grace_seconds + CLEANER_SECONDS or not is_cleaner(known.pid):
                    signal_verified(known, signal.SIGKILL)
            elif known not in told:
                told.add(known)
                signal_verified(known, signal.SIGTERM)
        time.sleep(0.02 if waited < 0.2 or waited >= grace_seconds else 0.1)
