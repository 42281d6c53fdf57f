"""Reads AMD cards from the kernel's files, where a card costs nothing to watch and no library is needed."""

from __future__ import annotations

from pathlib import Path

from app.core.snapshot import GpuSample

DRM = Path("/sys/class/drm")
_AMD = "0x1002"


def read_amd(drm: Path = DRM) -> tuple[GpuSample, ...]:
    """Every AMD card of the kernel's amdgpu driver; a file that is missing or unreadable is None.

    `uuid` is the name under which ROCm takes the card (ROCR_VISIBLE_DEVICES), else its place on the PCI bus. The kernel
    does not say which process holds how much.
    """
    try:
        cards = [entry for entry in drm.iterdir() if entry.name.startswith("card") and entry.name[4:].isdigit()]
    except OSError:
        return ()
    cards.sort(key=lambda entry: int(entry.name[4:]))
    amd = [card / "device" for card in cards if _text(card / "device/vendor") == _AMD]
    return tuple(
        _sample(device, index) for index, device in enumerate(amd) if (device / "mem_info_vram_total").exists()
    )


def _sample(device: Path, index: int) -> GpuSample:
    total, used = _number(device / "mem_info_vram_total"), _number(device / "mem_info_vram_used")
    busy = _number(device / "gpu_busy_percent")
    sensors = next(iter(sorted(device.glob("hwmon/hwmon*"))), device / "hwmon")
    power = _first(sensors / "power1_average", sensors / "power1_input")
    limit = _number(sensors / "power1_cap")
    temperature = _number(sensors / "temp1_input")
    sm_clock, memory_clock = _number(sensors / "freq1_input"), _number(sensors / "freq2_input")
    return GpuSample(
        uuid=_uuid(device),
        index=index,
        name=_text(device / "product_name") or f"AMD GPU {_text(device / 'device') or ''}".strip(),
        total_bytes=total,
        used_bytes=used,
        free_bytes=None if total is None or used is None else total - used,
        utilisation=None if busy is None else busy / 100,
        power_watts=None if power is None else power / 1_000_000,
        power_limit_watts=None if limit is None else limit / 1_000_000,
        temperature_celsius=None if temperature is None else temperature / 1000,
        sm_clock_mhz=None if sm_clock is None else sm_clock // 1_000_000,
        memory_clock_mhz=None if memory_clock is None else memory_clock // 1_000_000,
    )


def _uuid(device: Path) -> str:
    if unique := _text(device / "unique_id"):
        return f"GPU-{unique}"
    for line in (_text(device / "uevent") or "").splitlines():
        if line.startswith("PCI_SLOT_NAME="):
            return f"PCI-{line.partition('=')[2]}"
    return f"AMD-{device.parent.name}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:  # some of these files answer with an error while the card sleeps
        return None


def _number(path: Path) -> int | None:
    try:
        return int(_text(path) or "")
    except ValueError:
        return None


def _first(*paths: Path) -> int | None:
    return next((value for path in paths if (value := _number(path)) is not None), None)
