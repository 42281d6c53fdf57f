"""An installed Engine Room has what a checkout has: models, profiles, icons, fonts, the table of engines."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_the_wheel_carries_resources_and_profiles(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("resources", "app/_resources"), ("profiles", "app/_profiles")):
        shipped = [file for file in (TOP / folder).rglob("*") if file.is_file()]
        assert len(shipped) > 1
        missing = [str(file) for file in shipped if f"{inside}/{file.relative_to(TOP / folder)}" not in names]
        assert not missing
    shared = {name.partition(".data/data/")[2] for name in names}
    assert {"share/applications/engine-room.desktop", "share/icons/hicolor/scalable/apps/engine-room.svg"} <= shared
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]
