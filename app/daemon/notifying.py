"""Tells the service manager that started us how far we are, by systemd's protocol (sd_notify)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress


def tell_systemd(state: str, environment: Mapping[str, str]) -> None:
    """`state`: "READY=1" or "STOPPING=1". Without a manager, or when it does not listen, nothing happens."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect("\0" + address[1:] if address[0] == "@" else address)
        channel.sendall(state.encode())
