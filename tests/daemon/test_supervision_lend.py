"""Tells how the card is lent: the model leaves, requests hear until when, and the same model comes back (S8)."""

import time

import httpx
import pytest

from app.core import lifecycle
from app.core.control import Accepted, Lend, Unload
from app.core.errors import BadRequest, UnknownProfile
from app.core.snapshot import from_json
from app.daemon.supervisor import suspended_seconds
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, streamed
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually, never

GIB = 1024**3
CARD = card_uuid(0)


def lend(daemon: Daemon, minutes: float) -> Accepted:
    return from_json(Accepted, daemon.post("/control/lend", Lend(minutes=minutes)).content)


def give_back(daemon: Daemon) -> Accepted:
    return from_json(Accepted, daemon.post("/control/lend/return", Unload()).content)


def ask(daemon: Daemon, model: str) -> httpx.Response:
    with daemon.gateway() as client:
        return client.post("/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "Hi"}]})


def test_lending_drains_frees_the_card_and_tells_requests_until_when(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I6, I8: the running answer is finished; later ones get a 503 with the time; nothing of the engine is left."""
    fake_engine.profile("model", tokens=20, tokens_per_second=20)
    daemon.start().load("model", settings={"context_tokens": 1024})
    with daemon.gateway() as client:
        events = streamed(client, model="model")
        next(events)
        said = lend(daemon, 30)
        assert list(events)[-1] == {"done": True}
    seat = daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Idle))
    assert (seat.resting, seat.wanted) == ("lent", "model")
    assert seat.lent_until_unix is not None
    assert abs(seat.lent_until_unix - time.time() - 30 * 60) < 60
    at = time.strftime("%H:%M", time.localtime(seat.lent_until_unix))
    assert at in said.note
    eventually(lambda: not processes_of(home, runs_only=True))
    answer = ask(daemon, "model")
    assert answer.status_code == 503
    assert at in answer.json()["error"]["message"]
    assert 29 * 60 <= int(answer.headers["retry-after"]) <= 30 * 60
    assert isinstance(daemon.seat().phase, lifecycle.Idle), "a request takes nothing back that was lent"
    assert give_back(daemon).profile == "model"
    seat = daemon.wait_phase(lifecycle.Ready, "model")
    assert seat.run is not None
    assert seat.run.argv[seat.run.argv.index("--ctx-size") + 1] == "1024"
    assert (seat.resting, seat.lent_until_unix) == ("", None)


def test_the_model_comes_back_when_the_time_is_over(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("model")
    first = daemon.start().load("model").run
    lend(daemon, 1 / 30)
    daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Ready) and seat.run and seat.run.id != first.id)
    assert "Idle" in daemon.phases()
    assert len(fake_engine.journal("start")) == 2


def test_lending_again_sets_a_new_time_and_lending_while_loading_ends_the_load(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    fake_engine.profile("slow", load_seconds=60)
    daemon.start().want("slow")
    daemon.wait_phase(lifecycle.Loading)
    lend(daemon, 1)
    first = daemon.wait_phase(lifecycle.Idle).lent_until_unix
    lend(daemon, 60)
    assert first is not None
    daemon.wait_seat(lambda seat: (seat.lent_until_unix or 0) > first + 3000)
    assert not processes_of(home, runs_only=True)


def test_a_click_on_another_profile_ends_the_lending_and_unload_forgets_it(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    fake_engine.profile("a")
    fake_engine.profile("b")
    daemon.start().load("a")
    lend(daemon, 30)
    assert daemon.load("b").lent_until_unix is None
    lend(daemon, 30)
    daemon.wait_phase(lifecycle.Idle)
    daemon.unload()
    seat = daemon.wait_seat(lambda seat: seat.wanted is None)
    assert (seat.resting, seat.lent_until_unix) == ("", None)


def test_what_cannot_be_lent_or_given_back_is_refused_in_a_sentence(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("a")
    daemon.start()
    with pytest.raises(UnknownProfile, match="No model is loaded"):
        lend(daemon, 30)
    with pytest.raises(UnknownProfile, match="Nothing is lent"):
        give_back(daemon)
    daemon.load("a")
    for minutes in (0, -1, 1e9):
        with pytest.raises(BadRequest, match="minutes"):
            lend(daemon, minutes)


@pytest.mark.parametrize("end", ["killed", "left"])
def test_a_lending_survives_the_daemon_and_the_time_away_counts(
    fake_engine: FakeEngine, daemon: Daemon, end: str
) -> None:
    """Whether it was killed or asked to go: what is lent comes back at the time that was said."""
    fake_engine.profile("model")
    daemon.start().load("model")
    lend(daemon, 0.1)
    until = daemon.wait_phase(lifecycle.Idle).lent_until_unix
    daemon.kill() if end == "killed" else daemon.terminate()
    daemon.start()
    seat = daemon.wait_seat(lambda seat: seat.wanted == "model")
    assert seat.lent_until_unix in (None, until)
    daemon.wait_phase(lifecycle.Ready, "model")
    assert time.time() >= (until or 0) - 0.1


def test_what_no_longer_fits_comes_back_when_its_memory_does(
    driver: SimulatedDriver, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I4: a game holds the lent memory. Its name is told, nothing spins, and the model comes when the game ends."""
    driver.gpus([card()])
    fake_engine.install("llama-server", accelerator="cuda")
    model = fake_engine.model("weights", weights_bytes=14 * GIB)
    fake_engine.profile("large", model=model, vram={CARD: 14 * GIB})
    daemon.start().load("large")
    lend(daemon, 30)
    daemon.wait_phase(lifecycle.Idle)
    driver.foreign(CARD, 4711, "game", 16 * 1024)
    daemon.wait_slice("gpus", lambda gpus: gpus.gpus and gpus.gpus[0].used_bytes > 15 * GIB)
    give_back(daemon)
    seat = daemon.wait_seat(lambda seat: seat.resting == "memory", what="waiting for room")
    assert seat.wanted == "large"
    assert "game" in seat.notice, seat.notice
    answer = ask(daemon, "large")
    assert answer.status_code == 503
    assert "game" in answer.json()["error"]["message"]
    reserved = daemon.phases().count("Reserving")
    never(lambda: daemon.phases().count("Reserving") > reserved, 1)
    driver.foreign(CARD, 4711, "game", 0)
    daemon.wait_phase(lifecycle.Ready, "large")
    assert daemon.seat().resting == ""


def test_how_long_the_machine_was_suspended_stands_still_while_it_runs() -> None:
    found = suspended_seconds()
    assert found > -0.1
    assert suspended_seconds() == pytest.approx(found, abs=0.1)
