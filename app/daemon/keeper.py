"""Keeps one engine's whole process tree tied to the daemon's life: starts it, notices its end, and ends all of it.

A program of its own, standard library only, run as `python -I -S keeper.py` in its own session.

stdin is the lifeline, held open by the daemon alone: the first line is the specification (written by
app.daemon.runs), later lines are {"stop": grace_seconds} or {"kill": true}; end-of-file means that the daemon is gone, by whatever cause.
stdout tells, one JSON value a line, and a daemon that no longer reads changes nothing:
    {"started": {"pid", "start_ticks", "keeper": [pid, ticks], "guard": [pid, ticks]}}   the record is durable by then
    {"failed": {"step": "log" | "record" | "fork" | "folder" | "exec", "errno": n}}      nothing runs, the last line
    {"exited": {"code": n | null, "signal": n | null}}     the leader, told at once; its exit is not the group's end
    {"survivors": [{"pid", "name", "state", "wchan"}]}     what a KILL did not end in time; the keeper stays and watches
    {"keeper_died": true}                                  the guard has taken over and is killing the rest
    {"fault": "…"}                                         before that, when it died by its own error
    {"gone": true}                                         no process of the run is left, the last line
Two processes, because the keeper may be killed too: the outer one, the guard, only waits for the inner one. Both are
child subreapers, so whatever an engine forks stays below them whatever it does (setsid, double fork, a new title), and
when the inner one is killed the whole tree moves to the guard, which kills it. With both killed, the daemon or its next
start finds the rest by marker, session and log file. An engine's leader also dies with the inner one (PDEATHSIG, armed
in a process that never has a second thread).
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from app.daemon import birth, procfs
else:  # isolated: neither the package nor this file's folder is on the path
    sys.path.append(__file__.rpartition("/")[0] or ".")
    import birth
    import procfs

SURVIVORS_TOLD = 16  # keeps a status line far below a pipe's smallest buffer, so that telling never blocks

_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


class Keeper:
    """One run's custody. `run` starts the engine and returns when nothing of it is left; `take_over` is the guard's part."""

    def __init__(self, spec: dict[str, object], commands: bytes = b"", guard: int = 0) -> None:
        self._spec = spec
        self._run_id = str(spec["run_id"])
        self._guard = guard
        self._pid = os.getpid()
        self._poll = select.poll()
        self._commands = commands  # bytes of the lifeline that are not yet a whole line
        self._lifeline_open = False
        self._wake = -1
        self._birth = -1  # tells how exec went
        self._leader: procfs.Process | None = None
        self._leader_alive = False
        self._asked = False  # by a polite signal to the keeper itself
        self._end_pid = 0  # the end command while it runs
        self._end_by = 0.0  # when it is killed
        self._captured: dict[int, int] = {}  # pid → start ticks of all that we ever saw of the run since ending began
        self._kill_at = 0.0  # 0 = not ending; afterwards when TERM's grace is over
        self._group_told = False  # whether the leader's group, and
        self._rest_told = False  # what is left after the leader's end, have had their TERM
        self._told_survivors = False
        self._shared = procfs.SharedFiles()  # of those that are killed

    # -- life

    def run(self) -> int:
        self._listen()
        try:
            self._start()
        except birth.StepFailed as failure:
            self._fail(failure.step, failure.number)
            return 0
        self._lifeline_open = True
        self._poll.register(0, select.POLLIN)
        if self._commands:
            self._obey()
        while True:
            for descriptor, _ in self._poll.poll(self._pause()):
                if descriptor == self._wake:
                    _drain(self._wake)
                elif descriptor == self._birth and not self._born():
                    return 0
                elif descriptor == 0:
                    self._read_lifeline()
            if self._asked:
                self._end(self._grace())
            self._reap()
            if self._kill_at and self._advance():
                return 0

    def take_over(self) -> int:
        """The inner keeper was killed: all that it kept is ours now, and is killed."""
        self._listen()
        _tell({"keeper_died": True})
        self._end(0.0)
        while not self._advance():
            if self._poll.poll(self._pause()):
                _drain(self._wake)
        return 0

    def _listen(self) -> None:
        """Wakes the loop at every child's end; a polite signal to the keeper means: end the run."""

        def asked(*_: object) -> None:
            self._asked = True

        self._wake, write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, asked)
        self._poll.register(self._wake, select.POLLIN)

    # -- birth

    def _start(self) -> None:
        """Forks; the child waits until the record is durable, and leaves by itself should we die before that."""
        log = birth.open_log(str(self._spec["log_path"]))
        self._birth, told = os.pipe()
        gate, go = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            raise birth.StepFailed("fork", error.errno or 0) from error
        if pid == 0:
            os.close(go)
            birth.become_engine(self._spec, log, gate, told, self._pid)
        os.close(told)
        os.close(gate)
        os.close(log)
        leader = procfs.read_process(pid)
        assert leader is not None  # our own child, not reaped: it cannot have vanished
        self._leader, self._leader_alive = leader, True
        try:
            self._write_record(leader)
        except OSError as error:
            os.close(go)  # the child sees it and leaves
            os.waitpid(pid, 0)
            raise birth.StepFailed("record", error.errno or 0) from error
        os.write(go, b"!")
        os.close(go)
        self._poll.register(self._birth, select.POLLIN)

    def _born(self) -> bool:
        """End-of-file: exec succeeded. Else the child says what failed."""
        said = os.read(self._birth, 64).decode()
        self._poll.unregister(self._birth)
        os.close(self._birth)
        self._birth = -1
        assert self._leader is not None
        if said:
            step, number = said.split()
            os.waitpid(self._leader.pid, 0)
            self._fail(step, int(number))
            return False
        me, guard = procfs.read_process(self._pid), procfs.read_process(self._guard)
        _tell(
            {
                "started": {
                    "pid": self._leader.pid,
                    "start_ticks": self._leader.start_ticks,
                    "keeper": [self._pid, me.start_ticks if me else 0],
                    "guard": [self._guard, guard.start_ticks if guard else 0],
                }
            }
        )
        return True

    def _fail(self, step: str, number: int) -> None:
        self._forget_files()
        _tell({"failed": {"step": step, "errno": number}})

    def _write_record(self, leader: procfs.Process) -> None:
        me, guard = procfs.read_process(self._pid), procfs.read_process(self._guard)
        record = dict(self._spec["record"])  # type: ignore[call-overload]
        record["engine"] = {"pid": leader.pid, "start_ticks": leader.start_ticks}
        record["keeper"] = {"pid": self._pid, "start_ticks": me.start_ticks if me else 0}
        record["guard"] = {"pid": self._guard, "start_ticks": guard.start_ticks if guard else 0}
        record["started_at_unix"] = time.time()
        birth.write_record(str(self._spec["record_path"]), record)

    def _forget_files(self) -> None:
        """The run's temporary files, then its record."""
        if temporary := self._spec.get("temporary"):
            import shutil  # only now: it would double the memory of every keeper

            shutil.rmtree(str(temporary), ignore_errors=True)
        try:
            os.unlink(str(self._spec["record_path"]))  # noqa: PTH108
        except OSError:
            pass  # the daemon's next start finds nothing alive behind it and removes it

    # -- the lifeline

    def _read_lifeline(self) -> None:
        try:
            data = os.read(0, 65536)
        except OSError:
            data = b""
        if data:
            self._commands += data
            self._obey()
            return
        self._poll.unregister(0)
        self._lifeline_open = False
        self._end(min(self._grace(), procfs.ORPHAN_GRACE_SECONDS))
        self._kill_at = min(
            self._kill_at, time.monotonic() + procfs.ORPHAN_GRACE_SECONDS
        )  # a longer grace may be running

    def _obey(self) -> None:
        *lines, self._commands = self._commands.split(b"\n")
        for line in lines:
            try:
                command = dict(json.loads(line))
                stop = float(command["stop"]) if "stop" in command else None
            except (ValueError, TypeError):
                continue  # only our own daemon writes here: what it did not mean must not end an engine
            if command.get("kill"):
                self._end(0.0)
                self._kill_at = min(self._kill_at, time.monotonic())
            elif stop is not None:
                self._end(stop)

    def _grace(self) -> float:
        return float(str(self._spec["grace_seconds"]))

    # -- ending

    def _end(self, grace: float) -> None:
        """Begins the ladder; a second call changes nothing."""
        if self._kill_at:
            return
        self._look(with_marks=True)  # before the first signal: afterwards, parents are gone and titles may change
        self._kill_at = time.monotonic() + grace
        if self._leader_alive and grace > 0:
            self._group_told = True
            self._signal_group(signal.SIGTERM)

    def _advance(self) -> bool:
        """One step of the ladder; True when nothing is left."""
        now = time.monotonic()
        if self._spec["end_argv"] and not self._end_by and (now >= self._kill_at or not self._leader_alive):
            # A polite signal went to the client, which hands it on: what is still there, only its own tool can end.
            self._end_by = now + procfs.END_COMMAND_SECONDS
            self._end_pid = birth.start_end_command(self._spec)
        if self._end_pid and _reap_one(self._end_pid):
            self._end_pid = 0
        elif self._end_pid and now >= self._end_by:
            self._kill_end_command()
        alive = self._look()
        if not alive and not self._end_pid:
            alive = self._look(with_marks=True)
            if not alive:
                self._finish()
                return True
        if self._leader is not None and not self._leader_alive and now < self._kill_at and not self._rest_told:
            self._rest_told = True
            self._kill_at = min(self._kill_at, now + procfs.REST_SECONDS)
            for process in alive:
                if not (self._group_told and process.group == self._leader.pid):  # a second TERM means haste to some
                    procfs.signal_process(process.pid, process.start_ticks, signal.SIGTERM)
        if now >= self._kill_at:
            self._shared.note(alive)
            cleaners = {process.pid for process in alive if procfs.is_cleaner(process.pid)}
            if not cleaners or now >= self._kill_at + procfs.CLEANER_SECONDS:
                cleaners = set()
                self._signal_group(signal.SIGKILL)
            for process in alive:
                if process.pid not in cleaners:
                    procfs.signal_process(process.pid, process.start_ticks, signal.SIGKILL)
        if alive and now >= self._give_up_at and not self._told_survivors:
            self._told_survivors = True
            told = [
                {"pid": p.pid, "name": p.name, "state": p.state, "wchan": procfs.wait_channel(p.pid)}
                for p in alive[:SURVIVORS_TOLD]
            ]
            _tell({"survivors": told})
        return False

    @property
    def _give_up_at(self) -> float:
        return self._kill_at + float(str(self._spec["kill_seconds"]))

    def _pause(self) -> int | None:
        """Milliseconds until the next look; None (no wake-up at all) while the run lives.

        A child's end wakes us anyway; the looks in between are for what is ours without being our child.
        """
        if not self._kill_at:
            return None
        now = time.monotonic()
        if now >= self._give_up_at:
            return 2000
        if now >= self._kill_at:
            return 20 if now < self._kill_at + 1 else 200
        return max(1, int(1000 * min(0.25, self._kill_at - now)) + 1)

    def _look(self, with_marks: bool = False) -> list[procfs.Process]:
        """Every living process of the run, seen now or before; reaps what has ended, except the leader.

        The leader stays a zombie to the end: its number, which is the group's too, can then not be given to another.
        """
        processes = procfs.all_processes()
        found = procfs.below({self._pid}, processes)
        if self._leader is not None:
            number = self._leader.pid
            found |= {p.pid for p in processes.values() if number in (p.session, p.group)}
        if with_marks:
            found |= {pid for pid in processes if procfs.is_ours(pid) and procfs.carries_mark(pid, self._run_id)}
        if self._end_pid:
            found -= {self._end_pid} | procfs.below({self._end_pid}, processes)
        found -= {self._pid, self._guard}
        for pid in found:
            self._captured.setdefault(pid, processes[pid].start_ticks)
        alive = []
        for pid, start_ticks in list(self._captured.items()):
            process = processes.get(pid)
            if process is None or process.start_ticks != start_ticks:
                del self._captured[pid]
            elif not process.dead:
                alive.append(process)
            elif process.parent == self._pid and (self._leader is None or pid != self._leader.pid):
                _reap_one(pid)
        return alive

    def _signal_group(self, number: int) -> None:
        if self._leader is None:
            return
        try:
            os.killpg(self._leader.pid, number)
        except OSError:  # it has not made its group yet
            procfs.signal_process(self._leader.pid, self._leader.start_ticks, number)

    def _finish(self) -> None:
        if self._leader_alive and self._leader is not None:
            ended = os.waitid(os.P_PID, self._leader.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                self._tell_exit(ended)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        self._shared.remove()
        self._forget_files()
        _tell({"gone": True})

    def _reap(self) -> None:
        """Notices the leader's end; adopted children that have ended are reaped while the run lives."""
        while self._leader_alive and self._leader is not None:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            if ended.si_pid == self._leader.pid:
                self._tell_exit(ended)
                self._end(min(self._grace(), procfs.REST_SECONDS))
            else:
                _reap_one(ended.si_pid)

    def _tell_exit(self, ended: os.waitid_result) -> None:
        self._leader_alive = False
        left, status = ended.si_code == os.CLD_EXITED, int(ended.si_status)
        _tell({"exited": {"code": status if left else None, "signal": None if left else status}})

    # -- the end command (a container's processes are not below us: its own tool must end it)

    def _kill_end_command(self) -> None:
        processes = procfs.all_processes()
        for pid in {self._end_pid} | procfs.below({self._end_pid}, processes):
            if pid in processes:
                procfs.signal_process(pid, processes[pid].start_ticks, signal.SIGKILL)


def _reap_one(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass


def _tell(news: dict[str, object]) -> None:
    try:
        os.write(1, json.dumps(news).encode() + b"\n")
    except OSError:
        pass  # the daemon has gone: the lifeline tells it better


def _read_spec() -> tuple[dict[str, object] | None, bytes]:
    """The specification and what of later lines came with it; None when the daemon has gone before saying it all."""
    data = b""
    while b"\n" not in data:
        piece = os.read(0, 65536)
        if not piece:
            return None, b""
        data += piece
    line, _, rest = data.partition(b"\n")
    return json.loads(line), rest


def _close_inherited() -> None:
    """Nothing of the daemon's may stay open here: another run's lifeline would keep that run alive."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of this listing itself


def main() -> int:
    _close_inherited()
    spec, commands = _read_spec()
    if spec is None:
        return 0
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard = os.getpid()
    inner = os.fork()
    if inner == 0:
        code = 1
        try:
            os.setsid()  # so that no signal to a group reaches both
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            code = Keeper(spec, commands, guard).run()
        except BaseException as error:
            _tell({"fault": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(code)
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(inner, number))
    ended = os.waitid(os.P_PID, inner, os.WEXITED | os.WNOWAIT)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # from here on its number may be given to another
    os.waitpid(inner, 0)
    if ended is not None and ended.si_code == os.CLD_EXITED and ended.si_status == 0:
        return 0
    return Keeper(spec).take_over()


if __name__ == "__main__":
    sys.exit(main())
