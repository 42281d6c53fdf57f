"""Owns the lanes, one per seat: what stands behind it, who waits for it, and the connections to the engines."""

from __future__ import annotations

from collections.abc import Callable

from app.core.scheduling import Limits, Phase, RouteChanged
from app.daemon.gateway.admission import Admission
from app.daemon.gateway.outlets import Outlets
from app.daemon.gateway.upstream import Route, Upstream
from app.daemon.tasks import Tasks

MAIN = "main"
_PHASES = {"resting": Phase.LOADING}  # who asks for a model that rests waits for it, as for one that loads


class Lane:
    """One seat's way to its engine. `route` is replaced as a whole."""

    def __init__(self, seat: str, admission: Admission) -> None:
        self.route = Route(seat=seat)
        self.admission = admission
        self.was_in_use = False


class Lanes:
    """A request goes to the seat that has the model which it names, and to the main seat when nobody has it."""

    def __init__(self, limits: Limits, clock: Callable[[], float], changed: Callable[[], None], tasks: Tasks) -> None:
        self._limits = limits
        self._clock = clock
        self._on_change = changed
        self._tasks = tasks
        self._lanes: dict[str, Lane] = {}
        self._named: dict[str, Lane] = {}
        self._upstreams: dict[str, Upstream] = {}
        self._replaced: list[Upstream] = []  # of runs whose endpoint is another now; answers may still come over them
        self.on_use: Callable[[str, bool], None] = lambda _seat, _busy: None
        self.main = self._lane(MAIN)

    def _lane(self, seat: str) -> Lane:
        if seat not in self._lanes:
            self._lanes[seat] = Lane(seat, Admission(self._limits, self._clock, lambda: self._changed(seat)))
        return self._lanes[seat]

    # --- routes ---

    def set_route(self, route: Route) -> None:
        lane = self._lane(route.seat)
        if route == lane.route:
            return
        lane.route = route
        self._named = self._by_name()
        ready = route.state == "ready" and route.endpoint is not None
        if ready and route.endpoint is not None:
            known = self._upstreams.get(route.run_id)
            if known is None or known.route.endpoint != route.endpoint:
                if known is not None:
                    self._replaced.append(known)
                self._upstreams[route.run_id] = (Outlets if route.outlets else Upstream)(route, route.endpoint)
            else:
                known.route = route
        phase = _PHASES.get(route.state) or Phase(route.state)
        lane.admission.route_changed(
            RouteChanged(
                phase=phase if ready or phase is not Phase.READY else Phase.NONE,
                run_id=route.run_id,
                concurrency=route.traits.concurrency,
                reason=route.reason,
                eta_seconds=route.eta_seconds,
                until=route.until,
            )
        )
        self._drop_upstreams()

    def _by_name(self) -> dict[str, Lane]:
        """Of several seats that have a model the first one that has it ready, else the first."""
        found: dict[str, Lane] = {}
        for lane in sorted(self._lanes.values(), key=lambda each: each.route.state != "ready"):
            if lane.route.profile_id:
                found.update((name, lane) for name in lane.route.names if name not in found)
        return found

    def of(self, model: object) -> Lane:
        """Where a request that names `model` goes."""
        return self._named.get(model, self.main) if isinstance(model, str) else self.main

    def shown(self) -> list[Lane]:
        """The lanes that have a model, ready or to come."""
        return [lane for lane in self._lanes.values() if lane.route.state != "none"]

    def upstream(self, run_id: str) -> Upstream | None:
        """The pool to that run, only while its route says that it is ready."""
        for lane in self._lanes.values():
            if lane.route.run_id == run_id and lane.route.state == "ready":
                return self._upstreams.get(run_id)
        return None

    # --- who waits and who is answered ---

    @property
    def granted(self) -> int:
        return sum(lane.admission.granted for lane in self._lanes.values())

    @property
    def queued(self) -> int:
        return sum(lane.admission.queued for lane in self._lanes.values())

    def in_flight(self, run_id: str) -> int:
        return sum(lane.admission.in_flight(run_id) for lane in self._lanes.values())

    async def drained(self, run_id: str) -> None:
        """Returns when nothing is in flight to that run: its requests are all of one lane."""
        for lane in self._lanes.values():
            await lane.admission.drained(run_id)

    def _changed(self, seat: str) -> None:
        lane = self._lanes.get(seat)
        if lane is not None and lane.admission.in_use != lane.was_in_use:
            lane.was_in_use = not lane.was_in_use
            self.on_use(seat, lane.was_in_use)
        self._on_change()
        if len(self._upstreams) > 1 or self._replaced or self.main.route.state != "ready":
            self._drop_upstreams()

    def _drop_upstreams(self) -> None:
        """Connections of a run that is not ready, or answers elsewhere now, are closed as soon as nothing is in flight to it."""
        for upstream in [each for each in self._replaced if not self.in_flight(each.route.run_id)]:
            self._replaced.remove(upstream)
            self._tasks.start(upstream.close(), "close upstream")
        for run_id in list(self._upstreams):
            if self.upstream(run_id) is None and not self.in_flight(run_id):
                self._tasks.start(self._upstreams.pop(run_id).close(), "close upstream")

    # --- the end ---

    def refuse_all(self) -> None:
        for lane in self._lanes.values():
            lane.admission.close()

    async def close(self) -> None:
        for upstream in (*self._upstreams.values(), *self._replaced):
            await upstream.close()
        self._upstreams.clear()
        self._replaced.clear()
