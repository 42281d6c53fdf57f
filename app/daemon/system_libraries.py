"""Says which of the system's libraries are missing for the window or the built-in engine, and which packages have them.

Qt ends the process without an exception when one is missing, so this is asked before Qt is. Only the standard library is
used: as a program, `python -m app.daemon.system_libraries [--display]`, it prints the missing packages' names, one a line.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

# library → Debian's and Ubuntu's package
ALWAYS = {
    "libglib-2.0.so.0": "libglib2.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libbrotlidec.so.1": "libbrotli1",
    "libstdc++.so.6": "libstdc++6",
    "libgomp.so.1": "libgomp1",  # the built-in engine's threads
}
X11 = {
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-image.so.0": "libxcb-image0",
}
WAYLAND = {"libwayland-cursor.so.0": "libwayland-cursor0", "libwayland-egl.so.1": "libwayland-egl1"}


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def wanted(environment: Mapping[str, str], display: bool) -> dict[str, str]:
    """The libraries for this session: the drawing ones always, those of X11 and Wayland where a display is meant."""
    platform = environment.get("QT_QPA_PLATFORM", "")
    if not display or platform.startswith("offscreen"):
        return ALWAYS
    wayland = WAYLAND if environment.get("WAYLAND_DISPLAY") or platform.startswith("wayland") else {}
    return {**ALWAYS, **X11, **wayland}  # X11 also under Wayland: Qt falls back to it


def missing_packages(
    libraries: Mapping[str, str], os_release: str, load: Callable[[str], bool] = loads
) -> tuple[str, ...]:
    """Package names for the libraries that cannot be loaded, as this distribution calls them, in a fixed order."""
    missing = {package for library, package in libraries.items() if not load(library)}
    return tuple(sorted(_as_called_here(missing, os_release)))


def install_line(packages: Iterable[str]) -> str:
    return f"sudo apt-get install {' '.join(packages)}"


def _as_called_here(packages: set[str], os_release: str) -> set[str]:
    """Debian 13 and Ubuntu 24.04 renamed glib's package when time became 64 bits wide."""
    found = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]+)', os_release, re.MULTILINE))
    first = {"debian": 13.0, "ubuntu": 24.04}.get(found.get("ID", ""))
    version = found.get("VERSION_ID", "0")
    if first is not None and re.fullmatch(r"[\d.]+", version) and float(version) >= first:
        return {"libglib2.0-0t64" if name == "libglib2.0-0" else name for name in packages}
    return packages


def main() -> int:
    release = Path("/etc/os-release")
    text = release.read_text("utf-8", errors="replace") if release.is_file() else ""
    for package in missing_packages(wanted(os.environ, "--display" in sys.argv[1:]), text):
        print(package)
    return 0


if __name__ == "__main__":
    sys.exit(main())
