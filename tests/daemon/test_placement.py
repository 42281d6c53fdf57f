"""A model over several cards of eight: those that are meant in the order that is meant, and proof of it afterwards (E8)."""

import sys
from pathlib import Path

import pytest
import tomli_w

from app.core import lifecycle
from app.core.errors import DoesNotFit, EngineNotInstalled, SettingInvalid
from tests.engines.tiny_folder import write_tiny_folder
from tests.rig.daemon import Daemon
from tests.rig.driver import SimulatedDriver, card, card_uuid, mig_slice
from tests.rig.engines import PROGRAM, FakeEngine
from tests.rig.home import Home

MIB = 1024**2
RAY = """
__version__ = "2.9"
def init(address, **_): open({seen!r}, "a").write(address + "\\n")
def cluster_resources(): return {{"GPU": {gpus}}}
def available_resources(): return {{"GPU": {gpus}}}
"""


@pytest.fixture
def vllm(home: Home, fake_engine: FakeEngine, driver: SimulatedDriver) -> FakeEngine:
    """A vLLM for cards, as files tell it: its Python answers `-c` as a real one does, and `-m vllm…` as the stand-in."""
    driver.gpus([card(number) for number in range(8)])
    place = home.folder / "vllm-environment"
    packages = place / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (packages / "vllm-0.32.0+cu130.dist-info").mkdir(parents=True)
    (packages / "vllm-0.32.0+cu130.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cu130\n"
    )
    interpreter = Path(sys.executable).resolve()
    (place / "real" / "bin").mkdir(parents=True)
    (place / "real" / "bin" / "python").symlink_to(interpreter)
    (place / "real" / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\n")
    (place / "real" / "lib").symlink_to(place / "lib")
    python = place / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\n[ "$2" = -m ] || exec "{place}/real/bin/python" "$@"\nshift 3\n'
        f'exec "{interpreter}" -S -I "{PROGRAM}" --face vllm "$@"\n'
    )
    python.chmod(0o755)
    home.environment["ENGINE_ROOM_VLLM"] = str(python)
    home.settings(supervision={"stop_grace_seconds": 3, "drain_seconds": 0.3})
    write_tiny_folder(home.models / "tiny")
    return fake_engine


def profile(rig: FakeEngine, name: str, gpus: tuple[str, ...], settings: dict[str, object], **knobs: object) -> str:
    knobs.setdefault("answer", "word " * 16)
    whole = {
        "engine": "vllm",
        "model": str(rig.home.models / "tiny"),
        "gpus": list(gpus),
        "settings": {"context_tokens": 2_048, **settings},
        "environment": rig.environment(**knobs),
    }
    (rig.home.paths.profiles / f"{name}.toml").write_text(tomli_w.dumps(whole), "utf-8")
    return name


def ray(home: Home, gpus: int) -> Path:
    packages = next((home.folder / "vllm-environment" / "lib").glob("*/site-packages"))
    seen = home.folder / "ray-addresses"
    (packages / "ray.py").write_text(RAY.format(seen=str(seen), gpus=gpus))
    return seen


def test_two_cards_of_eight_in_the_profiles_order(vllm: FakeEngine, daemon: Daemon) -> None:
    """CUDA_VISIBLE_DEVICES of the shell decides nothing; a card that was not meant and took memory is told."""
    pair = (card_uuid(5), card_uuid(2))
    say = "CUDA_VISIBLE_DEVICES,CUDA_DEVICE_ORDER,RAY_ADDRESS"
    held = dict.fromkeys(pair, 9_000 * MIB)
    profile(vllm, "pair", pair, {}, vram=held, print_variables=say)
    profile(vllm, "stray", pair, {}, vram={**held, card_uuid(7): 700 * MIB})
    vllm.home.environment |= {"CUDA_VISIBLE_DEVICES": "7", "RAY_ADDRESS": "10.9.9.9:6379"}
    daemon.start()
    run = daemon.load("pair").run
    assert run is not None
    argv = run.argv
    assert argv[argv.index("--tensor-parallel-size") + 1] == "2"
    log = daemon.run_log(run.id).decode()
    assert f"CUDA_VISIBLE_DEVICES={pair[0]},{pair[1]}\n" in log
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in log
    assert "RAY_ADDRESS=\n" in log
    view = daemon.wait_seat(lambda view: view.run is not None and set(pair) <= set(view.run.measured_bytes))
    assert view.run is not None
    assert view.run.measured_bytes[pair[0]] == 9_000 * MIB, "bytes on each card"
    assert view.notice == ""
    run = daemon.load("stray").run
    assert run is not None
    view = daemon.wait_seat(lambda view: view.notice, what="it is noticed")
    assert view.notice.startswith("Cards that were not selected were used: ")
    assert f"{card_uuid(7)} took 0.7 GiB" in view.notice
    manifest = daemon.get(f"/control/runs/{run.id}/manifest").json()
    assert manifest["run"]["notice"] == view.notice
    daemon.unload()
    daemon.wait_idle()


def test_two_cards_of_different_sizes_share_by_what_the_fuller_one_has(
    vllm: FakeEngine, driver: SimulatedDriver, daemon: Daemon
) -> None:
    """M6: vLLM takes the same share of each card, so the one with the least room decides, and is named where it lacks."""
    pair = (card_uuid(0), card_uuid(1))
    driver.gpus([card(0), card(1, 12_288, "NVIDIA GeForce RTX 3060")])
    driver.foreign(pair[1], 4711, "game", 6_000)
    profile(vllm, "pair", pair, {})
    daemon.start()
    daemon.wait_slice("gpus", lambda gpus: gpus.gpus and (gpus.gpus[1].free_bytes or 0) < 7_000 * MIB)
    plan = daemon.post("/control/plan", {"profile": "pair"}).json()
    assert [device["device"] for device in plan["devices"]] == [*pair, "host"]
    big, small = (device["high_bytes"] for device in plan["devices"][:2])
    assert small < 6_288 * MIB - 1_024 * MIB
    assert big < 2.2 * small
    run = daemon.load("pair").run
    assert run is not None
    share = float(run.argv[run.argv.index("--gpu-memory-utilization") + 1])
    assert 0.1 < share <= 6_288 / 12_288
    daemon.unload()
    daemon.wait_idle()
    driver.foreign(pair[1], 4711, "game", 11_900)
    daemon.wait_slice("gpus", lambda gpus: (gpus.gpus[1].free_bytes or 0) < 1_000 * MIB)
    with pytest.raises(DoesNotFit) as refused:
        daemon.want("pair")
    assert "RTX 3060" in refused.value.summary
    assert "game" in str(refused.value)


def test_what_cannot_be_spread_is_refused_before_anything_is_stopped(
    vllm: FakeEngine, driver: SimulatedDriver, home: Home, daemon: Daemon
) -> None:
    driver.gpus([card(0), card(1), card(2), card(3), card(7, mig_on=True, mig=[mig_slice(0, 7), mig_slice(1, 7)])])
    profile(vllm, "one", (card_uuid(0),), {})
    profile(vllm, "whole", (card_uuid(7),), {})
    profile(vllm, "three", (), {"tensor_parallel": 3})
    profile(vllm, "nine", (), {"tensor_parallel": 2, "pipeline_parallel": 8})
    profile(vllm, "absent", ("GPU-not-here",), {})
    cluster = {"tensor_parallel": 2, "pipeline_parallel": 2, "executor": "ray", "ray_address": "127.0.0.1:9"}
    profile(vllm, "cluster", (), cluster)
    daemon.start()
    loaded = daemon.load("one").run
    assert loaded is not None
    refusals = {
        "three": "3 cards cannot share",
        "nine": "settings.",
        "absent": "no card GPU-not-here",
        "whole": f"the card {card_uuid(7)} is divided into slices (MIG)",
    }
    for name, words in refusals.items():
        with pytest.raises(SettingInvalid) as refused:
            daemon.want(name)
        assert words in refused.value.summary
    with pytest.raises(EngineNotInstalled, match="Ray is not in vLLM's environment"):
        daemon.want("cluster")
    seen = ray(home, gpus=2)
    with pytest.raises(SettingInvalid, match=r"no Ray cluster answers at 127\.0\.0\.1:9"):
        daemon.want("cluster")
    assert not seen.exists(), "vLLM's own long wait for a cluster is not begun"
    gateway_port = int(daemon.gateway_url.rsplit(":", 1)[1].split("/")[0])  # something that listens
    profile(vllm, "small", (), {**cluster, "ray_address": f"127.0.0.1:{gateway_port}"})
    daemon.wait_slice("library", lambda library: any(c.profile.id == "small" for c in library.profiles))
    with pytest.raises(SettingInvalid, match="has 2"):
        daemon.want("small")
    assert seen.read_text() == f"127.0.0.1:{gateway_port}\n"
    ray(home, gpus=4)
    run = daemon.load("small").run
    assert run is not None
    assert run.environment["RAY_ADDRESS"] == f"127.0.0.1:{gateway_port}"
    assert "--distributed-executor-backend" in run.argv
    with pytest.raises(SettingInvalid, match="divided into slices"):
        daemon.want("whole")
    assert isinstance(daemon.seat().phase, lifecycle.Ready), "what was loaded answers on"
    daemon.unload()
    daemon.wait_idle()
