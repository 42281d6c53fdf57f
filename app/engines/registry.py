"""Names the engine families: everything that this build of Engine Room can launch."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from app.core.control import OptionsView
from app.core.memory.learning import engine_name
from app.engines.base import EngineFamily, Installation
from app.engines.llama_cpp import LlamaCpp
from app.engines.llama_cpp_python import LlamaCppPython
from app.engines.llama_server import LlamaServer
from app.engines.ollama import Ollama
from app.engines.remote import Remote
from app.engines.vllm import Vllm
from app.engines.vllm_docker import VllmDocker

FAMILIES: dict[str, EngineFamily] = {
    family.id: family
    for family in (LlamaCpp(), LlamaServer(), LlamaCppPython(), Vllm(), VllmDocker(), Ollama(), Remote())
}

DEFAULT_FAMILY = LlamaCpp.id


def options_view(families: Mapping[str, EngineFamily] = FAMILIES) -> OptionsView:
    """Everything that can be set: what a form, the command line and the document are made from."""
    return OptionsView(
        families={name: family.options for name, family in families.items()},
        presets={name: family.presets for name, family in families.items()},
        titles={name: family.title for name, family in families.items()},
    )


def is_elsewhere(installation: Installation) -> bool:
    """Whether the engine's model takes another machine's memory. An address of this one is an Ollama beside us."""
    return installation.family == Remote.id or (installation.is_address and not is_loopback(installation.executable))


def engine_of(installation: Installation | None) -> str:
    """The engine build whose memory habits are learnt; "" = not known which."""
    return "" if installation is None else engine_name(installation.family, installation.build, installation.version)


def computes_on(installation: Installation, has_cards: bool) -> str:
    """What a launch will compute on; Ollama takes the cards that are there and does not say so beforehand."""
    return "cuda" if installation.family == Ollama.id and has_cards else installation.accelerator


def is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
