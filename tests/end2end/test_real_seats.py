"""The built-in engine on two seats and at rest: what the stand-in is trusted with, on a real one (S7, S8, I9)."""

from pathlib import Path

import httpx
import pytest

from app.core import lifecycle
from app.core.control import Park
from tests.engines.tiny_model import write_tiny_model
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, chat_body
from tests.rig.home import Home
from tests.rig.real_engines import put_into, write_profile
from tests.rig.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def two_profiles(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    model: Path = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")
    put_into(home, "llama.cpp")
    for name in ("left", "right"):
        write_profile(home, name, "llama.cpp", model, context_tokens=512)
    return home


def ask(daemon: Daemon, model: str) -> httpx.Response:
    with daemon.gateway(60) as client:
        return client.post("/chat/completions", json=chat_body(model, max_tokens=4))


def test_an_idle_engine_leaves_and_a_request_brings_it_back(two_profiles: Home, daemon: Daemon) -> None:
    """I9."""
    two_profiles.settings(supervision={"idle_unload_seconds": 0.5})
    daemon.start().load("left", 60)
    for _ in range(2):
        daemon.wait_seat(lambda seat: seat.resting == "idle" and isinstance(seat.phase, lifecycle.Idle))
        eventually(lambda: not processes_of(two_profiles, runs_only=True))
        answer = ask(daemon, "left")
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"]


def test_two_engines_answer_side_by_side_and_come_back_after_a_crash(two_profiles: Home, daemon: Daemon) -> None:
    """I1, I13."""
    two_profiles.settings(supervision={"seats": ["main", "side"]})
    daemon.start().load("left", 60)
    daemon.want("right", seat="side")
    daemon.wait_phase(lifecycle.Ready, "right", 60, seat="side")
    for model in ("left", "right"):
        answer = ask(daemon, model)
        assert answer.json()["model"] == model, answer.text
    daemon.kill()
    eventually(lambda: not processes_of(two_profiles, runs_only=True))
    daemon.start()
    daemon.wait_phase(lifecycle.Ready, "left", 60)
    daemon.wait_phase(lifecycle.Ready, "right", 60, seat="side")
    with daemon.gateway() as client:
        assert {model["id"] for model in client.get("/models").json()["data"]} == {"left", "right"}


def test_what_was_read_is_kept_while_the_model_is_away(two_profiles: Home, daemon: Daemon) -> None:
    """E11 for llama.cpp: it is unloaded with its prompts on the disk, and nothing is read twice when it is back."""
    folder = two_profiles.folder / "prompts"
    folder.mkdir()
    model = two_profiles.folder / "models" / "reader.gguf"
    write_tiny_model(model)
    write_profile(two_profiles, "reader", "llama.cpp", model, context_tokens=1024, slots=1, prompts_folder=str(folder))
    body = chat_body("reader", max_tokens=2, temperature=0) | {
        "messages": [{"role": "user", "content": "Tell me of the engine room. " * 6}]
    }
    daemon.start().load("reader", 60)
    with daemon.gateway(60) as client:
        first = client.post("/chat/completions", json=body).raise_for_status().json()
        read = first["timings"]["prompt_n"] + first["timings"].get("cache_n", 0)
        daemon.post("/control/park", Park())
        daemon.wait_seat(lambda seat: seat.resting == "parked" and isinstance(seat.phase, lifecycle.Idle))
        assert len(list(folder.glob("reader-*.bin"))) == 1
        again = client.post("/chat/completions", json=body).raise_for_status().json()
    assert again["timings"]["cache_n"] > read * 0.9, "it went on from what was kept"
    assert again["choices"] == first["choices"]
    assert not list(folder.glob("*.bin")), "a file is used once"
