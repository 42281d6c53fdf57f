"""Owns the endpoint's figures: totals, rates, the recent requests, and their Prometheus form; all of bounded size."""

from __future__ import annotations

import asyncio
import bisect
import collections
from collections.abc import Callable

import msgspec

from app.core.snapshot import RequestView, Traffic

PUBLISH_SECONDS = 0.25
RATE_SECONDS = 1.0
RECENT = 20
LOGGED = 500

_FIRST_TOKEN_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_DURATION_BOUNDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Histogram:
    """A Prometheus histogram with fixed bounds in seconds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str) -> list[str]:
        total, lines = 0, [f"# TYPE {name} histogram"]
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum:.6f}", f"{name}_count {total}"]


class Ledger:
    """Counts what passes. Labels come from our own fixed sets, never from what a client sent."""

    def __init__(
        self,
        clock: Callable[[], float],
        publish: Callable[[Traffic], None],
        on_finished: Callable[[RequestView], None] | None,
    ) -> None:
        self._clock = clock
        self._publish = publish
        self._on_finished = on_finished
        self._now: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._traffic = Traffic()
        self._published: Traffic | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._marks: collections.deque[list[float]] = collections.deque(maxlen=32)  # [second, tokens] in 50 ms steps
        self._requests: dict[tuple[str, str], int] = {}
        self._turned_away: dict[str, int] = {}
        self._first_token = Histogram(_FIRST_TOKEN_BOUNDS)
        self._duration = Histogram(_DURATION_BOUNDS)
        self.log: collections.deque[RequestView] = collections.deque(maxlen=LOGGED)  # oldest first

    def watch(self, now: Callable[[], tuple[int, int]]) -> None:
        """`now` tells how many requests are in flight and how many wait."""
        self._now = now

    def tokens(self, count: int, now: float) -> None:
        """So many tokens passed to a client just now."""
        marks = self._marks
        if marks and now - marks[-1][0] < 0.05:
            marks[-1][1] += count
        else:
            marks.append([now, count])
        self.changed()

    def finished(self, view: RequestView, prompt_tokens_per_second: float | None) -> None:
        traffic = self._traffic
        answered = view.outcome == "answered"
        self._traffic = msgspec.structs.replace(
            traffic,
            requests_total=traffic.requests_total + 1,
            failed_total=traffic.failed_total + (view.outcome in ("failed", "refused")),
            cancelled_total=traffic.cancelled_total + (view.outcome == "cancelled"),
            completion_tokens_total=traffic.completion_tokens_total + (view.completion_tokens or 0),
            prompt_tokens_total=traffic.prompt_tokens_total + (view.prompt_tokens or 0),
            first_token_seconds=traffic.first_token_seconds
            if view.first_token_seconds is None
            else view.first_token_seconds,
            prompt_tokens_per_second=prompt_tokens_per_second or traffic.prompt_tokens_per_second,
            recent=(view, *traffic.recent[: RECENT - 1]),
        )
        label = (view.path, view.outcome)
        self._requests[label] = self._requests.get(label, 0) + 1
        if view.first_token_seconds is not None:
            self._first_token.add(view.first_token_seconds)
        if answered:
            self._duration.add(view.duration_seconds)
        self.log.append(view)
        self.changed()
        if self._on_finished is not None:
            self._on_finished(view)

    @property
    def requests_total(self) -> int:
        return self._traffic.requests_total

    def kv_cache(self, usage: float | None) -> None:
        """How full the engine's cache is (0..1), as it says itself."""
        if usage != self._traffic.kv_cache_usage:
            self._traffic = msgspec.structs.replace(self._traffic, kv_cache_usage=usage)
            self.changed()

    def turned_away(self, code: str) -> None:
        """A request was not even looked at; `code` is one of our own error codes."""
        self._turned_away[code] = self._turned_away.get(code, 0) + 1

    def changed(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PUBLISH_SECONDS, self._tell)

    def view(self) -> Traffic:
        in_flight, queued = self._now()
        since = self._clock() - RATE_SECONDS
        rate = sum(tokens for second, tokens in self._marks if second > since) / RATE_SECONDS
        return msgspec.structs.replace(
            self._traffic, in_flight=in_flight, queued=queued, generation_tokens_per_second=rate
        )

    def _tell(self) -> None:
        self._timer = None
        view = self.view()
        if view != self._published:
            self._published = view
            self._publish(view)
        if view.generation_tokens_per_second:
            self.changed()  # until the rate has fallen to nothing

    def metrics(self) -> str:
        """The Prometheus text form, version 0.0.4."""
        view = self.view()
        lines = ["# TYPE engine_room_requests_total counter"]
        for (path, outcome), count in sorted(self._requests.items()):
            lines.append(f'engine_room_requests_total{{path="{path}",outcome="{outcome}"}} {count}')
        lines.append("# TYPE engine_room_turned_away_total counter")
        for code, count in sorted(self._turned_away.items()):
            lines.append(f'engine_room_turned_away_total{{code="{code}"}} {count}')
        for kind, name, value in (
            ("counter", "prompt_tokens_total", view.prompt_tokens_total),
            ("counter", "generation_tokens_total", view.completion_tokens_total),
            ("gauge", "prompt_tokens_per_second", view.prompt_tokens_per_second),
            ("gauge", "generation_tokens_per_second", view.generation_tokens_per_second),
            ("gauge", "requests_running", view.in_flight),
            ("gauge", "requests_waiting", view.queued),
            ("gauge", "kv_cache_usage", view.kv_cache_usage),
        ):
            if value is None:
                continue
            lines += [f"# TYPE engine_room_{name} {kind}", f"engine_room_{name} {value}"]
        lines += self._first_token.lines("engine_room_first_token_seconds")
        lines += self._duration.lines("engine_room_request_duration_seconds")
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
