"""A program that cannot be asked because nothing can be opened any more is told so, and leaves nothing (I1, I7)."""

import os
from pathlib import Path

import pytest

from app.core.errors import EngineFailed
from app.core.memory.elsewhere import NOTHING_NEEDED
from app.core.settings import Settings
from app.daemon.asking import ask
from app.daemon.preflight import Preflight
from app.daemon.preparing import Preparation, Prepared
from app.daemon.procfs import all_processes, below
from app.engines.base import Installation
from tests.engines.launches import launch
from tests.rig.descriptors import descriptors_left


def children() -> set[int]:
    return below({os.getpid()}, all_processes())


def test_without_a_descriptor_no_program_is_left_half_asked() -> None:
    """It needs its output, the word whether it could be executed, and a handle on its end: each may be the one that lacks."""
    before, outcomes = children(), list[str]()
    for free in range(8):
        with descriptors_left(free):
            try:
                outcomes.append(ask(("/bin/echo", "here"), {}).text)
            except OSError as error:
                outcomes.append(str(error.strerror))
        assert children() == before, f"with {free} left"
    assert set(outcomes) == {"Too many open files", "here\n"}


async def test_a_check_that_cannot_be_made_refuses_the_load_with_a_sentence(tmp_path: Path) -> None:
    preflight = Preflight(Preparation(Settings, None, None, tmp_path))  # type: ignore[arg-type]
    installation = Installation(family="vllm-docker", executable="image", client="/bin/true")
    prepared = Prepared(None, launch("vllm-docker").profile, installation, NOTHING_NEEDED)  # type: ignore[arg-type]
    await preflight.check(prepared)
    with descriptors_left(0), pytest.raises(EngineFailed) as refused:
        await preflight.check(prepared)
    assert refused.value.summary == "Demo cannot be started now: no program can be started (Too many open files)."
