"""Owns the shortcut that lends the GPU from anywhere: the desktop's portal is asked for it over D-Bus, no key is grabbed by us.

The desktop decides: it may ask the person, choose other keys, or refuse. It holds as long as the window's process lives,
in the tray too; where there is no such portal, the desktop's own keyboard settings can run `engine-room lend --toggle`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from PySide6.QtCore import QObject, Signal

from app.core.own_command import own_verb
from app.ui.remembered import Remembered
from app.ui.tasks import Tasks

if TYPE_CHECKING:
    from jeepney import Message
    from jeepney.io.asyncio import DBusRouter

PORTAL = "org.freedesktop.portal.Desktop"
OBJECT = "/org/freedesktop/portal/desktop"
SHORTCUTS = "org.freedesktop.portal.GlobalShortcuts"
REQUEST = "org.freedesktop.portal.Request"
SESSION = "org.freedesktop.portal.Session"
APP_ID = "engine-room"  # the name of our desktop file
LEND = "lend"
DESCRIPTION = "Lend the GPU for 30 minutes, or take it back"
PREFERRED = "CTRL+ALT+g"  # as the shortcuts specification writes it; the desktop may choose another
ANSWER_SECONDS = 20.0  # what needs no person
WAITING_SIGNALS = 64
WANTED = "lend_shortcut"  # what the window remembers


class State(NamedTuple):
    """`text`: the keys that the desktop chose (held), or a sentence (refused, missing)."""

    name: Literal["off", "asking", "held", "refused", "missing"]
    text: str = ""


class _Refused(Exception):
    """The desktop said no; the text says how."""


class _NoPortal(Exception):
    """The session bus answers, and nobody there takes shortcuts."""


def by_hand() -> str:
    """The command that a desktop's own keyboard settings can be given."""
    return shlex.join(own_verb(("lend", "--toggle")))


def keys_of(shortcuts: Sequence[tuple[str, Mapping[str, tuple[str, Any]]]]) -> str:
    """The keys of our shortcut as the desktop describes them; empty when it has none (yet)."""
    for name, values in shortcuts:
        if name == LEND:
            return str(values.get("trigger_description", ("s", ""))[1])
    return ""


class GlobalShortcut(QObject):
    """`pressed` for each press. `hold` asks for it and remembers that it is wanted, `drop` gives it back."""

    pressed = Signal()
    changed = Signal()

    def __init__(self, tasks: Tasks, remembered: Remembered) -> None:
        super().__init__()
        self._tasks, self._remembered = tasks, remembered
        self._task: asyncio.Task[None] | None = None
        self.state = State("off")

    def start(self) -> None:
        """Asks for it again where it was wanted before; the desktop knows its own answer of then."""
        if self._remembered.flag(WANTED):
            self.hold()

    def hold(self) -> None:
        """Asks the desktop, unless it is being asked or has said yes; an earlier no may be asked again at once."""
        self._remembered.keep(**{WANTED: True})
        if self.state.name not in ("asking", "held") or self._task is None or self._task.done():
            self._become(State("asking"))
            self._task = self._tasks.start(self._hold(), "global shortcut")

    def drop(self) -> None:
        self._remembered.keep(**{WANTED: False})
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._become(State("off"))

    def _become(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self.changed.emit()

    async def _hold(self) -> None:
        if not os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
            self._become(State("missing", "There is no desktop session bus here."))
            return
        from jeepney.auth import AuthenticationError
        from jeepney.io.asyncio import open_dbus_router
        from jeepney.io.common import RouterClosed

        try:
            async with open_dbus_router("SESSION") as router:
                while True:
                    await _Session(router, self._become, self.pressed.emit).run()
                    self._become(State("asking"))  # the portal was started anew
        except _Refused as refused:
            self._become(State("refused", str(refused)))
        except _NoPortal:
            self._become(State("missing", "This desktop has no portal for global shortcuts."))
        except (OSError, EOFError, ValueError, TimeoutError, AuthenticationError, RouterClosed):
            self._become(State("missing", "The desktop's session bus does not answer."))


class _Session:
    """One conversation with one portal process, from its first answer until it goes."""

    _numbers = itertools.count(1)

    def __init__(self, router: DBusRouter, become: Callable[[State], None], pressed: Callable[[], None]) -> None:
        self._router, self._become, self._pressed = router, become, pressed
        self._owner = ""
        self._session = ""
        self._answers: dict[str, asyncio.Future[tuple[int, dict[str, Any]]]] = {}

    async def run(self) -> None:
        """Until the portal goes and another comes; with _NoPortal or _Refused when there is nothing to hold."""
        from jeepney import DBusAddress, HeaderFields, MatchRule, Properties, message_bus

        reply = await self._ask(Properties(DBusAddress(OBJECT, PORTAL, SHORTCUTS)).get("version"))
        if reply is None:
            raise _NoPortal
        self._owner = reply.header.fields[HeaderFields.sender]
        rules = [MatchRule(type="signal", sender=self._owner, interface=of) for of in (SHORTCUTS, REQUEST, SESSION)]
        owner_rule = MatchRule(
            type="signal", sender=message_bus.bus_name, interface=message_bus.interface, member="NameOwnerChanged"
        )
        owner_rule.add_arg_condition(0, PORTAL)
        news: asyncio.Queue[Message] = asyncio.Queue(WAITING_SIGNALS)
        filters = [self._router.filter(rule, queue=news) for rule in (*rules, owner_rule)]
        try:
            for rule in (*rules, owner_rule):
                await self._ask(_add_match(rule))
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(self._bind())
                while not self._hear(await news.get()):
                    pass
                asking.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for one in filters:
                one.close()

    def _hear(self, message: Message) -> bool:
        """What one signal changes. True: this portal has gone and another has come."""
        from jeepney import HeaderFields

        fields, body = message.header.fields, message.body
        match fields[HeaderFields.member]:
            case "Response":
                answer = self._answers.pop(fields[HeaderFields.path], None)
                if answer is not None and not answer.done():
                    answer.set_result((body[0], body[1]))
            case "Activated" if body[0] == self._session and body[1] == LEND:
                self._pressed()
            case "ShortcutsChanged" if body[0] == self._session:
                self._become(State("held", keys_of(body[1])))
            case "Closed" if fields[HeaderFields.path] == self._session:
                raise _Refused("The desktop took the shortcut back.")
            case "NameOwnerChanged" if body[2] and body[2] != self._owner:
                return True
        return False

    async def _bind(self) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._ask(_call("org.freedesktop.host.portal.Registry", "Register", "sa{sv}", (APP_ID, {})))
            token = {"session_handle_token": ("s", "engine_room")}
            made = await self._request("CreateSession", "a{sv}", (), token)
        self._session = str(made["session_handle"][1])
        wanted = [(LEND, {"description": ("s", DESCRIPTION), "preferred_trigger": ("s", PREFERRED)})]
        bound = await self._request("BindShortcuts", "oa(sa{sv})sa{sv}", (self._session, wanted, ""))  # asks a person
        self._become(State("held", keys_of(bound.get("shortcuts", ("", ()))[1])))

    async def _request(
        self, method: str, signature: str, body: tuple[object, ...], options: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """The portal's answer to a request; it comes as a signal, from a path that is known before it is asked."""
        token = f"engine_room_{next(self._numbers)}"
        sender = self._router.unique_name.removeprefix(":").replace(".", "_")
        path = f"{OBJECT}/request/{sender}/{token}"
        answer = self._answers[path] = asyncio.get_running_loop().create_future()
        values = {"handle_token": ("s", token), **(options or {})}
        if await self._ask(_call(SHORTCUTS, method, signature, (*body, values))) is None:
            raise _Refused("The desktop refused the shortcut.")
        code, results = await answer
        if code:
            raise _Refused("The shortcut was declined." if code == 1 else "The desktop could not set the shortcut.")
        return results

    async def _ask(self, message: Message) -> Message | None:
        """The reply to a call, None when it is an error."""
        from jeepney import MessageType

        async with asyncio.timeout(ANSWER_SECONDS):
            reply = await self._router.send_and_get_reply(message)
        return None if reply.header.message_type is MessageType.error else reply


def _call(interface: str, method: str, signature: str, body: tuple[object, ...]) -> Message:
    from jeepney import DBusAddress, new_method_call

    return new_method_call(DBusAddress(OBJECT, PORTAL, interface), method, signature, body)


def _add_match(rule: Any) -> Message:
    from jeepney import message_bus

    return message_bus.AddMatch(rule)
