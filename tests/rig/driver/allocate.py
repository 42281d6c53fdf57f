"""Tells the simulated driver what this process holds on each card; standard library only, for stand-in engines."""
# Starts inside other programs, so it imports only what they load anyway:
# ruff: noqa: PTH103, PTH105, PTH118, PTH123

import json
import os


def allocate(bytes_by_uuid, folder=None, pid=None):
    """Replaces what `pid` (this process) holds: {"<uuid>": bytes}. The driver sees by itself when the process is gone."""
    place = os.path.join(folder or os.environ["ENGINE_ROOM_TEST_DRIVER"], "allocations")
    os.makedirs(place, exist_ok=True)
    path = os.path.join(place, f"{pid or os.getpid()}.json")
    with open(f"{path}.new", "w") as file:
        json.dump(bytes_by_uuid, file)
    os.replace(f"{path}.new", path)
