"""Names the engine families: everything that this build of Engine Room can launch."""

from __future__ import annotations

from app.engines.base import EngineFamily
from app.engines.llama_cpp import LlamaCpp
from app.engines.llama_cpp_python import LlamaCppPython
from app.engines.llama_server import LlamaServer

FAMILIES: dict[str, EngineFamily] = {family.id: family for family in (LlamaCpp(), LlamaServer(), LlamaCppPython())}

DEFAULT_FAMILY = LlamaCpp.id
