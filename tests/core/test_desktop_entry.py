"""The desktop's entry, by the rules of the Desktop Entry Specification, and the one that the wheel carries."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.core.desktop_entry import entry_text, exec_line, is_ours, places

TOP = Path(__file__).resolve().parents[2]
# Registered main categories of the menu specification; one of them must be there.
MAIN = {"AudioVideo", "Development", "Education", "Game", "Graphics", "Network", "Office", "Science", "Settings", "System", "Utility"}  # fmt: skip


def parsed(text: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read_string(text)
    return found


def test_it_says_what_a_desktop_asks_for() -> None:
    text = entry_text(("/opt/er/bin/engine-room",))
    entry = parsed(text)["Desktop Entry"]
    assert text.startswith("[Desktop Entry]\n"), "that group comes first"
    assert text.endswith("\n")
    assert entry["Type"] == "Application"
    assert entry["Name"] == "Engine Room"
    assert entry["Exec"] == "/opt/er/bin/engine-room"
    assert (entry["Icon"], entry["StartupWMClass"]) == ("engine-room", "engine-room")
    for key in ("Categories", "Keywords", "Actions"):
        assert entry[key].endswith(";"), "lists end with a semicolon"
    assert set(entry["Categories"].split(";")) & MAIN
    for key in ("Terminal", "StartupNotify", "SingleMainWindow"):
        assert entry[key] in ("true", "false")
    assert all(re.fullmatch(r"[A-Za-z0-9-]+", key) for key in entry)
    for action in filter(None, entry["Actions"].split(";")):
        part = parsed(text)[f"Desktop Action {action}"]
        assert part["Name"]
        assert part["Exec"].startswith("/opt/er/bin/engine-room ")
    assert is_ours(text)


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/usr/bin/engine-room", "/usr/bin/engine-room"),
        ("/home/a b/run", '"/home/a b/run"'),
        ("/50%/run", "/50%%/run"),
        ('/a"b', '"/a\\\\"b"'),
        ("/a$b`c", '"/a\\\\$b\\\\`c"'),
        ("/a\\b", '"/a\\\\\\\\b"'),
    ],
)
def test_paths_of_any_kind_are_quoted(word: str, written: str) -> None:
    assert exec_line([word]) == written
    read = re.sub(r"\\(.)", r"\1", written)  # a desktop first undoes the string's own escapes, then the quotes
    if read.startswith('"'):
        read = re.sub(r'\\(["`$\\])', r"\1", read[1:-1])
    assert read.replace("%%", "%") == word


def test_a_path_with_a_line_break_is_refused() -> None:
    with pytest.raises(ValueError):
        exec_line(["/a\nTerminal=true"])


def test_the_account_s_own_folders() -> None:
    entry, icon = places({"HOME": "/h"})
    assert entry == Path("/h/.local/share/applications/engine-room.desktop")
    assert icon == Path("/h/.local/share/icons/hicolor/scalable/apps/engine-room.svg")
    assert places({"HOME": "/h", "XDG_DATA_HOME": "/d"}).entry.parent == Path("/d/applications")


def test_the_wheel_carries_the_same_entry() -> None:
    """For an installation whose folder `share` is the desktop's; elsewhere `engine-room desktop install` writes it."""
    assert (TOP / "packaging" / "engine-room.desktop").read_text("utf-8") == entry_text(("engine-room",))


@pytest.mark.skipif(shutil.which("desktop-file-validate") is None, reason="there is no desktop-file-validate here")
def test_the_desktop_s_own_checker_has_nothing_to_say() -> None:
    done = subprocess.run(
        ["desktop-file-validate", str(TOP / "packaging" / "engine-room.desktop")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
