"""Models, cards and machines for stories of what fits; a card can be made that has room for exactly one load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.core.catalog.facts import ModelFacts, TensorFacts
from app.core.memory import plan
from app.core.memory.plan_types import MemoryPlan, Remedy
from app.core.options import Scalar
from app.core.snapshot import DriverState, GpuProcess, Gpus, GpuSample, HostSample

MIB, GIB = 1024**2, 1024**3
HEADROOM, HOST_HEADROOM = int(1.5 * GIB), GIB
SMALLEST: dict[str, Scalar] = {  # nothing of these can be given up any more
    "context_tokens": 1_024, "slots": 1, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "ubatch_tokens": 64,
}  # fmt: skip


def model(*, layers: int = 32, experts: int = 0, kv_heads: int | tuple[int, ...] = 8, **more: object) -> ModelFacts:
    """Of Llama-3-8B's shape at 4.5 bits; `experts` MiB of each layer are experts, of which a quarter is used."""
    rows = [
        TensorFacts(role="embedding", layer=None, type="Q4_K", bytes=282 * MIB, largest_bytes=282 * MIB),
        TensorFacts(role="output", layer=None, type="Q6_K", bytes=411 * MIB, largest_bytes=411 * MIB),
    ]
    for layer in range(layers):
        rows.append(TensorFacts(role="layer", layer=layer, type="Q4_K", bytes=120 * MIB, largest_bytes=32 * MIB))
        if experts:
            rows.append(
                TensorFacts(role="expert", layer=layer, type="Q4_K", bytes=experts * MIB, largest_bytes=8 * MIB)
            )
    values: dict[str, object] = {
        "path": Path("m.gguf"), "format": "gguf", "name": "m", "architecture": "llama", "file_bytes": 0,
        "weights_bytes": sum(row.bytes for row in rows), "tensors": tuple(rows), "layers": layers, "embedding_length": 4096,
        "feed_forward_length": 14_336, "heads": 32, "kv_heads": kv_heads if isinstance(kv_heads, tuple) else (kv_heads,) * layers,
        "key_length": 128, "value_length": 128, "vocabulary": 128_256, "context_max": 131_072, "recurrent_state_bytes": 0,
        **({"experts": 8, "experts_used": 2, "expert_feed_forward_length": 1024} if experts else {}), **more,
    }  # fmt: skip
    return ModelFacts(**values)  # type: ignore[arg-type]


def card(free: int, uuid: str = "GPU-a", index: int = 0, processes: tuple[GpuProcess, ...] = ()) -> GpuSample:
    """So large that only its free memory decides."""
    return GpuSample(
        uuid=uuid, index=index, name="NVIDIA GeForce RTX 4090", total_bytes=4_000 * GIB, used_bytes=0, free_bytes=free,
        processes=processes,
    )  # fmt: skip


def machine(*cards: GpuSample, available: int = 64 * GIB) -> Gpus:
    host = HostSample(total_bytes=128 * GIB, available_bytes=available)
    return Gpus(driver=DriverState.OK if cards else DriverState.ABSENT, gpus=cards, host=host)


def planned(facts: ModelFacts, settings: Mapping[str, Scalar], gpus: Gpus, **more: object) -> MemoryPlan:
    values: dict[str, object] = {
        "family": "llama.cpp", "accelerator": "cuda" if gpus.gpus else "cpu", "headroom_bytes": HEADROOM,
        "host_headroom_bytes": HOST_HEADROOM, "threshold": 0.95, "solve": True, **more,
    }  # fmt: skip
    return plan(facts, settings, gpus=gpus, **values)  # type: ignore[arg-type]


def applied(
    facts: ModelFacts, settings: Mapping[str, Scalar], gpus: Gpus, remedy: Remedy, **more: object
) -> MemoryPlan:
    """The plan after the click."""
    if remedy.gpus:
        more = {**more, "gpu_uuids": remedy.gpus}
    return planned(facts, {**settings, **remedy.settings}, gpus, **more)


def needs(facts: ModelFacts, settings: Mapping[str, Scalar], **more: object) -> dict[str, int]:
    """Device → the high bound of such a load on one card."""
    found = planned(facts, settings, machine(card(2_000 * GIB), available=10**15), solve=False, **more)
    return {device.device: device.high_bytes for device in found.devices}


def just_for(facts: ModelFacts, settings: Mapping[str, Scalar], **more: object) -> Gpus:
    """A machine whose card has room for exactly this load, and whose main memory has plenty."""
    return machine(card(needs(facts, settings, **more)["GPU-a"] + HEADROOM))
