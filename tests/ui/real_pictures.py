"""Takes the README's pictures of a real run: `python -m tests.ui.real_pictures FOLDER`.

The built-in engine loads the demo on this machine's processor, and what the window shows is what it said and measured. Pages
that only show something where cards and models are (models, engines, plan, hub) are drawn from sample data by the galleries.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from app import smoke
from app.ui.application import default_paths, run
from app.ui.link import Link
from app.ui.store import Store
from app.ui.window import Window

SIZE = (1280, 800)
QUESTIONS = ("What takes VRAM when a model runs?", "Show me code that calls the endpoint")


class Visit(smoke.Smoke):
    async def all(self) -> None:
        self.window.resize(*SIZE)
        await self.until(lambda: self.store.connected and "library" in self.store.known, "the service answers")
        await self.load()
        await self.open("Chat")
        session = self.window.open_page("chat").session  # type: ignore[union-attr]
        for number, question in enumerate(QUESTIONS, 1):
            await self.type_into("Message", question)
            await self.click("Send message")
            await self.until(
                lambda number=number: (
                    len(session.messages) == 2 * number and session.messages[-1].figures.tokens_per_second
                ),
                "the answer is there",
            )
        await self.picture("Chat", "light")
        await self.picture("Logs", "dark")
        await self.picture("Monitor", "dark")
        await self.stop()

    async def picture(self, page: str, theme: str) -> None:
        self.window.theme.choose(theme)
        await self.open(page)
        await asyncio.sleep(1.5)  # figures of the first seconds, and the paint
        self.window.grab().save(str(self.pictures / f"{page.lower()}-{theme}.png"))


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="er-pictures-"))
    try:
        smoke._quiet_offscreen()
        smoke._move_into(home)

        async def script(window: Window, store: Store, link: Link) -> None:
            try:
                await Visit(window, store, link, folder).all()
            finally:
                await smoke._quit(link, default_paths())
                window.leave()

        return run(default_paths(), script=script)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
