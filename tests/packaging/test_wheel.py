"""An installed Engine Room has what a checkout has: models, profiles, icons, fonts, the table of engines, and it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from app import __version__
from app.daemon.installer import sources, sources_file
from tests.rig.home import Home

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_carries_resources_and_profiles(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("resources", "app/_resources"), ("profiles", "app/_profiles")):
        shipped = [file for file in (TOP / folder).rglob("*") if file.is_file()]
        assert len(shipped) > 1
        missing = [str(file) for file in shipped if f"{inside}/{file.relative_to(TOP / folder)}" not in names]
        assert not missing
    shared = {name.partition(".data/data/")[2] for name in names}
    assert {"share/applications/engine-room.desktop", "share/icons/hicolor/scalable/apps/engine-room.svg"} <= shared
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]


def plain(requirement: Requirement) -> str:
    """Names are compared as the indexes do."""
    return str(requirement).lower().replace("_", "-")


def test_it_says_what_it_needs_and_offers(wheel: Path) -> None:
    """Its extras are the engines; what the installer's own table has of them fits."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        said = message_from_bytes(opened.read(name))
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = [Requirement(line) for line in said.get_all("Requires-Dist", [])]
    needed = {plain(one) for one in requirements if "extra" not in str(one.marker)}
    assert needed == {plain(Requirement(line)) for line in project["dependencies"]}
    extras = {str(one.marker): one for one in requirements if "extra" in str(one.marker)}
    assert set(said.get_all("Provides-Extra", [])) == {"vllm", "llama-cpp-python"}
    assert set(extras) == {'extra == "vllm"', 'extra == "llama-cpp-python"'}
    for one in extras.values():
        assert str(one.specifier).startswith(">="), "a version from which on it works"
        assert one.specifier.contains(sources(sources_file())[one.name].version)
    assert extras['extra == "llama-cpp-python"'].extras == {"server"}


def test_installed_elsewhere_it_runs_and_finds_what_it_ships(wheel: Path, home: Home, tmp_path: Path) -> None:
    """A fresh environment with nothing but the wheel; what it needs is seen in the tests' own environment."""
    place = tmp_path / "elsewhere"
    python = place / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "--offline", "--no-config"]
    about = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "uv")}
    for command in (
        ["venv", "--python", sys.executable, str(place)],
        ["pip", "install", "--python", str(python), "--no-deps", "--link-mode", "copy", str(wheel)],
    ):
        done = subprocess.run([*uv, *command], env=about, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    (packages,) = place.glob("lib/python3*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    room = place / "bin" / "engine-room"

    def said(*words: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            [str(room), *words], env=home.environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert done.returncode in codes, done.stderr
        return done.stdout

    assert __version__ in said("--version")
    try:
        shipped = {card["profile"]["id"]: card for card in json.loads(said("ls", "--json"))["profiles"]}
        where = Path(shipped["demo"]["model_path"])
        assert where.is_relative_to(packages / "app"), "of the installed copy, not of this checkout"
        assert where.is_file()
        checks = json.loads(said("doctor", "--json", codes=(0, 1)))["checks"]
        assert len(checks) > 3
    finally:
        said("quit")
