"""Is `libnvidia-ml.so.1`: C functions with NVML's signatures, answering from the simulated driver's state.

They are real C function pointers (ctypes closures): pynvml marshals its arguments into them as it does for the driver, and
they see addresses only. The layouts of NVML's structures are written down here a second time, on purpose.
Standard library only.
"""
# Starts inside other programs, so it imports only what they load anyway:
# ruff: noqa: PTH110, PTH118, PTH123

import ctypes
import json
import os
import threading
import time
import traceback
from ctypes import CFUNCTYPE, Structure, c_int, c_uint, c_ulonglong, c_void_p

CODES = {
    "SUCCESS": 0,
    "UNINITIALIZED": 1,
    "INVALID_ARGUMENT": 2,
    "NOT_SUPPORTED": 3,
    "NO_PERMISSION": 4,
    "NOT_FOUND": 6,
    "INSUFFICIENT_SIZE": 7,
    "DRIVER_NOT_LOADED": 9,
    "TIMEOUT": 10,
    "FUNCTION_NOT_FOUND": 13,
    "GPU_IS_LOST": 15,
    "RESET_REQUIRED": 16,
    "LIB_RM_VERSION_MISMATCH": 18,
    "MEMORY": 20,
    "UNKNOWN": 999,
}
TEXTS = {code: name.replace("_", " ").capitalize().encode() for name, code in CODES.items()}
TEXTS[3], TEXTS[15], TEXTS[18] = b"Not Supported", b"GPU is lost", b"Driver/library version mismatch"
MIB = 1024 * 1024
UNKNOWN_SIZE = 2**64 - 1  # NVML_VALUE_NOT_AVAILABLE


class Memory(Structure):
    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class MemoryV2(Structure):
    _fields_ = [
        ("version", c_uint),
        ("total", c_ulonglong),
        ("reserved", c_ulonglong),
        ("free", c_ulonglong),
        ("used", c_ulonglong),
    ]


class ProcessInfo(Structure):
    _fields_ = [("pid", c_uint), ("used", c_ulonglong), ("instance", c_uint), ("compute_instance", c_uint)]


class Failed(Exception):
    """An NVML return code other than success."""

    def __init__(self, name):
        self.code = name if isinstance(name, int) else CODES[name]


EXPORTS = {}


def export(*kinds, names=(), init=True):
    """Makes the function callable from C under its own name and `names`; without `init` it works before nvmlInit too."""

    def keep(function):
        for name in (function.__name__, *names):
            EXPORTS[name] = (function, kinds, init)
        return function

    return keep


class Library:
    """What `ctypes.CDLL("libnvidia-ml.so.1")` gives: attributes are C functions, an unknown one is an AttributeError."""

    def __init__(self, state):
        self._state = state
        self._functions = {}
        self._opened = 0
        self._known_at_open = None  # uuids, where the driver is told to know no cards that come later
        self._handles = {}  # opaque value → uuid
        self._threads = set()
        self._texts = {code: ctypes.create_string_buffer(text) for code, text in TEXTS.items()}

    def __getattr__(self, name):
        if name.startswith("_") or name not in EXPORTS or name in self._state.config().get("missing", ()):
            raise AttributeError(f"libnvidia-ml.so.1: undefined symbol: {name}")
        if name not in self._functions:
            function, kinds, init = EXPORTS[name]
            result = c_void_p if name == "nvmlErrorString" else c_int
            self._functions[name] = CFUNCTYPE(result, *kinds)(self._guarded(name, function, init))
        return self._functions[name]

    def _guarded(self, name, function, init):
        def called(*arguments):
            try:
                if name == "nvmlErrorString":
                    return ctypes.addressof(self._texts.get(arguments[0], self._texts[999]))
                self._note_thread()
                self._hang(name)
                if init and not self._opened:
                    raise Failed("UNINITIALIZED")
                self._fail(name, self._state.config())
                function(self, *arguments)
                return 0
            except Failed as failed:
                return failed.code
            except BaseException:
                with open(os.path.join(self._state.folder, "faults.log"), "a") as file:
                    file.write(f"{name}\n{traceback.format_exc()}\n")
                return CODES["UNKNOWN"]

        called.__name__ = name
        return called

    # --- behaviour ---------------------------------------------------------------------------------------------------

    def _note_thread(self):
        """`threads.jsonl` tells which threads of which process ever called the driver."""
        thread = threading.get_native_id()
        if thread not in self._threads:
            self._threads.add(thread)
            line = {"pid": os.getpid(), "thread": thread, "name": threading.current_thread().name}
            with open(os.path.join(self._state.folder, "threads.jsonl"), "a") as file:
                file.write(json.dumps(line) + "\n")

    def _hang(self, name):
        for hang in self._state.config().get("hang", ()):
            if hang["call"] in ("*", name):
                end = None if hang.get("seconds") is None else time.monotonic() + hang["seconds"]
                while not os.path.exists(hang["until"]) and (end is None or time.monotonic() < end):
                    time.sleep(0.01)

    def _fail(self, name, where):
        errors = where.get("errors") or {}
        if (code := errors.get(name, errors.get("*"))) is not None:
            raise Failed(code)

    def device(self, handle, name):
        """The device of a handle, and its card; fails as the card is told to."""
        if handle not in self._handles:
            raise Failed("INVALID_ARGUMENT")
        device, card = self._state.find(self._handles[handle])
        if device is None:
            raise Failed("GPU_IS_LOST")
        self._fail(name, card)
        if device is not card:
            self._fail(name, device)
        return device, card

    def cards(self):
        known = self._known_at_open
        return [card for card in self._state.cards() if known is None or card["uuid"] in known]

    def handle(self, uuid):
        for value, known in self._handles.items():
            if known == uuid:
                return value
        value = 0x7000_0000 + 0x100 * (len(self._handles) + 1)
        self._handles[value] = uuid
        return value


def put(address, kind, value):
    if not address:
        raise Failed("INVALID_ARGUMENT")
    kind.from_address(address).value = value


def put_text(address, size, text):
    data = text.encode(errors="surrogateescape") + b"\0"
    if len(data) > size:
        raise Failed("INSUFFICIENT_SIZE")
    ctypes.memmove(address, data, len(data))


# --- the library -----------------------------------------------------------------------------------------------------


@export(c_uint, init=False)
def nvmlInitWithFlags(lib, flags):
    if lib._state.config().get("absent"):
        raise Failed("DRIVER_NOT_LOADED")
    if not lib._opened:
        fixed = lib._state.config().get("cards_fixed_at_open")
        lib._known_at_open = [card["uuid"] for card in lib._state.cards()] if fixed else None
    lib._opened += 1


@export(init=False)
def nvmlInit_v2(lib):
    nvmlInitWithFlags(lib, 0)


@export()
def nvmlShutdown(lib):
    lib._opened -= 1
    if not lib._opened:
        lib._handles.clear()


@export(c_int, init=False)
def nvmlErrorString(lib, code):
    """Answered before errors and hangs are looked at: it never touches the driver."""


@export(c_void_p, c_uint)
def nvmlSystemGetDriverVersion(lib, text, size):
    put_text(text, size, lib._state.config().get("driver_version", "580.95.05"))


@export(c_void_p, c_uint)
def nvmlSystemGetNVMLVersion(lib, text, size):
    put_text(text, size, "13." + lib._state.config().get("driver_version", "580.95.05"))


@export(c_void_p, names=("nvmlSystemGetCudaDriverVersion_v2",))
def nvmlSystemGetCudaDriverVersion(lib, version):
    put(version, c_int, lib._state.config().get("cuda_version", 13000))


@export(c_uint, c_void_p, c_uint)
def nvmlSystemGetProcessName(lib, pid, text, size):
    name = lib._state.process_name(pid)
    if name is None:
        raise Failed("NOT_FOUND")
    put_text(text, size, name)


# --- devices ---------------------------------------------------------------------------------------------------------


@export(c_void_p, names=("nvmlDeviceGetCount",))
def nvmlDeviceGetCount_v2(lib, count):
    put(count, c_uint, len(lib.cards()))


@export(c_uint, c_void_p, names=("nvmlDeviceGetHandleByIndex",))
def nvmlDeviceGetHandleByIndex_v2(lib, index, handle):
    cards = lib.cards()
    if index >= len(cards):
        raise Failed("INVALID_ARGUMENT")
    lib._fail("nvmlDeviceGetHandleByIndex_v2", cards[index])
    put(handle, c_void_p, lib.handle(cards[index]["uuid"]))


@export(c_void_p, c_void_p)
def nvmlDeviceGetHandleByUUID(lib, text, handle):
    uuid = ctypes.string_at(text).decode()
    if lib._state.find(uuid)[0] is None:
        raise Failed("NOT_FOUND")
    put(handle, c_void_p, lib.handle(uuid))


@export(c_void_p, c_void_p, c_uint)
def nvmlDeviceGetUUID(lib, handle, text, size):
    device, _ = lib.device(handle, "nvmlDeviceGetUUID")
    put_text(text, size, device["uuid"])


@export(c_void_p, c_void_p, c_uint)
def nvmlDeviceGetName(lib, handle, text, size):
    device, card = lib.device(handle, "nvmlDeviceGetName")
    put_text(text, size, device.get("name", card["name"]))


@export(c_void_p, c_void_p)
def nvmlDeviceGetIndex(lib, handle, index):
    device, _ = lib.device(handle, "nvmlDeviceGetIndex")
    put(index, c_uint, lib.cards().index(device))


@export(c_void_p, c_void_p, c_void_p)
def nvmlDeviceGetCudaComputeCapability(lib, handle, major, minor):
    _, card = lib.device(handle, "nvmlDeviceGetCudaComputeCapability")
    for address, value in zip((major, minor), card.get("compute_capability", [8, 9]), strict=True):
        put(address, c_int, value)


def _memory(lib, device):
    total, reserved = device["total_mib"] * MIB, device.get("reserved_mib", 0) * MIB
    used = min(lib._state.used_bytes(device["uuid"]), total - reserved)
    return total, reserved, used


@export(c_void_p, c_void_p)
def nvmlDeviceGetMemoryInfo(lib, handle, memory):
    device, _ = lib.device(handle, "nvmlDeviceGetMemoryInfo")
    total, reserved, used = _memory(lib, device)
    found = Memory.from_address(memory)
    found.total, found.used, found.free = total, used + reserved, total - reserved - used


@export(c_void_p, c_void_p)
def nvmlDeviceGetMemoryInfo_v2(lib, handle, memory):
    device, _ = lib.device(handle, "nvmlDeviceGetMemoryInfo_v2")
    found = MemoryV2.from_address(memory)
    if found.version != (ctypes.sizeof(MemoryV2) | 2 << 24):
        raise Failed("INVALID_ARGUMENT")
    total, reserved, used = _memory(lib, device)
    found.total, found.reserved, found.used, found.free = total, reserved, used, total - reserved - used


def _processes(lib, handle, name, kind, count, infos):
    device, card = lib.device(handle, name)
    holders = lib._state.holders(device["uuid"])
    listed = [(pid, size) for pid, size, of, shown in holders if shown and of in (kind, "both")]
    room = c_uint.from_address(count)
    if len(listed) > room.value:
        room.value = len(listed)
        raise Failed("INSUFFICIENT_SIZE")
    room.value = len(listed)
    for place, (pid, size) in enumerate(listed):
        info = ProcessInfo.from_address(infos + place * ctypes.sizeof(ProcessInfo))
        info.pid, info.used = pid, UNKNOWN_SIZE if card.get("process_sizes_hidden") else size
        info.instance = info.compute_instance = 0xFFFFFFFF


@export(c_void_p, c_void_p, c_void_p, names=("nvmlDeviceGetComputeRunningProcesses_v2",))
def nvmlDeviceGetComputeRunningProcesses_v3(lib, handle, count, infos):
    _processes(lib, handle, "nvmlDeviceGetComputeRunningProcesses_v3", "compute", count, infos)


@export(c_void_p, c_void_p, c_void_p, names=("nvmlDeviceGetGraphicsRunningProcesses_v2",))
def nvmlDeviceGetGraphicsRunningProcesses_v3(lib, handle, count, infos):
    _processes(lib, handle, "nvmlDeviceGetGraphicsRunningProcesses_v3", "graphics", count, infos)


@export(c_void_p, c_void_p)
def nvmlDeviceGetUtilizationRates(lib, handle, rates):
    device, card = lib.device(handle, "nvmlDeviceGetUtilizationRates")
    if device is not card:
        raise Failed("NOT_SUPPORTED")  # as for MIG slices
    put(rates, c_uint, round(100 * card.get("utilisation", 0)))
    put(rates + 4, c_uint, 0)


@export(c_void_p, c_void_p)
def nvmlDeviceGetPowerUsage(lib, handle, milliwatts):
    _, card = lib.device(handle, "nvmlDeviceGetPowerUsage")
    put(milliwatts, c_uint, round(1000 * card.get("power_watts", 21)))


@export(c_void_p, c_void_p)
def nvmlDeviceGetEnforcedPowerLimit(lib, handle, milliwatts):
    _, card = lib.device(handle, "nvmlDeviceGetEnforcedPowerLimit")
    put(milliwatts, c_uint, round(1000 * card.get("power_limit_watts", 450)))


@export(c_void_p, c_void_p)
def nvmlDeviceGetPowerManagementLimit(lib, handle, milliwatts):
    nvmlDeviceGetEnforcedPowerLimit(lib, handle, milliwatts)


@export(c_void_p, c_uint, c_void_p)
def nvmlDeviceGetTemperature(lib, handle, sensor, degrees):
    _, card = lib.device(handle, "nvmlDeviceGetTemperature")
    put(degrees, c_uint, card.get("temperature", 41))


@export(c_void_p, c_void_p)
def nvmlDeviceGetTemperatureV(lib, handle, reading):  # {version, sensor, degrees}
    _, card = lib.device(handle, "nvmlDeviceGetTemperatureV")
    put(reading + 8, c_int, card.get("temperature", 41))


@export(c_void_p, c_uint, c_void_p)
def nvmlDeviceGetClockInfo(lib, handle, kind, mhz):
    _, card = lib.device(handle, "nvmlDeviceGetClockInfo")
    put(mhz, c_uint, card.get("memory_clock", 405) if kind == 2 else card.get("sm_clock", 210))


@export(c_void_p, c_void_p)
def nvmlDeviceGetCurrentClocksEventReasons(lib, handle, bits):
    _, card = lib.device(handle, "nvmlDeviceGetCurrentClocksEventReasons")
    put(bits, c_ulonglong, card.get("throttle", 1))


@export(c_void_p, c_void_p)
def nvmlDeviceGetCurrentClocksThrottleReasons(lib, handle, bits):
    _, card = lib.device(handle, "nvmlDeviceGetCurrentClocksThrottleReasons")
    put(bits, c_ulonglong, card.get("throttle", 1))


# --- MIG -------------------------------------------------------------------------------------------------------------


@export(c_void_p, c_void_p, c_void_p)
def nvmlDeviceGetMigMode(lib, handle, current, pending):
    _, card = lib.device(handle, "nvmlDeviceGetMigMode")
    if card.get("mig") is None:
        raise Failed("NOT_SUPPORTED")
    for address in (current, pending):
        put(address, c_uint, 1 if card.get("mig_on", True) else 0)


@export(c_void_p, c_void_p)
def nvmlDeviceGetMaxMigDeviceCount(lib, handle, count):
    lib.device(handle, "nvmlDeviceGetMaxMigDeviceCount")
    put(count, c_uint, 7)


@export(c_void_p, c_uint, c_void_p)
def nvmlDeviceGetMigDeviceHandleByIndex(lib, handle, index, slice_handle):
    _, card = lib.device(handle, "nvmlDeviceGetMigDeviceHandleByIndex")
    if index >= len(card.get("mig") or ()):
        raise Failed("NOT_FOUND")
    put(slice_handle, c_void_p, lib.handle(card["mig"][index]["uuid"]))


@export(c_void_p, c_void_p)
def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(lib, handle, parent):
    _, card = lib.device(handle, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle")
    put(parent, c_void_p, lib.handle(card["uuid"]))


@export(c_void_p, c_void_p)
def nvmlDeviceIsMigDeviceHandle(lib, handle, answer):
    device, card = lib.device(handle, "nvmlDeviceIsMigDeviceHandle")
    put(answer, c_uint, int(device is not card))
