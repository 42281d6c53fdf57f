"""Finds out which account of this machine is at the other end of a loopback TCP connection."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from pathlib import Path

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NO_COOKIE = 0xFFFFFFFF


def uid_of_peer(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    """The uid that owns the socket at `peer` which is connected to `own`; None when it cannot be found.

    The kernel is asked for that one socket (sock_diag(7)); its text tables are read only where that is not possible,
    for they grow with every connection of the machine and reading them would hold up the streams.
    """
    try:
        return _from_kernel(peer, own)
    except OSError:
        return _from_tables(peer, own)


def _from_kernel(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    wanted = (
        struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
        + struct.pack(">HH", peer[1], own[1])
        + socket.inet_pton(family, peer[0]).ljust(16, b"\0")
        + socket.inet_pton(family, own[0]).ljust(16, b"\0")
        + struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as asking:
        asking.settimeout(0.2)
        asking.send(struct.pack("=IHHII", 16 + len(wanted), _SOCK_DIAG_BY_FAMILY, 1, 1, 0) + wanted)
        answer = asking.recv(4096)
    kind = struct.unpack_from("=H", answer, 4)[0]
    if kind != _SOCK_DIAG_BY_FAMILY or len(answer) < 84:
        raise OSError("the kernel did not describe that socket")
    return int(struct.unpack_from("=I", answer, 80)[0])  # nlmsghdr 16 + inet_diag_msg.idiag_uid at 64


def _from_tables(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            wanted = {(_hex(peer, table), _hex(own, table))}
            for line in Path("/proc/net", table).read_text("ascii", "replace").splitlines()[1:]:
                fields = line.split()
                if (fields[1], fields[2]) in wanted:
                    return int(fields[7])
    return None


def _hex(address: tuple[str, int], table: str) -> str:
    """An address as the kernel's tables write it: 32-bit words in the machine's own order, then the port."""
    packed = ipaddress.ip_address(address[0]).packed
    if table == "tcp6" and len(packed) == 4:
        packed = bytes(10) + b"\xff\xff" + packed
    if table == "tcp" and len(packed) != 4:
        raise ValueError("not an IPv4 address")
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
