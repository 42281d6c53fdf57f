"""Owns the keys of remote endpoints by their names: in the desktop's keyring, else in a file that only this account can read.

A keyring may block on a prompt or be none at all, so it is asked in a thread of its own with a deadline, and what was put
there is read back before it is believed. Names are listed; a value leaves this module only for the request that needs it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from app.core.errors import BadRequest, NotWritable, SettingInvalid

SERVICE = "engine-room"
KEYRING_SECONDS = 5.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LONGEST_KEY = 16_384
_PLAIN = ("keyrings.alt", "keyring.backends.null", "keyring.backends.fail")  # no secrets there, or in the clear

T = TypeVar("T")


class Place(NamedTuple):
    """Where a key was put: "keyring" or "file", and why not in the keyring."""

    where: str
    why: str = ""

    def told(self, what: str) -> str:
        """ "The key work is kept in the desktop's keyring."."""
        if self.where == "keyring":
            return f"{what} is kept in the desktop's keyring."
        return f"{what} is kept in a file that only this account can read: {self.why}."


class Kept(msgspec.Struct, kw_only=True):
    """The file: which names lie in the keyring, and the values of all others."""

    in_keyring: list[str] = []
    values: dict[str, str] = {}


class Keys:
    """`file` is made 0600. All methods may be called from the event loop. `changed` is told the names after each change."""

    def __init__(
        self,
        file: Path,
        seconds: float = KEYRING_SECONDS,
        changed: Callable[[dict[str, str]], None] = lambda names: None,
    ) -> None:
        self._file = file
        self._seconds = seconds
        self._changed = changed
        self._changing = threading.Lock()  # held in threads of their own, for as long as a small file takes

    async def names(self) -> dict[str, str]:
        """Name → where its key lies: "keyring" or "file"."""
        kept = await asyncio.to_thread(self._read)
        return dict(sorted({**dict.fromkeys(kept.in_keyring, "keyring"), **dict.fromkeys(kept.values, "file")}.items()))

    async def get(self, name: str) -> str | None:
        """The key; None when there is none of that name, or its keyring is shut."""
        kept = await asyncio.to_thread(self._read)
        if name in kept.values:
            return kept.values[name]
        if name not in kept.in_keyring:
            return None
        return (await self._in_keyring(lambda ring: ring.get_password(SERVICE, name)))[0]

    async def need(self, name: str, who: str) -> str:
        """Raises SettingInvalid that says how the key is given."""
        key = await self.get(name)
        if key:
            return key
        known = await self.names()
        if name in known:
            summary = f"{who}: the key {name!r} lies in the desktop's keyring, which cannot be opened now."
            raise SettingInvalid(summary, f"Unlock it, or give the key again, {_where_to_give(name)}.")
        there = f" There are: {', '.join(known)}." if known else ""
        raise SettingInvalid(f"{who}: there is no key called {name!r}.{there}", f"Give it {_where_to_give(name)}.")

    async def set(self, name: str, key: str) -> Place:
        """Keeps the key under that name; returns where. Raises BadRequest, NotWritable."""
        if not NAME.fullmatch(name):
            raise BadRequest(f"{name[:80]!r} is no name for a key.", "Take letters, digits, dot, dash and underscore.")
        if not key or len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable() or key != key.strip():
            raise BadRequest("That is no key: it must be one line of plain characters.", "Give it again.")

        def put(ring: _Ring) -> bool:
            ring.set_password(SERVICE, name, key)
            return ring.get_password(SERVICE, name) == key

        kept_it, why = await self._in_keyring(put)
        why = why or ("" if kept_it else "the desktop's keyring did not keep it")

        def with_it(kept: Kept) -> None:
            _forget(kept, name)
            if not why:
                kept.in_keyring.append(name)
            else:
                kept.values[name] = key

        await asyncio.to_thread(self._change, with_it)
        self._changed(await self.names())
        return Place("file", why) if why else Place("keyring")

    async def remove(self, name: str) -> bool:
        """Whether there was one. Raises SettingInvalid, and changes nothing, when it lies in a keyring that is shut: what is
        still there must not be called forgotten."""
        kept = await asyncio.to_thread(self._read)
        there = name in kept.in_keyring or name in kept.values

        given_up = threading.Event()

        def drop(ring: _Ring) -> bool:
            if ring.get_password(SERVICE, name) is None:  # it may wait here for the person, for as long as they like
                return True
            if not given_up.is_set():
                ring.delete_password(SERVICE, name)
            return ring.get_password(SERVICE, name) is None

        if name in kept.in_keyring and not (await self._in_keyring(drop))[0]:
            given_up.set()
            raise SettingInvalid(
                f"The key {name!r} lies in the desktop's keyring, which cannot be opened now; it was not removed.",
                "Unlock the keyring, then remove the key again.",
            )
        if there:
            await asyncio.to_thread(self._change, lambda kept: _forget(kept, name))
            self._changed(await self.names())
        return there

    # --- the file ---

    def _read(self) -> Kept:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError):
            return Kept()

    def _change(self, change: Callable[[Kept], None]) -> None:
        """One change at a time, each upon the file as it is. What cannot be read is not written over: it may hold keys."""
        with self._changing:
            try:
                kept = msgspec.json.decode(self._file.read_bytes(), type=Kept)
            except FileNotFoundError:
                kept = Kept()
            except (OSError, msgspec.DecodeError) as error:
                raise NotWritable(
                    f"{self._file}, which holds the keys, cannot be read, so nothing was changed.",
                    "Correct its permissions or its text, or move it away and give the keys again.",
                ) from error
            change(kept)
            self._write(kept)

    def _write(self, kept: Kept) -> None:
        new = self._file.with_name(self._file.name + ".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(msgspec.to_builtins(kept), file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._file)
        except OSError as error:
            raise NotWritable(f"{self._file} cannot be written: {error.strerror}.", "Check its folder.") from error

    # --- the keyring ---

    async def _in_keyring(self, act: Callable[[_Ring], T]) -> tuple[T | None, str]:
        """What `act` gives, and why it gave nothing: there is no keyring to trust, it refuses, or is silent."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[T | None, str]] = loop.create_future()

        def tell(value: T | None, why: str) -> None:
            if not answer.done():
                answer.set_result((value, why))

        def work() -> None:
            value, why = None, ""
            try:
                ring = _keyring()
                value, why = (act(ring), "") if ring is not None else (None, "there is no keyring here")
            except Exception:  # whatever a desktop's keyring raises, it is none then
                why = "the desktop's keyring refused it"
            try:
                loop.call_soon_threadsafe(tell, value, why)
            except RuntimeError:
                pass  # the answer came after the service had gone

        threading.Thread(target=work, daemon=True, name="keyring").start()  # a prompt may hold it for ever
        try:
            async with asyncio.timeout(self._seconds):
                return await answer
        except TimeoutError:
            return None, f"the desktop's keyring did not answer within {self._seconds:g} s; it may be locked"


class _Ring(Protocol):
    """What we use of a keyring."""

    def get_password(self, service: str, name: str) -> str | None: ...
    def set_password(self, service: str, name: str, key: str) -> None: ...
    def delete_password(self, service: str, name: str) -> None: ...


def _where_to_give(name: str) -> str:
    return f"in the window's Settings under Keys or by `engine-room keys set {name}`"


def _forget(kept: Kept, name: str) -> None:
    kept.values.pop(name, None)
    kept.in_keyring = [each for each in kept.in_keyring if each != name]


def _keyring() -> _Ring | None:
    """The desktop's keyring; None where keys would lie in the clear or nowhere."""
    import keyring

    backend = keyring.get_keyring()
    name = type(backend).__module__
    backends = getattr(backend, "backends", None)  # a chain of several
    modules = [type(each).__module__ for each in backends] if backends is not None else [name]
    usable = [module for module in modules if not module.startswith(_PLAIN)]
    return backend if usable and len(usable) == len(modules) else None
