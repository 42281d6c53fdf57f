"""Owns the child process that asks the hub: started when somebody asks, gone when nobody has for a while, never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
from collections.abc import Callable, Mapping

import msgspec

from app.core.daemon_command import own_command
from app.core.errors import HubError, HubUnreachable, raised_from
from app.core.values import from_json, to_json
from app.daemon.hub_program import Answer, Asked, Question
from app.daemon.tasks import Tasks

log = logging.getLogger(__name__)

ANSWER_SECONDS = 90.0
IDLE_SECONDS = 120.0
LEAVE_SECONDS = 5.0
LONGEST_ANSWER_BYTES = 64 * 1024**2


class HubChild:
    """`environment` is asked at each start: a token may have come or gone since."""

    def __init__(self, environment: Callable[[], Mapping[str, str]]) -> None:
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Future[Answer]] = {}  # of the present child alone
        self._ids = itertools.count(1)
        self._starting = asyncio.Lock()
        self._tasks = Tasks()
        self._idle: asyncio.TimerHandle | None = None

    async def ask(self, question: Question) -> Answer:
        """The answer; raises what the child says, HubUnreachable when it does not come in time."""
        async with self._starting:
            process = await self._running()
        number, waiting = next(self._ids), self._waiting
        future = waiting[number] = asyncio.get_running_loop().create_future()
        assert process.stdin is not None
        try:
            process.stdin.write(to_json(Asked(id=number, question=question)) + b"\n")
            async with asyncio.timeout(ANSWER_SECONDS):
                answer: Answer = await future
        except TimeoutError as error:
            raise HubUnreachable("The hub does not answer in time.", "Check the network, then try again.") from error
        except ConnectionError as error:
            raise HubError("The program that asks the hub has ended.", "Try again.") from error
        finally:
            waiting.pop(number, None)
            self._rest_soon()
        if answer.failed is not None:
            raise raised_from(answer.failed)
        return answer

    async def _running(self) -> asyncio.subprocess.Process:
        if self._idle is not None:
            self._idle.cancel()
        if self._process is None or self._process.returncode is not None:
            environment = {**own_command(self._environment()).environment}
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "app.daemon.hub_program",
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=environment,
                    cwd="/",
                    limit=LONGEST_ANSWER_BYTES,
                )
            except OSError as error:
                raise HubError(f"The hub cannot be asked: {error.strerror}.", "Start Engine Room again.") from error
            self._waiting = {}
            self._tasks.start(self._hear(self._process, self._waiting), "answers of the hub")
        return self._process

    async def _hear(self, process: asyncio.subprocess.Process, waiting: dict[int, asyncio.Future[Answer]]) -> None:
        """Until the child has gone; `waiting` are its own askers, for another one may be there already."""
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                answer = from_json(Answer, line)
                if (future := waiting.get(answer.id)) is not None and not future.done():
                    future.set_result(answer)
        except (ValueError, msgspec.DecodeError):
            log.warning("the program that asks the hub said something that is no answer")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        except asyncio.CancelledError:  # it was asked to leave and did not
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        finally:
            code = await process.wait()
            for future in waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError(f"exit code {code}"))
            if code:
                log.warning("the program that asks the hub ended with %s", code)

    def _rest_soon(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if not self._waiting:
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.let_go)

    def let_go(self) -> None:
        """Ends the child when nobody waits for it; the next question starts one with the environment as it is then."""
        if not self._waiting and self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()  # end-of-file: it leaves
            self._process = None

    async def close(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._tasks.settle()
        except TimeoutError:  # it is stopped, or waits for a disk
            await self._tasks.close()
