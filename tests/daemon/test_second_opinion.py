"""The engine is asked for its opinion of what is looked at now, not of every place that a dial has passed (I7, I16)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.snapshot import Gpus
from app.daemon.database import Database
from app.daemon.learning import Learning
from app.daemon.second_opinion import SecondOpinion
from app.engines.base import Launch
from tests.daemon.gateway.conftest import until
from tests.engines.launches import launch

ENGINE = """#!/bin/sh
here=$(dirname "$0")
while [ $# -gt 0 ]; do [ "$1" = --ctx-size ] && echo "$2" >> "$here/asked"; shift; done
while [ ! -e "$here/answer" ]; do sleep 0.01; done
"""


def plan(launch: Launch) -> MemoryPlan:
    subject = f"{launch.profile.id} {launch.profile.settings}"
    return MemoryPlan(verdict=Verdict.FITS, devices=(), summary="", subject=subject)


async def test_of_each_profile_only_the_latest_load_waits_for_its_turn(tmp_path: Path) -> None:
    engine, asked, answer = tmp_path / "llama-server", tmp_path / "asked", tmp_path / "answer"
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    database = Database(tmp_path / "history.sqlite", 10)
    opinion = SecondOpinion(Learning(database, lambda _: None), lambda _: frozenset(("--fit",)))

    def looked_at(profile: str, context: int) -> asyncio.Task[bool]:
        made = launch("llama-server", {"context_tokens": context}, executable=str(engine))
        made = replace(made, profile=replace(made.profile, id=profile))
        return asyncio.get_running_loop().create_task(opinion.heard(lambda: made, plan(made), Gpus()))

    try:
        looks = [looked_at("one", 1_000)]
        await until(asked.exists)
        looks += [looked_at("one", context) for context in range(1_001, 1_020)]
        looks += [looked_at("two", 2_000)]
        assert not any(await asyncio.gather(*looks)), "nothing is heard yet, and nobody waits long"
        answer.touch()
        await until(lambda: "2000" in asked.read_text())
        assert asked.read_text().split() == ["1000", "1019", "2000"], "what the dial passed is not asked for"
    finally:
        answer.touch()
        await opinion.close()
        await database.close()
