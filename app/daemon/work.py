"""What the work of a job is given: where it says how far it is, how it runs a tool, and where the tool's words are kept."""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

LINES_KEPT = 400  # of a tool's words, for the sentence that says why it failed
LONGEST_LINE = 100_000  # characters of a line without an end
SECONDS_BETWEEN_FIGURES = 0.1
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_ENDS = re.compile(r"[\r\n]+")


class News(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the work is; the fields are those of a `Job`. `kept`: a sentence that stays true, not a passing step."""

    detail: str
    progress: float | None = None
    bytes_done: int | None = None
    bytes_total: int | None = None
    steps_done: int | None = None
    steps_total: int | None = None
    eta_seconds: float | None = None
    kept: bool = False

    def __str__(self) -> str:
        return self.detail


Tell = Callable[[News], None]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a tool ended. `said` is the last of what it printed, without colours."""

    exit_code: int
    said: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


class Work:
    """One job's work. `environment` is what its tools get; `log` keeps all that they print (None: nobody wants it).

    `die_at` names a step at which this process kills itself: the tests' way to an interruption at an exact place.
    """

    def __init__(self, environment: Mapping[str, str], tell: Tell, log: Path | None = None, die_at: str = "") -> None:
        self.environment = dict(environment)
        self.inherited_descriptors: tuple[int, ...] = ()  # what must stay open as long as any tool runs: a lock
        self._tell = tell
        self._log = log
        self._die_at = die_at
        self._low, self._high = 0.0, 1.0
        self._share = 0.0
        self._last: tuple[str, float] = ("", 0.0)

    # --- saying how far it is

    def say(self, detail: str, *, kept: bool = False, progress: float | None = None, **figures: float | None) -> None:
        """Tells at once what is new, and figures of the same thing at most ten times a second."""
        now = time.monotonic()
        what = f"{detail} {bool(figures)}"
        if what == self._last[0] and now - self._last[1] < SECONDS_BETWEEN_FIGURES and progress != 1.0:
            return
        self._last = (what, now)
        reached = self._low + (self._high - self._low) * min(1.0, progress or 0.0)
        self._share = max(self._share, reached)  # what is under way never goes back
        news = {"detail": detail, "kept": kept, "progress": round(self._share, 4), **figures}
        self._tell(msgspec.convert(news, News, strict=False))

    @contextmanager
    def part(self, low: float, high: float) -> Iterator[None]:
        """What is said inside counts for this part of the whole."""
        before = self._low, self._high
        width = before[1] - before[0]
        self._low, self._high = before[0] + low * width, before[0] + high * width
        try:
            yield
        finally:
            self._low, self._high = before

    def begin_anew(self) -> None:
        """Another way is tried: the whole lies ahead again."""
        self._share = 0.0

    def reached(self, step: str) -> None:
        if step == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    # --- running tools

    def note(self, text: str) -> None:
        """A line of our own in the log, between the tools' words."""
        self.keep(f"\n# {text}\n".encode())

    def run(
        self,
        command: Sequence[str],
        *,
        heard: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
        on_terminal: bool = False,
    ) -> Ended:
        """Runs a tool to its end; each line that it prints goes to the log and to `heard`.

        `on_terminal`: it is given a terminal, for a tool that tells its progress only there; every redrawn line counts.
        A tool that is not there ends with 127, as in a shell.
        """
        self.note(" ".join(command))
        read, write = pty.openpty() if on_terminal else os.pipe()
        if on_terminal:
            fcntl.ioctl(write, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 400, 0, 0))  # wide: no sentence is folded
        given = dict(self.environment if environment is None else environment)
        try:
            process = subprocess.Popen(
                list(command),
                env=given | {"TERM": "xterm"} if on_terminal else given,
                cwd=tempfile.gettempdir(),  # a project's settings beside us are not ours
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                pass_fds=self.inherited_descriptors,
            )
        except OSError as error:
            os.close(read)
            return Ended(exit_code=127, said=(f"{command[0]}: {error.strerror}",))
        finally:
            os.close(write)
        said: deque[str] = deque(maxlen=LINES_KEPT)
        try:
            for line in self._lines(read):
                said.append(line)
                if heard is not None:
                    heard(line)
        except BaseException:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
            process.kill()
            raise
        finally:
            os.close(read)
            code = process.wait()
        return Ended(exit_code=code, said=tuple(said))

    def _lines(self, descriptor: int) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError as error:
                if error.errno == errno.EIO:  # a terminal whose last writer has gone
                    data = b""
                else:
                    raise
            if not data:
                break
            self.keep(data)
            *whole, rest = _ENDS.split(rest + decoder.decode(data))
            yield from filter(None, (_ANSI.sub("", line).strip() for line in whole))
            rest = rest[-LONGEST_LINE:]
        if last := _ANSI.sub("", rest).strip():
            yield last

    def keep(self, data: bytes) -> None:
        if self._log is None:
            return
        try:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError:
            self._log = None  # a full disk: the work itself will say so
