"""Owns the simulated NVIDIA driver of one test: which cards there are, who holds their memory, and how the driver misbehaves.

The simulation stands at NVML's C functions, under the real pynvml, in every Python process started with `environment()`.
See state.py for the folder and what "released" means, library.py for the functions, site/ for how it gets in.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.rig.driver.allocate import allocate
from tests.rig.driver.state import MIB, State

HERE = Path(__file__).parent
Card = dict[str, Any]
Lag = float | tuple[float, float] | str


def card(number: int = 0, total_mib: int = 24_576, name: str = "NVIDIA GeForce RTX 4090", **more: Any) -> Card:
    """A card as driver.json has it. `more`: reserved_mib, utilisation, power_watts, power_limit_watts, temperature,
    sm_clock, memory_clock, throttle (bits), mig (list of `mig_slice`), mig_on, process_sizes_hidden, errors."""
    return {"uuid": card_uuid(number), "name": name, "total_mib": total_mib, **more}


def mig_slice(number: int, card_number: int = 0, total_mib: int = 9_728, profile: str = "1g.10gb", **more: Any) -> Card:
    uuid = f"MIG-{card_number:08x}-0000-4000-8000-{number:012x}"
    return {"uuid": uuid, "name": f"NVIDIA H100 MIG {profile}", "total_mib": total_mib, **more}


def card_uuid(number: int = 0) -> str:
    return f"GPU-{number:08x}-0000-4000-8000-000000000000"


class SimulatedDriver:
    """Each method takes effect at the next call that anybody makes to the driver."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.state = State(folder)
        self._config: dict[str, Any] = {"absent": True, "gpus": [], "errors": {}, "hang": []}
        self._hangs = 0
        self._write()

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """`base` (default: ours) with what puts the simulation under a Python process; its PYTHONPATH is kept."""
        base = os.environ if base is None else base
        path = os.pathsep.join(part for part in (str(HERE / "site"), base.get("PYTHONPATH", "")) if part)
        return {**base, "PYTHONPATH": path, "ENGINE_ROOM_TEST_DRIVER": str(self.folder)}

    # --- the machine -------------------------------------------------------------------------------------------------

    def gpus(self, cards: Sequence[Card]) -> None:
        """These cards are there from now on, and the driver with them."""
        self._config.update(gpus=[dict(one) for one in cards], absent=False)
        self._write()

    def change(self, number: int = 0, **fields: Any) -> None:
        """Other values for one card: `change(0, throttle=4, temperature=83)`."""
        self._config["gpus"][number].update(fields)
        self._write()

    def driver(self, **fields: Any) -> None:
        """Other values for the whole driver: driver_version, missing (function names that an old driver lacks),
        cards_fixed_at_open (cards that come later are seen after nvmlShutdown and nvmlInit only, as with real ones)."""
        self._config.update(fields)
        self._write()

    def absent(self) -> None:
        """The driver is gone: its library cannot be loaded, and where it is loaded, it says that there is no driver."""
        self._config["absent"] = True
        self._write()

    def present(self) -> None:
        self._config["absent"] = False
        self._write()

    # --- memory ------------------------------------------------------------------------------------------------------

    def foreign(self, uuid: str, pid: int, name: str, mib: int, kind: str = "compute") -> None:
        """A process that is not ours holds `mib` (0: it has gone). `kind`: compute, graphics or both."""
        device, _ = self.state_of(uuid)
        processes = [process for process in device.get("foreign", []) if process["pid"] != pid]
        if mib:
            processes.append({"pid": pid, "name": name, "mib": mib, "kind": kind})
        device["foreign"] = processes
        self._write()

    def allocate(self, pid: int, uuid: str, size: int) -> None:
        """A process holds `size` bytes of the device, as a stand-in engine would tell by itself."""
        path = self.folder / "allocations" / f"{pid}.json"
        held = json.loads(path.read_text()) if path.exists() else {}
        allocate({**held, uuid: size}, str(self.folder), pid)

    def lag(self, lag: Lag, uuid: str | None = None, seed: int = 0, listed: bool = True) -> None:
        """How long memory stays used after its holder's death: seconds, a range drawn from with `seed`, or "never".

        `listed`: whether the dead process is still in the process list meanwhile (both happen on real machines).
        """
        for device in self._config["gpus"]:
            if uuid in (None, device["uuid"]):
                seconds = list(lag) if isinstance(lag, tuple) else lag
                device["release"] = {"lag_seconds": seconds, "seed": seed, "listed": listed}
        self._write()

    def release(self, pid: int) -> None:
        """What a dead process holds comes back now, whatever its lag."""
        self.state.release(pid)

    def releases(self) -> list[dict[str, Any]]:
        """Every release so far: pid, uuid, bytes, dead_at, released_at (time.monotonic), in the order of noticing."""
        path = self.folder / "releases.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def used_bytes(self, uuid: str) -> int:
        return int(self.state.used_bytes(uuid))

    # --- misbehaviour ------------------------------------------------------------------------------------------------

    def break_with(self, error: str, call: str = "*", uuid: str | None = None) -> None:
        """Calls of this C function ("*": all) fail with this NVML error ("GPU_IS_LOST"), on one card or everywhere."""
        place = self._config if uuid is None else self.state_of(uuid)[0]
        place["errors"] = {**(place.get("errors") or {}), call: error}
        self._write()

    def mend(self) -> None:
        """No errors any more."""
        for place in (self._config, *self._devices()):
            place["errors"] = {}
        self._write()

    def hang(self, call: str = "*", seconds: float | None = None) -> None:
        """Calls do not come back for `seconds`, or until `resume`."""
        self._hangs += 1
        until = str(self.folder / f"resume.{self._hangs}")
        self._config["hang"].append({"call": call, "seconds": seconds, "until": until})
        self._write()

    def unblock_new_calls(self) -> None:
        """New calls come back; those that hang already go on hanging, until `resume`."""
        self._config["hang"] = []
        self._write()

    def resume(self) -> None:
        """All calls that hang come back, and no new ones hang."""
        self.unblock_new_calls()
        for number in range(1, self._hangs + 1):
            (self.folder / f"resume.{number}").touch()

    # --- what happened -----------------------------------------------------------------------------------------------

    def threads(self, pid: int) -> list[dict[str, Any]]:
        """The threads of a process that ever called the driver: thread id and name."""
        path = self.folder / "threads.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["pid"] == pid]

    def faults(self) -> str:
        """Mistakes of the simulation itself; a test that uses it asserts that there are none."""
        path = self.folder / "faults.log"
        return path.read_text() if path.exists() else ""

    def state_of(self, uuid: str) -> tuple[Card, Card]:
        for one in self._config["gpus"]:
            for device in (one, *(one.get("mig") or ())):
                if device["uuid"] == uuid:
                    return device, one
        raise KeyError(uuid)

    def _devices(self) -> list[Card]:
        return [device for one in self._config["gpus"] for device in (one, *(one.get("mig") or ()))]

    def _write(self) -> None:
        path = self.folder / "driver.json"
        path.with_suffix(".new").write_text(json.dumps(self._config, indent=1))
        path.with_suffix(".new").replace(path)


__all__ = ["MIB", "SimulatedDriver", "allocate", "card", "card_uuid", "mig_slice"]
