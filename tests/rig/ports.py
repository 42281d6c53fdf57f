"""Chooses ports for servers that a test starts a moment later, and tells whether one is free again."""

import random
import socket
from pathlib import Path

_DICE = random.SystemRandom()  # not the one that tests give a seed to
_KERNELS = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
SPAN = 12_000


def free_port() -> int:
    """One of 127.0.0.1 below those that the kernel gives to whoever asks for any: no test beside this one gets it meanwhile."""
    while True:
        port = _DICE.randrange(max(1024, _KERNELS - SPAN), _KERNELS)
        if binds(port):
            return port


def binds(port: int) -> bool:
    """Whether somebody can listen there. For a moment, any program's outgoing connection may have got that number."""
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            again.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
