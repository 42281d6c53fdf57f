"""One engine family: what it is for, the work that runs on it, its installations side by side, and what could be installed."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from app.core.snapshot import EngineView
from app.ui.engines import words
from app.ui.engines.installation_row import Choices, InstallationRow
from app.ui.engines.offers import Offers
from app.ui.jobs.desk import JobList
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, Line, clear, row
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import Label


class FamilyCard(Card):
    pin_wanted = Signal(str, str)  # family, installation
    install_wanted = Signal(str, str, str)  # family, version, accelerator
    canary_wanted = Signal(str, str)  # installation, profile
    remove_wanted = Signal(str)  # installation

    def __init__(self, theme: Theme, family: str, jobs: JobList) -> None:
        super().__init__(spacing=0)
        self._theme = theme
        self.family = family
        self._shown: object = None
        self._unfolded = False
        self._title = Label(theme, "", "title")
        self._state = Pill(theme)
        self._purpose = Label(theme, "", "small", "muted", wrap=True)
        self._before = Label(theme, "", "small", "faint", wrap=True)
        self._deed = Button(theme, "Install", "primary", "download")
        self._deed.clicked.connect(self._install_best)
        self._fold = Button(theme, "Versions", "quiet", "chevron-down")
        self._fold.clicked.connect(self._toggle)
        self.jobs = jobs
        jobs.setContentsMargins(0, Space.hair, 0, Space.medium)
        self._list = QVBoxLayout()
        self._list.setSpacing(0)
        words_ = QVBoxLayout()
        words_.setSpacing(3)
        words_.addLayout(row(self._title, self._state, None))
        words_.addWidget(self._purpose)
        words_.addWidget(self._before)
        head = row(spacing=Space.small)
        head.addLayout(words_, 1)
        head.addWidget(self._fold)
        head.addWidget(self._deed)
        self.column.addLayout(head)
        self.column.addSpacing(Space.small)
        self.column.addWidget(self.jobs)
        self.column.addLayout(self._list)

    def show_family(self, view: EngineView, profiles: Choices, why_not: str, connected: bool, first: bool) -> None:
        """`why_not` says why nothing can be installed now; `first`: it is the one to begin with."""
        self._first = first
        self._view = view
        self._title.say(view.title)
        self.setAccessibleName(view.title)
        self._purpose.say(words.purpose(view.family) or view.how_to_get)
        self._purpose.setVisible(bool(self._purpose.text()))
        broken = bool(view.installations) and all(one.problem for one in view.installations)
        update = words.update_of(view)
        if not view.installations:
            self._state.say("Not installed", "muted")
        elif broken:
            self._state.say("Cannot be used", "danger")
        elif update is not None:
            self._state.say("Update available", "accent")
        else:
            self._state.say("Ready", "good")
        self._show_deed(view, why_not, connected)
        offer = self._offer if not view.installations else None
        self._before.say(f"{words.how(offer)}. {words.needs(offer)}".strip() if offer is not None else "")
        self._before.setVisible(bool(self._before.text()))
        shown = (view, profiles, why_not, connected, self._unfolded)
        if shown != self._shown:
            self._shown = shown
            self._rebuild(view, profiles, why_not, connected)

    def _show_deed(self, view: EngineView, why_not: str, connected: bool) -> None:
        offer = words.update_of(view) if words.chosen(view) is not None else words.first_offer(view)
        self._offer = offer
        self._deed.setVisible(offer is not None)
        if offer is not None:
            verb = f"Update to {offer.version}" if words.chosen(view) is not None else "Install"
            if words.is_gpu(offer.accelerator) and words.chosen(view) is None:
                verb = f"Install for {words.accelerator(offer.accelerator)}"
            kind = "primary" if self._first else "soft"
            self._deed.shape(verb, kind, "download", f"{verb}: {view.title}")
            self._deed.setEnabled(connected and not why_not)
            self._deed.setToolTip(why_not or "The one in use stays beside it: you can go back at any time.")
        self._fold.setVisible(bool(view.offers))
        icon = "chevron-up" if self._unfolded else "chevron-down"
        self._fold.shape("More versions", "quiet", icon, f"More versions of {view.title}")

    def _rebuild(self, view: EngineView, profiles: Choices, why_not: str, connected: bool) -> None:
        focused = QApplication.focusWidget()
        name = focused.accessibleName() if focused is not None and self.isAncestorOf(focused) else ""
        clear(self._list)
        if not view.installations and view.how_to_get and not view.offers:
            self._list.addWidget(Label(self._theme, view.how_to_get, "small", "muted", wrap=True, select=True))
        for one in view.installations:
            self._list.addWidget(Line())
            made = InstallationRow(self._theme, view, one, profiles, connected)
            made.pin_wanted.connect(lambda which: self.pin_wanted.emit(self.family, which))
            made.canary_wanted.connect(self.canary_wanted)
            made.remove_wanted.connect(self.remove_wanted)
            self._list.addWidget(made)
            made.show()  # now, so that it can take the focus back
        if self._unfolded and view.offers:
            self._list.addWidget(Line())
            offers = Offers(self._theme, view, connected and not why_not, why_not)
            offers.install_wanted.connect(lambda v, a: self.install_wanted.emit(self.family, v, a))
            self._list.addWidget(offers)
        if name:  # what had the focus has it again, although it is another widget now
            again = next(
                (w for w in self.findChildren(QWidget) if w.accessibleName() == name and not w.isHidden()), None
            )
            if again is not None:
                again.setFocus()

    def _toggle(self) -> None:
        self._unfolded = not self._unfolded
        _, profiles, why_not, connected, _ = self._shown  # type: ignore[misc]
        self.show_family(self._view, profiles, why_not, connected, self._first)

    def _install_best(self) -> None:
        if self._offer is not None:
            self.install_wanted.emit(self.family, self._offer.version, self._offer.accelerator)
