"""Shows one plan with everything that can be turned: a bar per device, its parts, the dials, what helps, what is expected."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QBoxLayout, QGridLayout, QSizePolicy, QVBoxLayout, QWidget

from app.core.memory.plan_types import DevicePlan, MemoryPlan, Remedy
from app.core.memory.words import learnt_words, source_words, spare_words
from app.core.options import Option, Scalar
from app.core.snapshot import Gpus, ProfileCard, RunView
from app.ui import wording
from app.ui.plan.dials import Dial, DialSpec, dials_of, value_of, with_flash, words_of
from app.ui.plan.stack import StackBar, look_of
from app.ui.theme import Space, Theme
from app.ui.widgets.controls import Button
from app.ui.widgets.layout import Card, clear, row
from app.ui.widgets.memory_panel import short_name
from app.ui.widgets.pill import Pill
from app.ui.widgets.text import ElidedLabel, Label

BESIDE_FROM = 780  # px of width from which two cards stand side by side
POINT_AT_A_PART = "The line below a bar spans the least and the most that it may take. Point at a part to see where its figure comes from."


class PlanPanel(QWidget):
    """`turned` tells the settings that a dial changed; `remedy_chosen` the remedy that was taken."""

    turned = Signal(object)
    remedy_chosen = Signal(object)

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._settings: dict[str, Scalar] = {}
        self._dials: dict[str, Dial] = {}
        self._specs: tuple[DialSpec, ...] = ()
        self._bars: dict[str, tuple[ElidedLabel, StackBar, Label]] = {}
        self.remedies: tuple[Remedy, ...] = ()
        self._card: ProfileCard | None = None
        self._places: dict[str, str] = {}  # which of several cards, before its name
        self.pill = Pill(theme, "Size not known", "muted")
        self.sentence = Label(theme, "", "body", wrap=True, select=True)
        self.sentence.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self._caption = ElidedLabel(theme, "", "small", "faint")
        self._bars_grid = QGridLayout()
        self._bars_grid.setHorizontalSpacing(Space.large)
        self._bars_grid.setVerticalSpacing(Space.small)
        self._bars_grid.setColumnStretch(1, 1)
        self._memory = Card()
        self._memory.column.addLayout(self._bars_grid)
        self._memory.column.addWidget(self._caption)
        self._dials_card = Card(spacing=Space.medium)
        self._dials_card.column.addWidget(Label(theme, "Change", "title"))
        self._dial_column = QVBoxLayout()
        self._dial_column.setSpacing(Space.medium)
        self._dials_card.column.addLayout(self._dial_column)
        self._dials_card.column.addStretch(1)
        self._dials_card.hide()
        self._parts = _Parts(theme)
        self._cures = Card(spacing=6)
        self._cures.column.addWidget(Label(theme, "What would help", "title"))
        self._cure_rows = QVBoxLayout()
        self._cure_rows.setSpacing(6)
        self._cures.column.addLayout(self._cure_rows)
        self._more = _Expected(theme)
        self.measured = _Measured(theme)
        self._arrange()

    def _arrange(self) -> None:
        verdict = row(self.pill, spacing=Space.medium)
        verdict.addWidget(self.sentence, 1)
        verdict.setAlignment(self.pill, Qt.AlignmentFlag.AlignTop)
        self._pair = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._pair.setSpacing(Space.large)
        self._pair.addWidget(self._dials_card, 1)
        self._pair.addWidget(self._parts, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(Space.large)
        column.addLayout(verdict)
        column.addWidget(self._memory)
        column.addWidget(self._cures)
        column.addLayout(self._pair)
        column.addWidget(self.measured)
        column.addWidget(self._more)

    def resizeEvent(self, event: QResizeEvent) -> None:
        beside = self.width() >= BESIDE_FROM
        way = QBoxLayout.Direction.LeftToRight if beside else QBoxLayout.Direction.TopToBottom
        if way != self._pair.direction():
            self._pair.setDirection(way)

    # --- showing -----------------------------------------------------------------------------------------------------

    def show_model(self, card: ProfileCard, options: tuple[Option, ...], gpus: Gpus) -> None:
        """Which model this is about, on which machine; the dials follow its engine."""
        self._card = card
        several = len(gpus.gpus) > 1
        self._places = {gpu.uuid: f"{gpu.index}  " if several else "" for gpu in gpus.gpus}
        specs = dials_of(card.facts, options, bool(gpus.gpus)) if card.facts is not None else ()
        if specs == self._specs:
            return
        self._specs = specs
        clear(self._dial_column)
        self._dials = {}
        for spec in specs:
            dial = self._dials[spec.key] = Dial(self._theme, spec)
            dial.turned.connect(lambda changes: self.turned.emit(with_flash(changes, self._settings)))
            self._dial_column.addWidget(dial)
        self._dials_card.setVisible(bool(specs))

    def show_plan(self, plan: MemoryPlan, settings: Mapping[str, Scalar], solved: bool) -> None:
        """`solved`: remedies and the longest context were looked for; else the ones before stay a moment longer."""
        self._settings = dict(settings)
        fit = wording.fit(plan)
        self.pill.say(fit.text, fit.tone)
        self.sentence.say(plan.summary)
        self._show_bars(plan)
        self._parts.show_plan(plan)
        facts = self._card.facts if self._card is not None else None
        if facts is not None:
            for key, dial in self._dials.items():
                value = value_of(dial.spec, settings, facts, plan)
                left_alone = key == "share" and dial.spec.names[0] not in settings
                dial.show_value(value, "automatic" if left_alone else words_of(dial.spec, value))
                if key == "context" and solved:
                    dial.show_longest(plan.longest_context_tokens, facts.context_max)
        if solved or plan.is_admitted:
            self._show_remedies(plan)
        self._more.show_plan(plan)

    def _show_bars(self, plan: MemoryPlan) -> None:
        devices = {device.device: device for device in plan.devices}
        if list(devices) != list(self._bars):
            clear(self._bars_grid)
            self._bars = {}
            for line, device in enumerate(plan.devices):
                words = self._places.get(device.device, "") + device_name(device)
                name = ElidedLabel(self._theme, words, "label")
                name.setFixedWidth(116)
                bar = StackBar(self._theme, f"Memory of {words}")
                bar.pointed.connect(self._point)
                figures = Label(self._theme, "", "small_number", "muted")
                figures.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
                figures.setMinimumWidth(150)
                self._bars_grid.addWidget(name, line, 0, Qt.AlignmentFlag.AlignTop)
                self._bars_grid.addWidget(bar, line, 1)
                self._bars_grid.addWidget(figures, line, 2)
                name.setFixedHeight(26)
                self._bars[device.device] = (name, bar, figures)
            self._point("")
        for key, (_, bar, figures) in self._bars.items():
            device = devices[key]
            bar.show_device(device, plan.holders)
            band = f"{_figure(device.low_bytes)}–{wording.size(device.high_bytes)}"
            likely = learnt_words(device) if device.launches else f"{wording.size(device.likely_bytes)} ({band})"
            figures.say(f"{likely}\n{spare_words(device.spare_bytes)}")
        self._memory.setVisible(bool(plan.devices))

    def _point(self, words: str) -> None:
        self._caption.say(words or POINT_AT_A_PART, "" if words else "faint")

    def _show_remedies(self, plan: MemoryPlan) -> None:
        """Kept as they are while they are the same: a click must not meet another row than the eye did."""
        self._cures.setVisible(bool(plan.remedies))
        if plan.remedies == self.remedies:
            return
        self.remedies = plan.remedies
        clear(self._cure_rows)
        for remedy in plan.remedies:
            needs = f" · then needs about {wording.size(remedy.needs_bytes)}" if remedy.needs_bytes else ""
            button = Button(self._theme, f"{remedy.title}{needs}", "left", "check", f"Remedy: {remedy.title}")
            button.clicked.connect(lambda _=False, remedy=remedy: self.remedy_chosen.emit(remedy))
            self._cure_rows.addWidget(button)

    def show_run(self, run: RunView | None) -> None:
        self.measured.show_run(run)


def device_name(device: DevicePlan) -> str:
    return "Main memory" if device.device == "host" else short_name(device.name)


def _figure(count: int) -> str:
    """Without its unit where the larger figure behind it has the same."""
    return wording.size(count).removesuffix(" GiB")


class _Swatch(QWidget):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme, self._colour = theme, "others"
        self.setFixedSize(12, 18)
        theme.changed.connect(self.update)

    def show_colour(self, colour: str) -> None:
        if colour != self._colour:
            self._colour = colour
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(self._theme.colour(self._colour))
        painter.drawRoundedRect(1, 4, 10, 10, 3, 3)


class _Parts(Card):
    """Each part once over all devices: colour, words, figure, and where the figure comes from."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.column.addWidget(Label(theme, "What it is made of", "title"))
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(Space.small)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(3, 1)
        self.column.addLayout(self._grid)
        self.column.addStretch(1)
        self._rows: list[tuple[_Swatch, Label, Label, ElidedLabel]] = []

    def show_plan(self, plan: MemoryPlan) -> None:
        sums: dict[str, tuple[int, str]] = {}
        for device in plan.devices:
            for part in device.parts:
                before = sums.get(part.name, (0, source_words(part)))
                sums[part.name] = (before[0] + part.bytes, before[1])
        while len(self._rows) < len(sums):
            made = (
                _Swatch(self._theme),
                Label(self._theme, "", "body"),
                Label(self._theme, "", "number"),
                ElidedLabel(self._theme, "", "small", "faint"),
            )
            made[2].setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            for column, widget in enumerate(made):
                self._grid.addWidget(widget, len(self._rows), column)
            self._rows.append(made)
        for number, widgets in enumerate(self._rows):
            for widget in widgets:
                widget.setVisible(number < len(sums))
        for widgets, (name, (size, source)) in zip(self._rows, sums.items(), strict=False):
            colour, words = look_of(name)
            widgets[0].show_colour(colour)
            widgets[1].say(words)
            widgets[2].say(wording.size(size))
            widgets[3].say(source)
        self.setVisible(bool(sums))


class _Expected(Card):
    """How fast it will be, which engine for what, and what was solved: as far as the planner says it."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(spacing=6)
        self._theme = theme
        self._shown: tuple[str, ...] = ()
        self.column.addWidget(Label(theme, "What to expect", "title"))
        self._lines = QVBoxLayout()
        self._lines.setSpacing(6)
        self.column.addLayout(self._lines)

    def show_plan(self, plan: MemoryPlan) -> None:
        lines = tuple(expected_words(plan))
        self.setVisible(bool(lines))
        if lines == self._shown:
            return
        if len(lines) == len(self._shown):
            for number, text in enumerate(lines):
                item = self._lines.itemAt(number)
                label = item.widget() if item is not None else None
                if isinstance(label, Label):
                    label.say(text)
        else:
            clear(self._lines)
            for text in lines:
                self._lines.addWidget(Label(self._theme, text, "body", "muted", wrap=True, select=True))
        self._shown = lines


def expected_words(plan: MemoryPlan) -> list[str]:
    found = []
    if (speed := plan.speed) is not None:
        found.append(
            f"About {wording.tokens_per_second(speed.likely)} tokens per second "
            f"({wording.tokens_per_second(speed.low)} to {wording.tokens_per_second(speed.high)}): {speed.source}."
        )
    first = {advice.use: advice for advice in reversed(plan.advice)}  # the recommendation of each use
    for advice in reversed(first.values()):
        engine = wording.engine(advice.engine) if advice.engine else "no engine"
        found.append(f"For {advice.use}: {engine}. {advice.reason}")
    return [*found, *plan.notes]


class _Measured(Card):
    """What was predicted for the last load beside what was measured when it had become ready."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(spacing=6)
        self._theme = theme
        self.column.addWidget(Label(theme, "Predicted and measured", "title"))
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(Space.huge)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(3, 1)
        self.column.addLayout(self._grid)
        self._shown: tuple[tuple[str, str, str, str], ...] = ()
        self.hide()

    def show_run(self, run: RunView | None) -> None:
        rows = measured_rows(run)
        self.setVisible(bool(rows))
        if rows == self._shown:
            return
        self._shown = rows
        clear(self._grid)
        for line, cells in enumerate((("", "predicted", "measured", ""), *rows)):
            for column, text in enumerate(cells):
                role = "caption" if line == 0 else "body" if column == 0 else "small_number"
                label = Label(self._theme, text, role, "muted" if line == 0 or column == 3 else "")
                figures = Qt.AlignmentFlag.AlignRight if 0 < column < 3 else Qt.AlignmentFlag.AlignLeft
                self._grid.addWidget(label, line, column, figures | Qt.AlignmentFlag.AlignVCenter)


def measured_rows(run: RunView | None) -> tuple[tuple[str, str, str, str], ...]:
    """(device, predicted with its band, measured, how far they are apart); only devices that were measured."""
    if run is None or run.plan is None:
        return ()
    found = []
    for device in run.plan.devices:
        measured = run.measured_bytes.get(device.device)
        if not measured:
            continue
        apart = device.likely_bytes - measured
        inside = device.low_bytes <= measured <= device.high_bytes
        words = f"{wording.size(abs(apart))} {'more' if apart >= 0 else 'less'} predicted than used"
        found.append(
            (
                device_name(device),
                f"{wording.size(device.likely_bytes)} ({_figure(device.low_bytes)}–{wording.size(device.high_bytes)})",
                wording.size(measured),
                words if inside else f"{words}, outside the range",
            )
        )
    return tuple(found)
