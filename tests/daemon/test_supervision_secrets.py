"""Looks for a secret everywhere it must not be (I18), with an engine that prints it aloud."""

from pathlib import Path

from app.core import lifecycle
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually

TOKEN = "hf_CanaryCanaryCanaryCanary0123456789"  # found by its form
PASSWORD = "parakeet battery staple"  # found only because its variable's name says what it is
SECRETS = (TOKEN, PASSWORD)
ENVIRONMENT = {"HF_TOKEN": TOKEN, "STORE_PASSWORD": PASSWORD}


def everywhere(home: Home, daemon: Daemon, run_id: str) -> dict[str, bytes]:
    """Everything that leaves: the control API's answers and stream, our own records, every argv."""
    assert daemon.slices_seen is not None
    places = {
        "slices": daemon.get("/control/slices").content,
        "stream": daemon.slices_seen.raw,
        "run": daemon.get(f"/control/runs/{run_id}").content,
        "log": daemon.run_log(run_id),
        "command": daemon.post("/control/command", {"profile": "teller"}).content,
        "settings": daemon.get("/control/settings").content,
        "doctor": daemon.get("/control/doctor").content,
        "daemon log": daemon.log_text().encode(),
        "events": home.event_log.read_bytes(),
    }
    for process in processes_of(home):
        places[f"argv of {process.pid}"] = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    for file in home.paths.state.rglob("*"):
        if file.is_file() and file.suffix not in (".log",) and file.parent != home.paths.runs:
            places[str(file)] = file.read_bytes()
    for file in home.paths.data.rglob("*"):
        if file.is_file():
            places[str(file)] = file.read_bytes()
    return places


def assert_hidden(places: dict[str, bytes]) -> None:
    found = [(place, secret) for place, data in places.items() for secret in SECRETS if secret.encode() in data]
    assert not found, found


def test_a_secret_that_the_engine_prints_stays_in_its_own_log(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    fake_engine.profile("teller", environment=ENVIRONMENT, print_variables="HF_TOKEN,STORE_PASSWORD")
    seat = daemon.start().load("teller")
    assert seat.run is not None
    own = Path(seat.run.log_path)
    raw = own.read_bytes()
    assert all(secret.encode() in raw for secret in SECRETS), "the engine did print it, or this proves nothing"
    assert own.stat().st_mode & 0o077 == 0
    assert_hidden(everywhere(home, daemon, seat.run.id))
    log = daemon.run_log(seat.run.id)
    assert log.startswith(raw[: raw.index(b"environment")])
    assert len(log) <= len(own.read_bytes()), "masked at equal length"
    for start in range(raw.index(TOKEN.encode()) - 3, raw.index(TOKEN.encode()) + len(TOKEN), 7):
        piece = daemon.run_log(seat.run.id, start, 11)
        assert TOKEN[:6].encode() not in piece
        assert TOKEN[-8:].encode() not in piece


def test_a_failure_quotes_no_secret(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile(
        "teller", environment=ENVIRONMENT, print_variables="HF_TOKEN,STORE_PASSWORD", crash_at=0.0, quiet=True
    )
    daemon.start().want("teller")
    failure = daemon.wait_failed()
    assert any("environment" in line for line in failure.last_lines)
    run_id = daemon.slices()["runs"].runs[0].id
    assert_hidden(everywhere(home, daemon, run_id))
    assert isinstance(daemon.seat().phase, lifecycle.Failed)


def test_no_secret_survives_in_the_records_of_an_ended_run(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """The run is over and the daemon was started anew: it must still know what to hide."""
    fake_engine.profile("teller", environment=ENVIRONMENT, print_variables="HF_TOKEN,STORE_PASSWORD")
    seat = daemon.start().load("teller")
    assert seat.run is not None
    daemon.unload()
    daemon.wait_idle()
    assert_hidden(everywhere(home, daemon, seat.run.id))
    daemon.restart()
    eventually(lambda: daemon.slices()["runs"].runs)
    assert_hidden(everywhere(home, daemon, seat.run.id))
