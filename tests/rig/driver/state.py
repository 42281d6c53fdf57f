"""Decides what the simulated driver knows: the cards of `driver.json`, what living processes hold, what the dead still hold.

Standard library only: it is loaded inside the daemon under test, and by tests. Several processes may look at one folder.

    driver.json               the cards and their behaviour, written whole by SimulatedDriver
    allocations/<pid>.json    {"<uuid>": bytes, …}, written whole by the process that holds the memory
    deaths/<pid>.json         when somebody first saw the holder dead, and when each card gives its memory back
    releases.jsonl            one line per release: pid, uuid, bytes, dead_at, released_at (time.monotonic)

Nobody runs in the background: a holder is dead from the moment that a question to the driver first finds it so, and the
release comes the card's lag later. Memory is thus never reported free before `released_at`, and the record is exact.
"""
# Starts inside other programs, so it imports only what they load anyway:
# ruff: noqa: PTH103, PTH105, PTH108, PTH115, PTH116, PTH118, PTH123, PTH208

import contextlib
import fcntl
import json
import os
import random
import time

MIB = 1024 * 1024
ABSENT = {"absent": True, "gpus": []}


class State:
    """The folder's truth at the moment of each question."""

    def __init__(self, folder):
        self.folder = str(folder)
        self._config = (None, ABSENT)

    def _path(self, *names):
        return os.path.join(self.folder, *names)

    def config(self):
        """The parsed driver.json; without one there is no driver."""
        try:
            found = os.stat(self._path("driver.json"))
        except FileNotFoundError:
            return ABSENT
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if self._config[0] != stamp:
            self._config = (stamp, _read(self._path("driver.json")) or ABSENT)
        return self._config[1]

    def cards(self):
        return self.config().get("gpus", [])

    def find(self, uuid):
        """The card or MIG slice of this uuid, and the card that it belongs to; (None, None) when it is not there."""
        for card in self.cards():
            if card["uuid"] == uuid:
                return card, card
            for piece in card.get("mig") or ():
                if piece["uuid"] == uuid:
                    return piece, card
        return None, None

    def holders(self, uuid):
        """(pid, bytes, kind, listed) of everybody who holds memory of the device, the dead included until their release."""
        device, _ = self.find(uuid)
        found = [(p["pid"], p["mib"] * MIB, p.get("kind", "compute"), True) for p in device.get("foreign", ())]
        dead = False
        for pid, held in self._allocations():
            if _lives(pid, self._path("allocations", f"{pid}.json")):
                if held.get(uuid):
                    found.append((pid, held[uuid], "compute", True))
            else:
                dead = True
        if dead:
            found += [(pid, size, "compute", listed) for pid, size, listed in self._unreleased(uuid)]
        return found

    def used_bytes(self, uuid):
        """Without what the driver reserves for itself."""
        device, _ = self.find(uuid)
        pieces = sum(self.used_bytes(piece["uuid"]) for piece in device.get("mig") or ())
        return pieces + sum(size for _, size, _, _ in self.holders(uuid))

    def process_name(self, pid):
        for card in self.cards():
            for device in (card, *(card.get("mig") or ())):
                for process in device.get("foreign", ()):
                    if process["pid"] == pid:
                        return process["name"]
        try:
            return os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return None

    def release(self, pid):
        """Gives back at once what a dead process holds, whatever the lag says."""
        with self._lock():
            path = self._path("deaths", f"{pid}.json")
            death = _read(path)
            if death:
                death["release_at"] = {uuid: time.monotonic() for uuid in death["bytes"]}
                _write(path, death)

    # --- the dead ----------------------------------------------------------------------------------------------------

    def _allocations(self):
        try:
            names = os.listdir(self._path("allocations"))
        except FileNotFoundError:
            return
        for name in names:
            stem, dot, suffix = name.partition(".")
            if dot and suffix == "json" and stem.isdigit():
                held = _read(self._path("allocations", name))
                if held:
                    yield int(stem), held

    def _unreleased(self, uuid):
        """(pid, bytes, listed) of the dead that still hold memory of the device; notices deaths and records releases."""
        found = []
        with self._lock():
            now = time.monotonic()
            for pid, held in list(self._allocations()):
                allocation = self._path("allocations", f"{pid}.json")
                if _lives(pid, allocation):
                    continue
                path = self._path("deaths", f"{pid}.json")
                death = _read(path) or self._death(pid, held, now)
                for device, at in death["release_at"].items():
                    if at is not None and at <= now and device not in death["released"]:
                        death["released"].append(device)
                        self._record(pid, device, death, at)
                if set(death["released"]) == set(death["bytes"]):
                    for gone in (allocation, path):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(gone)
                    continue
                _write(path, death)
                if held.get(uuid) and uuid not in death["released"]:
                    found.append((pid, held[uuid], death["listed"].get(uuid, True)))
        return found

    def _death(self, pid, held, now):
        release_at, listed = {}, {}
        for uuid in held:
            _, card = self.find(uuid)
            release = (card or {}).get("release") or {}
            lag = release.get("lag_seconds", 0)
            if isinstance(lag, list):
                lag = random.Random(f"{release.get('seed', 0)}:{self._death_number()}:{uuid}").uniform(*lag)
            release_at[uuid] = None if lag == "never" else now + lag
            listed[uuid] = release.get("listed", True)
        return {"bytes": held, "noticed_at": now, "release_at": release_at, "listed": listed, "released": []}

    def _death_number(self):
        """How many deaths came before: with the seed it makes a random lag repeatable, whatever the pids are."""
        try:
            with open(self._path("releases.jsonl")) as file:
                released = len({json.loads(line)["pid"] for line in file})
        except FileNotFoundError:
            released = 0
        return released + len(os.listdir(self._path("deaths")))

    def _record(self, pid, uuid, death, released_at):
        line = {
            "pid": pid,
            "uuid": uuid,
            "bytes": death["bytes"][uuid],
            "dead_at": death["noticed_at"],
            "released_at": released_at,
        }
        with open(self._path("releases.jsonl"), "a") as file:
            file.write(json.dumps(line) + "\n")

    @contextlib.contextmanager
    def _lock(self):
        os.makedirs(self._path("deaths"), exist_ok=True)
        with open(self._path("lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _lives(pid, allocation):
    """Whether the process that wrote the file runs: a zombie does not, nor a later process that got the same pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        written = os.stat(allocation).st_mtime
    except (FileNotFoundError, ProcessLookupError):
        return False
    if fields[0] in (b"Z", b"X"):
        return False
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return started <= written + 0.1


def _read(path):
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def _write(path, value):
    with open(f"{path}.new", "w") as file:
        json.dump(value, file)
    os.replace(f"{path}.new", path)
