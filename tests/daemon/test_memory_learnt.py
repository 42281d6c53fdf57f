"""What was learnt about memory is forgotten for good, whatever is being learnt in that moment (M7)."""

import asyncio
import os
import time
from pathlib import Path

from app.core.memory.learning import Knowledge
from app.core.memory.plan_types import MemoryPlan, Verdict
from app.core.snapshot import RunView
from app.daemon.database import Database
from app.daemon.learning import Learning
from app.daemon.preparing import Prepared
from tests.engines.launches import launch


async def test_a_launch_whose_log_is_being_read_is_forgotten_with_the_others(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    os.mkfifo(log)  # whoever reads it waits until somebody writes
    database = Database(tmp_path / "history.sqlite", 10)
    await database.open()
    told: list[Knowledge] = []
    learning = Learning(database, told.append)
    made = launch("llama-server")
    plan = MemoryPlan(verdict=Verdict.FITS, devices=(), summary="", subject="demo")
    prepared = Prepared(None, made.profile, made.installation, plan)  # type: ignore[arg-type]
    run = RunView(
        id="run-1",
        profile_id="demo",
        title="Demo",
        engine="llama-server",
        engine_build="",
        argv=(),
        environment={},
        log_path=str(log),
        started_at_unix=time.time(),
        plan=plan,
        measured_bytes={"host": 1_000_000},
    )
    learning.note(run, prepared)
    writing = await asyncio.to_thread(os.open, log, os.O_WRONLY)  # opens when it is being read
    assert await learning.forget() == 0
    os.close(writing)
    await learning.close()
    assert await learning.forget() == 0, "nothing came after the forgetting"
    learning.note(run, prepared)
    await learning.close()
    assert await learning.forget() == 0, "what runs now does not teach again"
    await database.close()
