"""packaging/run on machines of many kinds: a checkout in miniature, real sh, venv and pip, a folder of wheels, no network."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.rig.wheels import sha256_of, write_wheel

ROOT = Path(__file__).resolve().parents[2]
BASE_PYTHON = str(Path(sys.base_prefix) / "bin" / "python3")
PROGRAMS = (
    *("sh", "cat", "grep", "sed", "cut", "tr", "tee", "id", "uname", "getconf", "basename", "dirname", "mkdir", "rm"),
    *("chmod", "touch", "ls", "cmp", "cp", "sha256sum", "env"),
)
INSTALLER = """
import os, pathlib
folder = pathlib.Path(os.environ["XDG_DATA_HOME"], "engine-room", "engines", "llama.cpp-1-cpu")
folder.mkdir(parents=True, exist_ok=True)
(folder / "engine.json").write_text("{}")
print("installing the engine")
"""
APP = "import sys, standin\nprint('started with', sys.argv[1:], 'standin', standin.version)\n"
MISSING = """
import os, pathlib
if not pathlib.Path(os.environ["HOME"], "libraries-installed").exists():
    print("libnowhere1")
"""


class Machine:
    """A folder with our launcher, a PATH of chosen programs, and an account of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "a place" / "project"  # with a space, as people's folders have
        self.wheels = folder / "wheels"
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.restore()

    def restore(self) -> None:
        """Everything as at first, but for the environment, the engine and the packages that a run has made."""
        shutil.rmtree(self.bin, ignore_errors=True)
        for place in (self.bin, self.home, self.project / "packaging", self.project / "resources"):
            place.mkdir(parents=True, exist_ok=True)
        for trace in ("apt-calls", "libraries-installed"):
            (self.home / trace).unlink(missing_ok=True)
        for name in ("run", "environment.sh", "bring_pip.py"):
            shutil.copy2(ROOT / "packaging" / name, self.project / "packaging" / name)
        self.file("resources/engines.toml", "version = 1\n")
        self.file("app/__init__.py", "")
        self.file("app/__main__.py", APP)
        self.file("app/daemon/__init__.py", "")
        self.file("app/daemon/installer.py", INSTALLER)
        self.file("app/daemon/system_libraries.py", "")
        self.lock("1.0")
        for name in PROGRAMS:
            found = shutil.which(name)
            assert found, name
            (self.bin / name).symlink_to(found)
        self.program("python3", f'exec {BASE_PYTHON} "$@"')
        self.program("apt-get", f'echo "$@" >> {self.home}/apt-calls; touch {self.home}/libraries-installed')

    def file(self, name: str, text: str) -> None:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        (self.bin / name).chmod(0o755)

    def ordinary_user(self) -> None:
        (self.bin / "id").unlink()
        self.program("id", "echo 1000")

    def root(self) -> None:
        (self.bin / "id").unlink()
        self.program("id", "echo 0")

    def lock(self, version: str, digest: str = "") -> None:
        wheel = write_wheel(self.wheels, "standin", version, {"standin.py": f"version = {version!r}\n"})
        self.file(
            "packaging/requirements.txt", f"standin=={version} \\\n    --hash=sha256:{digest or sha256_of(wheel)}\n"
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "HOME": str(self.home),
            "XDG_DATA_HOME": str(self.home / "data"),
            "PATH": str(self.bin),
            "LANG": "C.UTF-8",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": "/dev/null",
        }
        return subprocess.run(
            [str(self.project / "packaging" / "run"), *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    """A machine that has never seen the project."""
    return Machine(tmp_path)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    assert machine.run("--prepare-only").returncode == 0
    return machine


@pytest.fixture
def machine(used: Machine) -> Machine:
    """A machine on which the project has been prepared once."""
    used.restore()
    return used


def test_the_first_start_makes_everything_and_the_second_asks_nobody(bare: Machine) -> None:
    first = bare.run("status", "--json")
    assert first.returncode == 0, first.stderr
    assert first.stdout == "started with ['status', '--json'] standin 1.0\n", "what it does is told on stderr"
    assert "making" in first.stderr
    assert "standin-1.0" in first.stderr
    assert "installing the engine" in first.stderr
    shutil.rmtree(bare.wheels)
    second = bare.run("status", "--json")
    assert second.returncode == 0
    assert second.stdout == first.stdout
    assert second.stderr == ""
    assert (bare.project / ".venv" / "bin" / "engine-room").is_file()


def test_only_preparing_starts_nothing(machine: Machine) -> None:
    done = machine.run("--prepare-only")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "everything is in place" in done.stderr


def test_a_new_lock_is_installed_and_a_wrong_file_is_refused(machine: Machine) -> None:
    assert "standin 1.0" in machine.run().stdout
    machine.lock("2.0")
    assert "standin 2.0" in machine.run().stdout
    machine.lock("3.0", digest="0" * 64)
    refused = machine.run()
    assert refused.returncode != 0
    assert "could not be installed" in refused.stderr
    assert "started" not in refused.stdout
    machine.lock("3.0")
    assert "standin 3.0" in machine.run().stdout, "a failed installation is not taken for a finished one"


def test_a_moved_checkout_gets_a_new_environment(bare: Machine) -> None:
    bare.run("--prepare-only")
    moved = bare.project.with_name("elsewhere")
    bare.project.rename(moved)
    bare.project = moved
    done = bare.run("status")
    assert done.returncode == 0, done.stderr
    assert "making" in done.stderr


def test_the_engine_is_looked_for_again_when_the_table_changes_or_it_is_gone(machine: Machine) -> None:
    machine.run("--prepare-only")
    machine.file("resources/engines.toml", "version = 2\n")
    assert "installing the engine" in machine.run("--prepare-only").stderr
    shutil.rmtree(machine.home / "data")
    assert "installing the engine" in machine.run("--prepare-only").stderr
    assert machine.run("--prepare-only").stderr == "engine-room: everything is in place\n"


def test_without_an_engine_the_window_still_opens_but_a_smoke_run_does_not(machine: Machine) -> None:
    machine.file("app/daemon/installer.py", "import sys\nsys.exit('no network')\n")
    window = machine.run("status")
    assert "started" in window.stdout
    assert "without the built-in engine" in window.stderr
    assert machine.run("--smoke").returncode == 1


def test_an_ordinary_user_is_told_the_line_that_installs_what_qt_misses(machine: Machine) -> None:
    machine.ordinary_user()
    machine.file("app/daemon/system_libraries.py", MISSING)
    done = machine.run()
    assert done.returncode == 1
    assert "sudo apt-get install libnowhere1" in done.stderr
    assert not (machine.home / "apt-calls").exists()
    assert machine.run("status").returncode == 0, "verbs need no Qt"


def test_root_gets_the_libraries_installed(machine: Machine) -> None:
    machine.root()
    machine.file("app/daemon/system_libraries.py", MISSING)
    done = machine.run("--smoke")
    assert done.returncode == 0, done.stderr
    assert "started with ['--smoke']" in done.stdout
    assert "libnowhere1" in (machine.home / "apt-calls").read_text()


def without_ensurepip(machine: Machine) -> None:
    """Debian's python3 without python3-venv and without pip."""
    machine.program(
        "python3",
        f'case "$*" in *--without-pip*) ;; "-m venv "*|"-m pip "*) exit 1 ;; esac\nexec {BASE_PYTHON} "$@"',
    )


def test_without_pythons_venv_package_root_installs_it(bare: Machine) -> None:
    bare.root()
    without_ensurepip(bare)
    bare.program(
        "apt-get",
        f'echo "$@" >> {bare.home}/apt-calls; printf \'#!/bin/sh\\nexec {BASE_PYTHON} "$@"\\n\' > {bare.bin}/python3',
    )
    done = bare.run("status")
    assert done.returncode == 0, done.stderr
    assert re.search(r"install .*python3\.\d+-venv", (bare.home / "apt-calls").read_text())


def test_without_it_a_user_gets_pip_from_where_pip_is_configured_to_look(bare: Machine) -> None:
    bare.ordinary_user()
    without_ensurepip(bare)
    pip = importlib.metadata.distribution("pip")  # packed up again, because systems keep its wheel in different places
    with zipfile.ZipFile(bare.wheels / f"pip-{pip.version}-py3-none-any.whl", "w") as wheel:
        for file in pip.files or ():
            if file.parts[0].startswith("pip") and "__pycache__" not in file.parts:
                wheel.write(str(file.locate()), str(file))
    done = bare.run("status")
    assert done.returncode == 0, done.stderr
    assert "bringing pip from" in done.stderr
    assert "started" in done.stdout


def test_an_old_python_is_replaced_by_a_private_one_and_it_is_said(bare: Machine) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        bare.program(name, "exit 1")
    # uv's part is a network download: here it puts a link to the Python that runs this test
    bare.program(
        "uv",
        f'[ "$1 $2 $3" = "python install --install-dir" ] || exit 9\nmkdir -p "$4/cpython/bin"\n'
        f'printf \'#!/bin/sh\\nexec {BASE_PYTHON} "$@"\\n\' > "$4/cpython/bin/python3"; chmod +x "$4/cpython/bin/python3"',
    )
    done = bare.run("status")
    assert done.returncode == 0, done.stderr
    assert "bringing a private one" in done.stderr
    assert (bare.project / ".python" / "cpython" / "bin" / "python3").exists()


def test_without_any_way_to_a_python_it_says_what_to_run(bare: Machine) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        bare.program(name, "exit 1")
    done = bare.run()
    assert done.returncode == 1
    assert "sudo apt-get install python3" in done.stderr


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_locks_pin_everything_by_hash_and_name_no_index(lock: str) -> None:
    text = (ROOT / "packaging" / lock).read_text("utf-8")
    assert "://" not in text
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==", entry) and "--hash=sha256:" in entry for entry in entries)


def test_locks_cover_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9_.-]", r)[0].lower().replace("_", "-") for r in requirements}

    def locked(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "packaging" / name).read_text("utf-8"), re.MULTILINE))

    wanted = names(project["project"]["dependencies"])
    assert wanted <= locked("requirements.txt"), "run packaging/lock"
    assert wanted | names(project["dependency-groups"]["dev"]) <= locked("requirements-dev.txt"), "run packaging/lock"


@pytest.mark.parametrize("script", ["packaging/run", "packaging/test", "packaging/lock", ".ci/run"])
def test_the_commands_can_be_run_and_read_by_a_plain_sh(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["sh", "-n", str(ROOT / script)], capture_output=True).returncode == 0
