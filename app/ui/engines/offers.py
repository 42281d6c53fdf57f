"""What could be installed of one family: builds that suit this computer first, the others on demand, or any version."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QLineEdit, QVBoxLayout, QWidget

from app.core.snapshot import EngineView, Offer
from app.ui.engines import words
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Line, row
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import Label


class Offers(QWidget):
    install_wanted = Signal(str, str)  # version, accelerator

    def __init__(self, theme: Theme, family: EngineView, can_install: bool, why_not: str) -> None:
        super().__init__()
        self._theme, self._family = theme, family
        self._can_install, self._why_not = can_install, why_not
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        suiting = [offer for offer in family.offers if offer.suits]
        others = [offer for offer in family.offers if not offer.suits]
        best = words.first_offer(family)
        if suiting:
            column.addSpacing(Space.medium)
            column.addWidget(Label(theme, "Available to install", "caption", "faint"))
        for place, offer in enumerate(suiting):
            if place:
                column.addWidget(Line())
            column.addWidget(self._row(offer, offer is best))
        self._others = QWidget()
        below = QVBoxLayout(self._others)
        below.setContentsMargins(0, 0, 0, 0)
        below.setSpacing(0)
        for offer in others:
            below.addWidget(Line())
            below.addWidget(self._row(offer, False))
        self._others.setVisible(not suiting)
        if others and suiting:
            text = f"{len(others)} more for other hardware"
            self._more = Button(theme, text, "quiet", "chevron-down", f"Show {text} of {family.title}")
            self._more.clicked.connect(self._toggle_others)
            column.addLayout(row(self._more, None))
        column.addWidget(self._others)
        if family.offers:
            column.addWidget(Line())
            column.addWidget(self._any_version())

    def _row(self, offer: Offer, best: bool) -> QWidget:
        part = QWidget()
        name = f"{self._family.title} {offer.version} for {words.accelerator(offer.accelerator)}"
        line = row(spacing=Space.small)
        line.setContentsMargins(0, Space.medium, 0, Space.medium)
        text = QVBoxLayout()
        text.setSpacing(3)
        head = row(spacing=Space.small)
        head.addWidget(Label(self._theme, offer.version or "newest", "strong"))
        tone = "predicted" if words.is_gpu(offer.accelerator) else "muted"
        head.addWidget(Pill(self._theme, words.accelerator(offer.accelerator), tone, dot=False))
        if best:
            head.addWidget(Pill(self._theme, "Best for this computer", "good"))
        elif not offer.suits:
            head.addWidget(Pill(self._theme, "No such device here", "muted"))
        head.addStretch(1)
        text.addLayout(head)
        detail = " ".join(part for part in (words.how(offer) + ".", words.needs(offer)) if part)
        text.addWidget(Label(self._theme, detail, "small", "muted", wrap=True))
        line.addLayout(text, 1)
        if offer.installed:
            line.addWidget(Pill(self._theme, "Installed", "good"))
        else:
            kind = "primary" if best else ""
            install = Button(self._theme, "Install" if offer.suits else "Install anyway", kind, "", f"Install {name}")
            install.setEnabled(self._can_install)
            install.setToolTip(self._why_not)
            install.clicked.connect(lambda: self.install_wanted.emit(offer.version, offer.accelerator))
            line.addWidget(install)
        part.setLayout(line)
        return part

    def _any_version(self) -> QWidget:
        """For who wants one version and no other."""
        part = QWidget()
        title = self._family.title
        self._version = QLineEdit()
        self._version.setPlaceholderText("for example " + (self._family.offers[0].version or "0.3.16"))
        self._version.setAccessibleName(f"Version of {title} to install")
        self._version.setFixedWidth(210)
        self._kind = QComboBox()
        self._kind.setAccessibleName(f"Accelerator of {title} to install")
        for name in dict.fromkeys(offer.accelerator for offer in self._family.offers):
            self._kind.addItem(words.accelerator(name), name)
        install = Button(self._theme, "Install", "", "", f"Install this version of {title}")
        install.setEnabled(False)
        install.setToolTip(self._why_not)
        self._version.textChanged.connect(lambda text: install.setEnabled(bool(text.strip()) and self._can_install))
        install.clicked.connect(self._install_version)
        line = row(spacing=Space.small)
        line.setContentsMargins(0, Space.medium, 0, Space.hair)
        line.addWidget(Label(self._theme, "Another version", "label"), 1)
        for widget in (self._version, self._kind, install):
            line.addWidget(widget, 0, Qt.AlignmentFlag.AlignVCenter)
        part.setLayout(line)
        return part

    def _install_version(self) -> None:
        self.install_wanted.emit(self._version.text().strip(), str(self._kind.currentData() or ""))

    def _toggle_others(self) -> None:
        self._others.setVisible(self._others.isHidden())
        icon = "chevron-down" if self._others.isHidden() else "chevron-up"
        self._more.shape(self._more.text(), "quiet", icon, self._more.accessibleName())
