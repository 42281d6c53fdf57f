"""Defines the engine family `vllm`: `vllm serve` from any interpreter that has it, as a whole process tree on the loopback.

Its traps: it takes most of the memory unless told a figure; every VLLM_* variable changes it, and VLLM_PORT is not the
server's port; an API key does not close all of its routes, so only the gateway may reach it; it asks the hub for whatever is
not on the disk. What it says and does was read from a running 0.32.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from app.core.diagnosis.vllm import VLLM
from app.core.errors import SettingInvalid
from app.core.model_parsers import parsers_for
from app.core.ollama_options import VLLM as VLLM_OPTIONS
from app.core.options import Option, Preset, Scalar, path_items
from app.engines import placement, sleeping, vllm_memory
from app.engines.arguments import checked_settings, environment, flags
from app.engines.base import Command, FailurePattern, Launch, Readiness, Stage, Traits, Trial
from app.engines.vllm_options import OPTIONS, PRESETS

PROGRAM = "vllm.entrypoints.cli.main"
SCRUB = (
    *("VLLM_*", "LLAMA_*", "GGML_*", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("NVIDIA_VISIBLE_DEVICES", "RAY_ADDRESS"),
)
_JSON = ("compilation", "speculation", "limit_media", "media_options", "override_config", "chat_template_arguments")
_GIB_ON_CPU = "VLLM_CPU_KVCACHE_SPACE"
# Without a card a share would be one of the main memory, and there is one place to compute.
_ONLY_ON_CARDS = (
    *("gpu_memory_utilisation", "tensor_parallel", "pipeline_parallel", "cpu_offload_gib", "kv_offload_gib"),
    sleeping.SETTING,
)


class Vllm:
    id = "vllm"
    title = "vLLM"
    presets: tuple[Preset, ...] = PRESETS
    readiness = Readiness(health_path="/health")  # refused until it is up, 503 when its core has died
    traits = Traits(
        metrics_path="/metrics",
        counters={
            "prompt_tokens_total": "vllm:prompt_tokens_total",
            "generation_tokens_total": "vllm:generation_tokens_total",
            "requests_running": "vllm:num_requests_running",
            "requests_waiting": "vllm:num_requests_waiting",
            "kv_cache_usage": "vllm:kv_cache_usage_perc",  # 0..1 in spite of its name
        },
        structured_outputs=True,
        ollama_options=VLLM_OPTIONS,
        renames={"/v1/tokenize": {"input": "prompt", "content": "prompt"}},
    )
    failures: tuple[FailurePattern, ...] = VLLM

    def __init__(self, options: tuple[Option, ...] = OPTIONS) -> None:
        self.options = options

    def effective_settings(self, launch: Launch) -> dict[str, Scalar]:
        """Completed by the model (context, parsers), the cards (how many) and the memory that is free now."""
        values = checked_settings(launch.profile, self.options, self.title, launch.installation.version)
        for name in _JSON:
            _check_json(launch, name, values.get(name))
        if serves_answers(launch, values):
            _choose_parsers(launch, values)
        if launch.installation.accelerator != "cpu":
            _choose_cards(launch, values)
            vllm_memory.complete(launch, values, cards_used(launch, values))
        else:
            for name in _ONLY_ON_CARDS:
                values.pop(name, None)
            vllm_memory.complete(launch, values, ())
        return values

    def command(self, launch: Launch) -> Command:
        values = self.effective_settings(launch)
        by_variable = _memory_environment(launch, values)
        argv = [
            *(launch.installation.executable, "-I", "-m", PROGRAM, "serve", launch.model_path),
            *("--host", launch.host, "--port", str(launch.port)),
            *("--served-model-name", launch.model_name, *_names(values.pop("other_names", ""))),
            "--disable-uvicorn-access-log",  # the gateway keeps the list of requests
            *_flags(self.options, values),
            *launch.profile.extra_arguments,
        ]
        said = {
            "HF_HUB_OFFLINE": "1",  # a launch never downloads: that is the library's work, with progress
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork after CUDA was touched cannot use it
            **by_variable,
            **environment(self.options, values),
            **(sleeping.ENVIRONMENT if values.get(sleeping.SETTING) else {}),
            **_cards_environment(launch, values),
        }
        if launch.api_key:
            said["VLLM_API_KEY"] = launch.api_key
        return Command(
            argv=tuple(argv),
            environment=said | launch.profile.environment,
            scrub=SCRUB,
            path_folders=(
                str(Path(launch.installation.executable).parent),
            ),  # ninja and alike, for code that is compiled
            secrets=(launch.api_key,) if launch.api_key else (),
        )

    def trial(self, launch: Launch) -> Trial:
        """A token of plain text, because a model may lack a chat template; of a model that measures texts, an embedding."""
        if serves_answers(launch, launch.profile.settings):
            return Trial(path="/v1/completions", body={"model": launch.model_name, "prompt": "Hi", "max_tokens": 1})
        return Trial(path="/v1/embeddings", body={"model": launch.model_name, "input": "Hi"})

    def kv_cache_usage(self, slots: object) -> float | None:
        return None  # /metrics says it

    def stage_of(self, line: str) -> Stage | None:
        if found := _SHARDS.search(line):
            return Stage(name="weights", progress=round(_WEIGHTS_FROM + _WEIGHTS_SHARE * int(found[1]) / 100, 3))
        for pattern, stage in _STAGES:
            if pattern.search(line):
                return stage
        return None

    def served_context(self, health: Mapping[str, object], models: Mapping[str, object]) -> int | None:
        data = models.get("data")
        first = data[0] if isinstance(data, list) and data else None
        length = first.get("max_model_len") if isinstance(first, Mapping) else None
        return length if isinstance(length, int) else None

    def how_to_get(self) -> str:
        return (
            "`engine-room engines install vllm` installs it into an environment of its own (about 10 GB for an NVIDIA card); "
            "one that you have is found on PATH, in the usual environments, or by ENGINE_ROOM_VLLM, which names its Python."
        )


# --- what the settings mean ------------------------------------------------------------------------------------------


def serves_answers(launch: Launch, values: Mapping[str, Scalar]) -> bool:
    """Whether the model writes; one that only measures texts has neither chat nor parsers."""
    if values.get("runner") == "pooling" or values.get("convert") in ("embed", "classify"):
        return False
    only_embeds = launch.facts is not None and launch.facts.capabilities == ("embeddings",)
    return not (only_embeds and values.get("runner") != "generate")


def _choose_parsers(launch: Launch, values: dict[str, Scalar]) -> None:
    if launch.facts is not None:
        known = parsers_for(launch.facts.architecture, f"{launch.facts.name} {Path(launch.model_path).name}")
        if known.tools:
            values.setdefault("tool_parser", known.tools)
        if known.reasoning:
            values.setdefault("reasoning_parser", known.reasoning)
    if values.get("tool_parser"):
        values.setdefault("auto_tools", True)
    if values.get("auto_tools") and not values.get("tool_parser"):
        raise SettingInvalid(
            f"Profile {launch.profile.id}: settings.auto_tools needs settings.tool_parser.",
            "Name how the model writes its calls, for example hermes.",
        )


def cards_used(launch: Launch, values: Mapping[str, Scalar]) -> tuple[str, ...]:
    """The cards that the launch takes, in the profile's order: as many as it has ranks."""
    ranks = int(values.get("tensor_parallel", 1)) * int(values.get("pipeline_parallel", 1))
    return launch.gpu_uuids[:ranks]


def _choose_cards(launch: Launch, values: dict[str, Scalar]) -> None:
    """As many cards for each layer as the profile names, unless it says how they are used; refused before anything starts."""
    groups = int(values.get("pipeline_parallel", 1))
    if "tensor_parallel" not in values and len(launch.profile.gpus) > 1 and len(launch.profile.gpus) % groups == 0:
        values["tensor_parallel"] = len(launch.profile.gpus) // groups
    each = int(values.get("tensor_parallel", 1))
    where = f"Profile {launch.profile.id}"
    placement.check_split(where, launch.facts, each=each, groups=groups)
    placement.check_ranks(where, launch.gpu_uuids, each * groups, elsewhere=values.get("executor") == "ray")


def _memory_environment(launch: Launch, values: dict[str, Scalar]) -> dict[str, str]:
    """Without a card, whole GiB are said by the variable that every version knows; taken out of what the flags say."""
    size = values.get("kv_cache_mib")
    if launch.installation.accelerator != "cpu" or not isinstance(size, int) or size % 1024:
        return {}
    del values["kv_cache_mib"]
    return {_GIB_ON_CPU: str(size // 1024)}


def _cards_environment(launch: Launch, values: Mapping[str, Scalar]) -> dict[str, str]:
    cards = ",".join(cards_used(launch, values))
    match launch.installation.accelerator:
        case "cuda" if cards:
            return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": cards}
        case "rocm" if cards:
            return {"ROCR_VISIBLE_DEVICES": cards}
    return {}


def _check_json(launch: Launch, name: str, value: Scalar | None) -> None:
    if not value:
        return
    try:
        if isinstance(json.loads(str(value)), dict):
            return
    except ValueError:
        pass
    raise SettingInvalid(
        f"Profile {launch.profile.id}: settings.{name} must be one JSON object.", 'For example {"key": 1}.'
    )


def _flags(options: Iterable[Option], values: Mapping[str, Scalar]) -> list[str]:
    """argv for the settings; what the flags want in another form is said here."""
    said = {name: value for name, value in values.items() if value != ""}  # an empty text: none, not even ours
    argv: list[str] = []
    if (size := said.pop("kv_cache_mib", None)) is not None:
        argv += ["--kv-cache-memory-bytes", str(int(size) * 1024**2)]
    if lora := said.pop("lora", None):
        paths = [path for option in options if option.name == "lora" for path, _ in path_items(option, lora)]
        argv += ["--enable-lora", "--lora-modules", *(f"{Path(path).name}={path}" for path in paths)]
    if said.pop("kv_type", None) not in (None, "auto"):
        argv += ["--kv-cache-dtype", str(values["kv_type"])]
    if (offloaded := said.get("kv_offload_gib")) is not None and offloaded:
        argv += ["--kv-offloading-backend", "native"]
    else:
        said.pop("kv_offload_gib", None)
    return [*argv, *flags(options, said)]


def _names(text: Scalar) -> list[str]:
    return [name.strip() for name in str(text).split(",") if name.strip()]


# --- the load as the log tells it ------------------------------------------------------------------------------------

_WEIGHTS_FROM, _WEIGHTS_SHARE = 0.45, 0.20
_SHARDS = re.compile(r"Loading \w+ checkpoint shards:\s*(\d{1,3})%")

# The first words of each step, and how much of the load lies behind it. Both streams are in the one log. The shares are
# those of a small model on a processor; the supervisor corrects them by the times of earlier launches of the profile.
_STAGES: tuple[tuple[re.Pattern[str], Stage], ...] = tuple(
    (re.compile(pattern), Stage(name=name, progress=progress))
    for pattern, name, progress in (
        (r"non-default args: |vLLM API server version", "config", 0.12),
        (r"Resolved architecture: ", "config", 0.20),
        (r"Using max model len ", "imports", 0.25),
        (r"Initializing a V\d LLM engine", "imports", 0.35),
        (r"Starting to load model ", "weights", _WEIGHTS_FROM),
        (r"Loading weights took|Model loading took", "weights", _WEIGHTS_FROM + _WEIGHTS_SHARE),
        (
            r"Warming up model for the compilation|Dynamo bytecode transform time|for vLLM's torch\.compile",
            "compile",
            0.67,
        ),
        (
            r"Directly load the compiled graph|compiled graph\(s\).* from the cache|torch\.compile takes",
            "compile",
            0.75,
        ),
        (r"saved AOT compiled function|Warming up done|loaded AOT compiled", "compile", 0.80),
        (r"KV cache size: |Available KV cache memory|GiB for KV cache on node", "kv_cache", 0.84),
        (r"Capturing CUDA graphs?|Graph capturing finished", "graphs", 0.88),
        (r"init engine \(", "warm_up", 0.93),
        (r"Supported tasks: |Starting vLLM (API )?server on|Application startup complete", "first_token", 0.97),
    )
)
