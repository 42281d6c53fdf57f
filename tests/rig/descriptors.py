"""Takes this process's last file descriptors for a moment, as a service has none left that leaks or serves too many."""

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

beside_tests = threading.Lock()  # held by threads that open files while a test goes on, and while a test counts on none


@contextmanager
def descriptors_left(free: int) -> Iterator[None]:
    """Inside, exactly `free` more files or pipes can be opened."""
    with beside_tests:
        yield from _left(free)


def _left(free: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 1 + free, hard)
        )
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                break
        for _ in range(free):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
