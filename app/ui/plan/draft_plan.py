"""The plan of a profile that is being edited: its dials write into the draft, nothing is loaded or saved here."""

from __future__ import annotations

from PySide6.QtCore import QTimer

from app.core.memory.plan_types import Remedy
from app.core.options import Scalar
from app.core.profiles import with_defaults
from app.ui.plan.panel import PlanPanel
from app.ui.plan.pricing import pricing_of
from app.ui.profiles.draft import Draft
from app.ui.store import Store
from app.ui.theme import Theme
from app.ui.widgets.layout import PageColumn
from app.ui.widgets.text import Label

FRAME_MS, CALM_MS = 16, 120


class DraftPlan(PageColumn):
    def __init__(self, store: Store, theme: Theme, draft: Draft, profile_id: str, widest: int) -> None:
        super().__init__(widest=widest)
        self._store, self._draft, self._id = store, draft, profile_id
        self._why_not = Label(theme, "", "body", "muted", wrap=True)
        self.panel = PlanPanel(theme)
        self.panel.turned.connect(self._take)
        self.panel.remedy_chosen.connect(self._take_remedy)
        self.column.addWidget(self._why_not)
        self.column.addWidget(self.panel)
        self.column.addStretch(1)
        self._frame = QTimer(self, singleShot=True, interval=FRAME_MS)
        self._frame.timeout.connect(self._reprice)
        self._calm = QTimer(self, singleShot=True, interval=CALM_MS)
        self._calm.timeout.connect(lambda: self._reprice(solve=True))
        draft.changed.connect(self._later)
        store.gpus_changed.connect(self._later)
        store.library_changed.connect(self._later)
        store.learnt_changed.connect(self._later)
        self._reprice(solve=True)

    def _take(self, changes: dict[str, Scalar]) -> None:
        self._draft.set_all({f"settings.{name}": value for name, value in changes.items()})

    def _take_remedy(self, remedy: Remedy) -> None:
        self._take(dict(remedy.settings))
        if remedy.gpus:
            self._draft.set("gpus", list(remedy.gpus))

    def _later(self) -> None:
        if not self._frame.isActive():
            self._frame.start()
        self._calm.start()

    def _reprice(self, solve: bool = False) -> None:
        card, draft = self._store.card(self._id), self._draft
        here = card is not None and card.profile.engine == draft.engine
        self.panel.setVisible(here)
        self._why_not.setVisible(not here)
        if card is None or not here:
            self._why_not.say("Save the profile first: its memory is planned once it is in the library.")
            return
        options = tuple(draft.rows())
        settings = draft.effective(card.profile.settings)
        written = draft.value("gpus")
        gpus = tuple(str(each) for each in written) if isinstance(written, list) else ()
        plan = pricing_of(self._store, card, options, gpus).plan(settings, solve)
        self.panel.show_model(card, options, self._store.gpus)
        self.panel.show_plan(plan, with_defaults(options, settings), solve)
