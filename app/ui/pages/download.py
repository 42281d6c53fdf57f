"""The download page: search the hub, see what fits before a byte comes, download, and look after what is on this disk."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QVBoxLayout

from app.core import control
from app.core.control import HubFound, JobStarted
from app.core.errors import EngineRoomError
from app.core.hub import Downloaded, Downloads, HubListing, HubModel
from app.core.snapshot import Job
from app.ui import wording
from app.ui.download import words
from app.ui.download.model_row import ModelRow
from app.ui.download.ollama_card import OllamaCard
from app.ui.download.shelf_card import ShelfCard
from app.ui.jobs.desk import JobDesk, JobList
from app.ui.jobs.words import is_running, is_transfer
from app.ui.keys.ask import ask_key
from app.ui.keys.words import HUB
from app.ui.link import Link
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button, SearchField, Segments
from app.ui.widgets.layout import PageColumn, clear, row
from app.ui.widgets.notice import NoticeBar
from app.ui.widgets.page_head import page_head
from app.ui.widgets.sheet import confirm
from app.ui.widgets.text import Label

TYPING_PAUSE_MS = 450
KINDS = (("", "All", ""), ("gguf", "GGUF", ""), ("safetensors", "Safetensors", ""))


class DownloadPage(PageColumn):
    page_wanted = Signal(str, object)

    def __init__(self, store: Store, link: Link, theme: Theme) -> None:
        super().__init__(widest=1080)
        self._store, self._link, self._theme = store, link, theme
        self._kind, self._asked, self._turn = "", "", 0
        self._models: tuple[HubModel, ...] = ()
        self._rows: dict[str, ModelRow] = {}
        self._open = ""
        self._listing: HubListing | None = None
        self._reading = False
        self._list_turn = 0  # which question about a model's files is the newest
        self._shelf_turn = 0  # and about this disk
        self._downloads: Downloads | None = None
        self._checking = False
        self._running: frozenset[str] = frozenset()
        self.search = SearchField(theme, "Search for a model, or type publisher/model", "Search the hub")
        self.kinds = Segments(theme, "Format", KINDS, "")
        self.token = Button(theme, "Access token …", "quiet", "key", "Access token for models that need agreement")
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(TYPING_PAUSE_MS)
        self._pause.timeout.connect(self._search_now)
        self._note = NoticeBar(theme)
        self._note.closed.connect(lambda: self._note.say(""))
        self._note.acted.connect(self._act_of_note)
        self._undo = ""
        self._state = Label(theme, "", "body", "muted", wrap=True)
        self._found = QVBoxLayout()
        self._found.setSpacing(Space.small)
        self._desk = JobDesk(link, theme, self)
        self.transfers = JobList(theme, self._desk)
        self.ollama = OllamaCard(theme)
        self.shelf = ShelfCard(theme)
        self._arrange()
        self._wire()
        self._show()

    def look_for(self, name: str) -> None:
        """Searches for a model as a profile names it: `publisher/model`, for a GGUF with `:quantisation` behind it."""
        self.search.setText(name.partition(":")[0])
        self.search.setFocus()

    def _arrange(self) -> None:
        sentence = "Find a model and see whether it fits before anything is downloaded. Other programs find it too."
        self.column.addLayout(page_head(self._theme, "Download", sentence, self.token))
        tools = row(spacing=Space.medium)
        tools.addWidget(self.search, 1)
        tools.addWidget(self.kinds)
        self.column.addLayout(tools)
        self.column.addWidget(self._note)
        self.column.addWidget(self.transfers)
        self.column.addWidget(self._state)
        self.column.addLayout(self._found)
        self.column.addWidget(self.ollama)
        self.column.addWidget(self.shelf)
        self.column.addStretch(1)

    def _wire(self) -> None:
        self.search.textChanged.connect(self._typed)
        self.search.returnPressed.connect(self._search_now)
        self.kinds.chosen.connect(self._choose_kind)
        self.token.clicked.connect(self._ask_token)
        self.shelf.delete_wanted.connect(self._delete)
        self.shelf.discard_wanted.connect(self._ask_discard)
        self.shelf.update_wanted.connect(self._update)
        self.shelf.undo_wanted.connect(self._put_back)
        self.shelf.empty_wanted.connect(self._ask_empty)
        self.shelf.check_wanted.connect(self._check)
        self.ollama.pull_wanted.connect(self._pull_by_ollama)
        self._desk.changed.connect(self._show)
        for changed in (self._store.jobs_changed, self._store.engines_changed, self._store.connection_changed):
            changed.connect(self._show)
        self._store.connection_changed.connect(self._fetch_soon)
        self._store.keys_changed.connect(self._fetch_soon)
        self._store.jobs_changed.connect(self._after_jobs)
        self._store.library_changed.connect(self._fetch_soon)

    # --- showing -----------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        connected = self._store.connected
        self.token.setEnabled(connected)
        self.transfers.show_jobs(self._pulls(), connected)
        self.ollama.show_engines(self._store.engines, connected)
        self._show_open(connected)
        self.shelf.setVisible(self._downloads is not None)
        if self._downloads is not None:
            self.shelf.show_downloads(self._downloads, connected, self._checking)

    def _pulls(self) -> list[Job]:
        return [job for job in self._store.jobs.jobs if is_transfer(job)]

    def _show_open(self, connected: bool) -> None:
        shown = self._rows.get(self._open)
        if shown is not None and self._listing is not None:
            busy = any(job.subject == self._open and is_running(job) for job in self._pulls())
            shown.show_listing(self._listing, self._reading, busy, connected)

    # --- searching ---------------------------------------------------------------------------------------------------

    def _typed(self) -> None:
        self._pause.start()

    def _choose_kind(self, kind: str) -> None:
        self._kind = kind
        self._asked = ""
        self._search_now()

    def _search_now(self) -> None:
        self._pause.stop()
        text = " ".join(self.search.text().split())
        asked = f"{self._kind} {text}"
        if asked == self._asked:
            return
        self._asked = asked
        self._turn += 1
        self._clear_found()
        if not text:
            self._state.say("")
            self._state.setVisible(False)
            return
        self._state.say("Searching …")
        self._state.setVisible(True)
        self._link.tasks.start(self._search(text, self._turn), "search the hub")

    async def _search(self, text: str, turn: int) -> None:
        try:
            found = await self._link.post(
                "/control/hub/search", control.HubSearch(words=text, kind=self._kind), HubFound
            )
        except EngineRoomError as error:
            if turn == self._turn:
                self._asked = ""  # Enter asks again
                self._state.say(f"{error.summary} {error.advice}")
            return
        if turn == self._turn:
            self._show_found(found.models, text)

    def _show_found(self, models: tuple[HubModel, ...], text: str) -> None:
        exact = [HubModel(name=text)] if "/" in text and text not in {model.name for model in models} else []
        self._models = models or tuple(exact)
        self._state.setVisible(not self._models)
        self._state.say("" if self._models else "Nothing is called so. Try fewer words, or another format.")
        for model in self._models:
            made = self._rows[model.name] = ModelRow(self._theme, model)
            made.toggled.connect(self._toggle)
            made.download_wanted.connect(self._pull)
            made.update_wanted.connect(self._update)
            self._found.addWidget(made)
        if len(self._models) == 1:
            self._toggle(self._models[0].name)

    def _clear_found(self) -> None:
        clear(self._found)
        self._rows, self._open, self._listing = {}, "", None

    def _toggle(self, name: str) -> None:
        before, self._open, self._listing = self._open, "", None
        if before in self._rows:
            self._rows[before].fold()
        if name != before:
            self._open = name
            self._rows[name].wait()
            self._link.tasks.start(self._list(name), "list a model's files")

    async def _list(self, name: str) -> None:
        """Names and sizes at once, verdicts when the headers are read."""
        self._list_turn += 1
        turn = self._list_turn
        for verdicts in (False, True):
            try:
                listing = await self._link.post(
                    "/control/hub/files", control.HubOf(name=name, verdicts=verdicts), HubListing
                )
            except EngineRoomError as error:
                if self._open == name and turn == self._list_turn:
                    self._listing = None
                    self._rows[name].fail(error.summary, error.advice)
                return
            if self._open != name or turn != self._list_turn:
                return
            self._reading = not verdicts
            self._listing = listing
            self._show_open(self._store.connected)

    # --- doing -------------------------------------------------------------------------------------------------------

    def _pull(self, name: str, file: str) -> None:
        self._link.send("/control/hub/pull", control.Pull(name=name, file=file), JobStarted)

    def _pull_by_ollama(self, model: str) -> None:
        self._link.send("/control/ollama/pull", control.OllamaPull(model=model), JobStarted)

    def _update(self, name: str) -> None:
        """Everything that is here of the model, once more in its newest revision."""
        for model in self._downloads.models if self._downloads is not None else ():
            if model.name == name and not model.older:
                self._pull(name, model.file or words.own_name(name))
                return

    def _delete(self, model: Downloaded) -> None:
        self._link.tasks.start(self._deleting(model), "delete a model")

    async def _deleting(self, model: Downloaded) -> None:
        try:
            done = await self._link.post("/control/hub/delete", control.DeleteModel(path=model.path), control.Accepted)
        except EngineRoomError as error:
            self._link.refused.emit(error)
            return
        self._undo = done.profile
        self._note.say(done.note, "info", "Undo")
        await self._fetch()

    def _act_of_note(self) -> None:
        self._note.say("")
        self._put_back(self._undo)

    def _put_back(self, trash: str) -> None:
        self._note.say("")
        self._then_fetch("/control/hub/restore", control.TrashOf(trash=trash))

    def _ask_empty(self) -> None:
        size = sum(each.disk_bytes for each in self._downloads.trash) if self._downloads is not None else 0
        confirm(
            self._theme,
            self,
            "Empty the trash?",
            f"This frees {wording.size(size)}. What is in the trash cannot be put back then.",
            "Empty it",
            lambda: self._then_fetch("/control/hub/empty", control.TrashOf()),
            "danger",
        )

    def _ask_discard(self, name: str) -> None:
        confirm(
            self._theme,
            self,
            f"Discard what is here of {words.own_name(name)}?",
            "The part that has come is deleted. A later download begins anew.",
            "Discard",
            lambda: self._then_fetch("/control/hub/delete", control.DeleteModel(name=name, partial=True)),
            "danger",
        )

    def _then_fetch(self, path: str, wish: control.TrashOf | control.DeleteModel) -> None:
        async def run() -> None:
            try:
                await self._link.post(path, wish, control.Accepted)
            except EngineRoomError as error:
                self._link.refused.emit(error)
            await self._fetch()

        self._link.tasks.start(run(), path)

    def _check(self) -> None:
        async def run() -> None:
            self._checking = True
            self._show()
            turn = self._shelf_turn
            try:
                found = await self._link.post("/control/hub/updates", control.Refresh(), Downloads)
            except EngineRoomError as error:
                self._link.refused.emit(error)
            else:
                self._downloads = found if turn == self._shelf_turn else self._downloads
            self._checking = False
            self._show()
            if turn != self._shelf_turn:  # something was deleted or has come meanwhile
                await self._fetch()

        self._link.tasks.start(run(), "look for updates")

    # --- what is on this disk ----------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._fetch_soon()

    def _fetch_soon(self) -> None:
        if self.isVisible() and self._store.connected:
            self._link.tasks.start(self._fetch(), "what is downloaded")

    def _after_jobs(self) -> None:
        running = frozenset(job.id for job in self._pulls() if is_running(job))
        if self._running - running:
            self._fetch_soon()
            if self._open:  # what was missing may be here
                self._link.tasks.start(self._list(self._open), "list a model's files")
        self._running = running

    async def _fetch(self) -> None:
        self._shelf_turn += 1
        turn = self._shelf_turn
        try:
            found = await self._link.get("/control/hub/downloads", Downloads)
        except EngineRoomError:
            return  # the rest of the window says how the connection stands
        if turn == self._shelf_turn:
            self._downloads = found
            self._show()

    # --- the access token --------------------------------------------------------------------------------------------

    def _ask_token(self) -> None:
        ask_key(self._theme, self._link, self, HUB, self._token_told())

    def _token_told(self) -> str:
        has = self._downloads.token if self._downloads is not None else ""
        said = {
            "environment": "HF_TOKEN is set in the environment, and goes before what is given here.",
            "file": "The hub’s own login is used until one is given here.",
        }
        return said.get(has, "One is kept. Another takes its place; Settings forgets it." if has else "")
