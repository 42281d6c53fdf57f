"""Each real engine comes into a fresh data folder by one command, is found, answers and goes again (E7).

Packages come from the index that the machine is set up for. What was compiled once for the tests is taken up where it ended,
as after a cancelled installation, so that nothing is compiled twice.
"""

import json
import os
from pathlib import Path

import pytest

from app.core import lifecycle
from app.core.snapshot import Engines
from tests.end2end.commands import Commands
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, chat_body
from tests.rig.embedded import KEPT_IN
from tests.rig.home import Home
from tests.rig.real_engines import BUILT, ENGINES, write_profile
from tests.rig.waiting import eventually

pytestmark = pytest.mark.slow

NETWORK = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "HTTP_", "HTTPS_", "NO_PROXY", "http_", "https_", "no_proxy")
SERVED = {"llama.cpp": ("llama.cpp",), "llama-server": BUILT, "llama-cpp-python": BUILT}  # by one installation


@pytest.fixture
def connected(home: Home) -> Home:
    """A home from which packages are had as from the account that runs the tests, with its caches of packages and builds."""
    home.environment |= {name: value for name, value in os.environ.items() if name.startswith(NETWORK)}
    for file in (Path.home() / ".config" / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf"):
        if "PIP_CONFIG_FILE" not in home.environment and file.is_file():
            home.environment["PIP_CONFIG_FILE"] = str(file)
    home.paths.cache.parent.mkdir(parents=True, exist_ok=True)
    kept = KEPT_IN.parent / "cache"
    kept.mkdir(parents=True, exist_ok=True)
    home.paths.cache.symlink_to(kept)
    return home


@pytest.mark.parametrize("family", ENGINES)
def test_an_engine_comes_by_one_command_answers_and_goes(
    connected: Home, commands: Commands, daemon: Daemon, noise_model: Path, family: str
) -> None:
    served = SERVED[family]
    for each in served:
        write_profile(connected, f"fresh-{each}", each, noise_model, context_tokens=512)
    daemon.start()
    assert not list(connected.paths.engines.glob("*/engine.json"))
    said = commands.finish(
        commands.begin("engines", "install", family, "--accelerator", compiled_for(family)), deadline=900
    )
    assert said.code == 0, said
    assert "is installed" in said.out

    engines = daemon.wait_slice("engines", lambda engines: all(chosen(engines, each) for each in served))
    (name,) = {chosen(engines, each) for each in served}
    assert name.startswith(("llama.cpp-", "llama-cpp-python-"))
    assert name in commands.ok("engines", "list").out
    for each in served:
        profile = f"fresh-{each}"
        run = daemon.load(profile, 60).run
        assert run is not None
        assert run.argv[0].startswith(str(connected.paths.engines)), "it is the new one that runs"
        with daemon.gateway() as client:
            body = chat_body(profile, max_tokens=4)
            assert client.post("/chat/completions", json=body).raise_for_status().json()["choices"]
    refused = commands.refused(6, "engines", "remove", name)
    assert "Unload" in refused.err
    daemon.unload()
    daemon.wait_phase(lifecycle.Idle)
    commands.ok("engines", "remove", name)
    assert not list(connected.paths.engines.glob("*/engine.json"))
    assert not [entry for entry in connected.paths.engines.iterdir() if not entry.name.startswith(".lock")]
    eventually(lambda: not processes_of(connected, runs_only=True), 60, "nothing runs (I1)")


def compiled_for(family: str) -> str:
    """The accelerator of what the tests have compiled, so that it need not be compiled again."""
    records = KEPT_IN.glob("llama-cpp-python-*/engine.json") if family in BUILT else ()
    return next((json.loads(record.read_bytes())["accelerator"] for record in records), "cpu")


def chosen(engines: Engines, family: str) -> str:
    """The id of the installation that a profile of this family would use now."""
    rows = [row for view in engines.families if view.family == family for row in view.installations]
    return next((row.id for row in rows if row.chosen and row.source == "ours"), "")
