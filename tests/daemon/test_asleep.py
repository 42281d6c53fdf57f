"""An engine that takes a request to sleep and never answers is told apart from one that is not there (I7)."""

import socket

import pytest

from app.core.profiles import Profile
from app.daemon.parking import NotDone, ask
from app.engines.base import Installation, Launch
from app.engines.sleeping import Ask


async def test_an_engine_that_says_nothing_is_waited_for_only_so_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(NotDone, match="did not answer /sleep within 1 s"):
            await ask(_launch(port), (Ask(path="/sleep"),), 0.6)
    with pytest.raises(NotDone, match="did not answer /sleep \\("):
        await ask(_launch(port), (Ask(path="/sleep"),), 60.0)


def _launch(port: int) -> Launch:
    profile = Profile(id="small", title="Small", engine="vllm", model="m")
    installation = Installation(family="vllm", executable="/nowhere/python", id="vllm-1", source="path")
    return Launch(
        profile=profile, model_path="m", installation=installation, port=port, run_id="r-1", model_name="small"
    )
