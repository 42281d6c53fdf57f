"""Names the engine families: everything that this build of Engine Room can launch."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.control import OptionsView
from app.engines.base import EngineFamily
from app.engines.llama_cpp import LlamaCpp
from app.engines.llama_cpp_python import LlamaCppPython
from app.engines.llama_server import LlamaServer
from app.engines.vllm import Vllm

FAMILIES: dict[str, EngineFamily] = {
    family.id: family for family in (LlamaCpp(), LlamaServer(), LlamaCppPython(), Vllm())
}

DEFAULT_FAMILY = LlamaCpp.id


def options_view(families: Mapping[str, EngineFamily] = FAMILIES) -> OptionsView:
    """Everything that can be set: what a form, the command line and the document are made from."""
    return OptionsView(
        families={name: family.options for name, family in families.items()},
        presets={name: family.presets for name, family in families.items()},
        titles={name: family.title for name, family in families.items()},
    )
