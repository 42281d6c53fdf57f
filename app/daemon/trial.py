"""Starts an engine for a trial, by the command of a real launch and under a keeper, and asks it: a token, or questions."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from app.core.diagnosis import diagnose
from app.core.errors import EngineFailed
from app.core.lifecycle import Endpoint, Failure
from app.core.profiles import Profile
from app.core.redaction import masked, secrets_of
from app.core.resources import builtin_model
from app.core.sse import Parser
from app.daemon import processes
from app.daemon.preparing import engine_environment, free_port
from app.daemon.probe import Probe, WrongEngine
from app.daemon.runs import RunEnd, RunHandle, Runs, RunSpec
from app.daemon.tiny_folder import write_tiny_folder
from app.daemon.work import Ended, Work
from app.engines.base import Installation, Launch
from app.engines.registry import FAMILIES

SMOKE_SECONDS = 180.0
STALL_SECONDS = 300.0  # without a byte of an answer; a slow machine reads a short question in less
GRACE_SECONDS = 5.0
SMOKE_PROFILE = Profile(
    id="smoke-test",
    title="The demo model",
    engine="",
    model="builtin:demo",
    settings={"context_tokens": 512},
)
# Little of everything, so that it answers on a busy card too; compiled code is for real loads.
FOLDER_PROFILES = {
    "vllm": Profile(
        id="smoke-test",
        title="A tiny model",
        engine="",
        model="",
        settings={
            "context_tokens": 512,
            "kv_cache_mib": 256,
            "max_sequences": 4,
            "gpu_memory_utilisation": 0.1,
            "eager": True,
        },
    )
}
FOLDER_SMOKE_SECONDS = 600.0  # four processes import for half a minute and more

T = TypeVar("T")
Ask = Callable[[Endpoint], Awaitable[T]]


class TrialFailed(EngineFailed):
    """The engine did not come up; `failure` is the diagnosis of its log."""

    def __init__(self, title: str, failure: Failure) -> None:
        line = telling_line(failure)
        super().__init__(
            f"{title} does not work here: {failure.summary}", failure.advice, f"Its log: {line}" if line else ""
        )
        self.failure = failure

    @property
    def is_for_another_processor(self) -> bool:
        return self.failure.signal == 4  # SIGILL


def telling_line(failure: Failure) -> str:
    """The line that shows the cause; of a Python trace that is its last one."""
    line = failure.evidence.line if failure.evidence is not None else ""
    said = [each for each in failure.last_lines if each.strip()]
    return said[-1] if line.startswith("Traceback") and said else line


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one question gave. `tokens_per_second` counts from the question to the end: a burst of tokens in one packet,
    as a busy machine makes it, must not look like speed."""

    text: str
    first_token_seconds: float
    tokens: int
    tokens_per_second: float


def smoke_test(installation: Installation, title: str, work: Work) -> None:
    """A small model, one token, through the engine's own HTTP server; raises TrialFailed.

    The demo model for an engine of files; one of random numbers, made for it, for an engine of folders.
    """

    async def nothing_more(_: Endpoint) -> None:
        return None

    with tempfile.TemporaryDirectory(prefix="engine-room-model-") as made:
        if installation.family in FOLDER_PROFILES:
            profile, seconds = FOLDER_PROFILES[installation.family], FOLDER_SMOKE_SECONDS
            model = write_tiny_folder(Path(made))
        else:
            profile, seconds = SMOKE_PROFILE, SMOKE_SECONDS
            found = builtin_model(profile.model)
            assert found is not None
            model = found
        profile = msgspec.structs.replace(profile, engine=installation.family)
        launch = trial_launch(installation, profile, str(model))
        asyncio.run(with_engine(launch, nothing_more, title, work, seconds))


def raise_for_a_driver(title: str, ended: Ended) -> None:
    """Raises TrialFailed where what a build said at its import is that a driver is not there: no other one would help."""
    failure = diagnose(
        ((0, line) for line in ended.said),
        run_id="",
        profile_id="",
        phase="loading",
        exit_code=ended.exit_code,
        signal=None,
        asked_to_stop=False,
        patterns=(),
    )
    if failure.kind == "driver":
        raise TrialFailed(title, failure)


def trial_launch(installation: Installation, profile: Profile, model_path: str) -> Launch:
    return Launch(
        profile=profile,
        model_path=model_path,
        installation=installation,
        port=free_port(),
        run_id=f"trial-{os.getpid()}-{time.monotonic_ns()}",
        model_name=profile.id,
        gpu_uuids=profile.gpus,
        physical_cores=processes.physical_cores(),
        api_key=secrets.token_hex(16),  # as in a real launch: nobody else of this machine is to use it meanwhile
    )


async def with_engine(launch: Launch, ask: Ask[T], title: str, work: Work, seconds: float) -> T:
    """What `ask` gives, while the engine runs; it is gone, whole, when this returns or raises.

    Raises TrialFailed when it ends before it is ready, or is not ready after `seconds`.
    """
    with tempfile.TemporaryDirectory(prefix="engine-room-trial-") as folder:
        runs = Runs(Path(folder))
        spec = _spec(launch, Path(folder) / "engine.log", title, work.environment)
        try:
            handle = await runs.launch(spec)
            try:
                return await _asked(launch, ask, title, handle, seconds)
            finally:
                handle.stop()
                await handle.ended()
        finally:
            _keep_log(spec, work)
            await runs.close()


def _spec(launch: Launch, log: Path, title: str, inherited: Mapping[str, str]) -> RunSpec:
    command = FAMILIES[launch.profile.engine].command(launch)
    return RunSpec(
        id=launch.run_id,
        profile_id=launch.profile.id,
        title=title,
        engine=launch.profile.engine,
        model_path=launch.model_path,
        port=launch.port,
        argv=command.argv,
        environment=engine_environment(inherited, command, launch.profile),
        cwd="/",
        log_path=str(log),
        grace_seconds=GRACE_SECONDS,
        secrets=(*command.secrets, launch.api_key),
    )


async def _asked(launch: Launch, ask: Ask[T], title: str, handle: RunHandle, seconds: float) -> T:
    async def is_ours(pid: int) -> bool:
        return any(process.pid == pid for process in await asyncio.to_thread(handle.processes))

    async def owner(port: int) -> int | None:
        return await asyncio.to_thread(processes.listener_owner, port, (handle.pid or 0,))

    async def answers() -> T:
        probe = Probe(launch, FAMILIES[launch.profile.engine], owner, is_ours, lambda _: None)
        return await ask(await asyncio.wait_for(probe.ready(), seconds))

    loop = asyncio.get_running_loop()
    asking, ending = loop.create_task(answers()), loop.create_task(handle.ended())  # both are over when this returns
    try:
        await asyncio.wait((asking, ending), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise TrialFailed(title, _why_it_ended(launch, handle.spec, ending.result()))
        return await asking
    except TimeoutError as error:
        raise EngineFailed(f"{title} does not answer within {seconds:.0f} seconds.", "Its log is kept.") from error
    except WrongEngine as error:
        raise TrialFailed(title, error.failure) from error
    finally:
        for task in (asking, ending):
            task.cancel()
        await asyncio.gather(asking, ending, return_exceptions=True)


def _said(spec: RunSpec) -> bytes:
    """The engine's log, which leaves its file here: without the profile's secrets (I18)."""
    return masked(Path(spec.log_path).read_bytes(), (*spec.secrets, *secrets_of(spec.environment)))


def _why_it_ended(launch: Launch, spec: RunSpec, end: RunEnd) -> Failure:
    lines, offset = [], 0
    for raw in _said(spec).splitlines(keepends=True):
        lines.append((offset, raw.decode("utf-8", "replace")))
        offset += len(raw)
    return diagnose(
        lines,
        run_id=launch.run_id,
        profile_id=launch.profile.id,
        phase="loading",
        exit_code=end.exit_code,
        signal=end.signal,
        asked_to_stop=False,
        patterns=FAMILIES[launch.profile.engine].failures,
    )


def _keep_log(spec: RunSpec, work: Work) -> None:
    try:
        work.keep(_said(spec))
    except OSError:
        pass


async def ask_once(endpoint: Endpoint, launch: Launch, question: str, max_tokens: int) -> Answer:
    """One streamed answer at temperature 0; raises EngineFailed when the engine gives none."""
    body = {
        "model": endpoint.model_name,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "seed": 1,
        "stream": True,
    }
    url = endpoint.base_url + FAMILIES[launch.profile.engine].readiness.generate_path
    headers = {"Authorization": f"Bearer {launch.api_key}"} if launch.api_key else {}
    begun = time.monotonic()
    first = 0.0
    words: list[str] = []
    parser = Parser()
    try:
        async with (
            aiohttp.ClientSession(
                headers=headers, trust_env=False, timeout=aiohttp.ClientTimeout(total=None, sock_read=STALL_SECONDS)
            ) as session,
            session.post(url, json=body) as answer,
        ):
            if answer.status != 200:
                raise EngineFailed(f"The engine answers {answer.status} to a question.", "", await answer.text())
            async for piece in answer.content.iter_any():
                for event in parser.feed(piece):
                    if (text := _text_of(event.data)) is not None:
                        first = first or time.monotonic()
                        words.append(text)
    except (aiohttp.ClientError, OSError) as error:
        raise EngineFailed(f"The engine broke off in an answer: {error}.") from error
    if not words:
        raise EngineFailed("The engine answered a question without a single token.")
    return Answer(
        text="".join(words),
        first_token_seconds=first - begun,
        tokens=len(words),
        tokens_per_second=len(words) / (time.monotonic() - begun),
    )


def _text_of(data: str) -> str | None:
    """The text that one event of a stream brings; None when it brings none."""
    if data == "[DONE]":
        return None
    value = json.loads(data)
    for choice in value.get("choices") or ():
        delta = choice.get("delta") or {}
        text = delta.get("content") or delta.get("reasoning_content")
        if text:
            return str(text)
    return None
