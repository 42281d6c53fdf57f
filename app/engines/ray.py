"""Asks a Python environment whether Ray can carry a launch there: as one short program, and what its answer means.

vLLM itself waits a long time for a cluster that is not there. An address is passed through as RAY_ADDRESS.
"""

from __future__ import annotations

import json
import re

from app.core.errors import EngineNotInstalled, SettingInvalid

SECONDS = 25.0  # Ray imports for seconds, and a far cluster answers late
CONNECT_SECONDS = 5.0
MARK = "engine-room-ray "
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}")

# argv: the cluster's address, "" for one of its own; the longest wait for its first answer
PROGRAM = f"""
import json, os, socket, sys
address, seconds = sys.argv[1], float(sys.argv[2])
def tell(**found):
    sys.stdout.write({MARK!r} + json.dumps(found) + "\\n"); sys.stdout.flush(); os._exit(0)
try:
    import ray
except Exception as error:
    tell(missing=f"{{type(error).__name__}}: {{error}}")
if not address:
    tell(version=ray.__version__)
host, _, port = address.rpartition(":")
try:
    socket.create_connection((host.strip("[]"), int(port)), seconds).close()
except OSError as error:
    tell(version=ray.__version__, unreachable=error.strerror or str(error))
try:
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    tell(version=ray.__version__, gpus=ray.cluster_resources().get("GPU", 0), free=ray.available_resources().get("GPU", 0))
except BaseException as error:
    tell(version=ray.__version__, refused=f"{{type(error).__name__}}: {{error}}"[:500])
"""


def check_address(where: str, address: str) -> None:
    """Raises SettingInvalid for what can be no cluster's address."""
    if address and not _ADDRESS.fullmatch(address):
        raise SettingInvalid(
            f"{where}: settings.ray_address: {address!r} is no address of a Ray cluster.",
            "Say HOST:PORT, for example 10.0.0.1:6379; leave it out to let vLLM start Ray on this machine.",
        )


def check_answer(where: str, address: str, ranks: int, text: str, why: str, *, needs_cards: bool = True) -> None:
    """Raises EngineNotInstalled or SettingInvalid when the program's output says that the launch could not start.

    `why`: the reason when it had to be ended. `needs_cards`: each rank takes a card.
    """
    line = next((line for line in text.splitlines() if line.startswith(MARK)), "")
    if not line:
        said = why or (text.strip().splitlines() or ["it said nothing"])[-1][:300]
        raise SettingInvalid(
            f"{where}: Ray could not be asked: {said.rstrip('.')}.", "Try `ray status` in the engine's environment."
        )
    found = json.loads(line.removeprefix(MARK))
    if "missing" in found:
        raise EngineNotInstalled(
            f"{where}: Ray is not in vLLM's environment ({found['missing']}).",
            'Install it there (`pip install "ray[default]"`), or take executor = mp.',
        )
    if "unreachable" in found:
        raise SettingInvalid(
            f"{where}: no Ray cluster answers at {address}: {found['unreachable']}.",
            "Start its head (`ray start --head`), or correct settings.ray_address.",
        )
    if "refused" in found:
        raise SettingInvalid(
            f"{where}: the Ray cluster at {address} did not take us: {found['refused'].rstrip('.')}.",
            f"Ray must be of the same version on all machines; here it is {found['version']}.",
        )
    there = found.get("gpus")
    if address and needs_cards and there is not None and there < ranks:
        raise SettingInvalid(
            f"{where}: {ranks} cards are needed (tensor x pipeline parallel), and the Ray cluster at {address} has {there:g}.",
            "Take fewer, or join more machines to it (`ray start --address`).",
        )
    free = found.get("free")
    if address and needs_cards and free is not None and free < ranks:
        raise SettingInvalid(
            f"{where}: {ranks} cards are needed, and {free:g} of the {there:g} of the Ray cluster at {address} are free.",
            "Stop what uses the others; `ray status` shows it.",
        )
