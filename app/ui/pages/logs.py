"""The log viewer: any run's log, followed, filtered, searched, and opened at the line that tells why it failed."""

from __future__ import annotations

import re
import time
from array import array
from collections.abc import Callable

from PySide6.QtCore import QElapsedTimer, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import QComboBox, QStackedWidget, QVBoxLayout, QWidget

from app.core.errors import EngineRoomError
from app.core.loglines import Level
from app.core.snapshot import RunView
from app.ui import wording
from app.ui.link import Link
from app.ui.logs.search import BadPattern, Search, lines_that, matcher
from app.ui.logs.spool import Spool
from app.ui.logs.view import LogView
from app.ui.store import Store
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button, SearchField
from app.ui.widgets.layout import Card, row
from app.ui.widgets.notice import IconLabel, NoticeBar
from app.ui.widgets.text import Label

WAIT_SECONDS = 20
# Lines gather in the file meanwhile: asking for many costs hardly more than for one, and nobody sees the difference.
GATHER_SECONDS, HIDDEN_GATHER_SECONDS = 0.05, 0.5
PIECE_BYTES = 1024**2
FRAME_MS = 16
JUDGE_NS, JUDGE_EVERY_MS = 500_000, 5  # levels are found and counted in slices, beside everything else
FLUSH_SHARE = 4  # showing growth waits four times its own cost for the next: a storm never eats the window's time
SLOWEST_FLUSH_MS = 200
STORM_LINES, STORM_MS = 40, 48  # more lines than a view holds since the last time: nobody reads them, 20 pictures/s do
JUDGE_LINES = 50
CHOSEN_AT_ONCE = 5_000
TYPING_MS = 150


class LogsPage(QWidget):
    page_wanted = Signal(str, object)

    def __init__(self, store: Store, link: Link, theme: Theme) -> None:
        super().__init__()
        self._store, self._link, self._theme = store, link, theme
        self._run_id = ""
        self._newest = ""  # the run that began last, as far as the list has told
        self._spool: Spool | None = None
        self._reading = 0  # which reading of a run is the current one
        self._jump: int | None = None
        self._only: array[int] | None = None
        self._only_to = 0  # how far the chosen lines have been looked for
        self._accepts: Callable[[int, bytes], bool] | None = None
        self._trouble = ""
        self._shown_lines = 0
        self._filtering, self._finding = Search(), Search()
        self._filtering.found.connect(self._filtered)
        self._finding.found.connect(self._find_done)
        self._build(theme)
        self._flush = QTimer(self, singleShot=True, interval=FRAME_MS)
        self._flush.timeout.connect(self._show_growth)
        self._judging = QTimer(self, singleShot=True, interval=JUDGE_EVERY_MS)
        self._judging.timeout.connect(self._judge)
        self._typing = QTimer(self, singleShot=True, interval=TYPING_MS)
        self._typing.timeout.connect(self._refilter)
        self._find_typing = QTimer(self, singleShot=True, interval=TYPING_MS)
        self._find_typing.timeout.connect(self._refind)
        self._shortcuts()
        for changed in (store.runs_changed, store.connection_changed):
            changed.connect(self._show_runs)
        self._show_runs()

    # --- building ---

    def _build(self, theme: Theme) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(Space.huge, Space.large + 4, Space.huge, Space.huge)
        column.setSpacing(Space.medium)
        self._picker = QComboBox()
        self._picker.setAccessibleName("Run")
        self._picker.setMinimumWidth(270)
        self._picker.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._picker.activated.connect(self._picked)
        self._filter = SearchField(theme, "Filter lines (regular expression)", "Filter lines")
        self._filter.textChanged.connect(lambda: self._typing.start())
        self._levels: dict[Level, Button] = {}
        for level, text in ((Level.INFO, "Info"), (Level.WARNING, "Warnings"), (Level.ERROR, "Errors")):
            button = Button(theme, text, "segment", "", f"Show {text.lower()}")
            button.setCheckable(True)
            button.setChecked(True)
            button.toggled.connect(self._refilter)
            self._levels[level] = button
        self._follow = Button(theme, "Follow", "soft", "follow", "Follow the log")
        self._follow.clicked.connect(lambda: self.view.follow(not self.view.following))
        self._copy_path = Button(theme, "", "icon", "copy", "Copy the log file's path")
        self._copy_path.clicked.connect(self._copy_the_path)
        tools = row(self._picker, spacing=Space.small)
        tools.addWidget(self._filter, 1)
        for button in self._levels.values():
            tools.addWidget(button)
        self._maker = Button(theme, "", "icon", "info", "What made this run")
        self._maker.clicked.connect(self._show_maker)
        tools.addWidget(self._follow)
        tools.addWidget(self._maker)
        tools.addWidget(self._copy_path)
        column.addLayout(tools)

        self._bar = NoticeBar(theme, closable=False)
        self._bar.acted.connect(self._to_evidence)
        column.addWidget(self._bar)

        self._find_row = QWidget()
        self._find = SearchField(theme, "Find", "Find in the log")
        self._find.textChanged.connect(lambda: self._find_typing.start())
        self._find.returnPressed.connect(lambda: self._go(1))
        self._find_count = Label(theme, "", "small_number", "muted")
        before = Button(theme, "", "icon", "chevron-up", "Previous match")
        after = Button(theme, "", "icon", "chevron-down", "Next match")
        shut = Button(theme, "", "icon", "close", "Close find")
        before.clicked.connect(lambda: self._go(-1))
        after.clicked.connect(lambda: self._go(1))
        shut.clicked.connect(self._close_find)
        finding = row(spacing=Space.hair)
        finding.addWidget(self._find, 1)
        for widget in (self._find_count, before, after, shut):
            finding.addWidget(widget)
        self._find_row.setLayout(finding)
        self._find_row.hide()
        column.addWidget(self._find_row)

        card = Card(margins=1, spacing=0)
        card.column.setContentsMargins(1, Space.small, 1, Space.small)
        self.view = LogView(theme)
        self.view.followed.connect(self._show_follow)
        card.column.addWidget(self.view)
        self._places = QStackedWidget()
        self._places.addWidget(card)
        self._places.addWidget(self._empty(theme))
        column.addWidget(self._places, 1)

    def _empty(self, theme: Theme) -> QWidget:
        place = Card()
        place.column.addStretch(1)
        icon = IconLabel(theme, "logs", "text_faint", 32)
        self._empty_title = Label(theme, "No engine has run yet", "title")
        self._empty_words = Label(theme, "", "body", "muted", wrap=True)
        for label in (self._empty_title, self._empty_words):
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._empty_button = Button(theme, "Choose a model", "primary", "", "Go to Models")
        self._empty_button.clicked.connect(lambda: self.page_wanted.emit("models", None))
        place.column.addLayout(row(None, icon, None))
        place.column.addSpacing(Space.small)
        place.column.addWidget(self._empty_title)
        place.column.addWidget(self._empty_words)
        place.column.addSpacing(Space.small)
        place.column.addLayout(row(None, self._empty_button, None))
        place.column.addStretch(2)
        return place

    def _shortcuts(self) -> None:
        context = Qt.ShortcutContext.WidgetWithChildrenShortcut
        for keys, act in (
            (QKeySequence(QKeySequence.StandardKey.Find), self._open_find),
            (QKeySequence(QKeySequence.StandardKey.FindNext), lambda: self._go(1)),
            (QKeySequence(QKeySequence.StandardKey.FindPrevious), lambda: self._go(-1)),
            (QKeySequence("Ctrl+Shift+F"), self._filter.setFocus),
        ):
            shortcut = QShortcut(keys, self)
            shortcut.setContext(context)
            shortcut.activated.connect(act)

    # --- runs ---

    def show_run(self, run_id: str, log_offset: int | None = None) -> None:
        """Opens a run's log, at the line that holds this byte of it."""
        self._open(run_id)
        self._jump = log_offset
        self._jump_there()

    def _show_runs(self) -> None:
        runs = self._store.runs.runs
        newest = runs[0].id if runs else ""
        if runs and (not self._run_id or self._is_followed_by(newest)):
            self._open(newest)
        self._newest = newest
        self._fill_picker(runs)
        self._show_state()

    def _is_followed_by(self, newest: str) -> bool:
        """A new run takes the place of the newest so far, when that is over and was followed to its end; never of one that
        was picked, or whose telling line is still to come."""
        run = self._run()
        read_to_the_end = self.view.following and self._jump is None
        return (
            newest != self._run_id == self._newest
            and read_to_the_end
            and (run is None or run.ended_at_unix is not None)
        )

    def _fill_picker(self, runs: tuple[RunView, ...]) -> None:
        wanted = [(run.id, _title(run)) for run in runs]
        shown = [(self._picker.itemData(n), self._picker.itemText(n)) for n in range(self._picker.count())]
        if wanted != shown:
            self._picker.clear()
            for run_id, title in wanted:
                self._picker.addItem(title, run_id)
        self._picker.setCurrentIndex(max(0, self._picker.findData(self._run_id)) if wanted else -1)

    def _picked(self, index: int) -> None:
        self._open(str(self._picker.itemData(index)))

    def _run(self) -> RunView | None:
        return next((run for run in self._store.runs.runs if run.id == self._run_id), None)

    def _open(self, run_id: str) -> None:
        if run_id == self._run_id and not self._trouble:
            return
        self._run_id, self._jump = run_id, None
        self._reading += 1
        self._filtering.cancel()
        self._finding.cancel()
        old, self._spool = self._spool, None
        self.view.show_spool(None)
        if old is not None:
            old.close()
        try:
            self._spool = Spool(self._link.paths.cache / "logs")
        except OSError as error:
            self._trouble = (
                f"The log cannot be copied for viewing: {error.strerror}. Free some space in the cache folder."
            )
            self._show_state()
            return
        self._trouble = ""
        self.view.show_spool(self._spool)
        self._refilter()
        self._refind()
        self._link.tasks.start(self._read(self._reading, run_id, self._spool), f"log of {run_id}")
        self._show_state()

    async def _read(self, reading: int, run_id: str, spool: Spool) -> None:
        """Follows the engine's file by offsets: a lost connection goes on where it was."""
        import asyncio

        import httpx

        at = 0
        while reading == self._reading:
            path = f"/control/runs/{run_id}/log?from={at}&limit={PIECE_BYTES}&wait={WAIT_SECONDS}"
            try:
                answer = await self._link.client.get(path, timeout=httpx.Timeout(WAIT_SECONDS + 10, connect=2.0))
            except (httpx.HTTPError, EngineRoomError):
                await asyncio.sleep(0.5)
                continue
            if reading != self._reading:
                return
            if answer.status_code != 200:
                self._trouble = "This run's log is not there any more."
                self._show_state()
                return
            start, at = int(answer.headers["X-Log-Start"]), int(answer.headers["X-Log-End"])
            try:
                spool.append(answer.content, start)
            except OSError as error:
                self._trouble = (
                    f"The log cannot be copied for viewing: {error.strerror}. The engine's own file is whole."
                )
                self._show_state()
                return
            if not self._flush.isActive():
                self._flush.start()
            if answer.headers.get("X-Log-Over") == "1" and at >= int(answer.headers["X-Log-Size"]):
                return
            if not answer.content and answer.headers.get("X-Log-Over") == "1":
                return
            if len(answer.content) < PIECE_BYTES:  # all that there was
                await asyncio.sleep(GATHER_SECONDS if self.isVisible() else HIDDEN_GATHER_SECONDS)

    # --- growing ---

    def _show_growth(self) -> None:
        spool = self._spool
        if spool is None:
            return
        worked = time.thread_time()
        if not self._judging.isActive():
            self._judging.start()
        self._choose_more(spool)
        self.view.more()
        self._jump_there()
        self._show_counts()
        self._show_state()
        spent_ms = 1000 * (time.thread_time() - worked)
        fresh, self._shown_lines = spool.lines - self._shown_lines, spool.lines
        least_ms = STORM_MS if fresh > STORM_LINES else FRAME_MS
        self._flush.setInterval(max(least_ms, min(SLOWEST_FLUSH_MS, round(FLUSH_SHARE * spent_ms))))

    def _judge(self) -> None:
        """Finds the levels of what has come; nobody waits for it, so it takes little of each frame."""
        spool, spent = self._spool, QElapsedTimer()
        if spool is None:
            return
        spent.start()
        while spool.judge(JUDGE_LINES) and spent.nsecsElapsed() < JUDGE_NS:
            pass
        if spool.judged < spool.whole_lines:
            self._judging.start()
        elif not self._flush.isActive():
            self._show_counts()

    def _choose_more(self, spool: Spool) -> None:
        """New lines go through the same filter, as soon as the search through the old ones is over."""
        if self._only is None or self._accepts is None or self._only_to < 0:
            return
        last = min(spool.whole_lines, self._only_to + CHOSEN_AT_ONCE)
        if last > self._only_to:
            self._only.extend(lines_that(spool, self._accepts, self._only_to, last))
            self._only_to = last
            if last < spool.whole_lines:
                self._flush.start()

    def _show_counts(self) -> None:
        assert self._spool is not None
        counts = self._spool.counts
        texts = {
            Level.INFO: "Info",
            Level.WARNING: f"Warnings {wording.count(counts[Level.WARNING])}",
            Level.ERROR: f"Errors {wording.count(counts[Level.ERROR])}",
        }
        for level, text in texts.items():
            if self._levels[level].text() != text:
                self._levels[level].setText(text)

    def _jump_there(self) -> None:
        if self._jump is None or self._spool is None:
            return
        number = self._spool.line_at(self._jump)
        if number is not None:
            self._jump = None
            self.view.mark(number)

    # --- filter ---

    def _refilter(self) -> None:
        spool = self._spool
        levels = frozenset(level for level, button in self._levels.items() if button.isChecked())
        try:
            pattern = matcher(self._filter.text(), regex=True, case=False)
        except BadPattern as error:
            self._filter.setToolTip(str(error))
            return
        self._filter.setToolTip("")
        self._filtering.cancel()
        if spool is None:
            return
        if pattern is None and len(levels) == len(self._levels):
            self._only, self._accepts = None, None
            self.view.show_only(None)
            return
        self._accepts = _accepting(spool, pattern, levels)
        self._only, self._only_to = array("Q"), -1
        self.view.show_only(self._only)
        self._filter_to = spool.whole_lines
        self._filtering.start(spool, self._accepts, 0, self._filter_to)

    def _filtered(self, numbers: array[int], _: bool) -> None:
        self._only, self._only_to = numbers, self._filter_to
        self.view.show_only(numbers)
        if not self._flush.isActive():
            self._flush.start()

    # --- find ---

    def _open_find(self) -> None:
        self._find_row.show()
        self._find.setFocus()
        self._find.selectAll()
        self._refind()

    def _close_find(self) -> None:
        self._find_row.hide()
        self._finding.cancel()
        self.view.show_found(array("Q"), None)
        self.view.setFocus()

    def _refind(self) -> None:
        spool = self._spool
        self._finding.cancel()
        if not self._find_row.isVisibleTo(self) or spool is None:
            return
        pattern = matcher(self._find.text(), regex=False, case=False)
        self._find_pattern: re.Pattern[bytes] | None = pattern
        if pattern is None:
            self.view.show_found(array("Q"), None)
            self._find_count.say("")
            return
        self._find_count.say("…")
        search = pattern.search
        self._finding.start(spool, lambda _, line: search(line) is not None, 0, spool.lines)

    def _find_done(self, numbers: array[int], _: bool) -> None:
        self.view.show_found(numbers, self._find_pattern)
        self._find_count.say(f"{wording.count(len(numbers))} lines" if numbers else "Not found")
        if numbers:
            self._go(1)

    def _go(self, step: int) -> None:
        if not self._find_row.isVisibleTo(self):
            self._open_find()
            return
        place, of = self.view.go_found(step)
        if of:
            self._find_count.say(f"{wording.count(place)} of {wording.count(of)}")

    # --- state ---

    def _show_follow(self, on: bool) -> None:
        self._follow.shape("Following" if on else "Follow", "soft" if on else "", "follow", "Follow the log")

    def _show_state(self) -> None:
        run = self._run()
        something = self._spool is not None and self._spool.size > 0
        self._places.setCurrentIndex(0 if something else 1)
        for widget in (self._filter, self._follow, self._copy_path, *self._levels.values()):
            widget.setEnabled(something)
        self._maker.setEnabled(run is not None and self._store.connected)
        self._show_follow(self.view.following)
        if not something:
            self._say_empty(run)
        if self._trouble:
            self._bar.say(self._trouble, "warning")
        elif run is not None and run.failure is not None:
            failure = run.failure
            self._bar.say(
                f"{failure.summary} {failure.advice}".strip(), "danger", "Show the line" if failure.evidence else ""
            )
        elif not self._store.connected and something:
            self._bar.say("The service does not answer; this is the log as far as it came.", "warning")
        else:
            self._bar.say("")

    def _say_empty(self, run: RunView | None) -> None:
        known = "runs" in self._store.known
        self._empty_button.setVisible(run is None and known)
        if run is None:
            self._empty_title.say("No engine has run yet" if known else "Waiting for the service")
            self._empty_words.say("Load a model, and what its engine says is here." if known else "")
        elif run.ended_at_unix is None:
            self._empty_title.say("The engine has not said anything yet")
            self._empty_words.say("Its first lines come here as soon as they are written.")
        else:
            self._empty_title.say("This run wrote nothing")
            self._empty_words.say("Its log is empty, or was removed.")

    def _to_evidence(self) -> None:
        run = self._run()
        if run is not None and run.failure is not None and run.failure.evidence is not None:
            self._jump = run.failure.evidence.log_offset
            self._jump_there()

    def _show_maker(self) -> None:
        from app.ui.manifest import show_manifest

        show_manifest(self._theme, self, self._link, self._run_id)

    def _copy_the_path(self) -> None:
        run = self._run()
        if run is not None:
            QGuiApplication.clipboard().setText(run.log_path)


def _accepting(
    spool: Spool, pattern: re.Pattern[bytes] | None, levels: frozenset[Level]
) -> Callable[[int, bytes], bool]:
    """Which lines the filter lets through. Debug lines go with the informative ones."""
    if Level.INFO in levels:
        levels |= {Level.DEBUG}
    every = len(levels) == len(Level)

    def accepts(number: int, line: bytes) -> bool:
        if pattern is not None and pattern.search(line) is None:
            return False
        return every or spool.level(number) in levels

    return accepts


def _title(run: RunView) -> str:
    """As in "Demo · 14:02 · failed": which run it is, for a person."""
    began = time.localtime(run.started_at_unix)
    today = time.strftime("%F", began) == time.strftime("%F")
    when = time.strftime("%H:%M:%S" if today else "%d %b %H:%M", began)
    outcome = {"running": "running", "stopped": "", "failed": "failed", "leftover": "left over"}.get(run.outcome, "")
    return " · ".join(part for part in (run.title, when, outcome) if part)
