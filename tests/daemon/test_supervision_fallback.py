"""Tells what is loaded in place of a profile that cannot be, and what is loaded when the service starts (E5, S8)."""

import pytest

from app.core import lifecycle
from app.core.errors import DoesNotFit
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.waiting import never


def too_large(fake_engine: FakeEngine, name: str, **table: object) -> str:
    return fake_engine.profile(name, model=fake_engine.model("huge", weights_bytes=900 * 1024**3), table=table)


def test_what_does_not_fit_is_replaced_by_its_fallback_before_anything_stops(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """E5: the answer of the call names what is loaded, the notice says why."""
    fake_engine.profile("small")
    too_large(fake_engine, "large", fallback="small")
    daemon.start()
    assert daemon.want("large").profile == "small"
    seat = daemon.wait_phase(lifecycle.Ready, "small")
    assert "large" in seat.notice
    assert "GiB" in seat.notice


def test_a_chain_is_followed_in_its_order_and_no_further(fake_engine: FakeEngine, daemon: Daemon) -> None:
    too_large(fake_engine, "first", fallback="second")
    too_large(fake_engine, "second", fallback="third")
    too_large(fake_engine, "third")
    daemon.start()
    with pytest.raises(DoesNotFit):
        daemon.want("first")
    never(lambda: daemon.seat().wanted, 0.3)


def test_a_load_that_fails_is_followed_by_the_fallback(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("safe")
    fake_engine.profile("bad", crash_at=0.5, table={"fallback": "safe"})
    daemon.start().want("bad")
    seat = daemon.wait_phase(lifecycle.Ready, "safe")
    assert seat.last_failure is not None
    assert seat.last_failure.profile_id == "bad"
    assert [line["alias"] for line in fake_engine.journal("start")] == ["bad", "safe"]


def test_a_failed_switch_puts_the_previous_model_back_before_any_fallback(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """S1 comes before E5: what the person had is what they get back."""
    fake_engine.profile("safe")
    fake_engine.profile("had")
    fake_engine.profile("bad", crash_at=0.5, table={"fallback": "safe"})
    daemon.start().load("had")
    daemon.want("bad")
    daemon.wait_seat(lambda seat: seat.last_failure is not None)
    daemon.wait_phase(lifecycle.Ready, "had")


def test_an_engine_that_is_not_installed_is_replaced_too(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("here")
    fake_engine.profile("lacking", table={"engine": "llama-cpp-python", "fallback": "here"})
    daemon.start()
    daemon.wait_slice("library", lambda library: library.profiles)
    cards = {card.profile.id: card for card in daemon.slices()["library"].profiles}
    if cards["lacking"].engine_available:
        pytest.skip("llama-cpp-python is installed beside these tests")
    assert daemon.want("lacking").profile == "here"
    daemon.wait_phase(lifecycle.Ready, "here")


def test_a_circle_of_fallbacks_is_a_problem_of_each_file_in_it(fake_engine: FakeEngine, daemon: Daemon) -> None:
    too_large(fake_engine, "a", fallback="b")
    too_large(fake_engine, "b", fallback="a")
    fake_engine.profile("c", table={"fallback": "nobody"})
    daemon.start()
    library = daemon.wait_slice("library", lambda library: len(library.problems) >= 3)
    told = " ".join(problem.summary for problem in library.problems)
    assert "a → b → a" in told
    assert "b → a → b" in told
    assert "nobody" in told
    with pytest.raises(DoesNotFit):
        daemon.want("a")


def test_one_profile_is_loaded_at_start_and_a_second_is_told(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("b-start", table={"load_at_start": True})
    fake_engine.profile("a-start", table={"load_at_start": True})
    daemon.start()
    daemon.wait_phase(lifecycle.Ready, "a-start")
    library = daemon.wait_slice("library", lambda library: library.problems)
    told = library.problems[0].summary
    assert "a-start" in told
    assert "b-start" in told


def test_what_was_wanted_before_a_crash_comes_before_what_is_loaded_at_start(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    fake_engine.profile("usual", table={"load_at_start": True})
    fake_engine.profile("other")
    daemon.start().wait_phase(lifecycle.Ready, "usual")
    daemon.load("other")
    daemon.kill()
    daemon.start()
    daemon.wait_phase(lifecycle.Ready, "other")
    daemon.unload()
    daemon.terminate()
    daemon.start()
    daemon.wait_phase(lifecycle.Ready, "usual")


def test_a_start_that_fails_is_seen_on_the_seat(fake_engine: FakeEngine, daemon: Daemon) -> None:
    too_large(fake_engine, "large", load_at_start=True)
    daemon.start()
    assert daemon.wait_failed().kind == "does_not_fit"
