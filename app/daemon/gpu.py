"""Owns what is known of the graphics cards and the host now, and turns a driver that is absent, broken or hung into a state.

NVML is spoken to in one worker thread only. A call that does not come back makes the driver HUNG: the loop goes on
publishing with the last figures, whose `taken_at` tells their age, and the thread is left alone. A stuck call may never
return, so after a minute one more thread tries (a few at most); whichever returns first brings the driver back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

import msgspec

from app.core.snapshot import DriverState, Gpus, GpuSample
from app.daemon.amd import DRM, read_amd
from app.daemon.host import HostReader
from app.daemon.nvml import KERNEL_CARDS, NvmlReader

log = logging.getLogger(__name__)

MOST_STUCK_THREADS: Final = 4
OPENING_SECONDS: Final = 15.0  # waking several cards that nobody holds open takes seconds each, and is no hang


class GpuSampler:
    """Publishes one `Gpus` per `interval_seconds`. `pids_of_runs` names our engines' processes (pid → run id).

    `timeout_seconds`: how long one round of questions may take before the driver counts as hung. `absent_retry_seconds`
    and `broken_retry_seconds`: how long until a driver that is not there, or that answers with errors, is opened again.
    `replace_seconds`: how long a call may be stuck before another thread tries. `resident_bytes` tells the resident
    memory of processes, for engines on the CPU. `drm` and `kernel_cards` are where the
    kernel shows AMD and NVIDIA cards.
    """

    def __init__(
        self,
        publish: Callable[[Gpus], None],
        pids_of_runs: Callable[[], Mapping[int, str]],
        clock: Callable[[], float],
        interval_seconds: float = 1.0,
        *,
        resident_bytes: Callable[[Collection[int]], int | None] | None = None,
        host: HostReader | None = None,
        drm: Path = DRM,
        kernel_cards: Path = KERNEL_CARDS,
        timeout_seconds: float = 2.0,
        absent_retry_seconds: float = 30.0,
        broken_retry_seconds: float = 5.0,
        replace_seconds: float = 60.0,
    ) -> None:
        self._publish = publish
        self._pids_of_runs = pids_of_runs
        self._resident_bytes = resident_bytes
        self.host = host or HostReader()
        self._drm = drm
        self._kernel_cards = kernel_cards
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._retry_seconds = {DriverState.ABSENT: absent_retry_seconds, DriverState.BROKEN: broken_retry_seconds}
        self._replace_seconds = replace_seconds
        self._wake = asyncio.Event()
        self._ticked = asyncio.Event()  # replaced at each tick, so that a waiter gets exactly the next one
        self._tick_began = float("-inf")
        self._worker: _Worker | None = None
        self._call: asyncio.Future[Gpus] | None = None  # the one that the worker is in
        self._stuck: set[asyncio.Future[Gpus]] = set()  # those of threads that were left to themselves
        self._asked_at = 0.0  # when the newest call began
        self._hung_since: float | None = None
        self._something_returned = False  # while hung
        self._retry_at = float("-inf")
        self._reading = Gpus()  # what the driver last said
        self._closed = False
        self.latest = Gpus()

    async def run(self) -> None:
        """Samples until `close`."""
        while not self._closed:
            began = self._clock()
            self._wake.clear()
            await self._tick(began)
            await self._pause(began)

    async def fresh(self, max_age_seconds: float = 1.0, timeout_seconds: float = 2.0) -> Gpus:
        """A sample whose questions began at most `max_age_seconds` before this call: the latest, or a new one.

        When the driver cannot give one, the answer comes just the same and its `driver` says so: ABSENT, BROKEN, HUNG.
        """
        since = self._clock() - max_age_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                while self._tick_began < since:
                    self._wake.set()
                    await self._ticked.wait()
        except TimeoutError:
            late = f"The GPU figures did not come within {timeout_seconds:.1f} s; the NVIDIA driver may be hung."
            return msgspec.structs.replace(self.latest, driver=DriverState.HUNG, message=late)
        return self.latest

    async def close(self) -> None:
        """Ends `run` and gives the driver back. A stuck thread is left behind: it is a daemon thread and keeps nothing alive."""
        self._closed = True
        self._wake.set()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.retire()
            if self._call is None or self._call.done():
                await asyncio.get_running_loop().run_in_executor(None, worker.join, 1.0)

    # --- one tick ----------------------------------------------------------------------------------------------------

    async def _tick(self, began: float) -> None:
        if self._call is None and began >= self._retry_at:
            self._ask(began)
        elif self._hung_since is not None and began - self._asked_at >= self._replace_seconds:
            self._try_another_thread(began)
        await self._collect()
        self._tell(began)

    def _ask(self, began: float) -> None:
        if self._worker is None:
            self._worker = _Worker(NvmlReader(self._clock, self._kernel_cards), self._drm, self._clock)
        self._asked_at = began
        self._call = self._worker.ask(asyncio.get_running_loop())
        self._call.add_done_callback(self._returned)

    def _try_another_thread(self, began: float) -> None:
        """Leaves the worker, which may be stuck for ever, to itself."""
        if self._worker is None or self._call is None or len(self._stuck) + 1 >= MOST_STUCK_THREADS:
            return
        self._worker.retire()
        self._worker = None
        self._stuck.add(self._call)
        self._ask(began)

    def _returned(self, call: asyncio.Future[Gpus]) -> None:
        self._stuck.discard(call)
        if self._hung_since is not None:  # otherwise the tick is waiting for it
            self._something_returned = True
            self._wake.set()

    async def _collect(self) -> None:
        """Waits for the answer, but never longer than the timeout, and not at all while the driver is known to hang."""
        if self._hung_since is not None:
            if not self._something_returned:
                return
            log.warning("the NVIDIA driver answers again after %.1f s", self._clock() - self._hung_since)
            self._hung_since, self._something_returned = None, False
            if self._call is None or self._call.done():  # what it read is of long ago
                self._ask(self._clock())
        if self._call is None:
            return
        await asyncio.wait([self._call], timeout=self._timeout_seconds)
        if self._call.done():
            self._take(self._call.result())
            self._call = None
        else:
            self._hung_since = self._asked_at
            log.warning("the NVIDIA driver did not answer within %.1f s", self._timeout_seconds)

    def _take(self, reading: Gpus) -> None:
        if reading.driver is not self._reading.driver:
            log.info("the NVIDIA driver is %s %s", reading.driver.value, reading.message)
        self._reading = reading
        self._retry_at = self._clock() + self._retry_seconds.get(reading.driver, float("-inf"))

    def _tell(self, began: float) -> None:
        """Publishes the driver's last word, with our own processes marked and the host beside it."""
        runs = self._runs()
        reading = self._reading
        driver, message, taken_at = reading.driver, reading.message, reading.taken_at
        if self._hung_since is not None:
            silent = began - self._hung_since
            if driver is DriverState.STARTING and silent < OPENING_SECONDS:
                message = "The NVIDIA driver is being opened."
            else:
                driver, message = DriverState.HUNG, _hung_sentence(silent)
        elif not any(gpu.total_bytes for gpu in reading.gpus):
            taken_at = began  # it holds no figures that could be out of date
        self.latest = Gpus(
            driver=driver,
            message=message,
            driver_version=reading.driver_version,
            gpus=tuple(_marked(gpu, runs) for gpu in reading.gpus),
            host=self.host.read(self._engine_bytes(runs), taken_at=began),
            taken_at=taken_at,
        )
        self._tick_began = began
        ticked, self._ticked = self._ticked, asyncio.Event()
        ticked.set()
        self._publish(self.latest)

    def _runs(self) -> Mapping[int, str]:
        try:
            return self._pids_of_runs()
        except OSError as error:  # /proc changes under the reader
            log.warning("our engines' processes could not be listed: %s", error)
            return {}

    def _engine_bytes(self, runs: Mapping[int, str]) -> int | None:
        if self._resident_bytes is None:
            return None
        return self._resident_bytes(runs) if runs else 0

    async def _pause(self, began: float) -> None:
        """Until the next tick is due, or somebody needs one at once."""
        while not self._wake.is_set():
            left = began + self._interval_seconds - self._clock()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()


def _marked(gpu: GpuSample, runs: Mapping[int, str]) -> GpuSample:
    if not gpu.processes or not any(process.pid in runs for process in gpu.processes):
        return gpu
    marked = tuple(msgspec.structs.replace(process, run_id=runs.get(process.pid)) for process in gpu.processes)
    return msgspec.structs.replace(gpu, processes=marked)


def _with_amd(nvidia: Gpus, amd: tuple[GpuSample, ...]) -> Gpus:
    """Cards of both makers. Without an NVIDIA driver nothing is amiss where the cards are AMD's."""
    if not amd:
        return nvidia
    gpus = nvidia.gpus + amd
    if nvidia.driver is DriverState.ABSENT:
        return msgspec.structs.replace(nvidia, driver=DriverState.OK, message="", gpus=gpus)
    return msgspec.structs.replace(nvidia, gpus=gpus)


def _hung_sentence(seconds: float) -> str:
    return (
        f"The NVIDIA driver has not answered for {seconds:.0f} s; the GPU figures are from before that. "
        "If this lasts, the kernel log (dmesg) says why, and restarting the machine helps."
    )


class _Worker:
    """A thread that reads the cards, one call after another.

    Our own thread and not an executor's: the interpreter waits for an executor's threads at exit, and a stuck one would
    keep the daemon from ending.
    """

    def __init__(self, reader: NvmlReader, drm: Path, clock: Callable[[], float]) -> None:
        self._nvml = reader  # used in the thread only
        self._drm = drm
        self._clock = clock
        self._inbox: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Future[Gpus]] | None]
        self._inbox = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="nvml", daemon=True)
        self._thread.start()

    def ask(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Gpus]:
        answer: asyncio.Future[Gpus] = loop.create_future()
        self._inbox.put((loop, answer))
        return answer

    def retire(self) -> None:
        """Ends the thread once the call that it is in has returned."""
        self._inbox.put(None)

    def join(self, timeout_seconds: float) -> None:
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while (job := self._inbox.get()) is not None:
            loop, answer = job
            try:
                reading = _with_amd(self._nvml.read(), read_amd(self._drm))
            except Exception as error:  # a fault of ours must not end the telemetry unseen
                log.exception("reading the graphics cards failed")
                reading = Gpus(
                    driver=DriverState.BROKEN,
                    message=f"The graphics cards could not be read ({error}); the daemon's log has the details.",
                    taken_at=self._clock(),
                )
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(_answer, answer, reading)
        self._nvml.close()


def _answer(future: asyncio.Future[Gpus], reading: Gpus) -> None:
    if not future.done():
        future.set_result(reading)
