"""What is in the hub's cache on this disk, how large each is, deleting it, and the trash that gives back."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app.core.hub import Downloaded, Downloads, Partial, Trashed
from app.ui import wording
from app.ui.download import words
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, Line, clear, row
from app.ui.widgets.notice import IconLabel
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import ElidedLabel, Label

DEEDS_WIDTH = 148


class ShelfCard(Card):
    delete_wanted = Signal(object)  # a Downloaded
    discard_wanted = Signal(str)  # a repository's name
    update_wanted = Signal(str)
    undo_wanted = Signal(str)  # an id in the trash
    empty_wanted = Signal()
    check_wanted = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__(spacing=0)
        self._theme = theme
        self._shown: object = None
        self._check = Button(theme, "Check for updates", "quiet", "refresh")
        self._check.clicked.connect(self.check_wanted)
        self._sum = ElidedLabel(theme, "", "small", "muted")
        self.column.addLayout(row(Label(theme, "On this disk", "title"), None, self._check))
        self.column.addWidget(self._sum)
        self.column.addSpacing(Space.small)
        self._list = QVBoxLayout()
        self._list.setSpacing(0)
        self.column.addLayout(self._list)

    def show_downloads(self, found: Downloads, connected: bool, checking: bool) -> None:
        self._check.setEnabled(connected and not checking and bool(found.models))
        self._check.shape("Checking …" if checking else "Check for updates", "quiet", "refresh")
        if (found, connected) == self._shown:
            return
        self._shown = (found, connected)
        free = f" · {wording.size(found.free_bytes)} free" if found.free_bytes is not None else ""
        place = words.wording_path(found.folder)
        self._sum.say(f"{wording.size(found.disk_bytes)} in {place}{free}" if found.disk_bytes else f"{place}{free}")
        clear(self._list)
        if not (found.models or found.partial):
            empty = "Nothing yet. What you download lands here, and every program that uses the hub’s cache finds it."
            self._list.addWidget(Label(self._theme, empty, "body", "muted", wrap=True))
        for model in found.models:
            self._list.addWidget(Line())
            self._list.addWidget(self._model(model, connected))
        for part in found.partial:
            self._list.addWidget(Line())
            self._list.addWidget(self._part(part, connected))
        if found.trash:
            self._list.addSpacing(Space.medium)
            self._list.addWidget(self._trash_head(found, connected))
            for each in found.trash:
                self._list.addWidget(self._trashed(each, connected))

    def _line(self, title: str, told: str, size: int, *pills: Pill) -> tuple[QWidget, QHBoxLayout]:
        holder = QWidget()
        line = row(spacing=Space.medium)
        line.setContentsMargins(0, Space.small + 2, 0, Space.small + 2)
        names = QVBoxLayout()
        names.setSpacing(2)
        names.addLayout(row(ElidedLabel(self._theme, title, "label"), *pills, None, spacing=Space.small))
        names.addWidget(ElidedLabel(self._theme, told, "small", "muted"))
        line.addLayout(names, 1)
        line.addWidget(Label(self._theme, wording.size(size), "number", "muted"), 0, Qt.AlignmentFlag.AlignVCenter)
        deeds = QWidget()
        deeds.setFixedWidth(DEEDS_WIDTH)  # so that the sizes stand below each other
        inner = row(None, spacing=Space.small)
        deeds.setLayout(inner)
        line.addWidget(deeds)
        holder.setLayout(line)
        return holder, inner

    def _model(self, model: Downloaded, connected: bool) -> QWidget:
        pills = []
        if model.in_use:
            pills.append(Pill(self._theme, "Loaded", "good"))
        if model.older:
            pills.append(Pill(self._theme, "Older revision", "muted", dot=False))
        if model.newest:
            pills.append(Pill(self._theme, "Update available", "accent"))
        holder, line = self._line(model.title, words.of_disk(model), model.disk_bytes, *pills)
        name = f"{model.title} of {words.publisher(model.name)}"
        if model.newest:
            update = Button(self._theme, "Update", "soft", "refresh", f"Update {name}")
            update.setEnabled(connected)
            update.clicked.connect(lambda: self.update_wanted.emit(model.name))
            line.addWidget(update)
        delete = Button(self._theme, "", "icon", "trash", f"Delete {name}")
        delete.setEnabled(connected and not model.in_use)
        delete.setToolTip("Unload it first" if model.in_use else "Move to the trash")
        delete.clicked.connect(lambda: self.delete_wanted.emit(model))
        line.addWidget(delete)
        return holder

    def _part(self, part: Partial, connected: bool) -> QWidget:
        holder, line = self._line(words.own_name(part.name), "A download that is not whole", part.disk_bytes)
        discard = Button(self._theme, "Discard", "quiet", "", f"Discard what is here of {part.name}")
        discard.setEnabled(connected)
        discard.clicked.connect(lambda: self.discard_wanted.emit(part.name))
        line.addWidget(discard)
        return holder

    def _trash_head(self, found: Downloads, connected: bool) -> QWidget:
        holder = QWidget()
        size = sum(each.disk_bytes for each in found.trash)
        empty = Button(self._theme, f"Empty, {wording.size(size)}", "danger", "", "Empty the trash")
        empty.setEnabled(connected)
        empty.clicked.connect(self.empty_wanted)
        line = row(IconLabel(self._theme, "trash"), Label(self._theme, "Trash", "strong"), None, empty)
        line.setContentsMargins(0, Space.small, 0, Space.hair)
        holder.setLayout(line)
        return holder

    def _trashed(self, each: Trashed, connected: bool) -> QWidget:
        when = f"Deleted {words.ago(each.deleted_at_unix)}"
        holder, line = self._line(each.title, when, each.disk_bytes)
        undo = Button(self._theme, "Undo", "quiet", "undo", f"Put back {each.title}")
        undo.setEnabled(connected)
        undo.clicked.connect(lambda: self.undo_wanted.emit(each.id))
        line.addWidget(undo)
        return holder
