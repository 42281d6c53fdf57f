"""Completes what vLLM is told about memory: share of the cards, context, answers at once, solved from what is free now.

The rule is the planner's (`app.core.memory.vllm_solve`), so that a launch does what its plan said. What the profile says
stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.core.memory.vllm_load import MIB
from app.core.memory.vllm_parts import known_version
from app.core.memory.vllm_solve import UNKNOWN_KV_BYTES, Card, share_of, solve
from app.core.options import Scalar
from app.engines.base import Launch
from app.engines.native_server import default_context_tokens


def complete(launch: Launch, values: dict[str, Scalar], cards: Sequence[str]) -> None:
    """Fills in what `values` leaves open. `cards`: those that the launch takes, in order; () on a processor."""
    free = [
        Card(total_bytes=launch.total_bytes.get(card), usable_bytes=launch.usable_bytes.get(card)) for card in cards
    ]
    accelerator = launch.installation.accelerator
    if launch.facts is None:
        values.setdefault("context_tokens", default_context_tokens(launch))
        if accelerator == "cpu":
            values.setdefault("kv_cache_mib", UNKNOWN_KV_BYTES // MIB)
        elif (share := share_of(free)) is not None:
            values.setdefault("gpu_memory_utilisation", share)
        return
    solved = solve(
        launch.facts,
        values,
        free,
        accelerator=accelerator,
        host_usable_bytes=launch.usable_bytes.get("host"),
        version=known_version(launch.installation.version),
    )
    for name, value in solved.settings.items():
        values.setdefault(name, value)
    values.setdefault("context_tokens", solved.load.context_tokens)
