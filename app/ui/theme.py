"""Owns how everything looks: colours, spacing and type named by meaning, for light and dark, as one object that all widgets ask.

A widget never names a hex value, a pixel of spacing or a font of its own: it asks the theme, and repaints on `changed`.
"""

from __future__ import annotations

from typing import NamedTuple

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QIcon, QPalette, QPixmap
from PySide6.QtWidgets import QApplication

from app.core.resources import resources_folder
from app.ui import icons, style


class Colours(NamedTuple):
    """Colours by meaning. `_soft` is the tint behind text of that meaning; contrast of text on its ground is ≥ 4.5:1."""

    window: str  # behind everything
    sidebar: str
    surface: str  # cards, header, lists
    raised: str  # buttons, fields
    hover: str
    pressed: str
    border: str
    border_strong: str
    text: str
    text_muted: str
    text_faint: str  # disabled text, placeholders, units
    accent: str
    accent_hover: str
    accent_soft: str
    accent_strong: str  # text on accent_soft
    on_accent: str
    good: str
    good_soft: str
    warning: str
    warning_soft: str
    danger: str
    danger_soft: str
    predicted: str  # memory that a load would take
    predicted_soft: str
    others: str  # memory of processes that are not ours
    others_soft: str  # the part of it that is too small to be named
    part_weights: str  # parts of a load, told apart on one bar
    part_weights_soft: str
    part_cache: str
    part_state: str
    part_compute: str
    part_graphs: str
    part_context: str
    part_beside: str
    track: str  # the empty part of a bar
    selection: str
    scrim: str  # laid over the window under a dialog
    code: str  # behind code
    code_keyword: str
    code_name: str
    code_string: str
    code_number: str
    code_comment: str


DARK = Colours(
    window="#0c0e13",
    sidebar="#090b0f",
    surface="#141820",
    raised="#1d222c",
    hover="#262c38",
    pressed="#2e3543",
    border="#222834",
    border_strong="#343c4b",
    text="#e8ebf1",
    text_muted="#9aa4b5",
    text_faint="#7a8496",
    accent="#7a94ff",
    accent_hover="#93a8ff",
    accent_soft="#1d2542",
    accent_strong="#a9baff",
    on_accent="#0a0d16",
    good="#4cd39a",
    good_soft="#11291f",
    warning="#f0b54f",
    warning_soft="#2e2411",
    danger="#ff7a76",
    danger_soft="#331a1c",
    predicted="#b292ff",
    predicted_soft="#261f3d",
    others="#5a6475",
    others_soft="#454d5c",
    part_weights="#6f8bff",
    part_weights_soft="#4d63bd",
    part_cache="#b292ff",
    part_state="#e07fc4",
    part_compute="#3fc1c9",
    part_graphs="#f0b54f",
    part_context="#8795ad",
    part_beside="#5ecb8f",
    track="#20252f",
    selection="#2c3a6e",
    scrim="#99040609",
    code="#0f1219",
    code_keyword="#c39bff",
    code_name="#7db7ff",
    code_string="#8fd6a3",
    code_number="#f5a97f",
    code_comment="#7a8496",
)

LIGHT = Colours(
    window="#f5f6f9",
    sidebar="#eceef3",
    surface="#ffffff",
    raised="#ffffff",
    hover="#eff1f6",
    pressed="#e4e7ee",
    border="#e0e3ea",
    border_strong="#c9ced9",
    text="#161a22",
    text_muted="#535d6e",
    text_faint="#6c7687",
    accent="#3a57e8",
    accent_hover="#2c47d2",
    accent_soft="#e6eafe",
    accent_strong="#2c47d2",
    on_accent="#ffffff",
    good="#0b7a4d",
    good_soft="#def5ea",
    warning="#8d5a00",
    warning_soft="#fdf0d3",
    danger="#c4262e",
    danger_soft="#fde8e8",
    predicted="#7a45d6",
    predicted_soft="#efe6fd",
    others="#a3adbc",
    others_soft="#c3cad5",
    part_weights="#4361ee",
    part_weights_soft="#8fa2f5",
    part_cache="#8b57e0",
    part_state="#c2459e",
    part_compute="#1295a3",
    part_graphs="#d28a00",
    part_context="#6d7b92",
    part_beside="#2b9d63",
    track="#e9ecf2",
    selection="#cdd6ff",
    scrim="#66161a22",
    code="#f6f7fa",
    code_keyword="#8031c9",
    code_name="#1c5fc4",
    code_string="#1a7f4b",
    code_number="#b35309",
    code_comment="#6c7687",
)


class Space:
    """Spacing in device-independent pixels."""

    hair = 4
    small = 8
    medium = 12
    large = 16
    huge = 24
    card_radius = 12
    control_radius = 8
    control_height = 34
    header_height = 64
    navigation_width = 196
    text_column = 760


class Type(NamedTuple):
    pixels: int
    weight: QFont.Weight = QFont.Weight.Normal
    mono: bool = False
    figures: bool = False  # digits of equal width, for numbers that change in place


TYPES: dict[str, Type] = {
    "body": Type(13),
    "strong": Type(13, QFont.Weight.DemiBold),
    "label": Type(13, QFont.Weight.Medium),
    "small": Type(12),
    "small_strong": Type(12, QFont.Weight.DemiBold),
    "caption": Type(11, QFont.Weight.Medium),
    "title": Type(15, QFont.Weight.DemiBold),
    "heading": Type(20, QFont.Weight.DemiBold),
    "figure": Type(26, QFont.Weight.DemiBold),
    "title_number": Type(15, QFont.Weight.DemiBold, figures=True),
    "number": Type(13, figures=True),
    "small_number": Type(12, figures=True),
    "mono": Type(12, mono=True),
    "mono_small": Type(11, mono=True),
}

CHOICES = ("system", "light", "dark")


def _desktop_prefers_light() -> bool | None:
    """What the desktop asks for: by Qt, else by the desktop portal over D-Bus; None when nobody says."""
    scheme = QGuiApplication.styleHints().colorScheme()
    if scheme != Qt.ColorScheme.Unknown:
        return scheme == Qt.ColorScheme.Light
    from app.ui import portal

    return portal.prefers_light()


class Theme(QObject):
    """The look in force. `choice` is system, light or dark; `colours` are the ones to paint with."""

    changed = Signal()

    def __init__(self, choice: str = "system") -> None:
        super().__init__()
        self.choice = choice if choice in CHOICES else "system"
        self._load_fonts()
        self._fonts: dict[str, QFont] = {}
        self._icons = icons.Icons(resources_folder() / "icons")
        self.colours = self._resolved()
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._system_changed)

    @property
    def is_dark(self) -> bool:
        return self.colours is DARK

    def choose(self, choice: str) -> None:
        """Takes another choice and restyles the whole application at once."""
        self.choice = choice if choice in CHOICES else "system"
        self._take(self._resolved())

    def apply(self) -> None:
        """Gives application-wide palette, font and style sheet their values."""
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        app.setPalette(self._palette())
        app.setFont(self.font("body"))
        app.setStyleSheet(style.sheet(self.colours, Space, resources_folder() / "icons"))

    def colour(self, name: str) -> QColor:
        return QColor(getattr(self.colours, name))

    def font(self, role: str = "body") -> QFont:
        font = self._fonts.get(role)
        if font is None:
            font = self._fonts[role] = self._made(TYPES[role])
        return QFont(font)

    def icon(self, name: str, colour: str = "text_muted", size: int = 20, gap: int = 0, fades: bool = True) -> QIcon:
        """The bundled drawing `name`, tinted, with `gap` pixels of air to its right; `fades` by itself when disabled."""
        return self._icons.icon(name, self.colour(colour), self.colour("text_faint") if fades else None, size, gap)

    def pixmap(self, name: str, colour: str, size: int, ratio: float) -> QPixmap:
        return self._icons.pixmap(name, self.colour(colour), size, ratio)

    def _resolved(self) -> Colours:
        if self.choice == "system":
            return LIGHT if _desktop_prefers_light() else DARK
        return LIGHT if self.choice == "light" else DARK

    def _system_changed(self) -> None:
        if self.choice == "system":
            self._take(self._resolved())

    def _take(self, colours: Colours) -> None:
        if colours is not self.colours:
            self.colours = colours
            self.apply()
            self.changed.emit()

    @staticmethod
    def _made(kind: Type) -> QFont:
        font = QFont("JetBrains Mono" if kind.mono else "Inter")
        font.setPixelSize(kind.pixels)
        font.setWeight(kind.weight)
        font.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
        if kind.mono:
            font.setStyleHint(QFont.StyleHint.Monospace)
            font.setFeature(QFont.Tag("calt"), 0)
            font.setFeature(QFont.Tag("liga"), 0)
        if kind.figures:
            font.setFeature(QFont.Tag("tnum"), 1)
        return font

    @staticmethod
    def _load_fonts() -> None:
        for file in sorted((resources_folder() / "fonts").glob("*.?tf")):
            QFontDatabase.addApplicationFont(str(file))

    def _palette(self) -> QPalette:
        """The colours of whatever the style sheet does not reach."""
        c, role, group = self.colours, QPalette.ColorRole, QPalette.ColorGroup
        palette = QPalette()
        for where, name in (
            (role.Window, c.window),
            (role.WindowText, c.text),
            (role.Base, c.surface),
            (role.AlternateBase, c.window),
            (role.Text, c.text),
            (role.PlaceholderText, c.text_faint),
            (role.Button, c.raised),
            (role.ButtonText, c.text),
            (role.BrightText, c.danger),
            (role.ToolTipBase, c.raised),
            (role.ToolTipText, c.text),
            (role.Highlight, c.selection),
            (role.HighlightedText, c.text),
            (role.Link, c.accent),
            (role.LinkVisited, c.accent),
            (role.Accent, c.accent),
            (role.Light, c.border),
            (role.Midlight, c.border),
            (role.Mid, c.border_strong),
            (role.Dark, c.border_strong),
            (role.Shadow, c.sidebar),
        ):
            palette.setColor(where, QColor(name))
        for where in (role.WindowText, role.Text, role.ButtonText):
            palette.setColor(group.Disabled, where, QColor(c.text_faint))
        return palette
