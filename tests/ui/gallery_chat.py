"""Draws the chat in every state: `python -m tests.ui.gallery_chat FOLDER [name-part …]`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace
from PySide6.QtWidgets import QApplication

from app.core.conversation import Message
from app.core.profiles import Sampling
from app.ui.pages.chat import ChatPage
from tests.ui import chats, stage, worlds
from tests.ui.drawing import LARGE, SMALL, USUAL, Shot, draw

SIZES = (("dark", "1280", USUAL), ("light", "1024", SMALL), ("light", "760", (860, 640)), ("dark", "1920", LARGE))
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
    page.session._branches.put(message)
    page.session.changed.emit()


def limited(page: ChatPage) -> None:
    page.session._branches.put(
        replace(page.session.messages[-1], finish="length", text=LONG, reasoning=chats.REASONING)
    )
    page.session.changed.emit()
    page.transcript.fold(len(page.transcript.column.turns) - 1)
    page.transcript.to_end()


def versions(page: ChatPage) -> None:
    last = page.session.messages[-1]
    page.session._branches.put(replace(last, id="b0", finish="stopped", text="Half an ans"))
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


def keep(home: Path) -> None:
    chats.keep(stage.paths_in(home).chats, {"VRAM of Qwen3 32B": list(chats.turn(0)), **OTHERS})


def page_of(made: stage.Stage) -> ChatPage:
    page = made.window.open_page("chat")
    assert isinstance(page, ChatPage)
    return page


def shots() -> Iterator[Shot]:
    for state, (world, act) in STATES.items():

        def do(made: stage.Stage, act: Callable[[ChatPage], None] | None = act) -> None:
            page, until = page_of(made), time.monotonic() + 5
            while not page.session.messages and time.monotonic() < until:
                QApplication.processEvents()
            if act is not None:
                act(page)

        for theme, size, pixels in SIZES:
            yield Shot(
                f"chat-{state}-{theme}-{size}",
                worlds.WORLDS.get(world),
                theme,
                pixels,
                "chat",
                act=do,
                gone=world == "gone",
                before=keep,
                after=lambda made: page_of(made).session.close(),
            )


if __name__ == "__main__":
    draw(shots())
