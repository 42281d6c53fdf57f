"""Runs the real window as a process of its own, offscreen, and uses it as a person does: looks, clicks, types, kills it."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.rig.home import Home
from tests.rig.waiting import TooLate

REPOSITORY = Path(__file__).resolve().parents[2]
HANDS = Path(__file__).with_name("window_hands.py")
ANSWER_SECONDS = 60.0
Look = dict[str, Any]


class WindowProcess:
    """`open()` begins one; afterwards `look()` tells what it shows. Nothing of it may end with a trace."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        self.output = home.folder / "window-output.log"
        self._unread = b""

    def open(self, **environment: str) -> "WindowProcess":
        assert self.process is None or self.process.poll() is not None, "it is open already"
        self._unread = b""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(HANDS)],
                cwd=REPOSITORY,
                env={
                    **self.home.environment,
                    "QT_QPA_PLATFORM": "offscreen",
                    "PYTHONPATH": os.pathsep.join(
                        filter(None, [str(REPOSITORY), self.home.environment.get("PYTHONPATH")])
                    ),
                    **environment,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        assert self._answer() == {"here": True}
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # --- hands and eyes ---

    def look(self) -> Look:
        seen = self._ask("look")
        assert isinstance(seen, dict)
        return seen

    def click(self, name: str, deadline: float = 60.0) -> None:
        """Clicks it as soon as it can be clicked."""
        self._until(lambda: self._ask("click", name=name), deadline, f"{name!r} can be clicked")

    def type(self, name: str, text: str, deadline: float = 60.0) -> None:
        self._until(lambda: self._ask("type", name=name, text=text), deadline, f"{name!r} takes text")

    def press(self, name: str, key: str, deadline: float = 60.0) -> None:
        """One key, "Right" or "End", on a slider or field, as soon as it is there."""
        self._until(lambda: self._ask("press", name=name, key=key), deadline, f"{name!r} takes a key")

    def wait(self, condition: Callable[[Look], Any], what: str, deadline: float = 60.0) -> Look:
        """What it shows, once `condition` holds for it."""

        def holds() -> Look | None:
            now = self.look()
            return now if condition(now) else None

        return self._until(holds, deadline, what)

    def wait_pill(self, text: str, deadline: float = 60.0) -> Look:
        return self.wait(lambda now: now["pill"] == text, f"the header says {text}", deadline)

    def wait_text(self, text: str, deadline: float = 60.0) -> Look:
        return self.wait(lambda now: any(text in shown for shown in now["texts"]), f"{text!r} is shown", deadline)

    def log(self) -> dict[str, Any]:
        shown = self._ask("log")
        assert isinstance(shown, dict)
        return shown

    def messages(self) -> list[str]:
        """The texts of the open conversation: question, answer, question …"""
        return list(self._ask("messages"))

    def answer(self) -> str:
        """The text of the last answer in the chat."""
        messages = self.messages()
        return messages[-1] if len(messages) > 1 else ""

    def modules(self) -> set[str]:
        return set(self._ask("modules"))

    def pills(self) -> list[str]:
        """Everything that the header's pill has said, in order."""
        return [seen[0] for seen in self.look()["seen"]]

    def stages(self) -> list[str]:
        return [seen[1] for seen in self.look()["seen"] if len(seen) > 1]

    # --- its end ---

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._over()

    def shut(self) -> None:
        """The button in the window's frame. It may ask first."""
        self._ask("close")

    def wait_end(self, deadline: float = 60.0) -> int:
        assert self.process is not None
        code = self.process.wait(deadline)
        self._over()
        return code

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if self.process is not None:
            self._over()
        said = self.output.read_text("utf-8", "replace") if self.output.exists() else ""
        assert "Traceback" not in said, said[-4000:]
        assert "never retrieved" not in said, said[-4000:]

    def _over(self) -> None:
        assert self.process is not None
        self.process.wait(60)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    # --- the wire ---

    def _ask(self, what: str, **more: str) -> Any:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **more}).encode() + b"\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process is not None
        assert self.process.stdout is not None
        end = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._unread:
            if not select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TooLate(f"the window does not answer within {ANSWER_SECONDS:g} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 20)
            if not piece:
                raise AssertionError(f"the window has gone:\n{self.output.read_text('utf-8', 'replace')[-4000:]}")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _until(self, condition: Callable[[], Any], deadline: float, what: str) -> Any:
        end = time.monotonic() + deadline
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                now = self.look()
                shown = {key: now[key] for key in ("page", "title", "pill", "detail", "buttons", "texts")}
                raise TooLate(f"not within {deadline:g} s: {what}; it shows {shown}")
            time.sleep(0.03)
