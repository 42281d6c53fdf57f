"""Defines what the native llama.cpp server is told and what it says, whichever program hosts it.

Both `llama-server` (the binary) and `llama.cpp` (the same server from the prebuilt package, in a child process of ours)
are families of it. The flag names are those of a current build. Log lines, counters and answers were read from a running
server; old builds print the same words without the clock in front, so patterns look at the message only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.core.options import Option, OptionKind, Scalar
from app.engines.base import Launch, Readiness, Stage, Traits

CONTEXT_LIMIT_TOKENS = 32_768  # the longest context that we choose by ourselves; a profile may ask for more
ALL_LAYERS = 999
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

# "http://localhost.invalid" can never be a page's origin: the engine answers our gateway, no browser.
NO_BROWSER_ORIGIN = "http://localhost.invalid"

OPTIONS: tuple[Option, ...] = (
    Option(
        name="context_tokens",
        kind=OptionKind.INTEGER,
        sentence="How many tokens of conversation the model can see; shared by all slots. Memory grows with it.",
        minimum=64,
        maximum=10_000_000,
        unit="tokens",
        flag="--ctx-size",
    ),
    Option(
        name="slots",
        kind=OptionKind.INTEGER,
        sentence="How many requests are answered at once; they share the context.",
        default=4,
        minimum=1,
        maximum=256,
        flag="--parallel",
    ),
    Option(
        name="gpu_layers",
        kind=OptionKind.INTEGER,
        sentence="How many of the model's layers go to the graphics card; the rest stays in main memory. 999 means all.",
        minimum=0,
        maximum=ALL_LAYERS,
        unit="layers",
        flag="--n-gpu-layers",
    ),
    Option(
        name="cpu_expert_layers",
        kind=OptionKind.INTEGER,
        sentence="How many layers keep their experts in main memory (mixture-of-experts models only).",
        minimum=0,
        maximum=ALL_LAYERS,
        unit="layers",
        flag="--n-cpu-moe",
    ),
    Option(
        name="kv_type_k",
        kind=OptionKind.CHOICE,
        sentence="Number format of the KV cache's keys; q8_0 halves the memory of f16 at a very small loss.",
        choices=KV_TYPES,
        flag="--cache-type-k",
    ),
    Option(
        name="kv_type_v",
        kind=OptionKind.CHOICE,
        sentence="Number format of the KV cache's values; anything below f16 needs flash attention.",
        choices=KV_TYPES,
        flag="--cache-type-v",
    ),
    Option(
        name="kv_on_gpu",
        kind=OptionKind.SWITCH,
        sentence="Keep the KV cache on the graphics card; off saves its memory and costs speed.",
        flag="--no-kv-offload",
    ),
    Option(
        name="flash_attention",
        kind=OptionKind.CHOICE,
        sentence="Attention without its large intermediate buffer: less memory, usually faster. auto decides by the device.",
        choices=("auto", "on", "off"),
        flag="--flash-attn",
    ),
    Option(
        name="batch_tokens",
        kind=OptionKind.INTEGER,
        sentence="How many prompt tokens are taken in one step.",
        minimum=1,
        maximum=65_536,
        unit="tokens",
        flag="--batch-size",
    ),
    Option(
        name="ubatch_tokens",
        kind=OptionKind.INTEGER,
        sentence="How many prompt tokens are computed together; the compute buffer grows with it.",
        minimum=1,
        maximum=65_536,
        unit="tokens",
        flag="--ubatch-size",
    ),
    Option(
        name="threads",
        kind=OptionKind.INTEGER,
        sentence="Processor threads; left alone, one less than the cores, because a full machine makes them wait for each other.",
        minimum=1,
        maximum=1_024,
        flag="--threads",
    ),
    Option(
        name="load_mode",
        kind=OptionKind.CHOICE,
        sentence="How the file comes into memory: mapped (mmap), read (none), or pinned so that it is never swapped out (mlock).",
        choices=("auto", "mmap", "none", "mlock", "mmap+mlock"),
        flag="--load-mode",
    ),
    Option(
        name="repack",
        kind=OptionKind.SWITCH,
        sentence="Rearrange weights for the processor: faster, but needs up to 0.75 times the model's size in main memory on top.",
        flag="--no-repack",
    ),
    Option(
        name="prompt_cache_mib",
        kind=OptionKind.INTEGER,
        sentence="Main memory for prompts seen before, so that a returning conversation starts faster; 0 turns it off.",
        default=2_048,
        minimum=0,
        maximum=1_048_576,
        unit="MiB",
        flag="--cache-ram",
    ),
    Option(
        name="warm_up",
        kind=OptionKind.SWITCH,
        sentence="Run the model once while loading, so that the first answer does not pay for it.",
        flag="--no-warmup",
    ),
    Option(
        name="split_mode",
        kind=OptionKind.CHOICE,
        sentence="How a model is spread over several cards: by layers, by rows, or not at all.",
        choices=("layer", "row", "none"),
        flag="--split-mode",
    ),
    Option(
        name="tensor_split",
        kind=OptionKind.TEXT,
        sentence="Shares of the cards, for example 3,1 for three quarters on the first.",
        flag="--tensor-split",
    ),
    Option(
        name="sliding_window_full",
        kind=OptionKind.SWITCH,
        sentence="Keep the full KV cache of sliding-window layers, so that old prompts can be reused; costs memory.",
        flag="--swa-full",
    ),
    Option(
        name="embeddings",
        kind=OptionKind.SWITCH,
        sentence="Serve embeddings instead of chat (embedding models only).",
        flag="--embeddings",
    ),
    Option(
        name="chat_template",
        kind=OptionKind.TEXT,
        sentence="Name of a built-in chat template, or the template itself, in place of the one in the model file.",
        flag="--chat-template",
    ),
    Option(
        name="chat_template_file",
        kind=OptionKind.PATH,
        sentence="A file with a chat template in place of the one in the model file.",
        flag="--chat-template-file",
    ),
    Option(
        name="reasoning_format",
        kind=OptionKind.CHOICE,
        sentence="Whether thoughts come apart from the answer (deepseek, auto) or inside it (none).",
        choices=("auto", "deepseek", "none"),
        flag="--reasoning-format",
    ),
    Option(
        name="mmproj",
        kind=OptionKind.PATH,
        sentence="The projector file that lets a vision model see images.",
        flag="--mmproj",
    ),
    Option(name="lora", kind=OptionKind.PATH, sentence="A LoRA adapter to put onto the model.", flag="--lora"),
    Option(
        name="rope_frequency_base",
        kind=OptionKind.NUMBER,
        sentence="Base of the rotary positions, for models stretched beyond their training length.",
        minimum=0,
        flag="--rope-freq-base",
    ),
    Option(
        name="rope_frequency_scale",
        kind=OptionKind.NUMBER,
        sentence="Scale of the rotary positions; 0.5 stretches the context to twice its training length.",
        minimum=0,
        flag="--rope-freq-scale",
    ),
)

READINESS = Readiness(health_path="/health")

TRAITS = Traits(
    metrics_path="/metrics",
    counters={
        "prompt_tokens_total": "llamacpp:prompt_tokens_total",
        "generation_tokens_total": "llamacpp:tokens_predicted_total",
        "prompt_tokens_per_second": "llamacpp:prompt_tokens_seconds",
        "generation_tokens_per_second": "llamacpp:predicted_tokens_seconds",
        "requests_running": "llamacpp:requests_processing",
        "requests_waiting": "llamacpp:requests_deferred",
        "kv_cache_usage": "llamacpp:kv_cache_usage_ratio",  # printed by builds before 2026 only
    },
)

# An inherited LLAMA_ARG_CTX_SIZE would be applied silently, and GGML_* switches change how it computes.
SCRUB = (
    "LLAMA_*",
    "GGML_*",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
)


def default_context_tokens(launch: Launch) -> int:
    """What the model was trained for, at most CONTEXT_LIMIT_TOKENS; 4,096 when the file does not say."""
    trained = launch.facts.context_max if launch.facts is not None else None
    return min(trained or 4_096, CONTEXT_LIMIT_TOKENS)


def with_launch_defaults(values: Mapping[str, Scalar], launch: Launch) -> dict[str, Scalar]:
    """`values` completed by what depends on machine and model: context, threads, layers on the card."""
    complete = dict(values)
    complete.setdefault("context_tokens", default_context_tokens(launch))
    complete.setdefault("threads", max(1, launch.physical_cores - 1))
    if launch.installation.accelerator != "cpu":
        complete.setdefault("gpu_layers", ALL_LAYERS)
    else:
        complete.pop("gpu_layers", None)  # a build without a card's code warns about it and ignores it
    return complete


def devices_environment(launch: Launch, values: Mapping[str, Scalar]) -> dict[str, str]:
    """Which cards the engine sees, by UUID: an index means another card as soon as one is added."""
    cards = ",".join(launch.gpu_uuids)
    match launch.installation.accelerator:
        case "cuda":
            if values.get("gpu_layers") == 0:
                return {"CUDA_VISIBLE_DEVICES": ""}  # a CUDA context alone would take some hundred MiB of the card
            if cards:
                return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": cards}
        case "rocm" if cards:
            return {"ROCR_VISIBLE_DEVICES": cards}
    return {}


def common_environment(launch: Launch, values: Mapping[str, Scalar]) -> dict[str, str]:
    """Cards, key, and no debugger on an internal failure: it would take seconds and bury the cause in its output."""
    key = {"LLAMA_API_KEY": launch.api_key} if launch.api_key else {}
    return {"GGML_NO_BACKTRACE": "1", **devices_environment(launch, values), **key, **launch.profile.environment}


def secrets(launch: Launch) -> tuple[str, ...]:
    return (launch.api_key,) if launch.api_key else ()


# The load as the log tells it: the first words of each step and how much of the load lies behind it. The shares are those
# of a mapped file on a warm disk; the supervisor corrects them by the times of earlier launches.
_STAGES: tuple[tuple[re.Pattern[str], Stage], ...] = tuple(
    (re.compile(pattern), Stage(name=name, progress=progress))
    for pattern, name, progress in (
        (r"load_model: loading model '", "reading", 0.02),
        (r"llama_model_loader: loaded meta data with", "reading", 0.05),
        (r"load_tensors: loading model tensors", "weights", 0.10),
        (r"load_tensors: offloaded \d+/\d+ layers", "weights", 0.15),
        (r"load_tensors: .* model buffer size", "weights", 0.20),
        (r"llama_context: constructing llama_context|llama_new_context_with_model: n_ctx ", "kv_cache", 0.70),
        (r"llama_kv_cache\w*: .*KV buffer size", "kv_cache", 0.80),
        (r"sched_reserve: reserving|compute buffer size", "graphs", 0.85),
        (r"warming up the model", "warm_up", 0.90),
        (r"(init|main|llama_server): model loaded|server is listening on|: listening on http", "first_token", 0.97),
    )
)


def stage_of(line: str) -> Stage | None:
    for pattern, stage in _STAGES:
        if pattern.search(line):
            return stage
    return None


def served_context(health: Mapping[str, object], models: Mapping[str, object]) -> int | None:
    """Tokens that one conversation can have: /v1/models says it (`data[0].meta.n_ctx`), /props too when it was asked."""
    data = models.get("data")
    if isinstance(data, list) and data and isinstance(data[0], Mapping):
        meta = data[0].get("meta")
        if isinstance(meta, Mapping) and isinstance(meta.get("n_ctx"), int):
            return int(meta["n_ctx"])
    settings = health.get("default_generation_settings")
    if isinstance(settings, Mapping) and isinstance(settings.get("n_ctx"), int):
        return int(settings["n_ctx"])
    return None
