"""Waits for conditions with a deadline, so that no test sleeps for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooLate(AssertionError):
    """The condition did not come true before its deadline."""


def eventually(condition: Callable[[], T], deadline: float = 60.0, what: str = "", every: float = 0.01) -> T:
    """The first true value of `condition`; asked again every `every` seconds. A failed assertion in it counts as false."""
    end = time.monotonic() + deadline
    last: object = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > end:
            raise TooLate(
                f"not within {deadline:g} s: {what or getattr(condition, '__name__', 'condition')} ({last!r})"
            )
        time.sleep(every)


def never(condition: Callable[[], object], seconds: float, what: str = "", every: float = 0.02) -> None:
    """Watches for `seconds` that `condition` stays false."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert not condition(), f"happened although it must not: {what or condition}"
        time.sleep(every)
