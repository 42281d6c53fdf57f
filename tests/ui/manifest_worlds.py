"""A manifest as the service gives it: one run of a model on two cards, planned and measured."""

from __future__ import annotations

import msgspec

from app.core.control import Manifest
from tests.ui import engine_worlds, worlds

RUN = msgspec.structs.replace(
    worlds.run(worlds.QWEN),
    ready_seconds=38.4,
    ended_at_unix=1_795_009_000.0,
    outcome="stopped",
    argv=("vllm", "serve", "/models/qwen3-32b", "--max-model-len", "32768"),
    environment={"VLLM_API_KEY": "••••••"},
    plan=worlds.plan(worlds.Verdict.FITS, 19.2, 24, 22.7, (worlds.A, worlds.B)),
    measured_bytes={worlds.A: int(19.9 * worlds.GIB), worlds.B: int(19.1 * worlds.GIB)},
)
MANIFEST = Manifest(
    run=RUN,
    profile=worlds.QWEN.profile,
    settings={"context_tokens": 32768, "kv_type_k": "q8_0", "flash_attention": True},
    model_path="/models/qwen3-32b",
    model_bytes=33 * worlds.GIB,
    model_modified_unix=1_790_000_000.0,
    model_fingerprint="b3:5f0c1a7de2",
    installation=engine_worlds.OLD,
    driver_version="580.95",
    gpus=("RTX 4090 GPU-1111", "RTX 4090 GPU-2222"),
    product_version="0.1.0",
    stages={"starting": 0.0, "weights": 4.2, "kv_cache": 31.0, "first_token": 37.9},
)
