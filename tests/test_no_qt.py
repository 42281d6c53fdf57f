"""Shows that everything but the window runs on a machine without Qt."""

import subprocess
import sys
from pathlib import Path

from tests.rig.home import Home

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
NEED_THE_WINDOW = ("__main__", "smoke")  # the first starts the program; the second drives the window
names += [f"app.{path.stem}" for path in sorted(root.glob("*.py")) if path.stem not in NEED_THE_WINDOW]
for name in names:
    importlib.import_module(name)
assert {"app.verbs", "app.verbs_pull", "app.talk", "app.client", "app.cli", "app.wiring"} <= set(names)
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


def test_a_verb_runs_without_qt(home: Home) -> None:
    """Imports inside of functions count as well: the command line is used on a machine that has no window."""
    program = PROGRAM.partition("root =")[0] + "from app.cli import main\nmain()"
    for words, codes in ((["--version"], (0,)), (["ls"], (0,)), (["doctor"], (0, 1)), (["quit"], (0,))):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, *words],
            env=home.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode in codes, done.stderr[-3000:]
        assert done.stdout


def test_the_guard_sees_qt_when_it_is_used() -> None:
    """The same block, with a module that does need Qt: it must fail, or the guard guards nothing."""
    needs = PROGRAM.replace("for name in names:", "names += ['PySide6.QtCore']\nfor name in names:")
    done = subprocess.run([sys.executable, "-c", needs], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
