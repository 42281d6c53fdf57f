"""Knows which engines compute their buffers without allocating them, how they are asked, and when they have said it.

llama.cpp's server looks first whether a load fits: it builds model and context without memory and prints each buffer, with the
arguments of the real load. It is asked for that and ended before it loads. (`llama-fit-params` does the same for a context that
no server makes: with room for all logits and without the shared pool of cells.) llama-cpp-python's server has no such pass, and
vLLM finds its buffers by running the model.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from msgspec.structs import replace

from app.core.options import Scalar
from app.engines.base import Command, EngineFamily, Launch
from app.engines.llama_cpp import LlamaCpp
from app.engines.llama_server import LlamaServer

SAID_ALL = re.compile(rb"\|   - Host +\|[^\n]*\n")  # the last line of the table that ends the pass
LOADS_REALLY = re.compile(rb"model buffer size = +(?!0\.00)[\d.]+ MiB")  # a build without the pass
_LOUD = "5"  # the level at which the pass prints its buffers to a hundredth of a MiB
_LEFT_OUT = ("mmproj", "lora", "lora_scale", "slot_save_folder")  # planned apart, and each would be loaded for nothing


def dry_run_command(family: EngineFamily, launch: Launch, known_flags: Collection[str] | None) -> Command | None:
    """How to ask; None for an engine or a load of which nothing would be heard. `known_flags`: those of the engine's help."""
    settings = launch.profile.settings
    if settings.get("draft_model") or settings.get("speculation") or launch.profile.extra_arguments:
        return None
    if family.id == LlamaServer.id and (known_flags is None or "--fit" not in known_flags):
        return None  # a build without the pass would load the model
    if family.id not in (LlamaCpp.id, LlamaServer.id):
        return None
    kept: dict[str, Scalar] = {name: value for name, value in settings.items() if name not in _LEFT_OUT}
    quiet = replace(launch, profile=replace(launch.profile, settings=kept))
    command = family.command(quiet)
    if family.id == LlamaCpp.id:
        return replace(command, argv=(*command.argv, "--fit", "on", "--log-verbosity", _LOUD))
    return replace(
        command,
        argv=(*command.argv, "--log-verbosity", _LOUD),
        environment={**command.environment, "LLAMA_ARG_FIT": "on"},
    )
