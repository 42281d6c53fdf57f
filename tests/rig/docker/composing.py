"""Finds the Docker Compose of this machine: the client's plugin, and the program of its own that older systems have."""

import shutil
import subprocess

import pytest

PROGRAMS = ("docker compose", "docker-compose")


def compose_words(program: str) -> list[str]:
    """The words in front of Compose's own arguments. Skips the test where there is no such program."""
    name, *plugin = program.split()
    path = shutil.which(name)
    if path is None or subprocess.run([path, *plugin, "version"], capture_output=True).returncode:
        pytest.skip(f"`{program}` is not on this machine")
    return [path, *plugin]
