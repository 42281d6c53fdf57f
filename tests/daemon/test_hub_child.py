"""The program that asks the hub ends and is started anew without taking anybody's question with it (I6, I7)."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from app.core.errors import HubError
from app.daemon.hub_child import HubChild
from app.daemon.hub_program import Search
from app.daemon.procfs import all_processes, below
from app.daemon.tasks import Tasks
from tests.rig.home import Home
from tests.rig.hub import HubStandIn


def children() -> set[int]:
    return below({os.getpid()}, all_processes())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the kernel's word on other processes comes by no event
            await asyncio.sleep(0.01)


async def test_the_end_of_an_earlier_child_fails_no_question_to_the_next_one(home: Home) -> None:
    with HubStandIn() as hub:
        hub.add("acme/model-GGUF", {"model-Q8_0.gguf": b"GGUF"})
        child = HubChild(lambda: home.environment | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"})
        before, tasks = children(), Tasks()
        assert (await child.ask(Search(words="model"))).models
        [old] = children() - before
        os.kill(old, signal.SIGSTOP)  # it takes its time to leave
        child.let_go()
        asked = tasks.start(child.ask(Search(words="model")), "the next question")
        await until(lambda: len(children() - before) == 2)
        os.kill(old, signal.SIGCONT)
        await until(lambda: not Path(f"/proc/{old}/status").exists())
        assert (await asked).models, "it was asked of the new child"
        await child.close()
        assert children() - before == set()


async def test_a_child_that_dies_under_a_question_is_a_sentence_and_the_next_one_is_asked_anew(home: Home) -> None:
    """I6, I11."""
    with HubStandIn() as hub:
        hub.add("acme/model-GGUF", {"model-Q8_0.gguf": b"GGUF"})
        child = HubChild(lambda: home.environment | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"})
        before, tasks = children(), Tasks()
        assert (await child.ask(Search(words="model"))).models
        [pid] = children() - before
        os.kill(pid, signal.SIGSTOP)
        asked = tasks.start(child.ask(Search(words="model")), "a question")
        await asyncio.sleep(0)  # it is written
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait([asked])
        error = asked.exception()
        assert isinstance(error, HubError)
        assert (error.summary, error.advice) == ("The program that asks the hub has ended.", "Try again.")
        assert (await child.ask(Search(words="model"))).models
        await child.close()
        assert children() - before == set()


async def test_a_child_that_does_not_leave_does_not_hold_up_the_end(home: Home) -> None:
    """I2: it is stopped, as by a disk that does not answer."""
    with HubStandIn() as hub:
        child = HubChild(lambda: home.environment | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"})
        before = children()
        await child.ask(Search(words="model"))
        [pid] = children() - before
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(60):
            await child.close()
        assert children() - before == set()
