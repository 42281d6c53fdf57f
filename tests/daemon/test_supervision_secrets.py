"""Looks for a secret everywhere it must not be (I18), with an engine that prints it aloud."""

import contextlib
from pathlib import Path

import httpx
import pytest

from app.core import lifecycle
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home, contents
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
        "manifest": daemon.get(f"/control/runs/{run_id}/manifest").content,
        **{
            f"export as {kind}": daemon.post("/control/export", {"profile": "teller", "kind": kind}).content
            for kind in ("shell", "systemd", "compose")
        },
        "settings": daemon.get("/control/settings").content,
        "doctor": daemon.get("/control/doctor").content,
        "daemon log": daemon.log_text().encode(),
        "events": home.event_log.read_bytes(),
    }
    for process in processes_of(home):
        with contextlib.suppress(OSError):  # a question to an engine may end meanwhile
            places[f"argv of {process.pid}"] = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    for file, data in contents(home.paths.state).items():
        if file.suffix not in (".log",) and file.parent != home.paths.runs:
            places[str(file)] = data
    return places | {str(file): data for file, data in contents(home.paths.data).items()}


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


@pytest.mark.parametrize("secret", SECRETS)
def test_half_a_secret_is_not_shown_to_who_follows(
    home: Home, fake_engine: FakeEngine, daemon: Daemon, secret: str
) -> None:
    """I18: the engine stops in the middle of a secret; nobody can tell yet what it will be, so nobody sees it yet."""
    name = next(name for name, value in ENVIRONMENT.items() if value == secret)
    go_on = home.folder / "go on"
    fake_engine.profile("teller", environment=ENVIRONMENT, print_halves=name, go_on=go_on)
    daemon.start().want("teller")
    run = daemon.wait_phase(lifecycle.Loading).run
    assert run is not None
    own = Path(run.log_path)
    eventually(lambda: b"half a value" in own.read_bytes(), 60, "the first half is written")

    def follow(at: int, wait: float) -> httpx.Response:
        return daemon.get(f"/control/runs/{run.id}/log?from={at}&wait={wait}")

    first = follow(0, 0)
    shown = int(first.headers["X-Log-End"])
    assert first.content.endswith(b"\n")
    assert shown == int(first.headers["X-Log-Size"]) < own.stat().st_size, "the unfinished line is held back"
    waited = follow(shown, 0.3)
    assert (waited.content, waited.headers["X-Log-End"]) == (b"", str(shown)), "a reader that waits goes on waiting"
    go_on.touch()
    rest = follow(shown, 20)
    assert int(rest.headers["X-Log-Start"]) == shown, "the offsets stay those of the engine's file"
    daemon.wait_phase(lifecycle.Ready)
    whole = first.content + daemon.run_log(run.id, shown)
    assert b"and the rest" in whole
    assert whole == own.read_bytes()[: len(whole)].replace(secret.encode(), b"*" * len(secret))
    assert secret[:6].encode() not in first.content + rest.content + whole


def test_a_run_that_is_over_gives_even_a_line_without_an_end(
    home: Home, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    fake_engine.profile("teller", environment=ENVIRONMENT, print_halves="HF_TOKEN", go_on=home.folder / "never")
    daemon.start().want("teller")
    run = daemon.wait_phase(lifecycle.Loading).run
    assert run is not None
    own = Path(run.log_path)
    eventually(lambda: b"half a value" in own.read_bytes(), 60, "the first half is written")
    daemon.unload()
    daemon.wait_idle()
    assert len(daemon.run_log(run.id)) == own.stat().st_size


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
