"""Remedies that need a card, on simulated ones: what is taken is found in the arguments and the environment of the real run (M4).

A stand-in for the engine says nothing true about its memory; what a log can show is in tests/engines/test_remedies_on_engine.py.
"""

import json
from pathlib import Path

import tomli_w

from app.core import control
from app.core.memory.plan_types import MemoryPlan, Remedy
from app.core.options import Scalar
from app.core.snapshot import RunView, from_json
from tests.engines.architectures import write_architecture
from tests.rig.daemon import Daemon
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home

MIB, GIB = 1024**2, 1024**3
CARDS = ("card", "cards")


def test_experts_go_to_main_memory_and_layers_to_a_second_card(
    driver: SimulatedDriver, fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """Older builds do not know the flag for experts, so it is said by a variable; two cards are one as well."""
    driver.gpus([card(0, total_mib=2_300), card(1, total_mib=2_300)])
    fake_engine.install("llama-server", accelerator="cuda")
    model = write_architecture(fake_engine.home.models / "mixture.gguf", "qwen3moe", 11, large=True)
    least: dict[str, object] = {
        "context_tokens": 1_024, "slots": 1, "kv_type_k": "q8_0", "kv_type_v": "q8_0", "ubatch_tokens": 64, "flash_attention": "on",
    }  # fmt: skip
    fake_engine.profile("mixture", model=model, table={"gpus": [card_uuid(0)]}, settings=least)
    settings_kept(daemon)
    usual = launched(daemon, "mixture", None)
    plan = priced(daemon, "mixture")
    assert plan.remedies[0].kind == "experts", plan.summary
    fewer = plan.remedies[0]
    run = launched(daemon, "mixture", fewer)
    assert changed(usual, run) == {}
    added = {name: value for name, value in run.environment.items() if name not in usual.environment}
    assert added == {"LLAMA_ARG_N_CPU_MOE": str(fewer.settings["cpu_expert_layers"])}
    assert cards_of(run) == cards_of(usual) == card_uuid(0)

    both = next(remedy for remedy in plan.remedies if remedy.kind == "cards")
    run = launched(daemon, "mixture", both)
    assert (changed(usual, run), cards_of(run)) == ({}, f"{card_uuid(0)},{card_uuid(1)}")


def test_vllm_shares_each_layer_or_takes_what_is_free(
    driver: SimulatedDriver, fake_engine: FakeEngine, daemon: Daemon, home: Home
) -> None:
    """Weights of 5 GiB on cards of 5; a share of the card that is more than what is free of it; and so many answers at once
    that choosing their words from a large vocabulary takes what the cache needs."""
    driver.gpus([card(0, total_mib=5_120), card(1, total_mib=5_120)])
    fake_engine.install_vllm("0.32.0+cu129")
    folder = write_sparse_folder(home.models / "sparse", layers=32)
    small = write_sparse_folder(home.models / "small", layers=4)
    wordy = write_sparse_folder(home.models / "wordy", layers=4, words=131_072)
    asked: dict[str, object] = {"context_tokens": 2_048, "max_sequences": 16, "batch_tokens": 512, "eager": True}
    write(home, "whole", folder, {**asked, "kv_type": "fp8"}, fake_engine)
    write(home, "share", small, {**asked, "gpu_memory_utilisation": 0.95}, fake_engine)
    many = {"gpu_memory_utilisation": 0.8, "max_sequences": 1_536, "batch_tokens": 2_048}
    write(home, "many", wordy, {**asked, **many}, fake_engine)
    settings_kept(daemon)
    usual = launched(daemon, "whole", None)
    plan = priced(daemon, "whole")
    assert plan.remedies[0].kind == "cards", plan.summary
    taken = plan.remedies[0]
    assert taken.settings == {"tensor_parallel": 2}
    run = launched(daemon, "whole", taken)
    assert flag(run, "--tensor-parallel-size") == "2"
    assert cards_of(run) == f"{card_uuid(0)},{card_uuid(1)}"
    assert set(changed(usual, run)) <= {"--tensor-parallel-size", "--gpu-memory-utilization"}

    usual = launched(daemon, "share", None)
    plan = priced(daemon, "share")
    taken = plan.remedies[0]
    assert taken.kind == "utilisation", plan.summary
    run = launched(daemon, "share", taken)
    assert changed(usual, run) == {"--gpu-memory-utilization": str(taken.settings["gpu_memory_utilisation"])}

    usual = launched(daemon, "many", None)
    plan = priced(daemon, "many")
    taken = plan.remedies[0]
    assert taken.kind == "sequences", plan.summary
    run = launched(daemon, "many", taken)
    assert changed(usual, run) == {"--max-num-seqs": str(taken.settings["max_sequences"])}


# --- what the stories are told with -----------------------------------------------------------------------------------


def settings_kept(daemon: Daemon) -> None:
    """The daemon with a small headroom, so that small cards will do."""
    daemon.home.settings(memory={"headroom_bytes": 256 * MIB})
    daemon.start()


def priced(daemon: Daemon, profile: str) -> MemoryPlan:
    """The plan on an empty machine."""
    daemon.unload()
    daemon.wait_idle()
    return from_json(MemoryPlan, daemon.post("/control/plan", control.Want(profile=profile)).text)


def launched(daemon: Daemon, profile: str, remedy: Remedy | None) -> RunView:
    """The run after the click; with no remedy that of loading all the same."""
    daemon.unload()
    daemon.wait_idle()
    settings: dict[str, Scalar] = dict(remedy.settings) if remedy else {}
    more = {"gpus": remedy.gpus} if remedy and remedy.gpus else {}
    run = daemon.load(profile, settings=settings, override=remedy is None, **more).run
    assert run is not None
    return run


def changed(before: RunView, after: RunView) -> dict[str, str]:
    """The flags of the second run that the first has not, or with another value; a flag that went counts as "gone"."""
    one, other = (flags_of(run.argv) for run in (before, after))
    gone = dict.fromkeys(one.keys() - other.keys(), "gone")
    return gone | {name: value for name, value in other.items() if one.get(name) != value and name != "--port"}


def flags_of(argv: tuple[str, ...]) -> dict[str, str]:
    return {
        word: after if not after.startswith("--") else ""
        for word, after in zip(argv, (*argv[1:], "--"), strict=True)
        if word.startswith("--")
    }


def flag(run: RunView, name: str) -> str:
    return flags_of(run.argv)[name]


def cards_of(run: RunView) -> str:
    return run.environment["CUDA_VISIBLE_DEVICES"]


def write(home: Home, name: str, folder: Path, settings: dict[str, object], rig: FakeEngine) -> None:
    whole = {
        "engine": "vllm",
        "model": str(folder),
        "gpus": [card_uuid(0)],
        "settings": settings,
        "environment": rig.environment(answer="word " * 16),
    }
    home.paths.profiles.mkdir(parents=True, exist_ok=True)
    (home.paths.profiles / f"{name}.toml").write_text(tomli_w.dumps(whole), "utf-8")


def write_sparse_folder(folder: Path, layers: int, words: int = 1_024) -> Path:
    """A model of Llama's form whose tensors are only said in the header: of each layer 160 MiB."""
    width = 4_096
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": width, "intermediate_size": 8_192,
        "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "vocab_size": words,
        "max_position_embeddings": 8_192, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-5,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    at, entries = 0, {}

    def tensor(name: str, *shape: int) -> None:
        nonlocal at
        size = 2
        for length in shape:
            size *= length
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size

    tensor("model.embed_tokens.weight", words, width)
    for layer in range(layers):
        for name, rows in (("self_attn.q_proj", width), ("self_attn.o_proj", width), ("mlp.up_proj", 8_192)):
            tensor(f"model.layers.{layer}.{name}.weight", rows, width)
        tensor(f"model.layers.{layer}.mlp.gate_proj.weight", 2_048, width)
        tensor(f"model.layers.{layer}.mlp.down_proj.weight", width, 2_048)
    header = json.dumps(entries).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + at)
    return folder
