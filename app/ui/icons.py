"""Turns the bundled line drawings into icons of any colour, sharp at any device pixel ratio."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QColor, QGuiApplication, QIcon, QPainter, QPixmap


class Icons:
    """Reads `<folder>/<name>.svg` once each; a pixmap is drawn once per colour, size and ratio."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drawings: dict[str, str] = {}
        self._pixmaps: dict[tuple[str, int, int, float], QPixmap] = {}

    def pixmap(self, name: str, colour: QColor, size: int, ratio: float) -> QPixmap:
        key = (name, colour.rgba(), size, ratio)
        found = self._pixmaps.get(key)
        if found is None:
            if len(self._pixmaps) > 1000:  # themes and ratios come and go; the set in use is small
                self._pixmaps.clear()
            found = self._pixmaps[key] = self._drawn(name, colour, size, ratio)
        return found

    def icon(self, name: str, colour: QColor, disabled: QColor | None, size: int, gap: int = 0) -> QIcon:
        ratio = max((screen.devicePixelRatio() for screen in QGuiApplication.screens()), default=1.0)
        normal = _with_gap(self.pixmap(name, colour, size, ratio), gap)
        icon = QIcon(normal)
        faded = normal if disabled is None else _with_gap(self.pixmap(name, disabled, size, ratio), gap)
        icon.addPixmap(faded, QIcon.Mode.Disabled)
        return icon

    def _drawn(self, name: str, colour: QColor, size: int, ratio: float) -> QPixmap:
        from PySide6.QtSvg import QSvgRenderer

        drawing = self._drawings.get(name)
        if drawing is None:
            drawing = self._drawings[name] = (self._folder / f"{name}.svg").read_text("utf-8")
        renderer = QSvgRenderer(QByteArray(drawing.replace("currentColor", colour.name()).encode()))
        pixmap = QPixmap(round(size * ratio), round(size * ratio))
        pixmap.setDevicePixelRatio(ratio)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        renderer.render(painter, QRectF(0, 0, size, size))
        painter.end()
        return pixmap


def _with_gap(pixmap: QPixmap, gap: int) -> QPixmap:
    """The style puts a fixed distance between icon and text, too small for this type: air in the picture widens it."""
    if not gap:
        return pixmap
    ratio = pixmap.devicePixelRatio()
    wide = QPixmap(pixmap.width() + round(gap * ratio), pixmap.height())
    wide.setDevicePixelRatio(ratio)
    wide.fill(Qt.GlobalColor.transparent)
    painter = QPainter(wide)
    painter.drawPixmap(0, 0, pixmap)
    painter.end()
    return wide
