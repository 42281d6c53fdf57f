"""The stacked bar of one device: who holds what of it now, each part of the load, the band of the prediction, what stays free."""

from __future__ import annotations

from typing import NamedTuple

from PySide6.QtCore import QEvent, QLineF, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from app.core.memory.plan_types import DevicePlan, Holder
from app.core.memory.words import spare_words
from app.ui import wording
from app.ui.theme import Theme

BAR_HEIGHT, BAND_HEIGHT = 26, 10
NAMED_AT_LEAST_BYTES = 64 * 1024**2
WORTH_SHOWING_BYTES = 1024**2

# A part of a load → its colour and its words. A draft model's parts carry "draft" in front.
PARTS: dict[str, tuple[str, str]] = {
    "weights": ("part_weights", "Weights"),
    "repacked weights": ("part_weights_soft", "Weights, repacked"),
    "kv_cache": ("part_cache", "KV cache"),
    "state": ("part_state", "Recurrent state"),
    "compute": ("part_compute", "Compute"),
    "activation": ("part_compute", "Activations"),
    "graphs": ("part_graphs", "Graphs"),
    "context": ("part_context", "GPU context"),
    "non_torch": ("part_context", "Outside of torch"),
    "process": ("part_context", "Process"),
    "prompt cache": ("part_state", "Prompt cache"),
    "vision": ("part_beside", "Vision part"),
    "lora": ("part_beside", "LoRA"),
    "allowance": ("part_context", "Allowance"),
}


class Piece(NamedTuple):
    """One segment. `solid` is what is held already, the others are what the load would take."""

    colour: str
    name: str
    bytes: int
    source: str
    solid: bool = False

    @property
    def words(self) -> str:
        return f"{self.name}: {wording.size(self.bytes)} · {self.source}"


def look_of(part: str) -> tuple[str, str]:
    """Colour and words of a part, whatever the planner will call it some day."""
    if part in PARTS:
        return PARTS[part]
    if part.startswith(("draft ", "vision ")):
        return "part_beside", part.replace("_", " ").capitalize().replace("kv", "KV")
    return "part_context", part.replace("_", " ").capitalize()


def pieces_of(device: DevicePlan, holders: tuple[Holder, ...]) -> tuple[Piece, ...]:
    """What others hold, by name as far as it is worth a name, then the load's parts in the planner's order."""
    found = []
    rest = device.others_bytes
    for holder in holders:
        size = holder.bytes or 0
        if holder.device == device.device and NAMED_AT_LEAST_BYTES <= size <= rest:
            found.append(Piece("others", holder.name, size, f"in use now, pid {holder.pid}", True))
            rest -= size
    if rest >= WORTH_SHOWING_BYTES:
        what = "Other programs" if device.device == "host" else "Driver and small programs" if found else "Others"
        found.append(Piece("others_soft" if found else "others", what, rest, "in use now", True))
    return (*found, *(Piece(*look_of(part.name), part.bytes, part.source) for part in device.parts if part.bytes > 0))


def spoken(device: DevicePlan, pieces: tuple[Piece, ...]) -> str:
    """The whole bar in words, for who cannot see it."""
    return "; ".join([*(piece.words for piece in pieces), spare_words(device.spare_bytes)])


class StackBar(QWidget):
    """`pointed` tells the part that is hovered or chosen by the arrow keys, as words; "" = none."""

    pointed = Signal(str)

    def __init__(self, theme: Theme, name: str) -> None:
        super().__init__()
        self._theme = theme
        self._pieces: tuple[Piece, ...] = ()
        self._device: DevicePlan | None = None
        self._at = -1
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_device(self, device: DevicePlan, holders: tuple[Holder, ...]) -> None:
        pieces = pieces_of(device, holders)
        if (device, pieces) != (self._device, self._pieces):
            self._device, self._pieces = device, pieces
            self._at = min(self._at, len(pieces) - 1)
            self.setAccessibleDescription(spoken(device, pieces))
            self.update()

    def sizeHint(self) -> QSize:
        return QSize(240, BAR_HEIGHT + BAND_HEIGHT)

    # --- geometry ----------------------------------------------------------------------------------------------------

    def _whole(self) -> float:
        """Bytes from end to end: the device, or more where the load would need more than there is."""
        device = self._device
        if device is None:
            return 1.0
        need = device.others_bytes + device.high_bytes
        return max(float(device.total_bytes or 0), need * 1.02, 1.0)

    def _boxes(self) -> list[QRectF]:
        width, whole, x = float(self.width()), self._whole(), 0.0
        found = []
        for piece in self._pieces:
            wide = piece.bytes / whole * width
            found.append(QRectF(x, 0, max(wide - 1, min(wide, 2.0)), BAR_HEIGHT))
            x += wide
        return found

    def _hit(self, point: QPointF) -> int:
        best = [n for n, box in enumerate(self._boxes()) if box.left() - 1 <= point.x() <= box.right() + 1]
        return best[-1] if best and point.y() <= BAR_HEIGHT else -1

    # --- painting ----------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        colour = self._theme.colour
        area = QRectF(0, 0, self.width(), BAR_HEIGHT)
        clip = QPainterPath()
        clip.addRoundedRect(area, 6, 6)
        painter.save()
        painter.setClipPath(clip)
        painter.fillRect(area, colour("track"))
        for number, (piece, box) in enumerate(zip(self._pieces, self._boxes(), strict=True)):
            tint = colour(piece.colour)
            if self._at not in (-1, number):
                tint.setAlphaF(0.4)
            painter.fillRect(box, tint)
        painter.restore()
        if self._device is not None:
            self._paint_marks(painter, self._device)
        if self.hasFocus():
            painter.setPen(QPen(colour("text"), 1.5))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(area.adjusted(0.75, 0.75, -0.75, -0.75), 6, 6)

    def _paint_marks(self, painter: QPainter, device: DevicePlan) -> None:
        """The end of the device where the load goes beyond it, the headroom, and the band from low to high."""
        colour, scale = self._theme.colour, self.width() / self._whole()
        total = device.total_bytes or 0
        if total and total * scale < self.width() - 1:
            painter.setPen(QPen(colour("danger"), 2))
            painter.drawLine(QLineF(total * scale, 0, total * scale, BAR_HEIGHT + BAND_HEIGHT))
        if total and device.headroom_bytes:
            x = (total - device.headroom_bytes) * scale
            pen = QPen(colour("text_faint"), 1.0, Qt.PenStyle.CustomDashLine)
            pen.setDashPattern([2, 2])
            painter.setPen(pen)
            painter.drawLine(QLineF(x, 1, x, BAR_HEIGHT - 1))
        low, high = ((device.others_bytes + each) * scale for each in (device.low_bytes, device.high_bytes))
        if high > low:
            y = BAR_HEIGHT + 5.0
            painter.setPen(QPen(colour("text_muted"), 1.5))
            painter.drawLine(QLineF(low, y, high, y))
            for x in (low, high):
                painter.drawLine(QLineF(x, y - 3, x, y + 3))

    # --- pointing ----------------------------------------------------------------------------------------------------

    def _point(self, number: int) -> None:
        if number != self._at:
            self._at = number
            self.pointed.emit(self._pieces[number].words if number >= 0 else "")
            self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._point(self._hit(event.position()))

    def leaveEvent(self, event: QEvent) -> None:
        self._point(-1)

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and self._at >= 0:
            QToolTip.showText(event.globalPos(), self._pieces[self._at].words, self)  # type: ignore[attr-defined]
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(Qt.Key(event.key()))
        if step is None or not self._pieces:
            super().keyPressEvent(event)
            return
        self._point(max(0, min(self._at + step, len(self._pieces) - 1)))

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        if self._pieces and self._at < 0:
            self._point(0)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self._point(-1)
