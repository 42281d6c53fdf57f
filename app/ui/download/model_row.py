"""One model that a search found, unfolded into its forms: sizes, verdicts, the best that fits, and a button each."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from app.core.hub import HubForm, HubListing, HubModel
from app.ui import wording
from app.ui.download import words
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, Line, clear, row
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import ElidedLabel, Label, restyle


class ModelRow(Card):
    toggled = Signal(str)  # the model's name
    download_wanted = Signal(str, str)  # name, file
    update_wanted = Signal(str)

    def __init__(self, theme: Theme, model: HubModel) -> None:
        super().__init__(margins=Space.large, spacing=Space.small)
        self._theme, self.model = theme, model
        self._shown: object = None
        own = words.own_name(model.name)
        self.setAccessibleName(model.name)
        self._fold = Button(theme, "", "icon", "chevron-down", f"Show what there is of {model.name}")
        self._fold.clicked.connect(lambda: self.toggled.emit(model.name))
        head = row(spacing=Space.small)
        names = QVBoxLayout()
        names.setSpacing(2)
        line = row(ElidedLabel(theme, own, "strong"), spacing=Space.small)
        if model.gated:
            gated = Pill(theme, "Needs agreement", "warning", dot=False)
            gated.setToolTip("Its publisher asks you to agree to terms on the model's page, and for an access token")
            line.addWidget(gated)
        line.addStretch(1)
        names.addLayout(line)
        names.addWidget(ElidedLabel(theme, words.about(model), "small", "muted"))
        head.addLayout(names, 1)
        head.addWidget(self._fold)
        self._head = QWidget()
        self._head.setLayout(head)
        head.setContentsMargins(0, 0, 0, 0)
        self._head.setCursor(Qt.CursorShape.PointingHandCursor)
        self._head.installEventFilter(self)
        self._body = QVBoxLayout()
        self._body.setSpacing(Space.small)
        self.column.addWidget(self._head)
        self.column.addLayout(self._body)

    def eventFilter(self, watched: object, event: QEvent) -> bool:
        if event.type() == QEvent.Type.MouseButtonRelease and isinstance(event, QMouseEvent):
            self.toggled.emit(self.model.name)
        return False

    def fold(self) -> None:
        self._show(None)
        self._shape_fold(False)

    def wait(self) -> None:
        """It is unfolded, and what it holds is being asked for."""
        self._show(("waiting",))
        self._shape_fold(True)
        self._body.addWidget(Label(self._theme, "Asking what there is …", "small", "muted"))

    def fail(self, sentence: str, advice: str) -> None:
        self._show(("failed", sentence))
        self._shape_fold(True)
        self._body.addWidget(Label(self._theme, sentence, "body", "danger", wrap=True, select=True))
        self._body.addWidget(Label(self._theme, advice, "small", "muted", wrap=True, select=True))

    def show_listing(self, listing: HubListing, reading: bool, busy: bool, connected: bool) -> None:
        """`reading`: verdicts are still to come. `busy`: a download of it is under way."""
        key = ("listing", listing, reading, busy, connected)
        if key == self._shown:
            return
        self._show(key)
        self._shape_fold(True)
        self._body.addWidget(Line())
        if listing.outdated:
            self._body.addWidget(self._update_line(listing, busy, connected))
        self._body.addWidget(_Forms(self._theme, self, listing, reading, busy, connected))
        foot = ElidedLabel(self._theme, words.listing_line(listing), "small", "faint")
        self._body.addWidget(foot)

    def _update_line(self, listing: HubListing, busy: bool, connected: bool) -> QWidget:
        update = Button(self._theme, "Update", "soft", "refresh", f"Update {listing.name}")
        update.setEnabled(connected and not busy)
        update.clicked.connect(lambda: self.update_wanted.emit(listing.name))
        text = "A newer revision than the one on this disk was published."
        holder = QWidget()  # whole, so that it goes whole when the forms are shown anew
        holder.setLayout(row(Label(self._theme, text, "small", "accent"), None, update))
        return holder

    def _show(self, key: object) -> None:
        self._shown = key
        clear(self._body)
        restyle(self, selected=key is not None)

    def _shape_fold(self, open_: bool) -> None:
        verb = "Hide" if open_ else "Show"
        self._fold.shape(
            "", "icon", "chevron-up" if open_ else "chevron-down", f"{verb} what there is of {self.model.name}"
        )


class _Forms(QWidget):
    """Quantisations side by side: one line each, the recommended one marked."""

    def __init__(
        self, theme: Theme, asking: ModelRow, listing: HubListing, reading: bool, busy: bool, connected: bool
    ) -> None:
        super().__init__()
        self._theme, self._asking, self._listing = theme, asking, listing
        self._free = connected and not busy
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(Space.large)
        grid.setVerticalSpacing(Space.hair)
        right = Qt.AlignmentFlag.AlignRight
        for at, heading in enumerate(("Form", "Size", "Would need", "On this computer")):
            side = right if at in (1, 2) else Qt.AlignmentFlag.AlignLeft
            grid.addWidget(Label(theme, heading, "caption", "faint"), 0, at, side)
        for line, form in enumerate(listing.forms, 1):
            self._add(grid, line, form, reading)
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(3, 1)

    def _add(self, grid: QGridLayout, line: int, form: HubForm, reading: bool) -> None:
        theme, middle = self._theme, Qt.AlignmentFlag.AlignVCenter
        name = row(Label(theme, form.title, "strong" if form.recommended else "body"), spacing=Space.small)
        if form.recommended:
            name.addWidget(Pill(theme, "Best that fits", "accent", dot=False))
        if told := words.contents(form):
            name.addWidget(ElidedLabel(theme, told, "small", "faint"), 1)
        else:
            name.addStretch(1)
        grid.addLayout(name, line, 0)
        grid.addWidget(Label(theme, wording.size(form.bytes), "number"), line, 1, Qt.AlignmentFlag.AlignRight | middle)
        need = words.need(form)
        grid.addWidget(Label(theme, need, "number", "muted"), line, 2, Qt.AlignmentFlag.AlignRight | middle)
        said = words.verdict(form, reading)
        pill = Pill(theme)
        pill.say(said.text, said.tone, said.busy)
        pill.setToolTip(words.why(form))
        grid.addWidget(pill, line, 3, Qt.AlignmentFlag.AlignLeft | middle)
        deed = words.deed(form)
        if not deed:
            grid.addWidget(Pill(theme, "On this disk", "good"), line, 4, Qt.AlignmentFlag.AlignRight | middle)
            return
        kind = "primary" if form.recommended else ""
        button = Button(theme, deed, kind, "download", f"{deed} {self._listing.name} {form.title}")
        short = self._listing.free_bytes is not None and form.missing_bytes > self._listing.free_bytes
        button.setEnabled(self._free and not short)
        if short:
            button.setToolTip(f"The disk has {wording.size(self._listing.free_bytes)} free.")
        wish = form.name.rpartition("/")[2] if form.format == "gguf" else ""
        button.clicked.connect(lambda: self._asking.download_wanted.emit(self._listing.name, wish or form.title))
        grid.addWidget(button, line, 4, Qt.AlignmentFlag.AlignRight | middle)
