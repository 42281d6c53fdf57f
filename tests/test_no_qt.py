"""Shows that everything but the window runs on a machine without Qt."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import importlib, importlib.abc, pathlib, sys

class NoQt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("PySide6", "shiboken6", "qasync"):
            raise ModuleNotFoundError(f"{name} is not there", name=name)
        return None

sys.meta_path.insert(0, NoQt())
root = pathlib.Path("app")
names = [
    ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    for part in ("core", "engines", "daemon")
    for path in sorted((root / part).rglob("*.py"))
    if "hosts" not in path.parts  # programs that run inside an engine's own environment
]
names += [name for name in ("app.cli", "app.wiring") if (root / (name.split(".")[1] + ".py")).exists()]
for name in names:
    importlib.import_module(name)
print(len(names), [name for name in sys.modules if name.split(".")[0] in ("PySide6", "shiboken6", "qasync")])
"""


def test_core_engines_daemon_and_cli_import_without_qt() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    count, _, found = done.stdout.strip().partition(" ")
    assert int(count) > 20
    assert found == "[]"


def test_the_guard_sees_qt_when_it_is_used() -> None:
    """The same block, with a module that does need Qt: it must fail, or the guard guards nothing."""
    needs = PROGRAM.replace("for name in names:", "names += ['PySide6.QtCore']\nfor name in names:")
    done = subprocess.run([sys.executable, "-c", needs], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
