"""Puts pip into the environment of the Python that runs this, where Python's own way (ensurepip) is not installed.

Looks for pip's wheel in the indexes and folders that pip is configured with, then at the pip project's own bootstrap page.
"""

import configparser
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

BOOTSTRAP = "https://bootstrap.pypa.io/pip/pip.pyz"


def configured(name: str) -> list[str]:
    """The words of one of pip's settings, from its files and from the environment."""
    home = Path(os.environ.get("HOME", "/"))
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        home / ".config/pip/pip.conf",
    ]
    parser = configparser.RawConfigParser()
    parser.read([*files, *filter(None, [os.environ.get("PIP_CONFIG_FILE")])])
    value = parser.get("global", name, fallback="")
    return os.environ.get("PIP_" + name.upper().replace("-", "_"), value).split()


def wheels_in(place: str) -> list[str]:
    """Addresses of pip's wheels in a folder or on a page of links."""
    if not re.match(r"\w+://", place):
        place = Path(place).absolute().as_uri()
    folder = urllib.parse.urlparse(place)
    if folder.scheme == "file":
        local = Path(urllib.parse.unquote(folder.path))
        if local.is_dir() and not (local / "index.html").is_file():
            return [wheel.as_uri() for wheel in local.glob("pip-*.whl")]
        place = (local / "index.html").as_uri() if local.is_dir() else place
    with urllib.request.urlopen(place, timeout=30) as page:
        links = re.findall(r'href="([^"]*/?pip-[^"/]*\.whl[^"]*)"', page.read().decode("utf-8", "replace"))
    return [urllib.parse.urldefrag(urllib.parse.urljoin(place, link))[0] for link in links]


def newest(addresses: list[str]) -> str:
    def version(address: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", address.rsplit("/", 1)[-1].split("-")[1])]

    return max(addresses, key=version)


def main() -> int:
    indexes = [*configured("index-url"), *configured("extra-index-url")]
    places = [*configured("find-links"), *(f"{index.rstrip('/')}/pip/" for index in indexes)]
    found: list[str] = []
    for place in places:
        try:
            found += wheels_in(place)
        except (OSError, ValueError):
            continue
    address = newest(found) if found else BOOTSTRAP
    print(f"engine-room: bringing pip from {address}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / address.rsplit("/", 1)[-1]
        try:
            with urllib.request.urlopen(address, timeout=60) as response:
                file.write_bytes(response.read())
        except (urllib.error.URLError, OSError) as error:
            print(f"engine-room: it cannot be had: {error}", file=sys.stderr)
            return 1
        program = file / "pip" if file.suffix == ".whl" else file
        command = [sys.executable, str(program), "install", "--quiet", "--disable-pip-version-check"]
        return subprocess.run([*command, str(file) if file.suffix == ".whl" else "pip"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
