"""Tells how two engines stand side by side: each seat its own engine, one ledger of memory, one endpoint (S7, I3, I4)."""

import threading
from pathlib import Path

import httpx
import pytest

from app.core import lifecycle
from app.core.errors import BadRequest, DoesNotFit, EngineRoomError
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, streamed
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually, never

GIB = 1024**3
CARD = card_uuid(0)


@pytest.fixture(autouse=True)
def two_seats(home: Home) -> None:
    home.settings(supervision={"seats": ["main", "side"]})


def ask(daemon: Daemon, model: str) -> httpx.Response:
    with daemon.gateway() as client:
        return client.post("/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "Hi"}]})


def words(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return set(answer.json()["choices"][0]["message"]["content"].split())


def ready_on(daemon: Daemon, seat: str, profile: str) -> None:
    daemon.wait_phase(lifecycle.Ready, profile, seat=seat)


def test_two_models_answer_side_by_side_each_by_its_name(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I13: a request goes to the seat that has the model it names, by id or alias; any other name means the main seat."""
    fake_engine.profile("red", tokens=2)
    fake_engine.profile("blue", tokens=2, table={"seat": "side", "aliases": ["azure"]})
    daemon.start()
    daemon.want("red", seat="")
    daemon.want("blue", seat="")  # its profile says where
    ready_on(daemon, "main", "red")
    ready_on(daemon, "side", "blue")
    assert len({process.run_id for process in processes_of(home, runs_only=True)}) == 2
    assert words(ask(daemon, "red")) == {"red"}
    assert words(ask(daemon, "blue")) == {"blue"}
    assert words(ask(daemon, "azure")) == {"blue"}
    assert words(ask(daemon, "gpt-4o")) == {"red"}
    with daemon.gateway() as client:
        assert {model["id"] for model in client.get("/models").json()["data"]} == {"red", "blue"}
        assert client.get("/models/blue").status_code == 200
        health = client.get(daemon.gateway_url.removesuffix("/v1") + "/health").json()
    assert health["seats"] == {"main": "ready", "side": "ready"}
    traffic = daemon.wait_slice("traffic", lambda traffic: traffic.requests_total == 4)
    assert {request.model for request in traffic.recent} == {"red", "blue"}
    assert traffic.completion_tokens_total == 8


def test_a_switch_on_one_seat_does_not_touch_the_other(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I6, I8: a stream of the side seat runs through while the main seat switches, crashes and unloads."""
    fake_engine.profile("long-winded", tokens=60, tokens_per_second=20, table={"seat": "side"})
    fake_engine.profile("one")
    fake_engine.profile("bad", crash_at=0.5)
    daemon.start().load("one")
    daemon.want("long-winded", seat="side")
    ready_on(daemon, "side", "long-winded")
    with daemon.gateway() as client:
        events = streamed(client, model="long-winded")
        next(events)
        daemon.want("bad")
        daemon.wait_seat(lambda seat: seat.last_failure is not None)
        daemon.unload()
        daemon.wait_idle()
        rest = list(events)
    assert rest[-1] == {"done": True}
    ready_on(daemon, "side", "long-winded")


def test_two_loads_at_once_are_never_admitted_against_the_same_free_memory(
    driver: SimulatedDriver, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I4: each fits alone, both do not; both are clicked in the same moment, again and again."""
    driver.gpus([card()])
    fake_engine.install("llama-server", accelerator="cuda")
    model = fake_engine.model("weights", weights_bytes=14 * GIB)
    for name, seat in (("left", "main"), ("right", "side")):
        fake_engine.profile(name, model=model, vram={CARD: 14 * GIB}, load_seconds=1, table={"seat": seat})
    daemon.start()
    daemon.wait_slice("gpus", lambda gpus: gpus.gpus)
    for _ in range(3):
        refused: list[EngineRoomError] = []

        def click(name: str, refused: list[EngineRoomError] = refused) -> None:
            try:
                daemon.want(name, seat="")
            except DoesNotFit as error:
                refused.append(error)

        clicks = [threading.Thread(target=click, args=(name,)) for name in ("left", "right")]
        for thread in clicks:
            thread.start()
        for thread in clicks:
            thread.join(60)

        def settled(refused: list[EngineRoomError] = refused) -> bool:
            phases = [daemon.seat(name).phase for name in ("main", "side")]
            lost = bool(refused) or any(isinstance(phase, lifecycle.Failed) for phase in phases)
            return lost and any(isinstance(phase, lifecycle.Ready) for phase in phases)

        eventually(settled)
        phases = [daemon.seat(name).phase for name in ("main", "side")]
        assert sum(isinstance(phase, lifecycle.Ready) for phase in phases) == 1, phases
        for name in ("main", "side"):
            daemon.unload(name)
            daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Idle), 30, name)


def test_only_what_leaves_the_same_seat_is_credited(
    driver: SimulatedDriver, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I4: the other seat's model stays, so its memory helps nobody."""
    driver.gpus([card()])
    fake_engine.install("llama-server", accelerator="cuda")
    model = fake_engine.model("weights", weights_bytes=14 * GIB)
    for name in ("a", "b"):
        fake_engine.profile(name, model=model, vram={CARD: 14 * GIB})
    daemon.start().load("a")
    daemon.wait_slice("gpus", lambda gpus: gpus.gpus and gpus.gpus[0].used_bytes > 13 * GIB)
    with pytest.raises(DoesNotFit):
        daemon.want("b", seat="side")
    daemon.load("b")


def test_each_seat_rests_restarts_and_lends_by_itself(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("stays")
    fake_engine.profile("sleepy", table={"seat": "side", "idle_unload_seconds": 1})
    daemon.start().load("stays")
    pid = daemon.engine_pid()
    daemon.want("sleepy", seat="")
    ready_on(daemon, "side", "sleepy")
    daemon.wait_seat(lambda seat: seat.resting == "idle", seat="side")
    assert ask(daemon, "stays").status_code == 200
    assert daemon.wait_seat(lambda _: True, seat="side").resting == "idle", "a request for the main seat wakes it only"
    assert words(ask(daemon, "sleepy")) == {"sleepy"}
    daemon.post("/control/lend", {"minutes": 5, "seat": "side"})
    daemon.wait_seat(lambda seat: seat.resting == "lent", seat="side")
    assert ask(daemon, "sleepy").status_code == 503
    assert ask(daemon, "stays").status_code == 200
    daemon.restart_engine()
    daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Ready) and seat.run and seat.run.pid != pid)


def test_a_living_run_is_remembered_however_many_the_other_seat_has(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I3: of ended runs the last few are kept; of one that lives its log, and the way to end it."""
    home.settings(supervision={"seats": ["main", "side"]}, logs={"runs_kept": 1})
    fake_engine.profile("busy", tokens=2)
    fake_engine.profile("steady", tokens=2, table={"seat": "side"})
    daemon.start()
    daemon.want("steady", seat="")
    ready_on(daemon, "side", "steady")
    run = daemon.seat("side").run
    daemon.load("busy")
    for _ in range(2):
        pid = daemon.engine_pid()
        daemon.restart_engine()
        daemon.wait_seat(
            lambda seat, pid=pid: isinstance(seat.phase, lifecycle.Ready) and seat.run and seat.run.pid != pid, 30
        )
    assert words(ask(daemon, "steady")) == {"steady"}
    assert run is not None
    assert Path(run.log_path).exists()
    daemon.unload("side")
    daemon.wait_seat(lambda seat: isinstance(seat.phase, lifecycle.Idle), 60, "side")
    assert run.id not in {process.run_id for process in processes_of(home, runs_only=True)}


def test_a_seat_that_there_is_not_is_refused_with_those_that_there_are(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("lost", table={"seat": "balcony"})
    daemon.start()
    with pytest.raises(BadRequest, match="main, side"):
        daemon.want("lost", seat="")
    daemon.want("lost", seat="side")
    ready_on(daemon, "side", "lost")
    with pytest.raises(BadRequest, match="balcony"):
        daemon.unload("balcony")


def test_a_killed_daemon_leaves_neither_engine_and_both_models_come_back(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """I1: two engines, one of them with a stubborn family; the next daemon wants both again, each on its seat."""
    fake_engine.profile("one", child=True)
    fake_engine.profile("two", grandchild=True, ignore_term=True, table={"seat": "side"})
    daemon.start().load("one")
    daemon.want("two", seat="")
    ready_on(daemon, "side", "two")
    daemon.kill()
    eventually(lambda: not processes_of(home, runs_only=True), 60, "no engine is left")
    daemon.start()
    ready_on(daemon, "main", "one")
    ready_on(daemon, "side", "two")
    assert len({process.run_id for process in processes_of(home, runs_only=True)}) == 2


def test_new_seats_wait_for_the_next_start(fake_engine: FakeEngine, daemon: Daemon) -> None:
    daemon.start()
    daemon.post("/control/settings", {"values": {"supervision.seats": ["main", "side", "third"]}})
    view = daemon.get("/control/settings").json()
    assert view["restart_needed"] == ["supervision.seats"]
    never(lambda: len(daemon.slices()["seats"].seats) != 2, 0.2)
    with pytest.raises(EngineRoomError, match="main"):
        daemon.post("/control/settings", {"values": {"supervision.seats": ["side"]}})
    daemon.restart()
    assert [seat.name for seat in daemon.slices()["seats"].seats] == ["main", "side", "third"]
