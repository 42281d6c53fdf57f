"""AMD cards, read from a folder tree like the kernel's: what a card does not tell is unknown."""

from pathlib import Path

from app.daemon.amd import read_amd
from tests.rig.driver import SimulatedDriver, card
from tests.rig.driver.gpu_probe import GpuProbe

GIB = 2**30


def amd_card(drm: Path, name: str = "card1", **files: str) -> None:
    device = drm / name / "device"
    device.mkdir(parents=True)
    contents = {
        "vendor": "0x1002",
        "device": "0x744c",
        "mem_info_vram_total": str(24 * GIB),
        "mem_info_vram_used": str(3 * GIB),
        **files,
    }
    for file, text in contents.items():
        path = device / file.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_a_card_is_read_with_its_sensors(tmp_path: Path) -> None:
    amd_card(
        tmp_path,
        unique_id="9fb1f8a1c2d3e4f5",
        product_name="Radeon RX 7900 XTX",
        gpu_busy_percent="73",
        hwmon__hwmon4__power1_average="245000000",
        hwmon__hwmon4__power1_cap="355000000",
        hwmon__hwmon4__temp1_input="61000",
        hwmon__hwmon4__freq1_input="2371000000",
        hwmon__hwmon4__freq2_input="1249000000",
    )
    (gpu,) = read_amd(tmp_path)
    assert (gpu.uuid, gpu.index, gpu.name) == ("GPU-9fb1f8a1c2d3e4f5", 0, "Radeon RX 7900 XTX")
    assert (gpu.total_bytes, gpu.used_bytes, gpu.free_bytes) == (24 * GIB, 3 * GIB, 21 * GIB)
    assert gpu.utilisation == 0.73
    assert (gpu.power_watts, gpu.power_limit_watts) == (245.0, 355.0)
    assert gpu.temperature_celsius == 61.0
    assert (gpu.sm_clock_mhz, gpu.memory_clock_mhz) == (2371, 1249)
    assert gpu.processes is None, "the kernel does not tell"


def test_what_is_missing_or_garbage_is_unknown(tmp_path: Path) -> None:
    amd_card(
        tmp_path, gpu_busy_percent="<busy>", mem_info_vram_used="", uevent="DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0"
    )
    (gpu,) = read_amd(tmp_path)
    assert (gpu.uuid, gpu.name) == ("PCI-0000:03:00.0", "AMD GPU 0x744c")
    assert (gpu.used_bytes, gpu.free_bytes, gpu.utilisation, gpu.power_watts) == (None, None, None, None)


def test_only_amd_cards_are_taken_and_in_their_order(tmp_path: Path) -> None:
    amd_card(tmp_path, "card10", product_name="ten")
    amd_card(tmp_path, "card2", product_name="two")
    amd_card(tmp_path, "card0", vendor="0x8086")
    amd_card(tmp_path, "card2-DP-1")
    assert [(gpu.index, gpu.name) for gpu in read_amd(tmp_path)] == [(0, "two"), (1, "ten")]
    assert read_amd(tmp_path / "nothing") == ()


def test_a_machine_with_amd_cards_only_is_well(tmp_path: Path) -> None:
    amd_card(tmp_path / "drm", product_name="Radeon")
    driver = SimulatedDriver(tmp_path / "driver")
    with GpuProbe(driver, drm=str(tmp_path / "drm")) as probe:
        sample = probe.state("ok")
        assert [gpu["name"] for gpu in sample["gpus"]] == ["Radeon"]
        assert sample["message"] == ""
        driver.gpus([card(0)])
        both = probe.sample(lambda sample: len(sample["gpus"]) == 2)
    assert [gpu["name"] for gpu in both["gpus"]] == ["NVIDIA GeForce RTX 4090", "Radeon"]


def test_figures_that_wait_for_a_broken_driver_show_their_age(tmp_path: Path) -> None:
    """I4: an AMD figure that was not read again is not called young."""
    amd_card(tmp_path / "drm", product_name="Radeon")
    driver = SimulatedDriver(tmp_path / "driver")
    driver.gpus([card(0)])
    driver.break_with("UNKNOWN")
    with GpuProbe(driver, drm=str(tmp_path / "drm"), broken_retry_seconds=600) as probe:
        first = probe.state("broken")
        later = probe.sample(lambda sample: sample["host"]["taken_at"] > first["host"]["taken_at"] + 0.2)
    assert later["taken_at"] == first["taken_at"]
