"""The engines page: which engines are here, which is used, what could be installed, and the work on them while it runs."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QMenu, QVBoxLayout

from app.core import control
from app.core.control import Cache, Caches, JobStarted
from app.core.errors import EngineRoomError
from app.core.snapshot import EngineView, Job
from app.ui import wording
from app.ui.engines import words
from app.ui.engines.caches_card import CachesCard
from app.ui.engines.comparison import EngineJobRow
from app.ui.engines.family_card import FamilyCard
from app.ui.jobs.desk import JobDesk, JobList
from app.ui.jobs.words import is_running
from app.ui.link import Link
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, PageColumn, clear, row
from app.ui.widgets.page_head import page_head
from app.ui.widgets.pill import Pill
from app.ui.widgets.sheet import confirm
from app.ui.widgets.text import Label

ONE_AT_A_TIME = "Something is being installed or removed already; one thing at a time."


class EnginesPage(PageColumn):
    page_wanted = Signal(str, object)

    def __init__(self, store: Store, link: Link, theme: Theme) -> None:
        super().__init__(widest=1080)
        self._store, self._link, self._theme = store, link, theme
        self._cards: dict[str, FamilyCard] = {}
        self._caches: tuple[Cache, ...] = ()
        self._caches_turn = 0  # which question about them is the newest
        self._running: frozenset[str] = frozenset()
        self._waiting = Label(theme, "Engines are shown when the service answers.", "body", "muted", wrap=True)
        self._hardware = row(spacing=Space.small)
        self._shown_hardware: tuple[str, ...] | None = None
        self.add = Button(theme, "Add an engine …", "", "plus", "Add an engine that is on this computer")
        self.add.clicked.connect(self._open_add)
        self._welcome = Card(spacing=Space.hair)
        self._welcome.column.addWidget(Label(theme, "Install an engine to run models", "title"))
        sentence = "Engine Room installs it into a folder of its own and tries it before it is used. Nothing else on this computer changes."
        self._welcome.column.addWidget(Label(theme, sentence, "body", "muted", wrap=True))
        self._desk = JobDesk(link, theme, self)
        self._desk.changed.connect(self._show)
        self.jobs = self._job_list()
        self._families = QVBoxLayout()
        self._families.setSpacing(Space.large)
        self.caches = CachesCard(theme)
        self.caches.clear_wanted.connect(self._ask_clear)
        self._arrange()
        for changed in (store.engines_changed, store.jobs_changed, store.library_changed, store.connection_changed):
            changed.connect(self._show)
        store.jobs_changed.connect(self._after_jobs)
        store.connection_changed.connect(self._fetch_soon)
        self._show()

    def _arrange(self) -> None:
        sentence = "The programs that run models. Several versions can stay side by side; you can always go back."
        self.column.addLayout(page_head(self._theme, "Engines", sentence, self.add))
        self.column.addLayout(self._hardware)
        for part in (self._waiting, self._welcome, self.jobs):
            self.column.addWidget(part)
        self.column.addLayout(self._families)
        self.column.addWidget(self.caches)
        self.column.addStretch(1)

    # --- showing -----------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        store, connected = self._store, self._store.connected
        families = store.engines.families
        if list(self._cards) != [family.family for family in families]:
            self._rebuild(families)
        self._waiting.setVisible("engines" not in store.known)
        self._welcome.setVisible("engines" in store.known and not any(f.installations for f in families))
        self.add.setEnabled(connected)
        self._show_hardware(store.engines.accelerators)
        jobs = [job for job in store.jobs.jobs if self._tells(job)]
        why_not = ONE_AT_A_TIME if words.busy_installing(store.jobs) else ""
        placed: dict[str, list[Job]] = {}
        for job in jobs:
            placed.setdefault(words.family_of(job, families), []).append(job)
        for family in families:
            card = self._cards[family.family]
            first = family is families[0] or bool(family.installations)
            card.show_family(family, self._profiles_of(family), why_not, connected, first)
            card.jobs.show_jobs(placed.pop(family.family, []), connected)
        self.jobs.show_jobs([job for rest in placed.values() for job in rest], connected)
        self._show_caches()

    @staticmethod
    def _tells(job: Job) -> bool:
        """A finished removal or clearing is seen in the list itself; other work stands on its own page."""
        return job.kind in words.KINDS and not (job.state == "done" and job.kind in ("remove", "clear"))

    def _profiles_of(self, family: EngineView) -> tuple[tuple[str, str], ...]:
        """The profiles on which this family's installations can be compared."""
        cards = (
            card for card in self._store.library.profiles if card.profile.engine == family.family and card.available
        )
        return tuple((card.profile.id, card.profile.title) for card in cards)

    def _rebuild(self, families: tuple[EngineView, ...]) -> None:
        for card in self._cards.values():
            self._families.removeWidget(card)
            card.hide()
            card.deleteLater()
        self._cards = {}
        for family in families:
            card = self._cards[family.family] = FamilyCard(self._theme, family.family, self._job_list())
            card.pin_wanted.connect(self._pin)
            card.install_wanted.connect(self._install)
            card.canary_wanted.connect(self._compare)
            card.remove_wanted.connect(self._ask_remove)
            self._families.addWidget(card)

    def _job_list(self) -> JobList:
        def make(theme: Theme, job: Job) -> EngineJobRow:
            made = EngineJobRow(theme, job)
            made.use_wanted.connect(self._use_tried)
            return made

        return JobList(self._theme, self._desk, make)

    def _show_hardware(self, accelerators: tuple[str, ...]) -> None:
        if accelerators == self._shown_hardware:
            return
        self._shown_hardware = accelerators
        clear(self._hardware)
        if accelerators:
            self._hardware.addWidget(Label(self._theme, "This computer has", "small", "muted"))
            for name in accelerators:
                tone = "predicted" if words.is_gpu(name) else "muted"
                self._hardware.addWidget(Pill(self._theme, words.accelerator(name), tone, dot=False))
            self._hardware.addStretch(1)

    def _show_caches(self) -> None:
        clearing = frozenset(j.subject for j in self._store.jobs.jobs if j.kind == "clear" and is_running(j))
        self.caches.show_caches(self._caches, clearing, self._store.connected)

    def _after_jobs(self) -> None:
        """Sizes have changed when some work is over."""
        running = frozenset(job.id for job in self._store.jobs.jobs if is_running(job))
        if self._running - running:
            self._fetch_soon()
        self._running = running

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._fetch_soon()

    def _fetch_soon(self) -> None:
        if self.isVisible() and self._store.connected:
            self._fetch_caches()

    def _fetch_caches(self) -> None:
        self._caches_turn += 1
        turn = self._caches_turn

        async def run() -> None:
            try:
                found = await self._link.get("/control/caches", Caches)
            except EngineRoomError:
                return  # the rest of the page says how the connection stands
            if turn == self._caches_turn:
                self._caches = found.caches
                self._show_caches()

        self._link.tasks.start(run(), "caches")

    # --- doing -------------------------------------------------------------------------------------------------------

    def _pin(self, family: str, installation: str) -> None:
        self._link.send("/control/engines/pin", control.Pin(family=family, installation=installation))

    def _install(self, family: str, version: str, accelerator: str) -> None:
        wish = control.Install(family=family, version=version, accelerator=accelerator)
        self._link.send("/control/engines/install", wish, JobStarted)

    def _compare(self, installation: str, profile: str) -> None:
        wish = control.Canary(installation=installation, profile=profile)

        def send() -> None:
            self._link.send("/control/engines/canary", wish, JobStarted)

        busy = any(seat.run is not None and seat.run.ended_at_unix is None for seat in self._store.seats.seats)
        if not busy:
            send()
            return
        confirm(
            self._theme,
            self,
            "Compare now?",
            "A model is loaded. The comparison loads its own model beside it where both fit; where they do not, it says so.",
            "Compare",
            send,
        )

    def _use_tried(self, installation: str) -> None:
        for family in self._store.engines.families:
            if any(one.id == installation for one in family.installations):
                self._pin(family.family, installation)
        for job in self._store.jobs.jobs:  # the comparison has served
            if (result := words.canary_result(job)) is not None and result.installation == installation:
                self._desk.put_away(job.id)

    def _ask_remove(self, installation: str) -> None:
        found = [(f, one) for f in self._store.engines.families for one in f.installations if one.id == installation]
        if not found:
            return
        family, one = found[0]
        if one.source != "ours":
            confirm(
                self._theme,
                self,
                f"Take {words.full_name(family, one)} off the list?",
                f"Engine Room does not look at {one.place} any more. The files stay where they are.",
                "Take it off",
                lambda: self._link.send("/control/engines/add", control.AddEngine(path=one.place, forget=True)),
            )
            return
        size = f" and frees {wording.size(one.disk_bytes)}" if one.disk_bytes else ""
        confirm(
            self._theme,
            self,
            f"Remove {words.full_name(family, one)}?",
            f"This deletes it from this computer{size}. It can be installed again.",
            "Remove",
            lambda: self._link.send("/control/engines/remove", control.EngineOf(installation=installation), JobStarted),
            "danger",
        )

    def _ask_clear(self, cache: Cache) -> None:
        confirm(
            self._theme,
            self,
            f"Clear {cache.title}?",
            f"This frees {wording.size(cache.disk_bytes)}. {cache.sentence}",
            "Clear",
            lambda: self._link.send("/control/caches/clear", control.CacheOf(cache=cache.id), JobStarted),
            "danger",
        )

    def _open_add(self) -> None:
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("A program file, such as llama-server …").triggered.connect(lambda: self._choose(folder=False))
        menu.addAction("A folder: a virtual or conda environment …").triggered.connect(
            lambda: self._choose(folder=True)
        )
        menu.popup(self.add.mapToGlobal(self.add.rect().bottomLeft()))

    def _choose(self, folder: bool) -> None:
        from PySide6.QtWidgets import QFileDialog

        dialog = QFileDialog(self, "A folder with an engine" if folder else "An engine’s program file")
        dialog.setFileMode(QFileDialog.FileMode.Directory if folder else QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.add_place)
        dialog.open()

    def add_place(self, path: str) -> None:
        """Asks the service to look at a file or a folder; what it is, it finds out itself."""
        if path:
            self._link.send("/control/engines/add", control.AddEngine(path=path))
