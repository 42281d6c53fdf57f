"""From a refusal to a model that runs: what would help is offered, taken by one command, and seen in what the engine does."""

import re
from pathlib import Path

import pytest

from app.core import control, lifecycle
from app.core.memory.plan_types import MemoryPlan, Remedy, Verdict
from app.core.snapshot import SeatView, from_json
from tests.end2end.commands import Commands
from tests.engines.tiny_model import write_tiny_model
from tests.rig.daemon import Daemon
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.real_engines import put_into, write_profile
from tests.rig.waiting import eventually

MIB, GIB = 1024**2, 1024**3

# --- on a simulated driver: what a processor alone cannot show -------------------------------------------------------


def test_a_refused_model_is_loaded_with_a_remedy_and_that_argument_alone_is_another(
    driver: SimulatedDriver, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """M4: the plan names remedies by number, and `load --remedy N` takes one: fewer layers on the card, or another card."""
    driver.gpus([card(0, total_mib=4_096), card(1)])
    fake_engine.install("llama-server", accelerator="cuda")
    model = fake_engine.model("three", weights_bytes=3 * GIB)
    fake_engine.profile("big", model=model, table={"gpus": [card_uuid(0)]}, tokens=3)
    daemon.start()
    told = commands.ok("plan", "big").out
    assert told.startswith("Does not fit. Needs up to ")
    assert re.search(r"^\d\. Load it on NVIDIA GeForce RTX 4090 \(card 1\)  \(gpus=GPU-00000001", told, re.MULTILINE)
    assert "expected speed" in told
    assert "one chat: llama.cpp (does not fit" in told
    plan = from_json(MemoryPlan, commands.ok("plan", "big", "--json").out)
    kinds = [remedy.kind for remedy in plan.remedies]
    usual = from_json(control.CommandView, commands.ok("command", "big", "--json").out)

    other = plan.remedies[kinds.index("card")]
    assert (other.settings, other.gpus) == ({}, (card_uuid(1),))
    loaded = commands.ok("load", "big", "--remedy", str(kinds.index("card") + 1), "--json")
    run = from_json(SeatView, loaded.out).run
    assert run is not None
    assert other.title in loaded.err
    assert run.environment["CUDA_VISIBLE_DEVICES"] == card_uuid(1)
    assert usual.environment["CUDA_VISIBLE_DEVICES"] == card_uuid(0)
    assert without_port(run.argv) == without_port(usual.argv), "nothing else was changed"

    fewer = plan.remedies[kinds.index("layers")]
    commands.ok("unload")
    run = from_json(SeatView, commands.ok("load", "big", "--remedy", str(kinds.index("layers") + 1), "--json").out).run
    assert run is not None
    layers = str(fewer.settings["gpu_layers"])
    changed = [(a, b) for a, b in zip(without_port(usual.argv), without_port(run.argv), strict=True) if a != b]
    assert [b for _, b in changed] == [layers]
    commands.ok("unload")
    assert "There is no remedy 9" in commands.refused(8, "load", "big", "--remedy", "9").err


def without_port(argv: tuple[str, ...]) -> tuple[str, ...]:
    place = argv.index("--port")
    return argv[: place + 1] + argv[place + 2 :]


def test_any_file_is_planned_and_the_models_are_listed_with_what_fits(
    fake_engine: FakeEngine, commands: Commands, daemon: Daemon, tmp_path: Path
) -> None:
    """M1, M3: a path will do, in the library or not; `models` groups, counts and filters."""
    fake_engine.profile("one")
    elsewhere = tmp_path / "elsewhere.gguf"
    elsewhere.write_bytes(fake_engine.model().read_bytes())
    daemon.start()
    by_file = from_json(MemoryPlan, commands.ok("plan", str(elsewhere), "--engine", "llama-server", "--json").out)
    assert by_file.verdict is Verdict.FITS
    assert all(part.source for device in by_file.devices for part in device.parts)
    known = commands.ok("plan", str(fake_engine.model()), "--set", "context_tokens=512").out
    assert "512 are asked for" in known, "the profile that the library has for this file"
    assert "no model called" in commands.refused(4, "plan", "nothing-like-this").err

    listed = commands.ok("models").out
    assert "on the disk" in listed
    assert "one" in listed
    found = commands.ok("models", "--fits", "--json").json["models"]
    assert any("one" in variant["profile_ids"] for each in found for variant in each["model"]["variants"])
    assert commands.ok("models", "--quantisation", "Q9_X").out == "No model is like that.\n"


def test_a_draft_is_priced_and_its_command_shown_before_it_is_saved(
    fake_engine: FakeEngine, daemon: Daemon, home: Home
) -> None:
    """E9, M9: the whole text counts, extra arguments and another model as well; nothing is kept of it."""
    fake_engine.profile("one")
    daemon.start()
    text = (
        f'engine = "llama-server"\nmodel = "{fake_engine.model()}"\nextra_arguments = ["--seed", "4"]\n'
        "[settings]\ncontext_tokens = 4096\n"
    )
    for profile in ("one", "brand-new"):
        answer = daemon.post("/control/command", control.CommandOf(profile=profile, text=text))
        argv = from_json(control.CommandView, answer.text).argv
        assert argv[-2:] == ("--seed", "4")
        assert argv[argv.index("--ctx-size") + 1] == "4096"
        assert argv[argv.index("--alias") + 1] == profile
        plan = from_json(MemoryPlan, daemon.post("/control/plan", control.Want(profile=profile, text=text)).text)
        assert plan.context_tokens == 4096
    saved = from_json(control.CommandView, daemon.post("/control/command", control.CommandOf(profile="one")).text)
    assert "--seed" not in saved.argv
    assert not (home.paths.profiles / "brand-new.toml").exists()


# --- the real engine -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_engine_s_own_log_shows_what_each_remedy_promised(
    home: Home, daemon: Daemon, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """M4, M6: context, KV type and micro-batch, each applied to the built-in engine, each to the byte as predicted."""
    model = write_tiny_model(tmp_path_factory.mktemp("models") / "m.gguf", layers=16, width=512, context=65_536)
    put_into(home, "llama.cpp")
    write_profile(home, "wide", "llama.cpp", model, context_tokens=32_768)
    # without flash attention the attention's own buffer grows with the micro-batch, to more than a GiB
    large = {"context_tokens": 16_384, "batch_tokens": 4_096, "ubatch_tokens": 4_096, "flash_attention": "off"}
    write_profile(home, "steps", "llama.cpp", model, **large)
    daemon.start()

    shorter = offered(daemon, "wide", "context", {"context_tokens": 8_192})
    assert set(shorter.settings) == {"context_tokens"}
    log, plan = launched(daemon, "wide", shorter)
    assert kv_mib(log) == pytest.approx(part(plan, "kv_cache") / MIB, abs=1)
    assert int(said(log, r"n_ctx\s+= (\d+)")) == shorter.settings["context_tokens"]

    smaller = offered(daemon, "wide", "kv_type", {"kv_type_k": "q8_0", "kv_type_v": "q8_0"})
    assert set(smaller.settings) == {"kv_type_k", "kv_type_v"}
    log, plan = launched(daemon, "wide", smaller)
    assert kv_mib(log) == pytest.approx(part(plan, "kv_cache") / MIB, abs=1)
    assert "K (q8_0)" in log
    assert "V (q8_0)" in log

    fewer = offered(daemon, "steps", "ubatch", {"ubatch_tokens": 256})
    assert set(fewer.settings) == {"ubatch_tokens"}
    log, plan = launched(daemon, "steps", fewer)
    assert int(said(log, r"n_ubatch\s+= (\d+)")) == fewer.settings["ubatch_tokens"]


def offered(daemon: Daemon, profile: str, kind: str, target: dict[str, int | str]) -> Remedy:
    """The remedy of that kind when main memory has room for about `target` and no more; the room is made by the headroom,
    again and again, because the machine's own memory moves meanwhile."""
    daemon.unload()  # what a loaded model would give back counts as room
    daemon.wait_idle()
    need = priced(daemon, profile, target).devices[-1].high_bytes
    found: list[Remedy] = []

    def squeezed() -> bool:
        daemon.post("/control/settings", control.SettingsChange(values={"memory.host_headroom_bytes": 0}))
        available = daemon.slices()["gpus"].host.available_bytes
        kept = available - need - 200 * MIB
        daemon.post("/control/settings", control.SettingsChange(values={"memory.host_headroom_bytes": kept}))
        offers = priced(daemon, profile).remedies
        found[:] = [remedy for remedy in offers if remedy.kind == kind]
        return bool(found)

    eventually(squeezed, 90)
    daemon.post("/control/settings", control.SettingsChange(values={"memory.host_headroom_bytes": 0}))
    return found[0]


def priced(daemon: Daemon, profile: str, settings: dict[str, int | str] | None = None) -> MemoryPlan:
    wish = control.Want(profile=profile, settings=dict(settings or {}))
    return from_json(MemoryPlan, daemon.post("/control/plan", wish).text)


def launched(daemon: Daemon, profile: str, remedy: Remedy) -> tuple[str, MemoryPlan]:
    """The engine's log and the plan of the launch, which is what the click would launch."""
    seat = daemon.load(profile, settings=remedy.settings, override=True)
    assert isinstance(seat.phase, lifecycle.Ready)
    assert seat.run is not None
    assert seat.run.plan is not None
    return daemon.run_log(seat.run.id, limit=1 << 20).decode(errors="replace"), seat.run.plan


def part(plan: MemoryPlan, name: str) -> int:
    return sum(each.bytes for device in plan.devices for each in device.parts if each.name == name)


def kv_mib(log: str) -> float:
    return sum(float(size) for size in re.findall(r"KV buffer size =\s+([\d.]+) MiB", log))


def said(log: str, pattern: str) -> str:
    found = re.search(pattern, log)
    assert found is not None, f"{pattern} is not in the log"
    return found[1]
