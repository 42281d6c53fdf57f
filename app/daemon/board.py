"""Owns the latest slices: publishing replaces a whole value, and each listener gets the latest of what changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import msgspec

from app.core.snapshot import SLICES


class Board:
    """One writer per slice. A slow listener misses values in between, never the latest one, and costs no memory."""

    def __init__(self) -> None:
        self._values: dict[str, msgspec.Struct] = {name: kind() for name, kind in SLICES.items()}
        self._versions: dict[str, int] = dict.fromkeys(SLICES, 1)
        self._listeners: set[asyncio.Event] = set()
        self._followers: dict[str, list[Callable[[msgspec.Struct], None]]] = {}

    def publish(self, name: str, value: msgspec.Struct) -> None:
        if self._values[name] == value:
            return
        self._values[name] = value
        self._versions[name] += 1
        for listener in self._listeners:
            listener.set()

        for follower in self._followers.get(name, ()):
            follower(value)

    def follow(self, name: str, follower: Callable[[msgspec.Struct], None]) -> None:
        """`follower` is told each new value of a slice, at once; for parts of the service, which never fall behind."""
        self._followers.setdefault(name, []).append(follower)

    def get(self, name: str) -> msgspec.Struct:
        return self._values[name]

    def all(self) -> dict[str, msgspec.Struct]:
        return dict(self._values)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def changes(self, alive_seconds: float = 10.0) -> AsyncGenerator[list[tuple[str, msgspec.Struct]], None]:
        """All slices first, then those that changed; an empty list when nothing did for `alive_seconds`."""
        wake = asyncio.Event()
        self._listeners.add(wake)
        seen: dict[str, int] = {}
        try:
            while True:
                wake.clear()
                changed = [name for name, version in self._versions.items() if seen.get(name) != version]
                seen.update({name: self._versions[name] for name in changed})
                yield [(name, self._values[name]) for name in changed]
                try:
                    async with asyncio.timeout(alive_seconds):  # wait_for may swallow a cancellation before Python 3.12
                        await wake.wait()
                except TimeoutError:
                    continue
        finally:
            self._listeners.discard(wake)
