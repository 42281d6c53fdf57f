"""A process tree like vLLM's under the daemon: silent loading, TERM not honoured, orphans, exit code 0 for a crash (E3, I1, I2, I11)."""

import os
import signal
import sys
from pathlib import Path

import pytest
import tomli_w

from app.core import lifecycle
from app.core.errors import ModelMissing
from app.daemon.procfs import all_processes
from tests.engines.tiny_folder import write_tiny_folder
from tests.rig.daemon import Daemon, chat_body
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually


@pytest.fixture
def vllm(home: Home, fake_engine: FakeEngine) -> FakeEngine:
    fake_engine.install_vllm()
    home.settings(supervision={"stop_grace_seconds": 3, "drain_seconds": 0.3})
    write_tiny_folder(home.models / "tiny")
    return fake_engine


def profile(rig: FakeEngine, name: str = "tiny", **knobs: object) -> str:
    knobs.setdefault("answer", "word " * 16)
    whole = {
        "engine": "vllm",
        "model": str(rig.home.models / "tiny"),
        "settings": {"context_tokens": 2_048},
        "environment": rig.environment(**knobs),
    }
    (rig.home.paths.profiles / f"{name}.toml").write_text(tomli_w.dumps(whole), "utf-8")
    return name


def tree(leader: int) -> dict[str, int]:
    """Name → pid of the living processes of an engine's session."""
    return {p.name: p.pid for p in all_processes().values() if p.session == leader and not p.dead}


def gone(leader: int) -> None:
    eventually(lambda: not tree(leader), 60, "no process of the run is left (I1)")


def test_a_flag_that_this_version_does_not_know_is_told_before_it_starts(vllm: FakeEngine, daemon: Daemon) -> None:
    name = profile(vllm)
    file = vllm.home.paths.profiles / f"{name}.toml"
    file.write_text('extra_arguments = ["--swap-space", "4"]\n' + file.read_text("utf-8"), "utf-8")
    daemon.start()
    told = "vLLM does not name --swap-space in its help; it may refuse to start with it."
    daemon.wait_slice("library", lambda library: told in [card.warning for card in library.profiles])
    assert "--swap-space" in daemon.want(name).warnings[0]
    daemon.unload()
    daemon.wait_idle()


def test_a_version_that_is_too_old_for_a_flag_names_it(vllm: FakeEngine, daemon: Daemon) -> None:
    """I11: also where its help could not be asked before."""
    name = profile(vllm, refuse_unknown_flags=True)
    file = vllm.home.paths.profiles / f"{name}.toml"
    file.write_text('extra_arguments = ["--of-tomorrow"]\n' + file.read_text("utf-8"), "utf-8")
    daemon.start().want(name)
    failure = daemon.wait_failed()
    assert (failure.kind, failure.exit_code) == ("bad_argument", 2)
    assert failure.summary.startswith("This version of vLLM does not know --")
    assert failure.advice == "Take it out of the profile, or install another version of vLLM."


def test_a_folder_without_a_config_is_told_before_anything_starts(vllm: FakeEngine, daemon: Daemon) -> None:
    folder = vllm.home.models / "tiny"
    (folder / "config.json").unlink()
    profile(vllm)
    daemon.start()
    with pytest.raises(ModelMissing) as refused:
        daemon.want("tiny")
    assert refused.value.summary == f"{folder / 'config.json'} is not there."
    assert refused.value.advice == "Name a folder that holds a Hugging Face model."
    assert not vllm.journal("start")


BROKEN = [
    (None, "The engine's Python environment lacks torch."),
    (
        'raise ImportError("libcudart.so.13: cannot open shared object file: No such file or directory")',
        "The engine needs the library libcudart.so.13, which is not there.",
    ),
    (
        'raise ImportError("/env/lib/libtorch_cuda.so: undefined symbol: ncclCommResume")',
        "do not fit the PyTorch beside them (/env/lib/libtorch_cuda.so: undefined symbol: ncclCommResume)",
    ),
    (
        'raise RuntimeError("operator torchvision::nms does not exist")',
        "The engine's torchvision was built for another PyTorch.",
    ),
]


def test_an_environment_with_a_broken_torch_says_what_is_broken(home: Home, daemon: Daemon) -> None:
    """I11: the interpreter is a real one, and so are the words with which it gives up; only the packages are not."""
    place, interpreter = home.folder / "environment", Path(sys.executable).resolve()
    packages = place / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    about = packages / "vllm-0.32.0+cpu.dist-info" / "METADATA"
    python, torch = place / "bin" / "python", packages / "torch" / "__init__.py"
    for file in (about, python, torch, packages / "vllm" / "__init__.py"):
        file.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    python.symlink_to(interpreter)
    (place / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\n")
    (packages / "vllm" / "__init__.py").write_text("import torch\n")
    home.environment["ENGINE_ROOM_VLLM"] = str(python)
    whole = {"engine": "vllm", "model": str(write_tiny_folder(home.models / "tiny"))}
    (home.paths.profiles / "tiny.toml").write_text(tomli_w.dumps(whole), "utf-8")
    daemon.start()
    for fault, words in BROKEN:
        torch.write_text(fault) if fault is not None else torch.parent.rename(packages / "away")
        daemon.want("tiny")
        failure = daemon.wait_failed()
        assert (failure.kind, words in failure.summary) == ("missing_library", True), failure
        assert failure.advice
        assert failure.evidence is not None
        (packages / "away").rename(torch.parent) if fault is None else None


def test_it_goes_through_its_stages_answers_and_leaves(vllm: FakeEngine, daemon: Daemon) -> None:
    profile(vllm, load_seconds=2, start_seconds=0.2)
    daemon.start()
    phase = daemon.load("tiny").phase
    assert isinstance(phase, lifecycle.Ready)
    assert (phase.endpoint.engine, phase.endpoint.context_tokens) == ("vllm", 2_048)
    leader = daemon.engine_pid()
    assert {"vllm", "VLLM::EngineCor", "VLLM::Worker"} <= set(tree(leader))
    stream = daemon.slices_seen
    assert stream is not None
    seen = dict.fromkeys(v.phase.stage for v in stream.seats_seen if isinstance(v.phase, lifecycle.Loading))
    assert "weights" in seen
    assert "first_token" in seen
    with daemon.gateway() as client:
        answer = client.post("/chat/completions", json=chat_body("tiny", guided_choice=["a"], max_tokens=4))
        assert answer.status_code == 200
        assert "guided_choice as structured_outputs.choice" in answer.headers["x-engine-room-changed"]
    daemon.unload()
    daemon.wait_idle()
    gone(leader)


def test_a_stop_while_it_loads_does_not_wait_for_a_term_that_it_ignores(vllm: FakeEngine, daemon: Daemon) -> None:
    profile(vllm, load_seconds=60)
    daemon.start().want("tiny")
    leader = daemon.wait_seat(lambda view: view.run is not None and view.run.pid).run
    assert leader is not None
    assert leader.pid is not None
    eventually(lambda: "VLLM::Worker" in tree(leader.pid or 0), 60, "its tree stands")
    daemon.unload()
    view = daemon.wait_idle()
    gone(leader.pid)
    assert (view.last_failure, daemon.run(leader.id).outcome) == (None, "stopped"), (
        "a load that is called off is no failure"
    )


@pytest.mark.parametrize("victim", ["vllm", "VLLM::EngineCor", "VLLM::Worker"])
def test_whoever_of_its_tree_is_killed_nobody_stays(vllm: FakeEngine, daemon: Daemon, victim: str) -> None:
    profile(vllm)
    daemon.start().load("tiny")
    leader = daemon.engine_pid()
    os.kill(tree(leader)[victim], signal.SIGKILL)
    if victim == "vllm":
        daemon.wait_phase(lifecycle.Backoff)
    else:  # the stand-in's head does not notice what the real one notices
        os.kill(tree(leader)["vllm"], signal.SIGKILL)
    gone(leader)
    crashed = daemon.wait_slice("runs", lambda seen: seen.runs[-1].ended_at_unix).runs[-1]
    assert (crashed.pid, crashed.outcome) == (leader, "failed"), "nobody asked for that end"
    daemon.unload()
    daemon.wait_idle()


def test_an_exit_code_of_zero_that_nobody_asked_for_is_a_crash(vllm: FakeEngine, daemon: Daemon) -> None:
    said = "(EngineCore pid=7) ERROR 11-21 02:33:46 [core.py:1] ValueError: No available memory for the cache blocks."
    profile(vllm, print=said + "\n", crash_at=0.9, exit_code=0)
    daemon.start().want("tiny")
    failure = daemon.wait_failed()
    assert failure.kind == "out_of_memory"
    assert failure.exit_code == 0
