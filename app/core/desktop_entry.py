"""Writes the entry by which a desktop's menu and launcher know Engine Room, and says where it and its icon lie for an account."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

NAME = "engine-room"  # of the entry, the icon and the window's class: a desktop matches them by it
MARK = "X-Engine-Room-Entry"
_PLAIN = re.compile(r"[A-Za-z0-9_@./+:-]+", re.ASCII)  # words that the specification lets stand without quotes


class Place(NamedTuple):
    entry: Path
    icon: Path


def places(environment: Mapping[str, str]) -> Place:
    """Where the account's own entries and icons are looked for (XDG base folders)."""
    data = Path(environment.get("XDG_DATA_HOME") or Path(environment.get("HOME", "/"), ".local", "share"))
    return Place(data / "applications" / f"{NAME}.desktop", data / "icons/hicolor/scalable/apps" / f"{NAME}.svg")


def exec_line(words: Iterable[str]) -> str:
    """A command as the Desktop Entry Specification quotes it: an argument in quotes, and then the string's own escapes."""
    return " ".join(_argument(word) for word in words)


def _argument(word: str) -> str:
    if not word or any(ord(character) < 32 for character in word):
        raise ValueError(f"{word!r} cannot stand in a desktop entry")
    doubled = word.replace("%", "%%")
    if _PLAIN.fullmatch(doubled.replace("%", "")):
        return doubled
    quoted = re.sub(r'(["`$\\])', r"\\\1", doubled)
    return f'"{quoted}"'.replace("\\", "\\\\")


def entry_text(program: Sequence[str]) -> str:
    """`program`: what starts Engine Room; its verbs follow it."""
    lines = [
        "[Desktop Entry]",
        "Type=Application",
        "Version=1.5",
        "Name=Engine Room",
        "GenericName=Local AI models",
        "Comment=Load local models on llama.cpp and vLLM, one at a time, within the memory that is free",
        f"Exec={exec_line(program)}",
        f"Icon={NAME}",
        "Terminal=false",
        "Categories=Development;Utility;",
        "Keywords=LLM;AI;GPU;VRAM;model;chat;llama.cpp;vLLM;",
        "StartupNotify=true",
        f"StartupWMClass={NAME}",
        "SingleMainWindow=true",
        "Actions=lend;quit;",
        f"{MARK}=true",
        "",
        "[Desktop Action lend]",
        "Name=Lend the GPU for 30 minutes, or take it back",
        f"Exec={exec_line((*program, 'lend', '--toggle'))}",
        "",
        "[Desktop Action quit]",
        "Name=Quit and unload",
        f"Exec={exec_line((*program, 'quit'))}",
        "",
    ]
    return "\n".join(lines)


def is_ours(text: str) -> bool:
    return f"{MARK}=true" in text.splitlines()
