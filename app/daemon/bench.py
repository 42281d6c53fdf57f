"""Measures the loaded model as the work of a job: a fixed workload through our own endpoint, one request after the other."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import msgspec

from app.core.bench import ROUNDS, SAMPLE_ANSWER_TOKENS, SAMPLE_WORDS, Round, prompt_of, round_of, sizes_for, words_for
from app.core.counting import StreamCounter
from app.core.errors import EngineFailed
from app.daemon.work import Work

SILENCE_SECONDS = 600.0  # a long prompt on a slow processor
CHAT = "/v1/chat/completions"
CHANGED = "Another model was loaded while this one was measured."


class Benching(msgspec.Struct, frozen=True, kw_only=True, tag="bench"):
    socket: str  # the service's own
    profile_id: str
    run_id: str
    context_tokens: int | None = None
    to_the_end: bool = True  # the engine may be told to go on after its end token
    seed: int = 0  # of the words: no two benches ask the same


def bench(order: Benching, work: Work) -> dict[str, object]:
    """{"rounds": […], "requests": how many were made}."""
    rounds = asyncio.run(_measured(order, work))
    return {"rounds": msgspec.to_builtins(rounds), "requests": ROUNDS + 1}


async def _measured(order: Benching, work: Work) -> list[Round]:
    sizes = sizes_for(order.context_tokens)
    connector = aiohttp.UnixConnector(order.socket)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_SECONDS)
    async with aiohttp.ClientSession("http://engine-room", connector=connector, timeout=timeout) as session:
        work.say("Warming up …", progress=0.0)
        sample = await _asked(session, order, SAMPLE_WORDS, SAMPLE_ANSWER_TOKENS, order.seed)
        words = words_for(sizes.prompt_tokens, sample.prompt_tokens)
        rounds = []
        for number in range(1, ROUNDS + 1):
            work.say(f"Answer {number} of {ROUNDS} …", progress=number / (ROUNDS + 1))
            rounds.append(await _asked(session, order, words, sizes.answer_tokens, order.seed + number))
        return rounds


async def _asked(session: aiohttp.ClientSession, order: Benching, words: int, tokens: int, number: int) -> Round:
    body: dict[str, object] = {
        "model": order.profile_id,
        "messages": [{"role": "user", "content": prompt_of(words, number)}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if order.to_the_end:
        body["ignore_eos"] = True
    counter = StreamCounter()
    began = time.perf_counter()
    first = last = 0.0
    try:
        async with session.post(CHAT, json=body) as answer:
            if answer.status != 200:
                raise EngineFailed(f"The model cannot be measured: {_said(await answer.read())}")
            if answer.headers.get("X-Engine-Room-Run") not in (None, order.run_id):
                raise EngineFailed(CHANGED)
            async for piece in answer.content.iter_any():
                if counter.feed(piece):
                    last = time.perf_counter() - began
                    first = first or last
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EngineFailed("The answer was cut off while the model was measured.") from error
    if counter.failed or not counter.complete or not first:
        raise EngineFailed("The model gave no whole answer to be measured by.", "Its log says more.")
    return round_of(counter.counts(), counter.chunks, first, last)


def _said(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "the endpoint refused the request."
