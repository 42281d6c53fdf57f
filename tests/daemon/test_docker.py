"""vLLM in a container: it outlives its client, and ends with us all the same; nobody else's is ever touched (E4, I1, I5, I13, I18)."""

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest
import tomli_w

from app.core import control, lifecycle
from app.core.errors import EngineNotInstalled
from app.core.snapshot import from_json
from app.daemon import procfs
from tests.engines.tiny_folder import write_tiny_folder
from tests.rig.custody import alive, end_all_of, keepers_of
from tests.rig.daemon import Daemon, chat_body
from tests.rig.docker import CARD_IMAGE, IMAGE, Docker
from tests.rig.docker.real import VARIABLE, RealDocker
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually

SECRET = "hf_CanaryCanaryCanaryCanary0123456789"


REAL = pytest.mark.skipif(
    VARIABLE not in os.environ, reason=f"needs a real Docker service: {VARIABLE} names its program"
)
BOTH = pytest.mark.parametrize(
    "docker", ["stand-in", pytest.param("real", marks=[pytest.mark.engines, REAL])], indirect=True
)


@pytest.fixture
def docker(request: pytest.FixtureRequest, home: Home, daemon: Daemon) -> Iterator[Docker | RealDocker]:
    """A Docker with images, running; afterwards nothing of Engine Room's may be in it (I1)."""
    home.settings(supervision={"stop_grace_seconds": 3, "drain_seconds": 0.3})
    write_tiny_folder(home.models / "tiny")
    docker = RealDocker(home).start() if getattr(request, "param", "") == "real" else Docker(home).start()
    yield docker
    daemon.close()
    try:
        if docker.process is not None and docker.process.poll() is None:
            assert not [name for name in docker.there() if name.startswith("engine-room-")], "a container is left (I1)"
    finally:
        docker.close()
        if not daemon.running:
            end_all_of(home)


def profile(
    docker: Docker | RealDocker, rig: FakeEngine, name: str = "tiny", image: str = IMAGE, **knobs: object
) -> str:
    knobs.setdefault("answer", "word " * 16)
    whole = {
        "engine": "vllm-docker",
        "model": str(docker.home.models / "tiny"),
        "installation": image,
        "settings": {"context_tokens": 2_048},
        "environment": {**rig.environment(**knobs), "FAKE_ENGINE_JOURNAL": "/tmp/journal", "HF_TOKEN": SECRET},
    }
    (docker.home.paths.profiles / f"{name}.toml").write_text(tomli_w.dumps(whole), "utf-8")
    return name


def engine_of(docker: Docker | RealDocker) -> tuple[str, int]:
    """Name and first process of the one container of ours that runs."""
    [name] = [name for name in docker.running() if name.startswith("engine-room-")]
    return name, docker.container_pid(name)


def asked(daemon: Daemon) -> bool:
    """Whether Docker is being asked before a load now."""
    below = procfs.below({daemon.pid}, procfs.all_processes())
    return any(b"{{.Server.Version}}" in (procfs.read_file(f"/proc/{pid}/cmdline") or b"") for pid in below)


@contextlib.contextmanager
def clicked(daemon: Daemon, name: str) -> Iterator[None]:
    """Somebody wants that profile meanwhile; a Docker that stays silent for too long may refuse it."""

    def click() -> None:
        with contextlib.suppress(EngineNotInstalled):
            daemon.want(name, seat="")

    thread = threading.Thread(target=click)
    thread.start()
    yield
    thread.join()


def test_a_cancel_counts_while_docker_is_still_asked(docker: Docker, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I7: the load was clicked first and cancelled then; that Docker takes its time must not turn that round."""
    name = profile(docker, fake_engine)
    daemon.start()
    docker.switch("hang")
    with clicked(daemon, name):
        eventually(lambda: asked(daemon), what="Docker is asked")
        daemon.unload()
        docker.switch("hang", False)
    seat = daemon.slices()["seats"].seats[0]
    assert seat.wanted is None
    assert isinstance(seat.phase, lifecycle.Idle)


def test_memory_is_measured_after_docker_has_answered_and_not_before(
    home: Home, driver: SimulatedDriver, docker: Docker, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I4: while Docker is asked for one seat, the other seat takes the card."""
    home.settings(supervision={"seats": ["main", "side"], "drain_seconds": 0.3})
    driver.gpus([card()])
    fake_engine.install("llama-server", accelerator="cuda")
    model = fake_engine.model("weights", weights_bytes=14 * 1024**3)
    fake_engine.profile("quick", model=model, vram={card_uuid(0): 14 * 1024**3})
    written = home.paths.profiles / f"{profile(docker, fake_engine, image=CARD_IMAGE)}.toml"
    text = written.read_text().replace("[settings]\n", "[settings]\ngpu_memory_utilisation = 0.8\n")
    written.write_text(f'seat = "side"\nload_at_start = true\n{text}')
    docker.switch("hang")
    daemon.start()
    eventually(lambda: asked(daemon), what="Docker is asked")
    daemon.want("quick")
    daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Spawning | lifecycle.Loading | lifecycle.Ready))
    docker.switch("hang", False)
    view = daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Failed | lifecycle.Loading), seat="side")
    assert isinstance(view.phase, lifecycle.Failed), "two models are on their way into the memory for one"
    assert view.phase.failure.kind in ("does_not_fit", "engine_not_installed"), (
        "Docker may have been silent for too long"
    )


def ready_again(daemon: Daemon, before: str) -> str:
    """The run that answers in the place of `before`."""
    view = daemon.wait_seat(
        lambda view: isinstance(view.phase, lifecycle.Ready) and view.phase.run_id != before, what="it is started again"
    )
    assert isinstance(view.phase, lifecycle.Ready)
    return view.phase.run_id


def gone(docker: Docker | RealDocker, pid: int) -> None:
    eventually(lambda: not alive(pid), 60, "the container's engine has ended (I1)")
    eventually(lambda: not [n for n in docker.there() if n.startswith("engine-room-")], 60, "its container is removed")


@BOTH
def test_it_loads_answers_and_leaves(docker: Docker | RealDocker, fake_engine: FakeEngine, daemon: Daemon) -> None:
    go_on = docker.home.models / "tiny" / "go-on"  # there inside as well: the folder is mounted
    profile(docker, fake_engine, hold_at=0.5, go_on=go_on)
    theirs = docker.foreign()
    daemon.start().want("tiny")
    daemon.wait_seat(lambda view: getattr(view.phase, "stage", "") == "weights", what="its words tell how far it is")
    go_on.touch()
    view = daemon.wait_phase(lifecycle.Ready)
    _, pid = engine_of(docker)
    assert isinstance(view.phase, lifecycle.Ready)
    assert (view.phase.endpoint.engine, view.phase.endpoint.context_tokens) == ("vllm-docker", 2_048)
    assert view.run is not None
    manifest = from_json(control.Manifest, daemon.get(f"/control/runs/{view.run.id}/manifest").content)
    assert {"weights", "first_token"} <= manifest.stages.keys()
    with daemon.gateway() as client:
        answer = client.post("/chat/completions", json=chat_body("tiny", max_tokens=4))
        assert answer.status_code == 200, answer.text
    made = docker.created()[-1]
    assert made["outside"] == [], "every file that it is told of is mounted"
    assert made["ipc"] == "host"
    assert [port[0] for port in made["publish"]] == ["127.0.0.1"], "on this machine only (I20)"  # type: ignore[attr-defined]
    environment = made["environment"]
    assert isinstance(environment, dict)
    assert environment["HF_TOKEN"] == SECRET
    said = json.dumps([view.run.argv, view.run.environment, made["command"], made["label"]])
    assert SECRET not in said
    assert environment["VLLM_API_KEY"] not in said, "neither key stands in an argument (I18)"
    assert "Starting vLLM server" in daemon.run_log(view.run.id).decode(), "the container's output is the run's log"
    eventually(lambda: daemon.run(view.run.id).measured_bytes.get("host", 0) > 0, what="its memory is the run's")  # type: ignore[union-attr]
    daemon.unload()
    daemon.wait_idle()
    gone(docker, pid)
    assert "theirs" in docker.running(), "a container of the person's own is not touched (I5)"
    assert theirs.poll() is None
    assert not list(docker.home.paths.runs.glob("*.container"))
    docker.said("kill", "theirs")
    theirs.wait(60)


@BOTH
def test_a_stop_while_it_loads_ends_the_container(
    docker: Docker | RealDocker, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    profile(docker, fake_engine, load_seconds=60)
    daemon.start().want("tiny")
    eventually(lambda: docker.running(), what="the container runs")
    _, pid = engine_of(docker)
    daemon.unload()
    view = daemon.wait_idle()
    gone(docker, pid)
    assert (view.wanted, view.last_failure, daemon.slices()["runs"].runs[0].outcome) == (None, None, "stopped")
    assert docker.running() == {}


@BOTH
def test_whoever_is_killed_no_container_stays(
    docker: Docker | RealDocker, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I1: the client, the keeper with its guard, the daemon, all at once; each takes the container along."""
    profile(docker, fake_engine)
    theirs = docker.foreign(**{"io.engine-room.run": "someone", "io.engine-room.owner": "another-engine-room"})
    run = daemon.start().load("tiny").run
    assert run is not None
    _, pid = engine_of(docker)
    os.kill(daemon.engine_pid(), signal.SIGKILL)  # the client: the container would go on
    eventually(lambda: not alive(pid), 60, "without its client it is ended")
    again = ready_again(daemon, run.id)

    _, pid = engine_of(docker)
    for process in keepers_of(docker.home):
        os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), 60, "without keeper and guard it is ended")
    ready_again(daemon, again)

    _, pid = engine_of(docker)
    daemon.kill()
    gone(docker, pid)

    daemon.expect_warnings("left behind", "started again", "is loading again")
    daemon.start()
    daemon.wait_phase(lifecycle.Ready)  # it was wanted when the daemon ended
    name, pid = engine_of(docker)
    keepers = keepers_of(docker.home)
    daemon.signal(signal.SIGSTOP)
    for process in keepers:
        os.kill(process.pid, signal.SIGKILL)
    daemon.kill()
    assert alive(pid), "nobody is left who could end it"
    daemon.start()
    eventually(lambda: not alive(pid), 60, "the next daemon finds it by its labels and ends it")
    assert f"The container {name} was left behind" in daemon.log_text()
    daemon.unload()
    daemon.wait_idle()
    assert "theirs" in docker.running(), "labelled by another Engine Room: not ours (I5)"
    docker.said("kill", "theirs")
    theirs.wait(60)


@BOTH
def test_docker_that_dies_meanwhile(docker: Docker | RealDocker, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """The engine goes on where nobody reaches it: the seat stays taken and says by what, until it could be ended (I2)."""
    profile(docker, fake_engine)
    daemon.start().load("tiny")
    _, pid = engine_of(docker)
    docker.kill()
    view = daemon.wait_phase(lifecycle.StopFailed)
    assert isinstance(view.phase, lifecycle.StopFailed)
    assert str(pid) in view.phase.processes[0]
    assert alive(pid)
    docker.start()
    eventually(lambda: not alive(pid), 60, "Docker is back")
    daemon.unload()
    daemon.wait_idle()
    failed = [run for run in daemon.slices()["runs"].runs if run.failure is not None]
    assert failed[0].failure.summary == "The Docker service went away while the engine ran."


def test_a_silent_docker_is_no_end_also_where_nobody_sees_the_container(
    docker: Docker, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I1, I2, I5: Docker in a virtual machine, say. Its numbers are not our processes'; while it does not answer the engine
    may still run, so the seat stays taken and says why. The service can be ended all the same; its next start goes on."""
    stranger = subprocess.Popen(["/usr/bin/sleep", "600"])
    try:
        docker.numbers_processes_elsewhere(stranger.pid)
        profile(docker, fake_engine)
        daemon.start().load("tiny")
        name, pid = engine_of(docker)
        daemon.expect_warnings("left behind")
        docker.switch("hang")
        daemon.unload()
        view = daemon.wait_phase(lifecycle.StopFailed)
        assert isinstance(view.phase, lifecycle.StopFailed)
        assert alive(pid), "it does run"
        [left] = view.phase.processes
        assert left.startswith(f"container {name}: Docker does not answer, so it may still run (")
        daemon.terminate()
        assert alive(pid), "nobody could end it"
        daemon.expect_warnings("is not known: it did not answer")
        daemon.start()
        assert list(docker.home.paths.runs.glob("*.container")), "it is remembered"
        docker.switch("hang", False)
        gone(docker, pid)
        eventually(lambda: not list(docker.home.paths.runs.glob("*.container")), 60, "it is known to be over")
        assert stranger.poll() is None, "whoever has that number here was never meant (I5)"
    finally:
        stranger.kill()
        stranger.wait(60)


def test_a_launch_that_never_reached_docker_is_over(docker: Docker, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I7: Docker dies between the check and the launch, and does not come back: nothing was started, so nothing is awaited."""
    client = docker.home.bin / "docker"
    says = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
    real = client.read_text().partition("\n")[2]
    client.write_text(
        f'#!/bin/sh\ncase "$1" in\n  version|image) {real} ;;\n  run) echo "docker: {says}" >&2; exit 125 ;;\n'
        f'  *) echo "{says}" >&2; exit 1 ;;\nesac\n'
    )
    profile(docker, fake_engine)
    daemon.start().want("tiny")
    failure = daemon.wait_failed()
    assert failure.summary == "The Docker service does not answer."
    assert daemon.slices_seen is not None
    assert not [seen for seen in daemon.slices_seen.seats_seen if isinstance(seen.phase, lifecycle.StopFailed)]
    assert docker.created() == []


def test_an_image_that_is_not_here_is_fetched_at_the_first_launch(
    docker: Docker | RealDocker, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    image = "vllm/vllm-openai-cpu:v0.33.0"
    docker.registry(image)
    docker.switch("slow")
    profile(docker, fake_engine, image=image)
    daemon.start().want("tiny")
    daemon.wait_seat(lambda view: getattr(view.phase, "stage", "") == "download", what="it is being fetched")
    docker.switch("slow", False)
    view = daemon.wait_phase(lifecycle.Ready)
    assert [made["image"] for made in docker.created()] == [image]
    assert view.run is not None
    log = daemon.run_log(view.run.id).decode()
    assert f"Unable to find image '{image}' locally" in log, "the fetching is told in the run's log"
    daemon.unload()
    daemon.wait_idle()


@pytest.mark.parametrize("case", ["absent", "stopped", "forbidden", "hung"])
def test_without_docker_a_clear_sentence_and_nothing_is_stopped(
    case: str, docker: Docker | RealDocker, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    profile(docker, fake_engine)
    words = {
        "absent": ("not installed", "Install Docker"),
        "stopped": ("does not answer", "systemctl start docker"),
        "forbidden": ("may not use", "usermod -aG docker"),
        "hung": ("did not answer within", "Start it"),
    }[case]
    if case == "absent":
        (docker.home.bin / "docker").unlink()
        docker.home.environment["PATH"] = str(docker.home.bin)  # the machine may have one
    elif case == "stopped":
        docker.kill()
    elif case == "forbidden":
        script = (
            f'echo "permission denied while trying to connect to the Docker daemon socket at unix://{docker.socket}" >&2; '
            "exit 1"
        )
        (docker.home.bin / "docker").write_text(f"#!/bin/sh\n{script}\n")
    else:
        docker.switch("hang")
    daemon.start()
    with pytest.raises(EngineNotInstalled) as refused:
        daemon.want("tiny")
    docker.switch("hang", False)
    assert words[0] in refused.value.summary
    assert words[1] in refused.value.advice + refused.value.summary
    assert docker.created() == []


def test_an_image_is_fetched_by_a_job_and_used_without_a_pin(
    docker: Docker | RealDocker, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    image = "vllm/vllm-openai-cpu:v0.33.0"
    docker.images()
    docker.registry(image)
    profile(docker, fake_engine)
    file = docker.home.paths.profiles / "tiny.toml"
    file.write_text(file.read_text().replace(f'installation = "{IMAGE}"\n', ""))
    daemon.start()
    with pytest.raises(EngineNotInstalled, match="vLLM in Docker is not installed"):
        daemon.want("tiny")
    wish = control.Install(family="vllm-docker", version="0.33.0", accelerator="cpu")
    daemon.post("/control/engines/install", wish)
    jobs = daemon.wait_slice("jobs", lambda jobs: jobs.jobs and jobs.jobs[0].state != "running")
    job = jobs.jobs[0]
    assert (job.state, job.progress, job.title) == ("done", 1.0, f"Fetching {image}"), job
    daemon.post("/control/engines/refresh", control.Refresh())
    view = daemon.load("tiny")
    assert view.run is not None
    assert image in view.run.argv
    daemon.unload()
    daemon.wait_idle()
    daemon.post("/control/engines/install", control.Install(family="vllm-docker", version="me/nothing:v1"))
    jobs = daemon.wait_slice("jobs", lambda jobs: len(jobs.jobs) > 1 and jobs.jobs[0].state != "running")
    assert (jobs.jobs[0].state, "no image me/nothing" in jobs.jobs[0].error) == ("failed", True), jobs.jobs[0]
