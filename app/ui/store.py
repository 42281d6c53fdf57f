"""Owns what the window knows: the last whole slice of each kind, how the connection stands, and the daemon's clock."""

from __future__ import annotations

import enum
import time

import msgspec
from PySide6.QtCore import QObject, Signal

from app.core.lifecycle import Failed, Idle, Phase
from app.core.memory.learning import Knowledge
from app.core.snapshot import Engines, Gpus, Jobs, Keys, Library, ProfileCard, Runs, Seats, SeatView, Service, Traffic


class Connection(enum.Enum):
    CONNECTING = "connecting"
    STARTING = "starting"  # the service is being started
    CONNECTED = "connected"
    GONE = "gone"  # nobody answers; the link keeps trying
    MISFIT = "misfit"  # another version answers


class Store(QObject):
    """One attribute and one `*_changed` signal per slice. Signals carry nothing: read the attribute."""

    seats_changed = Signal()
    gpus_changed = Signal()
    traffic_changed = Signal()
    library_changed = Signal()
    runs_changed = Signal()
    jobs_changed = Signal()
    engines_changed = Signal()
    service_changed = Signal()
    learnt_changed = Signal()
    keys_changed = Signal()
    connection_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.seats = Seats()
        self.gpus = Gpus()
        self.traffic = Traffic()
        self.library = Library()
        self.runs = Runs()
        self.jobs = Jobs()
        self.engines = Engines()
        self.service = Service()
        self.learnt = Knowledge()
        self.keys = Keys()
        self.connection = Connection.CONNECTING
        self.connection_message = ""
        self.known: frozenset[str] = frozenset()  # slices that have arrived at least once
        self._clock_offset = 0.0

    @property
    def connected(self) -> bool:
        return self.connection is Connection.CONNECTED

    def put(self, name: str, value: msgspec.Struct, sent_at: float | None = None) -> None:
        """Takes a whole slice; `sent_at` is the daemon's clock when it was sent. The same value again tells nobody."""
        if sent_at is not None:
            self._clock_offset = sent_at - time.monotonic()
        if name in self.known and getattr(self, name) == value:
            return
        setattr(self, name, value)
        self.known |= {name}
        getattr(self, f"{name}_changed").emit()

    def set_connection(self, connection: Connection, message: str = "") -> None:
        if (connection, message) != (self.connection, self.connection_message):
            self.connection, self.connection_message = connection, message
            self.connection_changed.emit()

    def daemon_now(self) -> float:
        """The daemon's monotonic clock, in seconds."""
        return time.monotonic() + self._clock_offset

    def since(self, moment: float) -> float:
        """Seconds since a moment of the daemon's clock, never negative."""
        return max(0.0, self.daemon_now() - moment)

    def seat(self, name: str = "main") -> SeatView:
        return next((seat for seat in self.seats.seats if seat.name == name), SeatView(name=name))

    def card(self, profile_id: str | None) -> ProfileCard | None:
        return next((card for card in self.library.profiles if card.profile.id == profile_id), None)

    def title_of(self, profile_id: str | None) -> str:
        card = self.card(profile_id)
        return card.profile.title if card else (profile_id or "")


def profile_in(phase: Phase) -> str | None:
    """The profile that a phase is about; None while nothing is."""
    if isinstance(phase, Idle):
        return None
    if isinstance(phase, Failed):
        return phase.failure.profile_id or None
    return phase.profile_id
