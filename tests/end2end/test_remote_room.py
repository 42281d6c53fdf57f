"""A model of another workstation is used from here: its gateway is the remote, and behind it is real llama.cpp (E6, I15)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core import lifecycle
from tests.rig.attached import profile
from tests.rig.daemon import Daemon, chat_body, streamed
from tests.rig.home import Home
from tests.rig.waiting import eventually


@pytest.fixture
def far(tmp_path: Path, embedded_python: Path) -> Iterator[Daemon]:
    """The other workstation, with the demo model loaded."""
    home = Home(tmp_path / "far")
    home.environment["ENGINE_ROOM_EMBEDDED_PYTHON"] = str(embedded_python)
    daemon = Daemon(home)
    daemon.start().load("demo", 120)
    yield daemon
    daemon.close()
    home.close()


def test_the_engine_of_one_workstation_answers_in_another(home: Home, daemon: Daemon, far: Daemon) -> None:
    with far.gateway() as there:
        address = str(there.base_url).rstrip("/")
        own = there.post("/chat/completions", json=chat_body("demo", max_tokens=12, temperature=0)).json()
    profile(home, "far", "remote", "demo", base_url=address)
    daemon.start()
    seat = daemon.load("far")
    assert seat.attached is not None
    with daemon.gateway(timeout=60) as client:
        answer = client.post("/chat/completions", json=chat_body("far", max_tokens=12, temperature=0)).json()
        assert answer["choices"] == own["choices"], "the same words"
        assert answer["usage"]["completion_tokens"] == own["usage"]["completion_tokens"] > 0
        events = streamed(client, model="far", max_tokens=12)
        assert list(events)[-1] == {"done": True}
        endless = streamed(client, model="far", max_tokens=4_000, ignore_eos=True)
        next(endless)
        eventually(lambda: far.slices()["traffic"].in_flight == 1, what="the far engine is at work")
    del endless
    eventually(lambda: far.slices()["traffic"].in_flight == 0, what="a client that leaves here is heard of there (I15)")

    far.unload()
    far.wait_idle()
    with daemon.gateway(timeout=60) as client:
        refused = client.post("/chat/completions", json=chat_body("far", max_tokens=4))
    assert refused.status_code >= 400
    assert refused.json()["error"]["message"]
    far.load("demo", 120)
    daemon.wait_phase(lifecycle.Ready)
    with daemon.gateway(timeout=60) as client:
        again = client.post("/chat/completions", json=chat_body("far", max_tokens=4))
    assert again.status_code == 200, again.text
    daemon.unload()
    daemon.wait_idle()
    assert isinstance(far.seat().phase, lifecycle.Ready), "a model that runs elsewhere is let be (I5)"
