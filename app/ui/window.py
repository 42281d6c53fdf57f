"""Owns the window's frame: rail, header, notices, the pages (made when first opened), shortcuts, and how it closes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QAction, QCloseEvent, QGuiApplication, QIcon, QKeySequence, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from app.core.resources import resources_folder
from app.ui.remembered import Remembered
from app.ui.theme import Space, Theme
from app.ui.widgets.header import Header
from app.ui.widgets.navigation import PAGES, Navigation
from app.ui.widgets.notice import NoticeBar, Toast
from app.ui.widgets.text import Label

if TYPE_CHECKING:
    from app.ui.widgets.sheet import Sheet

LEAVE, UNLOAD = "leave", "unload"


class Window(QMainWindow):
    """Knows nothing of the service: a presenter fills it. `leave` keeps the model, `unload` frees it and ends the service."""

    painted = Signal()
    closing = Signal(str)  # leave · unload: the window is going
    unload_wanted = Signal()
    page_opened = Signal()
    lend_toggled = Signal()

    def __init__(self, theme: Theme, remembered: Remembered) -> None:
        super().__init__()
        self.theme = theme
        self.remembered = remembered
        self._makers: Callable[[str], QWidget] | None = None
        self._pages: dict[str, QWidget] = {}
        self._over: dict[str, QWidget] = {}
        self._sheet: Sheet | None = None
        self._was_painted = False
        self._may_close = False
        self.has_model: Callable[[], bool] = lambda: False
        self.setWindowTitle("Engine Room")
        self.setMinimumSize(960, 600)
        self.navigation = Navigation(theme)
        self.header = Header(theme)
        self.connection_bar = NoticeBar(theme, closable=False)
        self.notice_bar = NoticeBar(theme)
        self.stack = QStackedWidget()
        self._arrange()
        self.toast = Toast(theme, self.centralWidget())
        self.navigation.chosen.connect(self.open_page)
        self._shortcuts()
        self._place()
        self.page_key = ""
        self._waiting = Label(theme, "Connecting to the Engine Room service …", "body", "muted")
        self._waiting.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.stack.addWidget(self._waiting)

    # --- pages -------------------------------------------------------------------------------------------------------

    def set_pages(self, maker: Callable[[str], QWidget]) -> None:
        """`maker` builds a page by its key, on its first visit."""
        self._makers = maker
        # Drawn in many sizes for the desktop: after the first paint is early enough.
        self.setWindowIcon(QIcon(str(resources_folder() / "icons" / "engine-room.svg")))
        self.open_page(self.page_key or self.remembered.text("page", "models"))

    def open_page(self, key: str) -> QWidget | None:
        if key not in dict(PAGES):
            key = "models"
        self.navigation.mark(key)
        self.page_key = key
        if self._makers is None:
            return None
        page = self._pages.get(key)
        if page is None:
            page = self._pages[key] = self._makers(key)
            self.stack.addWidget(page)
        self.stack.setCurrentWidget(self._over.get(key, page))
        self.remembered.keep(page=key)
        self.page_opened.emit()
        return page

    def lay_over(self, key: str, widget: QWidget) -> None:
        """Shows `widget` in the place of a page until it is taken off: coming back to that page comes back to it."""
        self.take_off(key)
        self._over[key] = widget
        self.stack.addWidget(widget)
        self.open_page(key)

    def take_off(self, key: str) -> None:
        old = self._over.pop(key, None)
        if old is not None:
            self.stack.removeWidget(old)
            old.hide()
            old.deleteLater()
            if self.page_key == key:
                self.open_page(key)

    def over(self, key: str) -> QWidget | None:
        return self._over.get(key)

    # --- closing -----------------------------------------------------------------------------------------------------

    def closeEvent(self, event: QCloseEvent) -> None:
        self._keep_place()
        if self._may_close:
            event.accept()
            return
        for key, widget in self._over.items():  # what was written there and not saved is asked about first
            if getattr(widget, "is_changed", False) and hasattr(widget, "leave"):
                event.ignore()
                self.open_page(key)
                widget.leave()
                return
        choice = self.remembered.text("on_close")
        if choice == LEAVE or not self.has_model():
            self._go(LEAVE, event)
        elif choice == UNLOAD:
            event.ignore()
            self.unload_wanted.emit()
        else:
            event.ignore()
            self.ask_close()

    def ask_close(self) -> None:
        """The question that is asked once, unless it is to be asked again."""
        if self._sheet is not None:
            return
        from app.ui.widgets.sheet import Sheet

        self._sheet = Sheet(
            self.theme,
            self,
            "Keep the model loaded?",
            "Closing the window can leave the model loaded, so that the endpoint goes on answering. "
            "Or unload it now and free its memory.",
            (("unload", "Quit and unload", "danger"), ("leave", "Keep it loaded", "primary")),
            "Remember my choice",
        )
        self._sheet.answered.connect(self._close_answered)

    def _close_answered(self, key: str, remember: bool) -> None:
        self._sheet = None
        if key and remember:
            self.remembered.keep(on_close=key)
        if key == UNLOAD:
            self.unload_wanted.emit()
        elif key == LEAVE:
            self.leave()

    def leave(self) -> None:
        """Closes the window, leaving the model where it is."""
        self._may_close = True
        self.closing.emit(LEAVE)
        self.close()

    def _go(self, how: str, event: QCloseEvent) -> None:
        self._may_close = True
        self.closing.emit(how)
        event.accept()

    # --- the frame ---------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        notices = QVBoxLayout()
        notices.setContentsMargins(Space.huge, 0, Space.huge, 0)
        notices.setSpacing(Space.small)
        notices.addWidget(self.connection_bar)
        notices.addWidget(self.notice_bar)
        self._notices = QWidget()
        self._notices.setLayout(notices)
        for bar in (self.connection_bar, self.notice_bar):
            bar.installEventFilter(self)
        right = QVBoxLayout()
        right.setContentsMargins(0, 0, 0, 0)
        right.setSpacing(0)
        right.addWidget(self.header)
        right.addWidget(self._notices)
        right.addWidget(self.stack, 1)
        content = QWidget()
        content.setProperty("kind", "page")
        box = QHBoxLayout(content)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(self.navigation)
        box.addLayout(right, 1)
        self.setCentralWidget(content)
        content.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        content.setFocus()  # nothing wears a ring until Tab is pressed
        self._frame_notices()

    def eventFilter(self, watched: object, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.ShowToParent, QEvent.Type.HideToParent):
            self._frame_notices()
        return False

    def _frame_notices(self) -> None:
        some = not (self.connection_bar.isHidden() and self.notice_bar.isHidden())
        layout = self._notices.layout()
        if layout is not None:
            layout.setContentsMargins(Space.huge, Space.medium if some else 0, Space.huge, 0)
        self._notices.setVisible(some)

    def _shortcuts(self) -> None:
        def bind(keys: str, text: str, act: Callable[[], object]) -> None:
            action = QAction(text, self)
            action.setShortcut(QKeySequence(keys))
            action.triggered.connect(lambda: act())
            self.addAction(action)

        for number, (key, title) in enumerate(PAGES, 1):
            bind(f"Ctrl+{number}", title, lambda key=key: self.open_page(key))
        bind("Ctrl+,", "Settings", lambda: self.open_page("settings"))
        bind("Ctrl+Shift+L", "Lend the GPU, or take it back", self.lend_toggled.emit)
        bind("Ctrl+L", "Choose a model", self._choose_model)
        bind("Ctrl+Q", "Close the window", self.close)
        bind("Ctrl+Shift+Q", "Quit and unload", self.unload_wanted.emit)

    def _choose_model(self) -> None:
        page = self.open_page("models")
        if page is not None and hasattr(page, "choose_model"):
            page.choose_model()

    def _place(self) -> None:
        place = self.remembered.numbers("place")
        screen = QGuiApplication.primaryScreen().availableGeometry()
        size = QSize(place[2], place[3]) if len(place) == 4 else QSize(1280, 800)
        self.resize(size.boundedTo(screen.size()).expandedTo(self.minimumSize().boundedTo(screen.size())))
        if len(place) == 4 and any(s.availableGeometry().contains(*place[:2]) for s in QGuiApplication.screens()):
            self.move(place[0], place[1])
        if self.remembered.flag("maximised"):
            self.setWindowState(Qt.WindowState.WindowMaximized)

    def _keep_place(self) -> None:
        if self.isMaximized():
            self.remembered.keep(maximised=True)
        else:
            at = self.geometry()
            self.remembered.keep(maximised=False, place=[at.x(), at.y(), at.width(), at.height()])

    def come_forward(self, activation_token: str = "") -> None:
        """Shows the window over the others, as far as the desktop lets it."""
        if activation_token:
            import os

            os.environ["XDG_ACTIVATION_TOKEN"] = activation_token
        if self.isMinimized():
            self.showNormal()
        self.show()
        self.raise_()
        self.activateWindow()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._was_painted:
            self._was_painted = True
            self.painted.emit()
