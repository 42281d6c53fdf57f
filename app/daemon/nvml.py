"""Owns the conversation with the NVIDIA driver: one question round over all cards, where what is not known is None.

Nothing here opens a CUDA context, so watching costs no VRAM. Every call may block inside the driver: the only caller is
the sampler's worker thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml

from app.core.snapshot import DriverState, GpuProcess, Gpus, GpuSample

log = logging.getLogger(__name__)

MOST_CARDS = 8
KERNEL_CARDS = Path("/proc/driver/nvidia/gpus")  # one folder per card; absent under WSL2

# Errors that will not change until the driver is opened anew: the question is not asked again.
_NEVER = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    pynvml.NVML_ERROR_DEPRECATED,
}
_ABSENT = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "No NVIDIA driver is installed on this machine; models run on the CPU.",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "The NVIDIA driver is installed but not loaded, so no card can be used. "
    "Load it (sudo modprobe nvidia) or restart the machine; until then models run on the CPU.",
    pynvml.NVML_ERROR_GPU_NOT_FOUND: "The NVIDIA driver finds no card; models run on the CPU.",
}
_BROKEN = {
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "The NVIDIA driver was updated while it ran, and its parts no longer "
    "match. Restart the machine.",
    pynvml.NVML_ERROR_NO_PERMISSION: "This account may not use the NVIDIA card. Check the rights of /dev/nvidia*.",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the card is no longer reachable over its bus; restart the machine",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the card must be reset (nvidia-smi --gpu-reset) or the machine restarted",
}
# NVML renamed "throttle reasons" to "event reasons"; the bits stayed. Idle is left out: a card at rest is not held back.
_REASONS = {
    "ApplicationsClocksSetting": "clocks set by a user",
    "SwPowerCap": "power limit",
    "HwSlowdown": "hardware slowdown",
    "SyncBoost": "sync boost",
    "SwThermalSlowdown": "temperature",
    "HwThermalSlowdown": "temperature (hardware)",
    "HwPowerBrakeSlowdown": "power brake",
    "DisplayClockSetting": "display clocks",
    "BoardLimit": "board limit",
    "Reliability": "voltage reliability",
}


def _reason_bit(name: str) -> int:
    for prefix in ("nvmlClocksEventReason", "nvmlClocksThrottleReason"):
        if bit := getattr(pynvml, prefix + name, 0):
            return int(bit)
    return 0


_REASON_BITS = tuple((_reason_bit(name), words) for name, words in _REASONS.items())


def reason_names(bits: int) -> tuple[str, ...]:
    """The short plain names of what holds the clocks back; idle and unknown bits name nothing."""
    return tuple(words for bit, words in _REASON_BITS if bits & bit)


def process_name(pid: int, proc: Path = Path("/proc")) -> str:
    """A process's short name. /proc/<pid>/comm never blocks, even on a process stuck in the kernel; cmdline can."""
    try:
        comm = (proc / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:  # of another container, or just gone
        comm = ""
    if comm and len(comm) < 15:
        return comm
    try:
        told = str(pynvml.nvmlSystemGetProcessName(pid)).rpartition("/")[2]
    except (pynvml.NVMLError, UnicodeDecodeError):
        told = ""
    if comm:  # the kernel cuts it at 15 characters
        return told if told.startswith(comm) else comm
    return told or f"process {pid}"


def _text(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


class _Device:
    """A card or MIG slice: its handle, its identity, and which questions it has declined for good."""

    def __init__(self, handle: Any, index: int, uuid: str, name: str) -> None:
        self.handle = handle
        self.index = index
        self.uuid = uuid
        self.name = name
        self.error: Exception | None = None  # the last answer that was neither a value nor "not supported"
        self._declined: set[tuple[object, ...]] = set()

    def begin_round(self) -> None:
        self.error = None

    def ask(self, function: str, *arguments: object) -> Any:
        """What the NVML function says of this device, or None: one failed question never spoils the others."""
        key = (function, *arguments)
        if key in self._declined:
            return None
        try:
            return getattr(pynvml, function)(self.handle, *arguments)
        except pynvml.NVMLError as error:
            if error.value in _NEVER:
                self._declined.add(key)
            else:
                self.error = error
        except (UnicodeDecodeError, AttributeError) as error:  # bytes that are no text; a function pynvml lacks
            log.debug("%s of %s: %s", function, self.uuid, error)
            self._declined.add(key)
        return None

    def first(self, *functions: str) -> Any:
        """The first answer of functions that ask the same in newer and older drivers."""
        for function in functions:
            if (answer := self.ask(function)) is not None:
                return answer
        return None


class NvmlReader:
    """Asks every card once per `read`; opens the driver when needed, and anew after it answered with errors only."""

    def __init__(self, clock: Callable[[], float], kernel_cards: Path = KERNEL_CARDS) -> None:
        self._clock = clock
        self._kernel_cards = kernel_cards
        self._open = False
        self._opened_with: frozenset[str] = frozenset()
        self._driver_version: str | None = None
        self._devices: dict[str, _Device] = {}  # uuid → device, cards and slices
        self._cards: tuple[_Device, ...] | None = None  # None: to be looked up
        self._known: dict[int, tuple[str, str]] = {}  # card index → uuid, name, kept while a card does not answer

    def read(self) -> Gpus:
        """One sample; `driver` says ABSENT or BROKEN instead of raising. `taken_at` is when the questions began."""
        taken_at = self._clock()
        try:
            self._ensure_open()
            gpus, troubles = self._read_cards()
        except pynvml.NVMLError as error:
            self.close()
            if sentence := _ABSENT.get(error.value):
                self._known.clear()
                return Gpus(driver=DriverState.ABSENT, message=sentence, taken_at=taken_at)
            return self._broken(_BROKEN.get(error.value, _text(error)), taken_at)
        if not gpus and not troubles:
            self.close()
            sentence = _ABSENT[pynvml.NVML_ERROR_GPU_NOT_FOUND]
            return Gpus(
                driver=DriverState.ABSENT,
                message=sentence,
                driver_version=self._driver_version,
                taken_at=taken_at,
            )
        if troubles and all(sample.total_bytes is None for sample in gpus):
            self.close()
            return self._broken(troubles[0], taken_at, gpus)
        return Gpus(
            driver=DriverState.OK,
            message=" ".join(troubles),
            driver_version=self._driver_version,
            gpus=tuple(gpus),
            taken_at=taken_at,
        )

    def close(self) -> None:
        """Gives the driver back; the next `read` opens it anew."""
        self._cards = None
        self._devices.clear()
        if self._open:
            self._open = False
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError as error:
                log.debug("closing NVML: %s", error)

    def _broken(self, detail: str, taken_at: float, gpus: list[GpuSample] | None = None) -> Gpus:
        """Cards that were seen before stay in the picture, with nothing known of them."""
        if not gpus:
            gpus = [_nothing_known(uuid, index, name) for index, (uuid, name) in sorted(self._known.items())]
        whole = detail if detail.endswith(".") else f"The NVIDIA driver answers with errors: {detail}."
        return Gpus(
            driver=DriverState.BROKEN,
            message=f"{whole} GPU memory is unknown until it answers again (the kernel log, dmesg, says more).",
            driver_version=self._driver_version,
            gpus=tuple(gpus),
            taken_at=taken_at,
        )

    def _ensure_open(self) -> None:
        there = self._names_in_kernel()
        if self._open and there != self._opened_with:
            self.close()  # NVML knows the cards that were there when it was opened, and no others
        if self._open:
            return
        pynvml.nvmlInit()
        self._open, self._opened_with = True, there
        try:
            self._driver_version = pynvml.nvmlSystemGetDriverVersion()
        except (pynvml.NVMLError, UnicodeDecodeError):
            self._driver_version = None

    def _names_in_kernel(self) -> frozenset[str]:
        try:
            return frozenset(entry.name for entry in self._kernel_cards.iterdir())
        except OSError:
            return frozenset()

    def _read_cards(self) -> tuple[list[GpuSample], list[str]]:
        samples: list[GpuSample] = []
        troubles: list[str] = []
        count = min(pynvml.nvmlDeviceGetCount(), MOST_CARDS)
        if self._cards is None or len(self._cards) != count:
            self._cards = self._look_up(count, troubles)
        missing = set(range(count)) - {card.index for card in self._cards}
        samples += [_nothing_known(self._known[i][0], i, self._known[i][1]) for i in missing if i in self._known]
        for card in self._cards:
            card.begin_round()
            slices, physical = self._slices(card), _physical(card)
            if slices is None:
                sample = _sample(card, physical)
                if sample.total_bytes is None and card.error is not None:
                    troubles.append(f"{card.name} (GPU {card.index}) does not answer: {_card_text(card.error)}.")
                samples.append(sample)
            elif not slices:  # CUDA sees no device here, so nothing may be planned on it
                samples.append(_nothing_known(card.uuid, card.index, f"{card.name} (MIG is on, without slices)"))
            else:
                samples += [_sample(piece, physical, card.uuid) for piece in slices]
        if troubles:
            self._cards = None  # handles of a card that was lost are looked up again
        return sorted(samples, key=lambda sample: sample.index), troubles

    def _look_up(self, count: int, troubles: list[str]) -> tuple[_Device, ...]:
        cards: list[_Device] = []
        for index in range(count):
            try:
                card = self._device(pynvml.nvmlDeviceGetHandleByIndex(index), index)
            except pynvml.NVMLError as error:
                name = self._known.get(index, ("", "A card"))[1]
                troubles.append(f"{name} (GPU {index}) does not answer: {_card_text(error)}.")
                continue
            self._known[index] = (card.uuid, card.name)
            cards.append(card)
        for gone in [index for index in self._known if index >= count]:
            del self._known[gone]
        return tuple(cards)

    def _device(self, handle: Any, index: int) -> _Device:
        """The device of a handle; raises NVMLError when it cannot even say who it is."""
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        device = self._devices.get(uuid)
        if device is None:
            device = self._devices[uuid] = _Device(handle, index, uuid, "")
            device.name = device.ask("nvmlDeviceGetName") or f"GPU {index}"
        device.handle, device.index = handle, index
        return device

    def _slices(self, card: _Device) -> list[_Device] | None:
        """The card's MIG slices, or None when it is not divided. Slices can come and go while we watch."""
        mode = card.ask("nvmlDeviceGetMigMode")
        return None if mode is None or not mode[0] else list(self._each_slice(card))

    def _each_slice(self, card: _Device) -> Iterator[_Device]:
        for number in range(card.ask("nvmlDeviceGetMaxMigDeviceCount") or 0):
            try:
                yield self._device(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(card.handle, number), card.index)
            except pynvml.NVMLError:
                continue  # no slice at this place


def _card_text(error: Exception) -> str:
    return _BROKEN.get(getattr(error, "value", None), _text(error)).rstrip(".")


def _nothing_known(uuid: str, index: int, name: str) -> GpuSample:
    return GpuSample(uuid=uuid, index=index, name=name, total_bytes=None, used_bytes=None, free_bytes=None)


def _physical(card: _Device) -> dict[str, Any]:
    """What belongs to the whole card: slices share its power, temperature and clocks."""
    power = card.ask("nvmlDeviceGetPowerUsage")
    limit = card.first("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit")
    temperature = card.ask("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU)
    if temperature is None:
        temperature = card.ask("nvmlDeviceGetTemperatureV", pynvml.NVML_TEMPERATURE_GPU)
    reasons = card.first("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    return {
        "power_watts": None if power is None else power / 1000,
        "power_limit_watts": None if limit is None else limit / 1000,
        "temperature_celsius": None if temperature is None else float(temperature),
        "sm_clock_mhz": card.ask("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": card.ask("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM),
        "throttle_reasons": None if reasons is None else reason_names(reasons),
    }


def _sample(device: _Device, physical: dict[str, Any], mig_parent: str | None = None) -> GpuSample:
    memory = device.ask("nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2)
    reserved = None if memory is None else int(memory.reserved)
    if memory is None:  # drivers before 510; here "used" includes what the driver keeps for itself
        memory = device.ask("nvmlDeviceGetMemoryInfo")
    use = device.ask("nvmlDeviceGetUtilizationRates")
    return GpuSample(
        uuid=device.uuid,
        index=device.index,
        name=device.name,
        total_bytes=None if memory is None else int(memory.total),
        used_bytes=None if memory is None else int(memory.used),
        free_bytes=None if memory is None else int(memory.free),
        reserved_bytes=reserved,
        processes=_processes(device),
        utilisation=None if use is None else use.gpu / 100,
        mig_parent=mig_parent,
        **physical,
    )


def _processes(device: _Device) -> tuple[GpuProcess, ...] | None:
    """Who holds memory of the device, largest first; None where the driver does not tell (WSL2, some containers).

    A process that computes and draws is in both lists, each time with all that it holds: the larger figure counts once.
    """
    held: dict[int, int | None] = {}
    answered = False
    for kind in ("Compute", "Graphics"):
        function = f"nvmlDeviceGet{kind}RunningProcesses"
        listed = device.first(f"{function}_v3", f"{function}_v2")
        for process in listed or ():
            held[process.pid] = _larger(held.get(process.pid), process.usedGpuMemory)
        answered = answered or listed is not None
    if not answered:
        return None
    found = (GpuProcess(pid=pid, name=process_name(pid), bytes=size) for pid, size in held.items())
    return tuple(sorted(found, key=lambda process: (-(process.bytes or 0), process.pid)))


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)
