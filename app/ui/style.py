"""Writes the style sheet from the tokens: every stock widget that can appear, in every state, and nothing of Qt's own look.

Widgets choose by dynamic property: `tone` colours a label, `kind` shapes a button or frame. Fonts are never set here.
"""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.ui.theme import Colours, Space

_SHEET = Template("""
QMainWindow, QDialog, QWidget[kind="page"] { background: $window; }
QWidget { color: $text; }
QWidget[kind="sidebar"] { background: $sidebar; border-right: 1px solid $border; }
QWidget[kind="header"] { background: $window; border-bottom: 1px solid $border; }
QFrame[kind="card"] { background: $surface; border: 1px solid $border; border-radius: ${card}px; }
QFrame[kind="card"][selected="true"] { border-color: $accent; }
QFrame[kind="card"][tone="danger"] { border-color: $danger; }
QFrame[kind="well"] { background: $code; border: 1px solid $border; border-radius: ${control}px; }
QFrame[kind="notice"] { background: $accent_soft; border: none; border-radius: ${control}px; }
QFrame[kind="notice"][tone="warning"] { background: $warning_soft; }
QFrame[kind="notice"][tone="danger"] { background: $danger_soft; }
QFrame[kind="notice"][tone="good"] { background: $good_soft; }
QFrame[kind="notice"][tone="plain"] { background: $track; }
QFrame[kind="toast"] { background: $raised; border: 1px solid $border_strong; border-radius: ${card}px; }
QFrame[kind="sheet"] { background: $surface; border: 1px solid $border_strong; border-radius: 16px; }
QFrame[kind="field"] { background: $raised; border: 1px solid $border; border-radius: ${control}px; }
QFrame[kind="line"] { background: $border; border: none; max-height: 1px; min-height: 1px; }

QLabel { background: transparent; }
QLabel[tone="muted"] { color: $text_muted; }
QLabel[tone="faint"] { color: $text_faint; }
QLabel[tone="accent"] { color: $accent; }
QLabel[tone="good"] { color: $good; }
QLabel[tone="warning"] { color: $warning; }
QLabel[tone="danger"] { color: $danger; }
QLabel:disabled { color: $text_faint; }

QPushButton {
  background: $raised; border: 1px solid $border_strong; border-radius: ${control}px;
  min-height: 32px; padding: 0 14px; color: $text;
}
QPushButton:hover { background: $hover; }
QPushButton:pressed { background: $pressed; }
QPushButton:focus { border-color: $accent; }
QPushButton:disabled { background: transparent; border-color: $border; color: $text_faint; }
QPushButton:checked { background: $accent_soft; border-color: $accent; color: $text; }
QPushButton[kind="primary"] { background: $accent; border-color: $accent; color: $on_accent; }
QPushButton[kind="primary"]:hover { background: $accent_hover; border-color: $accent_hover; }
QPushButton[kind="primary"]:focus { border: 2px solid $text; }
QPushButton[kind="primary"]:disabled { background: $track; border-color: $track; color: $text_faint; }
QPushButton[kind="soft"] { background: $accent_soft; border-color: $accent_soft; color: $accent_strong; }
QPushButton[kind="soft"]:hover { background: $accent; border-color: $accent; color: $on_accent; }
QPushButton[kind="soft"]:focus { border-color: $accent; }
QPushButton[kind="soft"]:disabled { background: transparent; border-color: $border; color: $text_faint; }
QPushButton[kind="left"] { text-align: left; }
QPushButton[kind="link"] { background: transparent; border: 1px solid transparent; min-height: 16px; padding: 0 4px; color: $good; }
QPushButton[kind="link"][tone="muted"] { color: $text_muted; padding: 0; text-align: left; }
QPushButton[kind="link"]:hover { color: $text; }
QPushButton[kind="link"]:focus { border-color: $accent; }
QPushButton[kind="danger"] { color: $danger; }
QPushButton[kind="danger"]:hover { background: $danger_soft; border-color: $danger; }
QPushButton[kind="danger"]:disabled { color: $text_faint; }
QPushButton[kind="quiet"] { background: transparent; border-color: transparent; color: $text_muted; padding: 0 10px; }
QPushButton[kind="quiet"]:hover { background: $hover; color: $text; }
QPushButton[kind="quiet"]:focus { border-color: $accent; }
QPushButton[kind="quiet"]:disabled { color: $text_faint; background: transparent; }
QPushButton[dense="true"] { min-height: 26px; padding: 0 10px; }
QPushButton[kind="icon"] {
  background: transparent; border: 1px solid transparent; padding: 0; border-radius: 6px;
  min-width: 28px; max-width: 28px; min-height: 28px; max-height: 28px;
}
QPushButton[kind="icon"]:hover { background: $hover; }
QPushButton[kind="icon"]:pressed { background: $pressed; }
QPushButton[kind="icon"]:checked { background: $accent_soft; }
QPushButton[kind="icon"]:focus { border-color: $accent; }
QPushButton[kind="segment"] {
  background: transparent; border: 1px solid transparent; border-radius: 6px; min-height: 26px; padding: 0 12px; color: $text_muted;
}
QPushButton[kind="segment"]:hover { color: $text; }
QPushButton[kind="segment"]:checked { background: $accent_soft; color: $text; }
QPushButton[kind="segment"]:focus { border-color: $accent; }
QPushButton[kind="navigation"] {
  background: transparent; border: 1px solid transparent; border-radius: ${control}px;
  min-height: 34px; padding: 0 10px; text-align: left; color: $text_muted;
}
QPushButton[kind="navigation"]:hover { background: $hover; color: $text; }
QPushButton[kind="navigation"]:checked { background: $accent_soft; color: $text; }
QPushButton[kind="navigation"]:focus { border-color: $accent; }
QToolButton { background: transparent; border: 1px solid transparent; border-radius: 6px; padding: 4px; color: $text; }
QToolButton:hover { background: $hover; }
QToolButton:pressed, QToolButton:checked { background: $pressed; }
QToolButton:focus { border-color: $accent; }
QToolButton:disabled { color: $text_faint; }
QToolButton::menu-indicator { image: none; }

QLineEdit, QPlainTextEdit, QTextEdit, QAbstractSpinBox, QComboBox {
  background: $raised; border: 1px solid $border_strong; border-radius: ${control}px; color: $text;
  selection-background-color: $selection; selection-color: $text;
}
QLineEdit, QAbstractSpinBox, QComboBox { min-height: 32px; padding: 0 10px; }
QPlainTextEdit, QTextEdit { padding: 8px 10px; }
QLineEdit:hover, QAbstractSpinBox:hover, QComboBox:hover { border-color: $text_faint; }
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QAbstractSpinBox:focus, QComboBox:focus { border-color: $accent; }
QLineEdit[kind="search"] { padding-left: 2px; }
QLineEdit[wrong="true"], QAbstractSpinBox[wrong="true"] { border-color: $danger; }
QLineEdit:disabled, QPlainTextEdit:disabled, QTextEdit:disabled, QAbstractSpinBox:disabled, QComboBox:disabled {
  background: $window; border-color: $border; color: $text_faint;
}
QLineEdit[kind="bare"], QPlainTextEdit[kind="bare"], QTextEdit[kind="bare"] { background: transparent; border: none; padding: 0; }
QTextBrowser { background: transparent; border: none; }
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { width: 20px; border: none; background: transparent; }
QAbstractSpinBox::up-arrow { image: url($icons/plain-chevron-up.svg); width: 12px; height: 12px; }
QAbstractSpinBox::down-arrow { image: url($icons/plain-chevron.svg); width: 12px; height: 12px; }
QComboBox { padding-right: 26px; }
QComboBox::drop-down { border: none; width: 26px; }
QComboBox::down-arrow { image: url($icons/plain-chevron.svg); width: 14px; height: 14px; }
QComboBox QAbstractItemView {
  background: $surface; border: 1px solid $border_strong; padding: 4px; outline: none;
  selection-background-color: $accent_soft; selection-color: $text;
}
QComboBox QAbstractItemView::item { min-height: 28px; padding: 0 8px; border-radius: 6px; }
QCheckBox, QRadioButton { spacing: 8px; background: transparent; }
QCheckBox::indicator, QRadioButton::indicator {
  width: 16px; height: 16px; border: 1px solid $border_strong; border-radius: 5px; background: $raised;
}
QRadioButton::indicator { border-radius: 9px; }
QCheckBox::indicator:hover, QRadioButton::indicator:hover { border-color: $text_faint; }
QCheckBox::indicator:focus, QRadioButton::indicator:focus { border-color: $accent; }
QCheckBox::indicator:checked { background: $accent; border-color: $accent; image: url($icons/$check); }
QRadioButton::indicator:checked { background: $accent; border: 4px solid $raised; }
QCheckBox::indicator:disabled, QRadioButton::indicator:disabled { background: $window; border-color: $border; }
QCheckBox:disabled, QRadioButton:disabled { color: $text_faint; }
QSlider::groove:horizontal { height: 4px; border-radius: 2px; background: $track; }
QSlider::sub-page:horizontal { height: 4px; border-radius: 2px; background: $accent; }
QSlider::handle:horizontal {
  width: 14px; height: 14px; margin: -7px 0; border-radius: 9px; background: $accent; border: 2px solid $surface;
}
QSlider::handle:horizontal:hover { background: $accent_hover; }
QSlider::handle:horizontal:focus { border-color: $text; }
QProgressBar { background: $track; border: none; border-radius: 3px; max-height: 6px; min-height: 6px; }
QProgressBar::chunk { background: $accent; border-radius: 3px; }

QScrollArea { background: transparent; border: none; }
QScrollBar:vertical { background: transparent; width: 12px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 12px; margin: 0; }
QScrollBar::handle { background: $border_strong; border: 3px solid transparent; border-radius: 6px; background-clip: padding; }
QScrollBar::handle:vertical { min-height: 36px; margin: 3px; border-radius: 3px; border: none; }
QScrollBar::handle:horizontal { min-width: 36px; margin: 3px; border-radius: 3px; border: none; }
QScrollBar::handle:hover { background: $text_faint; }
QScrollBar::add-line, QScrollBar::sub-line, QScrollBar::add-page, QScrollBar::sub-page {
  background: transparent; border: none; width: 0; height: 0;
}
QAbstractScrollArea::corner { background: transparent; border: none; }

QAbstractItemView {
  background: transparent; alternate-background-color: transparent; border: none; outline: none; gridline-color: $border;
  selection-background-color: $accent_soft; selection-color: $text;
}
QTableView::item, QTreeView::item, QListView::item { padding: 0 10px; border: none; }
QTableView::item { border-bottom: 1px solid $border; }
QTableView::item:selected, QTreeView::item:selected, QListView::item:selected { background: $accent_soft; color: $text; }
QListView::item:hover, QTreeView::item:hover { background: $hover; }
QTreeView::branch { background: transparent; }
QHeaderView { background: transparent; border: none; }
QHeaderView::section {
  background: transparent; border: none; border-bottom: 1px solid $border; padding: 0 13px 6px 13px; color: $text_muted;
}
QTableCornerButton::section { background: transparent; border: none; }
QSplitter::handle { background: $border; }
QSplitter::handle:horizontal { width: 1px; }
QSplitter::handle:vertical { height: 1px; }

QMenu { background: $surface; border: 1px solid $border_strong; border-radius: ${control}px; padding: 4px; }
QMenu::item { padding: 7px 28px 7px 12px; border-radius: 6px; background: transparent; }
QMenu::icon { padding-left: 8px; }
QMenu::item:selected { background: $hover; }
QMenu::item:disabled { color: $text_faint; }
QMenu::separator { height: 1px; background: $border; margin: 4px 8px; }
QMenu::indicator { width: 14px; height: 14px; margin-left: 6px; }
QMenu::right-arrow { image: url($icons/plain-chevron-right.svg); width: 12px; height: 12px; margin-right: 8px; }
QToolTip { background: $raised; color: $text; border: 1px solid $border_strong; padding: 6px 8px; }
QTabBar { background: transparent; border: none; }
QTabBar::tab { background: transparent; border: none; border-bottom: 2px solid transparent; padding: 8px 12px; color: $text_muted; }
QTabBar::tab:selected { color: $text; border-bottom-color: $accent; }
QTabBar::tab:hover { color: $text; }
QTabWidget::pane { border: none; border-top: 1px solid $border; }
QGroupBox { border: none; margin: 0; padding: 0; }
QStatusBar { background: $window; border-top: 1px solid $border; }
QMessageBox, QFileDialog, QInputDialog { background: $surface; }
""")


def sheet(colours: Colours, space: type[Space], icons: Path) -> str:
    """The whole style sheet for these colours; `icons` is the folder of the bundled drawings."""
    light_on_accent = colours.on_accent.lower() == "#ffffff"
    return _SHEET.substitute(
        colours._asdict(),
        card=space.card_radius,
        control=space.control_radius,
        icons=icons.as_posix(),
        check="plain-check.svg" if light_on_accent else "plain-check-dark.svg",
    )
