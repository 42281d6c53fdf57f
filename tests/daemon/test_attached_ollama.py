"""Tells how an Ollama is used that we did not start: asked to load and unload, looked at, never signalled (I4, I5, I6, I13)."""

import json
from collections.abc import Iterator

import pytest

from app.core import lifecycle
from app.core.profiles import Profile
from app.daemon.ollama_attachment import RENEW_SECONDS, OllamaAttachment
from app.engines.base import Installation, Launch
from tests.rig.attached import Ollama, profile
from tests.rig.daemon import Daemon, chat_body, streamed
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually

GIB = 1024**3
CARD = card_uuid(0)


@pytest.fixture
def ollama(home: Home) -> Iterator[Ollama]:
    server = Ollama(home)
    yield server
    strangers = server.journal("signal", from_test=False)
    server.stop()
    assert not strangers, "I5: an engine that is not ours is never signalled"


def attached(daemon: Daemon, state: str) -> None:
    daemon.wait_seat(lambda view: view.attached is not None and view.attached.state == state, what=state)


def test_a_model_of_a_running_ollama_is_loaded_answers_and_is_unloaded(
    home: Home, daemon: Daemon, driver: SimulatedDriver, ollama: Ollama
) -> None:
    """I4, I5, I13: no process, no port and no command line are claimed; bytes pass unchanged; memory is measured back."""
    driver.gpus([card()])
    ollama.knobs(vram={CARD: 6 * GIB})
    ollama.start()
    profile(home, "small", "ollama", "tiny", table={"aliases": ["assistant"]})
    seat = daemon.start().load("small")
    assert seat.run is not None
    assert (seat.run.pid, seat.run.port, seat.run.argv) == (None, None, ())
    assert seat.attached is not None
    assert (seat.attached.state, seat.attached.where) == ("ready", ollama.address)
    assert ollama.loaded == ["tiny:latest"]
    assert isinstance(seat.phase, lifecycle.Ready)
    assert seat.phase.endpoint.context_tokens == 4096

    with daemon.gateway() as client:
        answer = client.post(
            "/chat/completions", json=chat_body("assistant", num_predict=2, top_k=40, options={"num_ctx": 9})
        )
        assert answer.json()["choices"][0]["message"]["content"] == "one two"
        told = answer.headers["X-Engine-Room-Changed"]
        assert told == "options.num_ctx left out, num_predict as max_tokens, top_k left out, model as tiny:latest"
        events = list(streamed(client, model="small"))
        assert events[-1] == {"done": True}
        assert events[0]["model"] == "tiny:latest", "the answer's bytes are Ollama's own"
        assert [row["id"] for row in client.get("/models").json()["data"]] == ["tiny:latest"]

    runner = ollama.runner()
    gpus = daemon.wait_slice("gpus", lambda gpus: any(p.run_id for gpu in gpus.gpus for p in gpu.processes or ()))
    assert [(p.pid, p.run_id, p.bytes) for p in gpus.gpus[0].processes] == [(runner, seat.run.id, 6 * GIB)]
    driver.lag(1.0)
    daemon.unload()
    daemon.wait_idle()
    assert ollama.loaded == []
    assert driver.releases(), "I4: Idle only after the memory was measured back"
    assert ollama.alive
    assert "let go" in daemon.run_log(seat.run.id).decode()


def test_settings_are_laid_over_the_model_and_taken_away_again(home: Home, daemon: Daemon, ollama: Ollama) -> None:
    """The OpenAI routes take no load options: they are parameters of a model of ours that shares the weights."""
    ollama.start()
    profile(home, "long", "ollama", "tiny", context_tokens=16_384, gpu_layers=12, threads=3)
    seat = daemon.start().load("long")
    assert isinstance(seat.phase, lifecycle.Ready)
    assert seat.phase.endpoint.context_tokens == 16_384
    assert ollama.journal("load")[0]["parameters"] == {"num_ctx": 16_384, "num_gpu": 12, "num_thread": 3}
    with daemon.gateway() as client:
        answer = client.post("/chat/completions", json=chat_body("long")).json()
    assert answer["model"] == "engine-room-long:latest"
    assert len(ollama.journal("load")) == 1, "and no request loaded it anew with other options"
    daemon.unload()
    daemon.wait_idle()
    assert ollama.loaded == []
    assert ollama.journal("delete", model="engine-room-long:latest")


def test_an_ollama_that_restarts_keeps_its_requests_waiting(home: Home, daemon: Daemon, ollama: Ollama) -> None:
    """I6, I10, I13: unreachable is told, requests wait, and it is made sure of anew before they are sent."""
    ollama.start()
    profile(home, "small", "ollama", "tiny")
    daemon.start().load("small")
    ollama.stop()
    attached(daemon, "unreachable")
    assert "does not answer" in (daemon.seat().attached or lifecycle.AttachedState(state="ready", where="")).reason
    with daemon.gateway() as client:
        assert client.get(daemon.gateway_url.removesuffix("/v1") + "/health").status_code == 503
    import threading

    found: list[list[dict[str, object]]] = []

    def ask() -> None:
        with daemon.gateway() as client:
            found.append(list(streamed(client, model="small")))

    waiting = threading.Thread(target=ask)
    waiting.start()
    daemon.wait_slice("traffic", lambda traffic: traffic.queued == 1, what="a request waits")
    ollama.start()
    attached(daemon, "ready")
    waiting.join(60)
    assert found[0][-1] == {"done": True}
    assert ollama.loaded == ["tiny:latest"]
    assert isinstance(daemon.seat().phase, lifecycle.Ready)
    ollama.knobs(models=["other"])  # somebody has removed the model: told, and not answered by another one
    daemon.wait_seat(lambda view: view.last_failure is not None and view.last_failure.kind == "model_missing")
    daemon.unload()
    daemon.wait_idle()


REFUSALS = [
    ({}, "tinny", "model_missing", "Did you mean tiny:latest"),
    (
        {"load_error": "model requires more system memory (9.8 GiB) than is available"},
        "tiny",
        "out_of_memory",
        "9.8 GiB",
    ),
    ({"load_error": "llama runner process has terminated: exit status 2"}, "tiny", "engine_failed", "exit status 2"),
]


def test_what_ollama_refuses_is_said_in_its_words(home: Home, daemon: Daemon, ollama: Ollama) -> None:
    """I11; and a failed load leaves nothing taken there."""
    ollama.start()
    for name in ("tinny", "tiny"):
        profile(home, name, "ollama", name)
    daemon.start()
    for knobs, model, kind, words in REFUSALS:
        ollama.knobs(**knobs)  # type: ignore[arg-type]
        daemon.want(model)
        failure = daemon.wait_failed()
        assert (failure.kind, words in f"{failure.summary} {failure.advice}") == (kind, True), failure
        assert ollama.loaded == []


def test_an_ollama_that_is_gone_and_one_that_keeps_its_model(home: Home, daemon: Daemon, ollama: Ollama) -> None:
    """I2, I5: an unload ends whatever Ollama does, and what it keeps is not taken from it by force."""
    home.settings(supervision={"stop_grace_seconds": 3})
    ollama.start()
    profile(home, "small", "ollama", "tiny")
    seat = daemon.start().load("small")
    assert seat.run is not None
    ollama.knobs(keeps=True)
    daemon.unload()
    daemon.wait_idle()
    assert ollama.loaded == ["tiny:latest"]
    assert "has not unloaded" in daemon.run_log(seat.run.id).decode()
    daemon.load("small")
    ollama.stop()
    daemon.unload()
    daemon.wait_idle()


def test_a_switch_between_ollama_and_an_engine_of_ours(
    home: Home, daemon: Daemon, ollama: Ollama, driver: SimulatedDriver, fake_engine: FakeEngine
) -> None:
    """I3, I4: one at a time on the seat; the next one starts when the other's memory is back."""
    driver.gpus([card()])
    fake_engine.install("llama-server", accelerator="cuda")
    ollama.knobs(vram={CARD: 14 * GIB})
    ollama.start()
    model = fake_engine.model("weights-14", weights_bytes=14 * GIB)
    fake_engine.profile("native", model=model, vram={CARD: 14 * GIB})
    profile(home, "small", "ollama", "tiny")
    driver.lag(0.7)
    daemon.start().load("small")
    daemon.load("native")
    assert ollama.loaded == []
    release = next(line for line in driver.releases() if line["uuid"] == CARD)
    assert float(str(fake_engine.journal("start", alias="native")[0]["t"])) >= release["released_at"]
    daemon.load("small")
    assert ollama.loaded == ["tiny:latest"]


def test_an_encoder_is_proved_by_an_embedding(home: Home, daemon: Daemon, ollama: Ollama) -> None:
    ollama.knobs(models=["encoder"], embeds=["encoder"])
    ollama.start()
    profile(home, "vectors", "ollama", "encoder")
    daemon.start().load("vectors")
    with daemon.gateway() as client:
        assert client.post("/embeddings", json={"model": "vectors", "input": "Hi"}).json()["data"]


async def test_the_lease_of_an_encoder_is_renewed_as_it_was_loaded(home: Home, ollama: Ollama) -> None:
    """Ollama refuses to generate with an encoder, so that a lease renewed that way would run out under its user."""
    ollama.knobs(models=["encoder"], embeds=["encoder"])
    ollama.start()
    now = [0.0]
    launch = Launch(
        profile=Profile(id="vectors", title="Vectors", engine="ollama", model="encoder"),
        model_path="encoder",
        installation=Installation(family="ollama", executable=ollama.url),
        port=0,
        run_id="r-1",
        model_name="vectors",
    )
    attachment = OllamaAttachment(launch, ollama.url, lambda: now[0])
    await attachment.greet(lambda _: None)
    now[0] += RENEW_SECONDS + 1
    assert await attachment.look() == ("answers", "")
    assert [asked["path"] for asked in ollama.journal("request")].count("/api/embed") == 2
    assert not ollama.journal("request", path="/api/generate")
    assert await attachment.let_go(5.0) == ""


def test_an_ollama_of_our_own_lives_and_dies_with_us(home: Home, daemon: Daemon, ollama: Ollama) -> None:
    """I1, I13: `ollama serve` under a keeper, on a port and with an environment of ours; nothing of it outlives the unload."""
    ollama.install()
    home.environment["OLLAMA_FLASH_ATTENTION"] = "0"
    profile(home, "own", "ollama", "tiny", context_tokens=8192, kv_type="q8_0", slots=2)
    seat = daemon.start().load("own")
    assert seat.attached is None
    assert seat.run is not None
    assert seat.run.pid is not None
    said = ollama.journal("serve")[0]["environment"]
    assert said["OLLAMA_HOST"] == f"127.0.0.1:{seat.run.port}"
    assert (said["OLLAMA_KV_CACHE_TYPE"], said["OLLAMA_NUM_PARALLEL"], said["OLLAMA_MAX_LOADED_MODELS"]) == (
        "q8_0",
        "2",
        "1",
    )
    assert "OLLAMA_FLASH_ATTENTION" not in said, "what the shell had does not change our engine unseen"
    with daemon.gateway() as client:
        assert client.post("/chat/completions", json=chat_body("own")).json()["model"] == "engine-room-own:latest"
    daemon.unload()
    daemon.wait_idle()
    assert not ollama.runner_alive()
    (ollama.folder / "journal.jsonl").unlink()  # its end was ours to ask for


def test_an_ollama_killed_by_somebody_else_is_a_crash_of_our_own_one(
    home: Home, daemon: Daemon, ollama: Ollama
) -> None:
    """I10, I11: a managed one has a keeper: its end is noticed, and it is started again."""
    ollama.install()
    profile(home, "own", "ollama", "tiny")
    first = daemon.start().load("own")
    assert first.run is not None
    from tests.rig.daemon import kill_verified

    kill_verified(daemon.engine_pid(), home)
    again = daemon.wait_seat(
        lambda view: isinstance(view.phase, lifecycle.Ready) and view.run is not None and view.run.id != first.run.id
    )
    assert again.run is not None
    assert again.run.pid != first.run.pid
    daemon.unload()
    daemon.wait_idle()
    (ollama.folder / "journal.jsonl").unlink()


def test_pulls_are_jobs_with_progress_and_ollamas_own_error(home: Home, daemon: Daemon, ollama: Ollama) -> None:
    ollama.start()
    daemon.start()
    job = json.loads(daemon.post("/control/ollama/pull", {"model": "fresh:1b"}).content)["job"]

    def state(name: str):  # type: ignore[no-untyped-def]
        return lambda jobs: any(each.id == job and each.state == name for each in jobs.jobs)

    jobs = daemon.wait_slice("jobs", state("done"))
    assert next(each for each in jobs.jobs if each.id == job).result == {"model": "fresh:1b"}
    assert ollama.journal("request", path="/api/pull", model="fresh:1b")
    ollama.knobs(pull_error="pull model manifest: file does not exist")
    job = json.loads(daemon.post("/control/ollama/pull", {"model": "nowhere"}).content)["job"]
    jobs = daemon.wait_slice("jobs", state("failed"))
    assert "file does not exist" in next(each for each in jobs.jobs if each.id == job).error


def test_a_lease_frees_the_card_when_we_are_killed(home: Home, daemon: Daemon, ollama: Ollama) -> None:
    """I1 for what is not a process of ours: Ollama unloads by itself what nobody renews."""
    ollama.start()
    profile(home, "small", "ollama", "tiny")
    daemon.start().load("small")
    assert ollama.journal("load")[0]["keep_alive"] == "10m"
    daemon.kill()
    assert ollama.alive
    daemon.start()
    eventually(
        lambda: daemon.seat().phase and isinstance(daemon.seat().phase, lifecycle.Ready), what="it is loaded again"
    )
    daemon.unload()
    daemon.wait_idle()
    assert ollama.loaded == []
