"""Decides how an engine is put to sleep and woken: requests to its own port, by level; pure.

vLLM's development routes, read in 0.32 (`vllm/entrypoints/serve/dev`): level 1 moves the weights to main memory, level 2 drops
them and reads them again from the disk; the KV cache is dropped by both. They exist only where VLLM_SERVER_DEV_MODE is on, and
the gateway never forwards to them (I20).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from app.core.options import Scalar

SLEEPERS = ("vllm", "vllm-docker")
SETTING = "sleep_mode"
ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1"}


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One POST to the engine, answered when it is done."""

    path: str
    body: dict[str, object] = {}


class Sleep(msgspec.Struct, frozen=True, kw_only=True):
    """Level → what is asked, in order."""

    sleep: dict[int, tuple[Ask, ...]]
    wake: dict[int, tuple[Ask, ...]]


VLLM = Sleep(
    sleep={1: (Ask(path="/sleep?level=1"),), 2: (Ask(path="/sleep?level=2"),)},
    wake={
        1: (Ask(path="/wake_up"),),
        2: (
            Ask(path="/wake_up?tags=weights"),
            Ask(path="/collective_rpc", body={"method": "reload_weights"}),
            Ask(path="/wake_up?tags=kv_cache"),
        ),
    },
)


def sleep_of(family: str, settings: Mapping[str, Scalar]) -> Sleep | None:
    """None where the engine has no sleep, or was not started with it."""
    return VLLM if family in SLEEPERS and settings.get(SETTING) is True else None
