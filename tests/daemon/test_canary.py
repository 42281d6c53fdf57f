"""A new engine stands beside the old one and is tried on a model of the person's before it is pinned; the way back is open (E7)."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from app.core import control
from app.core.errors import EngineBusy, EngineNotInstalled, UnknownProfile
from app.core.profiles import Profile
from app.core.snapshot import Engines
from app.daemon.canary import Measured, compared, speed_words, verdict
from app.engines.base import Installation, Launch
from tests.daemon.desk import Desk
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home


def launch(installation: str, family: str = "llama-server") -> Launch:
    return Launch(
        profile=Profile(id="mine", title="Mine", engine=family, model="m.gguf"),
        model_path="m.gguf",
        installation=Installation(family=family, executable="/bin/x", id=installation),
        port=0,
        run_id="",
        model_name="mine",
    )


NEW, OLD = launch("llama-server-2"), launch("llama-server-1")
FAST = Measured(first_token_seconds=0.1, tokens_per_second=120.0, answers=("a", "b"))
SLOW = Measured(first_token_seconds=0.2, tokens_per_second=100.0, answers=("a", "b"))
BROKEN = Measured(problem="It does not start.")


def test_the_verdict_is_a_sentence_with_the_way_forth_and_back() -> None:
    said = verdict(NEW, FAST, OLD, SLOW)
    assert "llama-server-2 is 20% faster than llama-server-1 (120 instead of 100 tok/s)" in said
    assert "same answers" in said
    assert "`engine-room engines pin llama-server llama-server-2` switches to it" in said
    assert "pinning llama-server-1 goes back" in said


def test_another_answer_is_told_and_a_small_difference_is_none() -> None:
    assert "answers differently" in verdict(NEW, replace(FAST, answers=("a", "c")), OLD, SLOW)
    assert speed_words(102.0, 100.0, "it") == "is as fast as it (102 tok/s)"
    assert speed_words(50.0, 100.0, "it").startswith("is 50% slower than it")
    assert speed_words(250.0, 100.0, "it") == "is 2.5 times as fast as it (250 instead of 100 tok/s)"
    assert speed_words(None, 100.0, "it") == "could not be timed against it"


def test_a_build_that_fails_is_a_result(daemon: Daemon) -> None:
    assert verdict(NEW, BROKEN, OLD, SLOW) == (
        "llama-server-2 does not work with Mine: It does not start. Stay with llama-server-1."
    )
    assert "llama-server-1 does not" in verdict(NEW, FAST, OLD, BROKEN)
    assert "no other to compare it with" in verdict(NEW, FAST, None, None)
    result = compared(NEW, BROKEN, OLD, SLOW)
    assert (result.same_answer, result.tokens_per_second) == (None, (None, 100.0))


# --- through the daemon ----------------------------------------------------------------------------------------------


@pytest.fixture
def two_builds(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> tuple[str, str]:
    """(id of the one that is used, id of a new one in a folder that the person added); both serve the profile `mine`."""
    fake_engine.profile("mine", tokens=32)
    new = home.folder / "new" / "llama-server"
    new.parent.mkdir()
    new.write_text((home.bin / "llama-server").read_text())
    new.chmod(0o755)
    daemon.start()
    daemon.post("/control/engines/add", control.AddEngine(path=str(new)))

    def both(engines: Engines) -> object:
        return len(rows(engines)) > 1

    found = rows(daemon.wait_slice("engines", both, 60, "both builds"))
    old = next(row.id for row in found if row.path == str(home.bin / "llama-server"))
    return old, next(row.id for row in found if row.path == str(new))


def rows(engines: Engines) -> list[control.InstallationView]:
    return [row for view in engines.families if view.family == "llama-server" for row in view.installations]


def test_both_are_asked_the_same_and_compared(daemon: Daemon, two_builds: tuple[str, str]) -> None:
    old, new = two_builds
    desk = Desk(daemon)
    job = desk.done(desk.begin("/control/engines/canary", control.Canary(installation=new, profile="mine")))
    assert (job.result["installation"], job.result["against"], job.result["profile"]) == (new, old, "mine")
    assert job.result["same_answer"] is True
    assert all(job.result["tokens_per_second"])  # type: ignore[call-overload]
    assert all(job.result["first_token_seconds"])  # type: ignore[call-overload]
    assert new in str(job.result["verdict"])
    assert job.detail == job.result["verdict"]
    daemon.post("/control/engines/pin", control.Pin(family="llama-server", installation=new))
    daemon.wait_slice("engines", lambda engines: next(row for row in rows(engines) if row.chosen).id == new)
    daemon.post("/control/engines/pin", control.Pin(family="llama-server", installation=old))
    daemon.wait_slice("engines", lambda engines: next(row for row in rows(engines) if row.chosen).id == old)


def test_a_new_build_that_crashes_is_told_and_the_old_one_stays(
    daemon: Daemon, home: Home, two_builds: tuple[str, str]
) -> None:
    old, new = two_builds
    program = home.folder / "new" / "llama-server"
    program.write_text(program.read_text().replace("#!/bin/sh\n", "#!/bin/sh\nexport FAKE_ENGINE_CRASH_AT=0.5\n"))
    desk = Desk(daemon)
    job = desk.done(desk.begin("/control/engines/canary", control.Canary(installation=new, profile="mine")))
    assert "does not work with" in str(job.result["verdict"])
    assert f"Stay with {old}" in str(job.result["verdict"])


def test_what_a_failed_engine_printed_is_told_without_the_profiles_secrets(
    daemon: Daemon, home: Home, two_builds: tuple[str, str], fake_engine: FakeEngine
) -> None:
    """I18: also where an engine's own words say why it does not work."""
    _, new = two_builds
    fake_engine.profile("keyed", environment={"REGISTRY_TOKEN": "swordfish-4711"})
    daemon.wait_slice("library", lambda library: any(card.profile.id == "keyed" for card in library.profiles))
    program = home.folder / "new" / "llama-server"
    asked = 'case "$1" in --version | --help | --list-devices) exec "$0.real" "$@" ;; esac'  # in the list it stays well
    program.with_name("llama-server.real").write_text(program.read_text())
    program.with_name("llama-server.real").chmod(0o755)
    program.write_text(f'#!/bin/sh\n{asked}\necho "error: invalid argument: $REGISTRY_TOKEN"\nexit 1\n')
    desk = Desk(daemon)
    job = desk.over(desk.begin("/control/engines/canary", control.Canary(installation=new, profile="keyed")))
    assert "does not work with" in job.detail
    assert "does not know ***" in job.detail, "the engine's own word is told, less the secret"
    assert "swordfish" not in str(job)


def test_a_canary_waits_for_nobody(daemon: Daemon, two_builds: tuple[str, str]) -> None:
    """It runs only while nothing is loaded, and says so."""
    _, new = two_builds
    daemon.load("mine")
    with pytest.raises(EngineBusy, match="needs the memory"):
        Desk(daemon).begin("/control/engines/canary", control.Canary(installation=new, profile="mine"))


def test_what_there_is_not_is_named(daemon: Daemon, two_builds: tuple[str, str]) -> None:
    desk = Desk(daemon)
    with pytest.raises(EngineNotInstalled, match="no installation"):
        desk.begin("/control/engines/canary", control.Canary(installation="nonsense"))
    with pytest.raises(UnknownProfile):
        desk.begin("/control/engines/canary", control.Canary(installation=two_builds[1], profile="nonsense"))


def test_a_cancelled_canary_leaves_no_engine(
    daemon: Daemon, home: Home, two_builds: tuple[str, str], fake_engine: FakeEngine
) -> None:
    fake_engine.profile("slow", load_seconds=60)
    daemon.wait_slice("library", lambda library: any(card.profile.id == "slow" for card in library.profiles))
    desk = Desk(daemon)
    job = desk.begin("/control/engines/canary", control.Canary(installation=two_builds[1], profile="slow"))
    desk.wait(job, lambda job: "Loading" in job.detail)
    with pytest.raises(EngineBusy, match="being tried"):  # I4: the canary is about to take that memory
        daemon.post("/control/want", control.Want(profile="mine"))
    desk.cancel(job)
    assert desk.over(job).state == "cancelled"
    assert Path(home.folder).exists()
