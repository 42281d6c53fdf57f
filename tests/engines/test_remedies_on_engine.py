"""Each kind of remedy that the processor can show: it is the first offer, one argument changes, and the engine's log agrees (M4).

What needs a card of its own (layers, another card, several cards) is in tests/end2end/test_remedies.py, on a simulated driver.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.core.catalog.companions import read_companion
from app.core.catalog.facts import ModelFacts
from app.core.catalog.gguf_facts import read_gguf_facts
from app.core.memory.plan_types import MemoryPlan, Remedy, Verdict
from app.core.options import Scalar
from app.core.snapshot import Gpus
from app.engines.base import Installation
from tests.core.memory.loads import HEADROOM, HOST_HEADROOM, MIB, applied, card, machine, planned
from tests.engines.architectures import write_architecture
from tests.engines.launches import command_of, launch
from tests.engines.running import Running, free_port
from tests.engines.tiny_model import write_tiny_model
from tests.engines.tiny_projector import write_tiny_projector
from tests.rig.waiting import eventually

GIVEN: dict[str, Scalar] = {
    "repack": False, "prompt_cache_mib": 0, "threads": 1, "context_tokens": 1_024, "slots": 1, "flash_attention": "on",
    "ubatch_tokens": 64, "batch_tokens": 1_024,
}  # fmt: skip
HELD = ("kv_cache", "state", "compute", "outputs")  # what the engine prints beside its weights
PRINTED = r"(?:KV buffer|RS buffer|compute buffer|output buffer) size\s*=\s*([\d.]+) MiB"

# kind: (architecture, what is asked for, for what there is room, the flags that the click changes, the settings that it sets)
IN_MAIN_MEMORY: dict[str, tuple[str, dict[str, Scalar], dict[str, Scalar], set[str]]] = {
    "slots": ("granitehybrid", {"slots": 8, "context_tokens": 8_192}, {"slots": 3}, {"--parallel"}),
    "context": ("llama", {"context_tokens": 16_384}, {"context_tokens": 4_096}, {"--ctx-size"}),
    "kv_type": (
        "llama",
        {"kv_type_k": "f16", "kv_type_v": "f16"},
        {"kv_type_k": "q8_0", "kv_type_v": "q8_0"},
        {"--cache-type-k", "--cache-type-v"},
    ),
    "ubatch": (
        "llama",
        {"ubatch_tokens": 1_024, "kv_type_k": "q8_0", "kv_type_v": "q8_0"},
        {"ubatch_tokens": 256},
        {"--ubatch-size"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", IN_MAIN_MEMORY)
def test_what_is_promised_is_what_the_engine_then_prints(
    kind: str, embedded_engine: Installation, tmp_path: Path
) -> None:
    architecture, asked, room, flags = IN_MAIN_MEMORY[kind]
    model = write_architecture(tmp_path / "m.gguf", architecture, 11)
    facts, wish = read_gguf_facts(model), {**GIVEN, **asked}
    need = planned(facts, {**wish, **room}, machine(available=10**15), solve=False).devices[0].high_bytes
    gpus = machine(available=need + HOST_HEADROOM)
    remedy = first(facts, wish, gpus, kind)
    assert set(remedy.settings) == set(room)
    after = {**wish, **remedy.settings}
    assert changed_flags(model, wish, after) == flags
    logs = [log_of(embedded_engine, model, settings, tmp_path) for settings in (wish, after)]
    plans = [planned(facts, settings, gpus, solve=False) for settings in (wish, after)]
    predicted = held(plans[1]) - held(plans[0])
    measured = printed(logs[1]) - printed(logs[0])
    assert predicted < -1
    assert measured == pytest.approx(predicted, rel=0.03, abs=1)


def test_experts_go_to_main_memory_by_name_and_number(embedded_engine: Installation, tmp_path: Path) -> None:
    """A card is simulated for the plan; the engine without one still says which tensors it would not put there."""
    model = write_architecture(tmp_path / "m.gguf", "qwen3moe", 11)
    facts, wish = read_gguf_facts(model), {**GIVEN, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "verbosity": 5}
    layers = facts.layers or 0
    gpus = room_for(facts, {**wish, "cpu_expert_layers": layers // 2})
    remedy = first(facts, wish, gpus, "experts")
    assert set(remedy.settings) == {"cpu_expert_layers"}
    after = {**wish, **remedy.settings}
    assert changed_flags(model, wish, after) == {"--n-cpu-moe"}
    before, plan = (planned(facts, settings, gpus, solve=False) for settings in (wish, after))
    moved = part(before, "weights", "GPU-a") - part(plan, "weights", "GPU-a")
    assert moved > 0
    assert moved == part(plan, "weights", "host") - part(before, "weights", "host")
    log = log_of(embedded_engine, model, after, tmp_path)
    named = re.findall(r"tensor blk\.(\d+)\.ffn_\w+_exps\.weight \((\d+) MiB \S+\) buffer type overridden to CPU", log)
    assert {int(layer) for layer, _ in named} == set(range(int(remedy.settings["cpu_expert_layers"])))
    # the log cuts each tensor to whole MiB
    assert sum(int(size) for _, size in named) <= moved / MIB <= sum(int(size) + 1 for _, size in named)
    assert "overridden" not in log_of(embedded_engine, model, wish, tmp_path)


def test_the_projector_is_loaded_in_main_memory(embedded_engine: Installation, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "m.gguf")
    projector = write_tiny_projector(tmp_path / "mmproj.gguf")
    seeing = (read_companion("vision", projector),)
    facts, wish = read_gguf_facts(model), {**GIVEN, "context_tokens": 512, "mmproj": str(projector)}
    gpus = room_for(facts, {**wish, "mmproj_on_gpu": False}, companions=seeing)
    remedy = first(facts, wish, gpus, "projector", companions=seeing)
    assert remedy.settings == {"mmproj_on_gpu": False}
    after = {**wish, **remedy.settings}
    assert changed_flags(model, wish, after) == {"--no-mmproj-offload"}
    before, plan = (planned(facts, settings, gpus, companions=seeing, solve=False) for settings in (wish, after))
    left = on(before, "GPU-a") - on(plan, "GPU-a")
    assert left == on(plan, "host") - on(before, "host") >= projector.stat().st_size * 0.9
    log = log_of(embedded_engine, model, after, tmp_path, until="all slots are idle")
    assert "CLIP using CPU backend" in log
    assert "loaded multimodal model" in log


def first(facts: ModelFacts, wish: dict[str, Scalar], gpus: Gpus, kind: str, **more: object) -> Remedy:
    """The first offer is of that kind and fits once it is taken."""
    found = planned(facts, wish, gpus, **more)
    assert found.verdict is not Verdict.FITS
    assert found.remedies[0].kind == kind, [remedy.kind for remedy in found.remedies]
    assert applied(facts, wish, gpus, found.remedies[0], **more).verdict is Verdict.FITS
    return found.remedies[0]


def room_for(facts: ModelFacts, settings: dict[str, Scalar], **more: object) -> Gpus:
    """A simulated card with room for exactly this load."""
    found = planned(facts, settings, machine(card(10**15), available=10**15), solve=False, **more)
    return machine(card(next(each.high_bytes for each in found.devices if each.device == "GPU-a") + HEADROOM))


def changed_flags(model: Path, before: dict[str, Scalar], after: dict[str, Scalar]) -> set[str]:
    """The flags of the command that are there only once, or with another value."""
    argvs = [
        command_of(launch("llama.cpp", dict(settings), model_path=str(model))).argv for settings in (before, after)
    ]
    return {flag for flag, _ in set(flags_of(argvs[0])) ^ set(flags_of(argvs[1]))}


def flags_of(argv: Sequence[str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for word in argv:
        if word.startswith("--"):
            found.append((word, ""))
        elif found:
            found[-1] = found[-1][0], word
    return found


def log_of(
    engine: Installation, model: Path, settings: dict[str, Scalar], folder: Path, until: str = "reserve took"
) -> str:
    """What the engine printed until its buffers were known; then it is ended."""
    port = free_port()
    made = launch(
        "llama.cpp", {"warm_up": False, **settings}, executable=engine.executable, model_path=str(model),
        model_name="m", port=port,
    )  # fmt: skip
    running = Running(command_of(made), folder / "log", port, {"PATH": ""})
    try:
        eventually(lambda: until in running.log or running.process.poll() is not None, deadline=60)
        assert until in running.log, running.log[-2_000:]
        return running.log
    finally:
        running.process.kill()
        running.process.wait()


def printed(log: str) -> float:
    return sum(float(size) for size in re.findall(PRINTED, log))


def held(plan: MemoryPlan) -> float:
    return sum(part.bytes for device in plan.devices for part in device.parts if part.name in HELD) / MIB


def part(plan: MemoryPlan, name: str, device: str) -> int:
    return sum(
        each.bytes for found in plan.devices if found.device == device for each in found.parts if each.name == name
    )


def on(plan: MemoryPlan, device: str) -> int:
    return next(found.likely_bytes for found in plan.devices if found.device == device)
