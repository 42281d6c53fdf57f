"""Gives tests the real engines: the hosted one always, those built from source where `./packaging/test --engines` built them.

A test that takes the fixture `real_engine` runs once for each; the built ones carry the marker `engines`.
"""

import os
from pathlib import Path

import pytest
import tomli_w

from app.daemon.installations import find
from app.engines.base import Installation
from tests.engines.tiny_model import write_tiny_model
from tests.rig.embedded import KEPT_IN, install_embedded_engine
from tests.rig.home import Home

BUILT = ("llama-server", "llama-cpp-python")
ENGINES = ("llama.cpp", *(pytest.param(name, marks=pytest.mark.engines) for name in BUILT))
FOLDERS = {"llama.cpp": "llama.cpp-*", **dict.fromkeys(BUILT, "llama-cpp-python-*")}  # as the installer names them
VARIABLES = {"llama-server": "ENGINE_ROOM_LLAMA_SERVER", "llama-cpp-python": "ENGINE_ROOM_LLAMA_CPP_PYTHON"}

ASKED_CONTEXT_TOKENS = 8_192
TRAINED_CONTEXT_TOKENS = 4_096
END_TOKENS = (257, 259)  # of the noise model; a bias against them makes an answer as long as asked for


class RealEngine:
    """One family on one home. `profile` writes profiles for it, `environment` is already the home's."""

    def __init__(self, family: str, home: Home, model: Path) -> None:
        self.family = family
        self.home = home
        self.model = model

    @property
    def is_native(self) -> bool:
        return self.family != "llama-cpp-python"

    def profile(self, name: str, **settings: object) -> str:
        return write_profile(self.home, name, self.family, self.model, **settings)


def write_profile(home: Home, name: str, family: str, model: Path, *, seat: str = "main", **settings: object) -> str:
    title = f"The {name} model"
    profile = {"title": title, "engine": family, "model": str(model), "seat": seat, "settings": settings}
    (home.paths.profiles / f"{name}.toml").write_text(tomli_w.dumps(profile), "utf-8")
    return name


def put_into(home: Home, family: str) -> None:
    """Makes this engine, and no other that tests keep, known to the home as its own installer would have: a folder under the
    home's engines. What is known is asked what it offers: a vLLM, for half a minute."""
    home.paths.engines.mkdir(parents=True, exist_ok=True)
    variable = VARIABLES.get(family, "ENGINE_ROOM_EMBEDDED_PYTHON")
    if variable in os.environ:
        home.environment[variable] = os.environ[variable]
        return
    if family not in BUILT:
        install_embedded_engine()
    elif not any(KEPT_IN.glob(f"{FOLDERS[family]}/engine.json")):
        pytest.fail("the engines from source are not built: ./packaging/test --engines does it", pytrace=False)
    for folder in KEPT_IN.glob(f"{FOLDERS[family]}/engine.json"):
        place = home.paths.engines / folder.parent.name
        if not place.is_symlink():
            place.symlink_to(folder.parent)


@pytest.fixture(scope="session")
def noise_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 100 MB of random weights, so that a load takes long enough to be met in each of its phases."""
    path = tmp_path_factory.mktemp("noise") / "noise.gguf"
    return write_tiny_model(path, layers=5, width=768, context=TRAINED_CONTEXT_TOKENS)


@pytest.fixture(params=ENGINES)
def real_engine(request: pytest.FixtureRequest, home: Home, noise_model: Path) -> RealEngine:
    put_into(home, request.param)
    return RealEngine(request.param, home, noise_model)


def installation_in(home: Home, family: str) -> Installation:
    """The engine as the home's daemon finds it."""
    put_into(home, family)
    found = find(family, home.paths, home.environment)
    assert found is not None
    return found
