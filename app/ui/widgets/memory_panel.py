"""Shows live memory per device, and what the profile under the pointer would take of it."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QGridLayout, QSizePolicy, QWidget

from app.core.memory.plan_types import DevicePlan, MemoryPlan, Verdict
from app.core.snapshot import DriverState, Gpus, GpuSample, HostSample, SeatView
from app.ui import wording
from app.ui.theme import Space, Theme
from app.ui.widgets.layout import Card, row
from app.ui.widgets.memory_bar import MemoryBar, Segment
from app.ui.widgets.text import ElidedLabel, Label

HOST = "host"


def engine_bytes(gpu: GpuSample, seat: SeatView) -> int:
    """What our engines hold of a card; where the driver does not tell by process, what was measured after the load."""
    if gpu.processes is not None:
        return sum(process.bytes or 0 for process in gpu.processes if process.run_id)
    return seat.run.measured_bytes.get(gpu.uuid, 0) if seat.run is not None and seat.run.ended_at_unix is None else 0


def segments(
    used: int | None, own: int, plan: DevicePlan | None, *, joins: bool, tone: str = "predicted"
) -> tuple[Segment, ...]:
    """The bar of one device. `plan` is of the profile in question; `joins`: its engine is the one already counted in `own`."""
    others = max(0, (used or 0) - own)
    if plan is None:
        return (Segment("others", others), Segment("engine", own))
    if joins:
        return (Segment("others", others), Segment("engine", own), Segment(tone, max(0, plan.likely_bytes - own)))
    return (Segment("others", others), Segment(tone, plan.likely_bytes))


def plan_tone(plan: MemoryPlan | None) -> str:
    tones = {Verdict.FITS: "predicted", Verdict.TIGHT: "warning", Verdict.DOES_NOT_FIT: "danger"}
    return tones.get(plan.verdict, "predicted") if plan else "predicted"


class Legend(QWidget):
    """Small squares with words, one line."""

    _COLOURS = {
        "others": "others",
        "engine": "accent",
        "predicted": "predicted",
        "warning": "warning",
        "danger": "danger",
    }

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._items: tuple[tuple[str, str], ...] = ()
        self._font = theme.font("small")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_items(self, items: tuple[tuple[str, str], ...]) -> None:
        if items != self._items:
            self._items = items
            self.setAccessibleName(", ".join(text for _, text in items))
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(200, 18)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(self._font)
        metrics = QFontMetrics(self._font)
        x = 0
        for kind, text in self._items:
            if kind == "headroom":
                pen = QPen(self._theme.colour("text_faint"), 1.0, Qt.PenStyle.CustomDashLine)
                pen.setDashPattern([2, 2])
                painter.setPen(pen)
                painter.drawLine(x + 4, 3, x + 4, 15)
            else:
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(self._theme.colour(self._COLOURS.get(kind, "predicted")))
                painter.drawRoundedRect(QRectF(x, 4, 10, 10), 3, 3)
            painter.setPen(self._theme.colour("text_muted"))
            painter.drawText(x + 16, 0, self.width(), 18, Qt.AlignmentFlag.AlignVCenter, text)
            x += 16 + metrics.horizontalAdvance(text) + 18


class MemoryPanel(Card):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._title = Label(theme, "Memory", "title")
        self._note = ElidedLabel(theme, "", "small", "muted")
        self._note.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(Space.large)
        self._grid.setVerticalSpacing(10)
        self._grid.setColumnStretch(1, 1)
        self._rows: dict[str, tuple[ElidedLabel, MemoryBar, Label]] = {}
        self._legend = Legend(theme)
        head = row(self._title, Space.large)
        head.addWidget(self._note, 1)
        self.column.addLayout(head)
        self.column.addSpacing(2)
        self.column.addLayout(self._grid)
        self.column.addSpacing(2)
        self.column.addWidget(self._legend)

    def show_memory(self, gpus: Gpus, seat: SeatView, plan: MemoryPlan | None, of: str, joins: bool) -> None:
        """`plan` and `of`: of the profile pointed at; `joins`: it is the one that is loaded or loading."""
        devices = [gpu.uuid for gpu in gpus.gpus] or ([HOST] if gpus.host else [])
        if list(self._rows) != devices:
            self._rebuild(devices)
        by_device = {device.device: device for device in plan.devices} if plan else {}
        tone = plan_tone(plan)
        for gpu in gpus.gpus:
            self._show_gpu(gpu, seat, by_device.get(gpu.uuid), joins, tone)
        if not gpus.gpus and gpus.host is not None:
            self._show_host(gpus.host, by_device.get(HOST), joins, tone)
        widest = max((widgets[0].sizeHint().width() for widgets in self._rows.values()), default=0)
        for name, _, _ in self._rows.values():
            name.setFixedWidth(min(220, widest + 4))
        self._note.say(_driver_note(gpus))
        self._title.say("GPU memory" if gpus.gpus else "Main memory" if gpus.host else "Memory")
        items = [("others", "Used by others"), ("engine", "Engine")]
        if plan is not None and of:
            items.append((tone, f"{of} would take" if not joins else f"{of} will take"))
        if any(device.headroom_bytes for device in by_device.values()):
            items.append(("headroom", "Headroom kept free"))
        self._legend.show_items(tuple(items))

    def _rebuild(self, devices: list[str]) -> None:
        for widgets in self._rows.values():
            for widget in widgets:
                self._grid.removeWidget(widget)
                widget.hide()
                widget.deleteLater()
        self._rows = {}
        for line, device in enumerate(devices):
            name = ElidedLabel(self._theme, "", "label")
            bar = MemoryBar(self._theme, name=f"Memory of device {line}")
            figures = Label(self._theme, "", "small_number", "muted")
            figures.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            for column, widget in enumerate((name, bar, figures)):
                self._grid.addWidget(widget, line, column, Qt.AlignmentFlag.AlignVCenter)
            self._rows[device] = (name, bar, figures)

    def _show_gpu(self, gpu: GpuSample, seat: SeatView, plan: DevicePlan | None, joins: bool, tone: str) -> None:
        name, bar, figures = self._rows[gpu.uuid]
        name.say(f"{gpu.index}  {short_name(gpu.name)}")
        own = engine_bytes(gpu, seat)
        text = f"{wording.size(gpu.free_bytes)} free of {wording.size(gpu.total_bytes)}"
        parts = segments(gpu.used_bytes, own, plan, joins=joins, tone=tone)
        bar.show_memory(parts, gpu.total_bytes or 0, plan.headroom_bytes if plan else 0, spoken(text, plan))
        figures.say(text)

    def _show_host(self, host: HostSample, plan: DevicePlan | None, joins: bool, tone: str) -> None:
        name, bar, figures = self._rows[HOST]
        name.say("This computer")
        used = host.total_bytes - host.available_bytes
        text = f"{wording.size(host.available_bytes)} free of {wording.size(host.total_bytes)}"
        parts = segments(used, min(host.engine_bytes or 0, used), plan, joins=joins, tone=tone)
        bar.show_memory(parts, host.total_bytes, plan.headroom_bytes if plan else 0, spoken(text, plan))
        figures.say(text)


def spoken(text: str, plan: DevicePlan | None) -> str:
    """A device's figures and what the profile in question takes of it, for who cannot see the bar."""
    return text if plan is None else f"{text}; {wording.size(plan.likely_bytes)} planned"


def short_name(name: str) -> str:
    """A card's name without the words that every card has."""
    return name.replace("NVIDIA ", "").replace("GeForce ", "").strip() or name


def _driver_note(gpus: Gpus) -> str:
    match gpus.driver:
        case DriverState.STARTING:
            return "Looking for graphics cards …"
        case DriverState.ABSENT:
            return "No GPU: the CPU will do"
        case DriverState.OK:
            if not gpus.gpus:
                return "No GPU: the CPU will do"
            return f"Driver {gpus.driver_version}" if gpus.driver_version else ""
    return gpus.message or "The NVIDIA driver does not answer as it should"
