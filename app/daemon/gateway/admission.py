"""Runs the pure scheduler: holds the waiting requests' futures and the one timer that wakes them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from app.core import scheduling
from app.core.scheduling import Arrive, Event, Grant, Left, Limits, Reject, RouteChanged, Tick, Why
from app.daemon.gateway.answers import Refused


class Ticket:
    """One request's place. `granted` becomes the run's id or raises Refused; `leave` gives the place back, once."""

    __slots__ = ("_admission", "granted", "id")

    def __init__(self, admission: Admission, id: int, granted: asyncio.Future[str]) -> None:
        self._admission = admission
        self.id = id
        self.granted = granted

    def leave(self) -> None:
        self._admission.leave(self)


class Admission:
    """All methods are called on the loop's thread; each event is one step of `scheduling.advance`."""

    def __init__(self, limits: Limits, clock: Callable[[], float], on_change: Callable[[], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self._state = scheduling.start(limits)
        self._ids = itertools.count(1)
        self._tickets: dict[int, Ticket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._drained: dict[str, list[asyncio.Future[None]]] = {}

    @property
    def queued(self) -> int:
        return len(self._state.waiting)

    @property
    def granted(self) -> int:
        return len(self._state.granted)

    @property
    def in_use(self) -> bool:
        return scheduling.in_use(self._state)

    def in_flight(self, run_id: str) -> int:
        return scheduling.in_flight(self._state, run_id)

    def arrive(self, *, light: bool = False) -> Ticket:
        ticket = Ticket(self, next(self._ids), asyncio.get_running_loop().create_future())
        self._tickets[ticket.id] = ticket
        self._step(Arrive(ticket.id, light))
        return ticket

    def leave(self, ticket: Ticket) -> None:
        if self._tickets.pop(ticket.id, None) is None:
            return
        if not ticket.granted.done():
            ticket.granted.cancel()
        elif not ticket.granted.cancelled():
            ticket.granted.exception()  # a refusal that nobody fetched is no lost error
        self._step(Left(ticket.id))

    def route_changed(self, event: RouteChanged) -> None:
        self._step(event)

    async def drained(self, run_id: str) -> None:
        """Returns when no request is in flight to that run."""
        if self.in_flight(run_id):
            done = asyncio.get_running_loop().create_future()
            self._drained.setdefault(run_id, []).append(done)
            await done

    def _step(self, event: Event) -> None:
        self._state, effects = scheduling.advance(self._state, event, self._clock())
        for effect in effects:
            ticket = self._tickets.get(effect.id)
            if ticket is None or ticket.granted.done():
                continue
            match effect:
                case Grant(_, run_id):
                    ticket.granted.set_result(run_id)
                case Reject():
                    ticket.granted.set_exception(self._refusal(effect))
        self._set_timer()
        if self._drained:
            self._tell_drained()
        self._on_change()

    def _tell_drained(self) -> None:
        for run_id in [run_id for run_id in self._drained if not self.in_flight(run_id)]:
            for done in self._drained.pop(run_id):
                if not done.done():
                    done.set_result(None)

    def _set_timer(self) -> None:
        due = scheduling.next_deadline(self._state)
        if due is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        if self._timer is not None:
            if self._timer_due == due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()) + 0.001, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._step(Tick())

    def _refusal(self, reject: Reject) -> Refused:
        reason = self._state.reason
        limits = self._state.limits
        match reject.why:
            case Why.NO_MODEL:
                what = reason or "No model is loaded."
                message, kind = f"{what} Load one in Engine Room, or with `engine-room load NAME`.", "no_model_loaded"
            case Why.LENT:
                message, kind = (
                    f"{reason} Ask again then, or take it back with `engine-room lend --return`.",
                    "memory_lent",
                )
            case Why.LOADING:
                what = reason or "The model is still loading."
                message = f"{what} The request waited {limits.loading_wait_seconds:.0f} s for it; try again later."
                kind = "model_loading"
            case Why.BUSY:
                message = f"The engine was busy for {limits.queue_wait_seconds:.0f} s; try again later."
                kind = "engine_busy"
            case Why.QUEUE_FULL:
                message, kind = f"{limits.queue_length} requests are waiting already; try again later.", "engine_busy"
        return Refused(503, message, code=reject.why.value, kind=kind, retry_after_seconds=reject.retry_after_seconds)

    def close(self) -> None:
        """Refuses all who wait."""
        self._step(RouteChanged(phase=scheduling.Phase.NONE, reason="Engine Room is shutting down."))
