"""Owns an account of its own for one test: HOME, XDG folders, a short runtime folder, a scrubbed environment."""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import tomli_w

from app.core.paths import Paths, paths_from


def entries_below(folder: Path) -> set[Path]:
    """All files and folders below; what comes or goes while we look is no trouble."""
    return {Path(at, name) for at, folders, files in os.walk(folder) for name in (*folders, *files)}


def contents(*folders: Path) -> dict[Path, bytes]:
    """File → what it holds, of all below. One that goes while we look, as a draft does, holds nothing any more."""
    found = {}
    for file in set[Path]().union(*map(entries_below, folders)):
        with contextlib.suppress(OSError):
            if file.is_file():
                found[file] = file.read_bytes()
    return found


KEPT = ("LANG", "LC_ALL", "TZ", "TERM", "COVERAGE_PROCESS_START", "LD_LIBRARY_PATH")


class Home:
    """All files of one isolated account. `environment` is complete: nothing of the developer's leaks in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime_home = Path(tempfile.mkdtemp(prefix="er-", dir="/tmp"))  # short: a socket path holds 107 bytes
        self.bin = folder / "bin"
        self.models = folder / "models"
        self.driver = folder / "driver"  # where the simulated NVIDIA driver and its clients meet
        for place in (self.bin, self.models, self.driver):
            place.mkdir(parents=True, exist_ok=True)
        self.runtime_home.chmod(0o700)
        self.owners: list[str] = []  # "pid:start ticks" of every daemon that ran here, as it stands in a run's mark
        self.environment: dict[str, str] = {
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            "HOME": str(folder),
            "PATH": os.pathsep.join(
                [str(self.bin), str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
            ),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_RUNTIME_DIR": str(self.runtime_home),
            "PYTHONUNBUFFERED": "1",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
            "ENGINE_ROOM_TEST_DRIVER": str(self.driver),
            "ENGINE_ROOM_EVENT_LOG": "1",
            "ENGINE_ROOM_GATEWAY__PORT": "0",
        }
        self.paths: Paths = paths_from(self.environment, os.getuid(), True)
        self.paths.profiles.mkdir(parents=True, exist_ok=True)

    @property
    def event_log(self) -> Path:
        return self.paths.state / "events.jsonl"

    def settings(self, **groups: dict[str, object]) -> None:
        """Writes settings.toml: `settings(supervision={"drain_seconds": 2})`."""
        self.paths.config.mkdir(parents=True, exist_ok=True)
        self.paths.settings_file.write_text(tomli_w.dumps(groups), "utf-8")

    def close(self) -> None:
        shutil.rmtree(self.runtime_home, ignore_errors=True)
