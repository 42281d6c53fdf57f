"""vLLM's command line, memory and readiness as values: what is said to it, and what is not left to it (E3, E9, E10, I18, I20)."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from app.core.catalog.facts import ModelFacts
from app.core.errors import SettingInvalid
from app.core.memory.plan_types import Verdict
from app.core.memory.usable import usable_bytes
from app.core.options import Scalar
from app.core.profiles import Profile
from app.daemon.preparing import engine_environment
from app.engines.base import Launch, Stage
from app.engines.registry import FAMILIES
from tests.core.memory.test_plan import card, machine, planned
from tests.engines.launches import command_of, launch

FAMILY = FAMILIES["vllm"]
GIB = 1024**3
MODEL = ModelFacts(
    path=Path("/models/qwen"),
    format="safetensors",
    name="Qwen3-8B",
    architecture="qwen3",
    file_bytes=16 * GIB,
    weights_bytes=16 * GIB,
    layers=36,
    heads=32,
    kv_heads=(8,) * 36,
    key_length=128,
    value_length=128,
    context_max=40_960,
    embedding_length=4_096,
    feed_forward_length=12_288,
    vocabulary=151_936,
)


def vllm(settings: dict[str, Scalar] | None = None, **more: object) -> Launch:
    return launch("vllm", settings, executable="/env/bin/python", model_path="/models/qwen", **more)  # type: ignore[arg-type]


def on_cards(settings: dict[str, Scalar] | None = None, *, cards: int = 1, free: int = 20, named: int = 0) -> Launch:
    """A machine with cards of 24 GiB, of which `free` are usable; the profile names the first `named` of them."""
    uuids = tuple(f"GPU-{n}" for n in range(cards))
    made = vllm(settings, accelerator="cuda", gpu_uuids=uuids, facts=MODEL)
    profile: Profile = replace(made.profile, gpus=uuids[:named])
    return replace(
        made,
        profile=profile,
        usable_bytes=dict.fromkeys(uuids, free * GIB),
        total_bytes=dict.fromkeys(uuids, 24 * GIB),
    )


def said(made: Launch, flag: str) -> str | None:
    argv = command_of(made).argv
    return argv[argv.index(flag) + 1] if flag in argv else None


def test_nothing_set_without_a_card() -> None:
    made = vllm(api_key="canary-161")
    command = command_of(made)
    assert command.argv == (
        *("/env/bin/python", "-I", "-m", "vllm.entrypoints.cli.main", "serve", "/models/qwen"),
        *("--host", "127.0.0.1", "--port", "18000", "--served-model-name", "demo", "--disable-uvicorn-access-log"),
        *("--max-model-len", "4096"),
    )
    assert command.environment == {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_API_KEY": "canary-161",
    }
    assert command.path_folders == ("/env/bin",), "code that is compiled while loading is compiled by programs there"
    seen = engine_environment({"PATH": "/usr/bin", "VLLM_PORT": "8000", "HOME": "/me"}, command, made.profile)
    assert seen["PATH"] == "/env/bin:/usr/bin"
    assert "VLLM_PORT" not in seen
    assert {"VLLM_*", "PYTHONPATH", "CUDA_VISIBLE_DEVICES"} <= set(command.scrub), "VLLM_PORT would move inner ports"


def test_on_a_card_the_share_is_what_is_free_and_parsers_follow_the_model() -> None:
    made = on_cards(free=24)
    assert said(made, "--gpu-memory-utilization") == "0.92"
    assert said(made, "--max-model-len") == "32768"
    assert (said(made, "--tool-call-parser"), said(made, "--reasoning-parser")) == ("hermes", "qwen3")
    assert "--enable-auto-tool-choice" in command_of(made).argv
    none = command_of(on_cards({"tool_parser": "", "reasoning_parser": ""})).argv
    assert not {"--tool-call-parser", "--reasoning-parser", "--enable-auto-tool-choice"} & set(none)
    environment = command_of(made).environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-0"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment


def test_every_important_setting_reaches_the_engine() -> None:
    argv = command_of(
        on_cards(
            {
                "context_tokens": 8_192, "kv_type": "fp8", "gpu_memory_utilisation": 0.7, "max_sequences": 32,
                "batch_tokens": 2_048, "quantisation": "awq", "number_type": "float16", "attention_backend": "FLASHINFER",
                "eager": True, "prefix_caching": False, "chunked_prefill": True, "cpu_offload_gib": 4, "kv_offload_gib": 8,
                "lora": "/loras/poet, /loras/clerk", "lora_rank_max": "32", "chat_template_file": "/t.jinja",
                "tool_parser": "mistral", "reasoning_parser": "deepseek_r1", "limit_media": '{"image": 2}',
                "trust_remote_code": True, "tokenizer_mode": "mistral", "load_format": "dummy", "other_names": "one, two",
                "executor": "mp", "runner": "generate",
            }
        )
    ).argv  # fmt: skip
    line = " ".join(argv)
    for words in (
        "--max-model-len 8192", "--kv-cache-dtype fp8", "--gpu-memory-utilization 0.7", "--max-num-seqs 32",
        "--max-num-batched-tokens 2048", "--quantization awq", "--dtype float16", "--attention-backend FLASHINFER",
        "--enforce-eager", "--no-enable-prefix-caching", "--enable-chunked-prefill", "--cpu-offload-gb 4",
        "--kv-offloading-size 8", "--kv-offloading-backend native", "--max-lora-rank 32",
        "--enable-lora --lora-modules poet=/loras/poet clerk=/loras/clerk --", "--chat-template /t.jinja",
        "--tool-call-parser mistral", "--reasoning-parser deepseek_r1", '--limit-mm-per-prompt {"image": 2}',
        "--trust-remote-code", "--tokenizer-mode mistral", "--load-format dummy", "--served-model-name demo one two --",
        "--distributed-executor-backend mp", "--runner generate",
    ):  # fmt: skip
        assert words in line
    assert "--kv-cache-memory-bytes" not in line


def test_a_size_of_the_cache_takes_the_place_of_a_share() -> None:
    made = on_cards({"kv_cache_mib": 1_024})
    assert said(made, "--kv-cache-memory-bytes") == str(GIB)
    assert said(made, "--gpu-memory-utilization") == "0.8", "its own 0.92 would be looked for among what is free"
    assert said(vllm({"kv_cache_mib": 300}), "--kv-cache-memory-bytes") == str(300 * 1024**2)


@pytest.mark.parametrize(("free", "expected"), [(24, "0.92"), (20, "0.80"), (3, "0.10"), (-3, "0.05")])
def test_the_share_follows_what_is_free(free: int, expected: str) -> None:
    share = said(on_cards(free=free), "--gpu-memory-utilization")
    assert share is not None
    assert f"{float(share):.2f}" == expected


def test_the_fullest_card_decides_and_what_is_not_known_is_left_to_the_engine() -> None:
    made = on_cards({"tensor_parallel": 2}, cards=2)
    uneven = replace(made, usable_bytes={"GPU-0": 20 * GIB, "GPU-1": 11 * GIB})
    assert said(uneven, "--gpu-memory-utilization") == "0.43"
    assert said(replace(made, usable_bytes={}), "--gpu-memory-utilization") is None
    assert said(replace(made, total_bytes={}), "--gpu-memory-utilization") is None


def test_a_launch_is_told_what_its_plan_said() -> None:
    """M6: context and answers at once are solved from what is free; what the profile says stays."""
    gpus = machine(card(21.5))
    usable = usable_bytes(gpus, headroom_bytes=int(1.5 * GIB), host_headroom_bytes=GIB, threshold=0.95)
    made = on_cards()
    made = replace(made, gpu_uuids=("GPU-a",), usable_bytes=usable, total_bytes={"GPU-a": 24 * GIB})
    planned_ = planned(MODEL, {}, gpus, family="vllm")
    context = said(made, "--max-model-len")
    assert context is not None
    assert planned_.context_tokens == int(context) < 32_768
    assert int(context) % 256 == 0
    sequences, share = said(made, "--max-num-seqs"), said(made, "--gpu-memory-utilization")
    assert planned_.verdict is Verdict.FITS
    assert share is not None
    assert planned_.notes[0].startswith(f"vLLM takes {float(share):.0%} of the card; ")
    assert planned_.notes[1] == f"The context was shortened to {int(context):,} tokens, the longest that fits."
    assert planned_.notes[2].startswith(f"{sequences} answers at once")
    asked = replace(made, profile=replace(made.profile, settings={"context_tokens": 32_768}))
    assert said(asked, "--max-model-len") == "32768"


def test_the_cache_in_main_memory_holds_some_conversations_and_leaves_room() -> None:
    def mib(context: int, free: int | None, **settings: Scalar) -> int:
        made = replace(
            vllm({"context_tokens": context, **settings}, facts=MODEL),
            usable_bytes={} if free is None else {"host": free * GIB},
        )
        return int(FAMILY.effective_settings(made)["kv_cache_mib"])

    block = 128 * 36 * 8 * 256 * 2 / 1024**2
    one = 33 * block  # 32 blocks of 128 tokens, and the one that the engine never gives out
    assert mib(4_096, None) == 4 * one
    assert mib(4_096, None, kv_type="fp8") == 2 * one
    assert mib(4_096, 21) == (21 * GIB - int(16 * GIB * 1.2)) // 2 // 1024**2
    assert mib(4_096, 0) == -(-one // 1), "less is refused by the engine in clearer words"
    assert mib(32_768, None) == -(-257 * block // 1), "one full conversation at least"
    assert FAMILY.effective_settings(vllm())["kv_cache_mib"] == 1_024


def test_as_many_cards_as_the_profile_names_and_no_others_are_seen() -> None:
    made = on_cards(cards=4, named=2)
    assert said(made, "--tensor-parallel-size") == "2"
    assert command_of(made).environment["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"
    piped = on_cards({"pipeline_parallel": 2, "tensor_parallel": 2}, cards=4)
    assert command_of(piped).environment["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1,GPU-2,GPU-3"
    assert said(on_cards(cards=4), "--tensor-parallel-size") is None, "one card unless a profile names more"


@pytest.mark.parametrize(
    ("settings", "cards", "words"),
    [
        ({"tensor_parallel": 3}, 4, "32 attention heads, which 3 cards cannot share"),
        ({"tensor_parallel": 4}, 2, "4 cards are needed"),
        ({"pipeline_parallel": 64}, 64, "only 36 layers"),
        ({"limit_media": "two images"}, 1, "must be one JSON object"),
        ({"auto_tools": True, "runner": "generate", "tool_parser": ""}, 1, "needs settings.tool_parser"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    settings: dict[str, Scalar], cards: int, words: str
) -> None:
    with pytest.raises(SettingInvalid) as refusal:
        command_of(on_cards(settings, cards=cards))
    assert words in str(refusal.value)


def test_presets_have_the_numbers_that_people_measured() -> None:
    """E10: 16-32 answers and 2,048 tokens a step at 0.7-0.8, against 128-256 and 8,192-16,384 at 0.9-0.95."""
    presets = {preset.name: preset.settings for preset in FAMILY.presets}
    low, high = presets["low-latency"], presets["high-throughput"]
    assert 16 <= int(low["max_sequences"]) <= 32
    assert low["batch_tokens"] == 2_048
    assert 0.7 <= float(low["gpu_memory_utilisation"]) <= 0.8
    assert 128 <= int(high["max_sequences"]) <= 256
    assert 8_192 <= int(high["batch_tokens"]) <= 16_384
    assert 0.9 <= float(high["gpu_memory_utilisation"]) <= 0.95


def test_a_model_that_measures_texts_is_tried_by_an_embedding_and_gets_no_parsers() -> None:
    facts = replace(MODEL, capabilities=("embeddings",))
    made = vllm(facts=facts)
    assert FAMILY.trial(made).path == "/v1/embeddings"
    assert said(made, "--tool-call-parser") is None
    assert FAMILY.trial(vllm(facts=MODEL)).path == "/v1/completions", "a model may lack a chat template"


def test_the_context_is_what_the_engine_says() -> None:
    assert FAMILY.served_context({}, {"data": [{"id": "demo", "max_model_len": 512}]}) == 512
    assert FAMILY.served_context({}, {"data": []}) is None
    assert FAMILY.served_context({}, {"data": "nonsense"}) is None


RUNNING = [
    "(APIServer pid=1041) INFO 11-21 02:32:40 [api_utils.py:286] non-default args: {'model_tag': 'tiny-model'}",
    "(APIServer pid=1041) INFO 11-21 02:32:49 [model.py:733] Resolved architecture: LlamaForCausalLM",
    "(APIServer pid=1041) INFO 11-21 02:32:49 [model.py:2152] Using max model len 512",
    "(EngineCore pid=1199) INFO 11-21 02:32:58 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='x'",
    "(Worker pid=1326) INFO 11-21 02:33:07 [cpu_model_runner.py:68] Starting to load model tiny-model...",
    "Loading safetensors checkpoint shards:   0% Completed | 0/4 [00:00<?, ?it/s]",
    "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:00<00:00, 352.95it/s]",
    "Loading safetensors checkpoint shards: 100% Completed | 4/4 [00:00<00:00, 352.95it/s]",
    "(Worker pid=1326) INFO 11-21 02:33:08 [default_loader.py:501] Loading weights took 0.01 seconds",
    "(Worker pid=1326) INFO 11-21 02:33:08 [cpu_model_runner.py:87] Warming up model for the compilation...",
    "(Worker pid=1326) INFO 11-21 02:33:45 [decorators.py:743] [backbone] saved AOT compiled function to /x",
    "(Worker pid=1326) INFO 11-21 02:33:46 [cpu_worker.py:260] Explicitly set (1.0/13.46) GiB for KV cache on node 0.",
    "(EngineCore pid=1199) INFO 11-21 02:33:46 [kv_cache_utils.py:2327] CPU KV cache size: 524,288 tokens, Maximum",
    "(EngineCore pid=1199) INFO 11-21 02:33:47 [core.py:402] init engine (profile, create kv cache, warmup) took 38.48 s",
    "(APIServer pid=1041) INFO 11-21 02:33:48 [entry.py:140] Starting vLLM server on http://127.0.0.1:18001",
    "INFO:     Application startup complete.",
]


def test_a_load_passes_its_stages_in_order_and_shards_move_it() -> None:
    news = [stage for line in RUNNING if (stage := FAMILY.stage_of(line)) is not None]
    assert len(news) == len(RUNNING)
    names = list(dict.fromkeys(stage.name for stage in news))
    assert names == ["config", "imports", "weights", "compile", "kv_cache", "warm_up", "first_token"]
    shares = [stage.progress or 0 for stage in news]
    assert shares == sorted(shares), "progress never goes back"
    assert FAMILY.stage_of(RUNNING[6]) == Stage(name="weights", progress=0.55)


def test_a_card_names_graphs_and_a_cached_compilation() -> None:
    lines = {
        "(Worker_TP0 pid=9) INFO 08-01 10:00:00 [gpu_model_runner.py:1] Model loading took 5.91 GiB and 3.2 seconds": "weights",
        "(EngineCore_DP0 pid=9) INFO 08-01 10:00:00 [backends.py:1] Directly load the compiled graph(s) for shape None from the cache, took 2 s": "compile",
        "INFO 08-01 10:00:00 [gpu_worker.py:1] Available KV cache memory: 3.59 GiB": "kv_cache",
        "Capturing CUDA graphs (decode, FULL):  50%|█████     | 1/2 [00:00<00:00,  2.74it/s]": "graphs",
        "INFO 08-01 10:00:00 [gpu_model_runner.py:1] Graph capturing finished in 12 secs, took 0.72 GiB": "graphs",
    }  # fmt: skip
    assert {line: (FAMILY.stage_of(line) or Stage(name="none")).name for line in lines} == lines
    request = (
        "(APIServer pid=1) INFO 11-21 02:34:49 [loggers.py:335] Engine 000: Running: 0 reqs, CPU KV cache usage: 0.0%"
    )
    assert FAMILY.stage_of(request) is None
