"""Draws the chat in every state into PNG files, to be looked at: `gallery_chat.py FOLDER [name-part …]`."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
if "-150" in " ".join(sys.argv[2:]):
    os.environ["QT_SCALE_FACTOR"] = "1.5"

from msgspec.structs import replace
from PySide6.QtWidgets import QApplication

from app.core.conversation import Message
from app.core.profiles import Sampling
from app.ui.pages.chat import ChatPage
from tests.ui import chats, stage, worlds

SIZES = {"1024": (1024, 640), "1280": (1280, 800), "760": (860, 640), "1920": (1920, 1080), "1920-150": (1280, 720)}
OTHERS = {
    "KV cache of Llama 3.3": list(chats.turn(0)),
    "Why does my card throttle at 83 °C although the fans turn": list(chats.turn(0)),
    "Grammar for JSON": list(chats.turn(0)),
    "Translate the README": list(chats.turn(0)),
}
LONG = ("A longer paragraph about memory. " * 12 + "\n\n") * 3


def empty(page: ChatPage) -> None:
    page.new_chat()


def streaming(page: ChatPage) -> None:
    before = page.session.messages
    asked = Message(
        id="qs", parent="a0", role="user", text="And with a quantised KV cache?\n\nKeep it short.", finish=""
    )
    answer = Message(id="as", parent="qs", role="assistant", text="")
    page.transcript.follow_messages((*before, asked, answer), "Waiting for the model …")
    page.footer.hide()
    page.composer.show_state(model="Qwen3 32B", why_not="", choose=False, can_send=False, sending=True)
    page.transcript.to_end()
    page.transcript.grow("", "First the bytes per element.")
    for piece in ("Halving `dtype` halves the cache:\n\n", "```python\nsize = kv_bytes(64, 8, 128, 32_768)\nprint(si"):
        page.transcript.grow(piece, "")


def waiting(page: ChatPage) -> None:
    asked = Message(id="qs", parent="a0", role="user", text="Hello?", finish="")
    answer = Message(id="as", parent="qs", role="assistant", text="")
    page.transcript.follow_messages((asked, answer), "Waiting for the model …")
    page.footer.hide()
    page.composer.show_state(model="Qwen3 32B", why_not="", choose=False, can_send=False, sending=True)


def top(page: ChatPage) -> None:
    page.transcript.verticalScrollBar().setValue(0)
    page.composer.show_text("\n".join(f"line {n} of what is being typed" for n in range(1, 12)))


def selected(page: ChatPage) -> None:
    top(page)
    page.composer.show_text("")
    page.transcript.select_all()


def popover(page: ChatPage) -> None:
    page.session.choose(Sampling(temperature=0.7, top_p=0.9), "You answer briefly.")
    page._toggle_sampling()


def deleted(page: ChatPage) -> None:
    page._delete("c1")


def failed(page: ChatPage) -> None:
    message = replace(
        page.session.messages[-1],
        text="",
        finish="failed",
        error="The engine ended its answer without a single token. Mostly the prompt is longer than the model's context: shorten it, or load the model with a larger context.",
    )
    page.session._put(message)
    page.session.changed.emit()


def limited(page: ChatPage) -> None:
    page.session._put(replace(page.session.messages[-1], finish="length", text=LONG, reasoning=chats.REASONING))
    page.session.changed.emit()
    page.transcript.fold(len(page.transcript.column.turns) - 1)
    page.transcript.to_end()


def versions(page: ChatPage) -> None:
    last = page.session.messages[-1]
    page.session._put(replace(last, id="b0", finish="stopped", text="Half an ans"))
    page.session.show_version(1)


STATES: dict[str, tuple[str, Callable[[ChatPage], None] | None]] = {
    "answer": ("ready", None),
    "top": ("ready", top),
    "empty": ("ready", empty),
    "nomodel": ("two_gpus", empty),
    "gone": ("gone", None),
    "streaming": ("ready", streaming),
    "waiting": ("loading", waiting),
    "selected": ("ready", selected),
    "popover": ("ready", popover),
    "deleted": ("ready", deleted),
    "failed": ("ready", failed),
    "limited": ("ready", limited),
    "versions": ("ready", versions),
}


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    app = QApplication([])
    app.setStyle("Fusion")
    with tempfile.TemporaryDirectory() as scratch:
        for state, (world, act) in STATES.items():
            for theme, size in (
                ("dark", "1280"),
                ("light", "1024"),
                ("light", "760"),
                ("dark", "1920"),
                ("light", "1920-150"),
            ):
                name = f"chat-{state}-{theme}-{size}"
                if not all(part in name for part in wanted) or ("-150" in size) != ("QT_SCALE_FACTOR" in os.environ):
                    continue
                home = Path(scratch) / name
                chats.keep(stage.paths_in(home).chats, {"VRAM of Qwen3 32B": list(chats.turn(0)), **OTHERS})
                made = stage.window(home, worlds.WORLDS.get(world), theme, gone=world == "gone")
                made.window.resize(*SIZES[size])
                page = made.window.open_page("chat")
                made.window.show()
                assert isinstance(page, ChatPage)
                until = time.monotonic() + 5
                while not page.session.messages and time.monotonic() < until:
                    app.processEvents()
                if act is not None:
                    act(page)
                for _ in range(6):
                    app.processEvents()
                made.window.grab().save(str(folder / f"{name}.png"))
                page.session.close()
                made.window.deleteLater()
                app.processEvents()


if __name__ == "__main__":
    main()
