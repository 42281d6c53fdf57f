"""Stands where a desktop's portal stands: a process on a session bus that answers for global shortcuts as a desktop would.

portal.py [--declines | --broken]      prints a line of JSON for each call; lines on its standard input are what happens:
press · other (another one's shortcut is pressed) · keys WORDS (the person chose other keys) · close · leave
"""

import json
import sys
import threading

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import Proxy, open_dbus_connection

NAME = "org.freedesktop.portal.Desktop"
OBJECT = "/org/freedesktop/portal/desktop"
SHORTCUTS = "org.freedesktop.portal.GlobalShortcuts"


class Portal:
    def __init__(self, answers: str) -> None:
        self.answers = answers
        self.bus = open_dbus_connection("SESSION")
        self.writing = threading.Lock()
        self.session = ""
        assert Proxy(message_bus, self.bus).RequestName(NAME) == (1,)
        self.say(started=True)

    def say(self, **what: object) -> None:
        print(json.dumps(what), flush=True)

    def send(self, message: object) -> None:
        with self.writing:
            self.bus.send(message)

    def signal(self, path: str, interface: str, name: str, signature: str, body: tuple) -> None:
        self.send(new_signal(DBusAddress(path, interface=interface), name, signature, body))

    def serve(self) -> None:
        while True:
            message = self.bus.receive()
            if message.header.message_type is MessageType.method_call:
                self.answer(message)

    def answer(self, call) -> None:
        fields = call.header.fields
        name, sender = fields[HeaderFields.member], fields[HeaderFields.sender]
        if name == "Get" and self.answers != "--broken":
            return self.send(new_method_return(call, "v", (("u", 1),)))
        if name == "Register":
            self.say(call=name, app=call.body[0])
            return self.send(new_method_return(call))
        if name not in ("CreateSession", "BindShortcuts") or self.answers == "--broken":
            return self.send(new_error(call, "org.freedesktop.DBus.Error.UnknownMethod"))
        options = call.body[-1]
        mine = sender[1:].replace(".", "_")
        request = f"{OBJECT}/request/{mine}/{options['handle_token'][1]}"
        self.send(new_method_return(call, "o", (request,)))
        code, results = 0, {}
        if name == "CreateSession":
            self.session = f"{OBJECT}/session/{mine}/{options['session_handle_token'][1]}"
            results = {"session_handle": ("s", self.session)}
        elif self.answers == "--declines":
            code = 1
        else:
            _, wanted, parent, _ = call.body
            ((key, values),) = wanted
            self.say(call=name, key=key, parent=parent, **{name: value[1] for name, value in values.items()})
            results = {"shortcuts": ("a(sa{sv})", self.shortcuts("Ctrl+Alt+G"))}
        return self.signal(request, "org.freedesktop.portal.Request", "Response", "ua{sv}", (code, results))

    def shortcuts(self, keys: str) -> list:
        return [("lend", {"description": ("s", "Lend"), "trigger_description": ("s", keys)})]

    def happen(self, line: str) -> None:
        what, _, words = line.strip().partition(" ")
        if what in ("press", "other"):
            session = self.session if what == "press" else self.session + "_of_another"
            self.signal(OBJECT, SHORTCUTS, "Activated", "osta{sv}", (session, "lend", 1, {}))
        elif what == "keys":
            self.signal(OBJECT, SHORTCUTS, "ShortcutsChanged", "oa(sa{sv})", (self.session, self.shortcuts(words)))
        elif what == "close":
            self.signal(self.session, "org.freedesktop.portal.Session", "Closed", "", ())


if __name__ == "__main__":
    portal = Portal(sys.argv[1] if len(sys.argv) > 1 else "")
    threading.Thread(target=portal.serve, daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "leave":
            break
        portal.happen(line)
