"""The page on which one profile is edited: form, text and command over one draft, its price, and saving."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import QStackedWidget, QVBoxLayout, QWidget
from shiboken6 import isValid

from app.core.control import (
    Accepted,
    CommandOf,
    CommandView,
    Export,
    ExportOf,
    OptionsView,
    ProfileOf,
    ProfileText,
    Want,
)
from app.core.errors import EngineRoomError, ProfileChanged
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.options import Preset
from app.ui import wording
from app.ui.link import Link
from app.ui.profiles.draft import Draft
from app.ui.profiles.form import Form
from app.ui.profiles.text_tab import TextTab
from app.ui.profiles.texts import Asker, ProfileTexts
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button, Segments
from app.ui.widgets.layout import PageColumn, row
from app.ui.widgets.memory_bar import MemoryBar, Segment
from app.ui.widgets.notice import NoticeBar
from app.ui.widgets.pill import Pill
from app.ui.widgets.sheet import Sheet
from app.ui.widgets.text import ElidedLabel, Label

PRICE_MS = 250
WIDEST = 1200


class ProfileEditor(QWidget):
    """`closed` when it has done its work; what was not saved has been asked about before."""

    closed = Signal()

    def __init__(
        self, store: Store, link: Link, theme: Theme, texts: ProfileTexts, profile_id: str, copy: bool = False
    ) -> None:
        """`copy`: another profile shall be made of this one."""
        super().__init__()
        self._store, self._link, self._theme, self._texts = store, link, theme, texts
        self._id, self._copying = profile_id, copy
        self.draft: Draft | None = None
        self._leaving = False  # as soon as it is saved
        self._asked = 0  # which question about the price or the command is the current one
        self._build()
        self._price_timer = QTimer(self, singleShot=True, interval=PRICE_MS)
        self._price_timer.timeout.connect(self._ask)
        store.connection_changed.connect(self._connected)
        save = QShortcut(QKeySequence(QKeySequence.StandardKey.Save), self)
        save.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
        save.activated.connect(self.save)
        self.read()

    # --- building ----------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        theme = self._theme
        self._back = Button(theme, "Models", "quiet", "chevron-left", "Back to Models")
        self._back.clicked.connect(self.leave)
        self._title = ElidedLabel(theme, "", "heading")
        self._tabs = Segments(
            theme,
            "View",
            (("form", "Form", ""), ("memory", "Memory", ""), ("text", "Text", ""), ("command", "Command", "")),
            "form",
        )
        self._tabs.chosen.connect(self.show_tab)
        self._delete = Button(theme, "", "icon", "trash", "Delete this profile")
        self._delete.clicked.connect(self._ask_delete)
        self._save = Button(theme, "Save", "primary", "check", "Save the profile")
        self._save.clicked.connect(self.save)
        head = self._head = row(spacing=Space.small)
        head.setContentsMargins(Space.huge - Space.small, Space.large, Space.huge, Space.medium)
        head.addWidget(self._back)
        head.addWidget(self._title, 1)
        for widget in (self._tabs, self._delete, self._save):
            head.addWidget(widget)
        self._pill = Pill(theme, "Size not known", "muted")
        self._bar = MemoryBar(theme, 10, "Memory this profile needs")
        self._need = ElidedLabel(theme, "", "small", "muted")
        price = self._price_line = row(spacing=Space.medium)
        price.setContentsMargins(Space.huge, 0, Space.huge, Space.medium)
        price.addWidget(self._pill)
        price.addWidget(self._bar, 2)
        price.addWidget(self._need, 1)
        self._price = QWidget()
        self._price.setLayout(price)
        self.notice = NoticeBar(theme)
        self.notice.closed.connect(lambda: self.notice.say(""))
        notices = self._notices = QVBoxLayout()
        notices.setContentsMargins(Space.huge, 0, Space.huge, Space.hair)
        notices.addWidget(self.notice)
        self._places = QStackedWidget()
        self._waiting = Label(theme, "Reading the profile …", "body", "muted", wrap=True)
        self._waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._places.addWidget(self._waiting)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(head)
        column.addWidget(self._price)
        column.addLayout(notices)
        column.addWidget(self._places, 1)
        self._show_state()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """What stands above the form ends where the form does."""
        super().resizeEvent(event)
        right = max(Space.huge, self.width() - WIDEST - Space.huge)
        for line in (self._head, self._price_line, self._notices):
            margins = line.contentsMargins()
            margins.setRight(right)
            line.setContentsMargins(margins)

    def read(self) -> None:
        """Fetches the profile's text and the settings tables, then shows the form."""

        async def run() -> None:
            try:
                options = await self._link.get("/control/engines/options", OptionsView)
                text = await self._texts.read(self._id)
            except EngineRoomError as error:
                if isValid(self):  # it may have been left meanwhile
                    self._waiting.say(str(error))
                return
            if isValid(self) and self.draft is None:
                self._take(text, options)

        self._link.tasks.start(run(), f"edit {self._id}")

    def _connected(self) -> None:
        """What could not be asked while nobody answered is asked now."""
        self._show_state()
        if self._store.connected and self.draft is None:
            self.read()
        elif self._store.connected:
            self._ask()

    def _take(self, text: ProfileText, options: OptionsView) -> None:
        if self._copying:
            text = ProfileText(profile=self._free_name(text.profile), text=text.text, own=True)
        self.draft = draft = Draft(text, options)
        self.form = Form(self._theme, self._store, draft)
        self.form.tuned.connect(self._tell_preset)
        self.form.grown.connect(self._show_state)
        self._form_page = PageColumn(widest=WIDEST)
        self._form_page.column.addWidget(self.form)
        self._form_page.column.addStretch(1)
        self.text_tab = TextTab(self._theme, draft)
        text_page = PageColumn(widest=WIDEST)
        text_page.column.addWidget(self.text_tab, 1)
        for page in (self._form_page, text_page):
            self._places.addWidget(page)
        self._pages: dict[str, QWidget] = {"form": self._form_page, "text": text_page}
        draft.changed.connect(self._changed)
        if self._copying:
            draft.set("title", f"{draft.value('title') or self._id} (copy)")
            draft.set("aliases", None)
        elif not draft.own:
            where = (
                "comes with Engine Room"
                if (card := self._store.card(self._id)) and card.profile.source == "shipped"
                else "was made from the model file"
            )
            self.notice.say(f"This profile {where}. Saving makes your own copy, which is used from then on.", "info")
        self.show_tab("form")
        self._changed()

    def _free_name(self, name: str) -> str:
        taken = {card.profile.id for card in self._store.library.profiles}
        return next(free for n in range(2, 1000) if (free := f"{name}-{n}") not in taken)

    # --- showing -----------------------------------------------------------------------------------------------------

    def show_tab(self, key: str) -> None:
        if self.draft is None:
            return
        if key == "command" and "command" not in self._pages:
            from app.ui.profiles.command_tab import CommandTab

            self.command = CommandTab(self._theme)
            self.command.export_wanted.connect(self._export)
            page = self._pages["command"] = PageColumn(widest=WIDEST)
            page.column.addWidget(self.command)
            self._places.addWidget(page)
        if key == "memory" and "memory" not in self._pages:
            from app.ui.plan.draft_plan import DraftPlan

            page = self._pages["memory"] = DraftPlan(self._store, self._theme, self.draft, self._id, WIDEST)
            self._places.addWidget(page)
        self._tabs.choose(key)
        self._price.setVisible(key != "memory")  # it is told there in full
        self._places.setCurrentWidget(self._pages[key])
        self._show_state()
        self._ask()

    def _changed(self) -> None:
        self._price_timer.start()
        self._show_state()

    def _show_state(self) -> None:
        draft, connected = self.draft, self._store.connected
        self._tabs.setEnabled(draft is not None)
        planned = self._places.currentWidget() is getattr(self, "_pages", {}).get("memory", self)
        self._price.setVisible(draft is not None and not planned)
        if draft is None:
            self._title.say(self._store.title_of(self._id))
            self._save.setEnabled(False)
            self._delete.hide()
            return
        title = draft.value("title")
        self._title.say(title if isinstance(title, str) and title else draft.id)
        can = connected and self._can_save(draft)
        self._save.setEnabled(can)
        self._save.setToolTip(
            "" if can else next(iter(draft.problems.values()), "Nothing has changed." if connected else "")
        )
        self._save.shape("Save" if draft.own else "Save as my own", "primary", "check", "Save the profile")
        self._delete.setVisible(draft.own and not self._copying)
        self._delete.setEnabled(connected)
        hidden = [
            f"{key}: {problem}" if key else problem
            for key, problem in draft.problems.items()
            if key not in self.form.shown_problems()
        ]
        if hidden and self._places.currentWidget() is self._form_page:
            self.notice.say(f"The text has a problem: {hidden[0]}", "danger")
        elif self.notice.property("tone") == "danger" and not hidden:
            self.notice.say("")

    def _show_price(self, plan: MemoryPlan | None) -> None:
        if plan is None or plan.verdict is Verdict.UNKNOWN or not plan.devices:
            self._pill.say("Size not known", "muted")
            self._bar.show_memory((), 1)
            self._need.say(plan.summary if plan is not None else "")
            return
        fit = wording.fit(plan)
        self._pill.say(fit.text, fit.tone)
        devices = wording.main_devices(plan)
        total = sum(device.total_bytes or 0 for device in devices)
        others = sum(device.others_bytes for device in devices)
        need = sum(device.likely_bytes for device in devices)
        self._bar.show_memory((Segment("others", others), Segment(fit.tone, need)), max(total, 1), words=plan.summary)
        self._need.say(wording.need(plan) if plan.is_admitted else plan.summary)

    def _ask(self) -> None:
        """The price, and the command where it is shown, of what stands in the draft now."""
        draft = self.draft
        if draft is None or not self._store.connected:
            return
        self._asked += 1
        asked = self._asked
        if draft.problems:
            if "command" in self._pages:
                self.command.say("There is a problem in the profile: mend it, and the command is shown.")
            return
        command = "command" in self._pages and self._places.currentWidget() is self._pages["command"]

        profile, text = draft.id, draft.text

        async def run() -> None:
            wish = Want(profile=profile, text=text)
            try:
                plan = await self._link.post("/control/plan", wish, MemoryPlan)
            except EngineRoomError:
                plan = None
            if asked == self._asked and isValid(self):
                self._show_price(plan)

        async def run_command() -> None:
            try:
                ask = CommandOf(profile=profile, text=text)
                view = await self._link.post("/control/command", ask, CommandView)
            except EngineRoomError as error:
                if asked == self._asked and isValid(self):
                    self.command.say(str(error))
                return
            if asked == self._asked and isValid(self):
                self.command.show_command(view)

        self._link.tasks.start(run(), "price a profile")
        if command:
            self.command.show_can_export(not draft.is_changed, "Save first: the file is made from the saved profile.")
            self._link.tasks.start(run_command(), "command of a profile")

    def _tell_preset(self, preset: Preset | None) -> None:
        self.notice.say(
            f"{preset.title}: {preset.sentence} Whatever is set below goes before it." if preset else "", "info"
        )

    # --- doing -------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        draft = self.draft
        if draft is None or not self._save.isEnabled():
            return

        async def wish() -> ProfileText | None:
            if not isValid(self) or not self._can_save(draft):
                return None
            based_on = "" if self._copying else draft.based_on  # a copy takes the place of no other profile
            return ProfileText(profile=draft.id, text=draft.text, own=True, based_on=based_on)

        asker = Asker(lambda: isValid(self), lambda sent, saved: self._saved(draft, sent, saved), self._refused)
        self._texts.save(draft.id, wish, asker)

    def _saved(self, draft: Draft, sent: ProfileText, saved: ProfileText) -> None:
        self._copying = False
        self._id = saved.profile
        draft.saved_as(saved, sent.text)
        loaded = any(getattr(seat.phase, "profile_id", None) == saved.profile for seat in self._store.seats.seats)
        when = " It counts from the next load on." if loaded else ""
        self.notice.say(f"Saved.{when}", "good")
        if self._leaving and not draft.is_changed:
            self.closed.emit()

    def _refused(self, error: EngineRoomError) -> None:
        self._leaving = False
        if self.draft is not None:
            if self._copying and isinstance(error, ProfileChanged):  # its name was taken meanwhile
                self.draft.id = self._free_name(self._id)
            self.draft.refuse({one.key: f"{one.summary} {one.advice}".strip() for one in error.details})
        self.notice.say(f"{error.summary} {error.advice}".rstrip(), "danger")

    def _can_save(self, draft: Draft) -> bool:
        return not draft.problems and (draft.is_changed or not draft.own or self._copying)

    @property
    def is_changed(self) -> bool:
        """Whether something would be lost if it went away now."""
        return self.draft is not None and self.draft.is_changed

    def leave(self) -> None:
        """Goes back; asks first when something would be lost."""
        draft = self.draft
        if draft is None or not self.is_changed:
            self.closed.emit()
            return
        buttons = (("lose", "Discard", "danger"), ("", "Go on editing", ""), ("save", "Save", "primary"))
        sheet = Sheet(
            self._theme, self.window(), "Save the changes?", "You have changed this profile and not saved it.", buttons
        )
        sheet.answered.connect(lambda key, _: self._left(key))

    def _left(self, key: str) -> None:
        if key == "lose":
            self.closed.emit()
        elif key == "save":
            self._leaving = True
            self.save()

    def _ask_delete(self) -> None:
        buttons = (("", "Cancel", ""), ("yes", "Delete", "danger"))
        text = "Its file goes to the trash. The model stays where it is."
        sheet = Sheet(self._theme, self.window(), f"Delete {self._title.text()}?", text, buttons)
        sheet.answered.connect(lambda key, _: self._remove() if key else None)

    def _remove(self) -> None:
        self._sending("/control/profiles/remove", ProfileOf(profile=self._id), self.closed.emit)

    def _sending(self, path: str, value: ProfileOf, then: Callable[[], None]) -> None:
        async def run() -> None:
            try:
                await self._link.post(path, value, Accepted)
            except EngineRoomError as error:
                if isValid(self):  # it may have been left meanwhile
                    self.notice.say(f"{error.summary} {error.advice}".rstrip(), "danger")
                return
            if isValid(self):
                then()

        self._link.tasks.start(run(), path)

    def _export(self, kind: str) -> None:
        async def run() -> None:
            try:
                export = await self._link.post("/control/export", ExportOf(profile=self._id, kind=kind), Export)
            except EngineRoomError as error:
                if isValid(self):
                    self.command.notice.say(str(error), "danger")
                return
            if isValid(self):
                self.command.save(export)

        self._link.tasks.start(run(), "export")
