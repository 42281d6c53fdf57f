"""Asks the desktop's settings portal over D-Bus whether it prefers light or dark, where Qt itself does not know."""

from __future__ import annotations

import os


def prefers_light() -> bool | None:
    """True or False as the desktop says, None when there is no session bus, no portal or no preference."""
    if not os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return None
    from PySide6.QtDBus import QDBusConnection, QDBusInterface, QDBusMessage

    bus = QDBusConnection.sessionBus()
    if not bus.isConnected():
        return None
    portal = QDBusInterface(
        "org.freedesktop.portal.Desktop", "/org/freedesktop/portal/desktop", "org.freedesktop.portal.Settings", bus
    )
    portal.setTimeout(300)
    answer = portal.call("Read", "org.freedesktop.appearance", "color-scheme")
    if answer.type() == QDBusMessage.MessageType.ErrorMessage or not answer.arguments():
        return None
    value = answer.arguments()[0]
    while hasattr(value, "variant"):
        value = value.variant()
    return {1: False, 2: True}.get(value if isinstance(value, int) else 0)
