"""Defines what the native llama.cpp server is told and what it says, whichever program hosts it.

Both `llama-server` (the binary) and `llama.cpp` (the same server from the prebuilt package, in a child process of ours)
are families of it. The flag names are those of a current build. Log lines, counters and answers were read from a running
server; old builds print the same words without the clock in front, so patterns look at the message only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from app.core.errors import SettingInvalid
from app.core.ollama_options import LLAMA_CPP
from app.core.options import Option, Scalar, path_items
from app.engines.arguments import checked_settings, flags
from app.engines.base import Launch, Readiness, Stage, Traits, Trial
from app.engines.native_options import ALL_LAYERS

CONTEXT_LIMIT_TOKENS = 32_768  # the longest context that we choose by ourselves; a profile may ask for more
PRIORITIES = {"low": -1, "normal": 0, "medium": 1, "high": 2}
TEMPLATE_NAME = re.compile(r"[A-Za-z0-9._-]+")

# "http://localhost.invalid" can never be a page's origin: the engine answers our gateway, no browser.
NO_BROWSER_ORIGIN = "http://localhost.invalid"

READINESS = Readiness(health_path="/health")

TRAITS = Traits(
    metrics_path="/metrics",
    slots_path="/slots",
    ollama_options=LLAMA_CPP,
    renames={"/v1/tokenize": {"input": "content", "prompt": "content"}},
    counters={
        "prompt_tokens_total": "llamacpp:prompt_tokens_total",
        "generation_tokens_total": "llamacpp:tokens_predicted_total",
        "prompt_tokens_per_second": "llamacpp:prompt_tokens_seconds",
        "generation_tokens_per_second": "llamacpp:predicted_tokens_seconds",
        "requests_running": "llamacpp:requests_processing",
        "requests_waiting": "llamacpp:requests_deferred",
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


def effective_settings(launch: Launch, options: Sequence[Option], title: str) -> dict[str, Scalar]:
    """The profile's settings over our defaults, completed for machine and model; raises SettingInvalid.

    A template that is only a name is looked up by the engine without Jinja; with Jinja the name itself would silently
    become the template, so that every prompt would read "llama3".
    """
    values = checked_settings(launch.profile, options, title, launch.installation.version)
    for names in (("chat_template", "chat_template_file"), GRAMMARS):
        said = [name for name in names if values.get(name)]
        if len(said) > 1:
            raise SettingInvalid(
                f"Profile {launch.profile.id}: settings.{said[0]} and settings.{said[1]} exclude each other.",
                "Take one of them out.",
            )
    if named_template(values):
        if values.get("jinja"):
            raise SettingInvalid(
                f"Profile {launch.profile.id}: settings.chat_template names a built-in template, and Jinja needs its text.",
                "Set jinja = false, or give the template as a file by chat_template_file.",
            )
        values["jinja"] = False
    if values.get("rerank"):
        values["embeddings"] = True
    return with_launch_defaults(values, launch)


GRAMMARS = ("grammar", "grammar_file", "json_schema", "json_schema_file")


def named_template(values: Mapping[str, Scalar]) -> bool:
    """Whether the chat template is a built-in one's name; `chatml` is the one that the engine knows with Jinja too."""
    template = values.get("chat_template")
    return isinstance(template, str) and template != "chatml" and bool(TEMPLATE_NAME.fullmatch(template))


def with_launch_defaults(values: Mapping[str, Scalar], launch: Launch) -> dict[str, Scalar]:
    """`values` completed by what depends on machine and model: context, threads, layers on the card, what it serves."""
    complete = dict(values)
    if launch.facts is not None and launch.facts.capabilities == ("embeddings",):
        complete.setdefault("embeddings", True)  # an encoder cannot chat, and would never be ready
    complete.setdefault("context_tokens", default_context_tokens(launch))
    complete.setdefault("threads", max(1, launch.physical_cores - 1))
    if launch.installation.accelerator != "cpu":
        complete.setdefault("gpu_layers", ALL_LAYERS)
    else:
        complete.pop("gpu_layers", None)  # a build without a card's code warns about it and ignores it
    return complete


def setting_flags(options: Sequence[Option], values: Mapping[str, Scalar]) -> list[str]:
    """argv for the settings, where the flags want it in another form than a profile says it."""
    said = {name: value for name, value in values.items() if name not in ("lora", "lora_scale")}
    if "priority" in said:
        said["priority"] = PRIORITIES[str(said["priority"])]
    return [*flags(options, said), *lora_flags(options, values)]


def lora_flags(options: Sequence[Option], values: Mapping[str, Scalar]) -> list[str]:
    """One flag for each adapter: plain for one at its trained strength, else with its scale behind a colon."""
    argv: list[str] = []
    common = values.get("lora_scale", 1)
    for path, own in (
        item for option in options if option.name == "lora" for item in path_items(option, values.get("lora"))
    ):
        scale = float(common if own is None else own)
        argv += ["--lora", path] if scale == 1 else ["--lora-scaled", f"{path}:{scale:g}"]
    return argv


def trial(launch: Launch, values: Mapping[str, Scalar]) -> Trial:
    """What proves that the engine works, by what it serves: a token, an embedding, or an order of documents."""
    name = launch.model_name
    if values.get("rerank"):
        return Trial(path="/v1/rerank", body={"model": name, "query": "Hi", "documents": ["Hi"]})
    if values.get("embeddings") and values.get("pooling") == "none":
        return Trial(
            path="/embeddings", body={"content": "Hi"}
        )  # the OpenAI form has no place for one vector per token
    if values.get("embeddings"):
        return Trial(path="/v1/embeddings", body={"model": name, "input": "Hi"})
    return Trial()


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
        case "vulkan" if values.get("gpu_layers") == 0:
            return {"GGML_VK_VISIBLE_DEVICES": ""}  # else its buffers for computing would lie on the card nonetheless
    return {}


def common_environment(launch: Launch, values: Mapping[str, Scalar]) -> dict[str, str]:
    """Cards, key, and no debugger on an internal failure: it would take seconds and bury the cause in its output."""
    key = {"LLAMA_API_KEY": launch.api_key} if launch.api_key else {}
    return {"GGML_NO_BACKTRACE": "1", **devices_environment(launch, values), **key, **launch.profile.environment}


def library_path(launch: Launch) -> dict[str, str]:
    """Where a program built with shared libraries finds them, when they are not beside it."""
    folder = launch.installation.library_folder
    return {"LD_LIBRARY_PATH": folder} if folder else {}


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


def kv_cache_usage(slots: object) -> float | None:
    """Share of the KV cache that holds text (0..1), from /slots; None for a build that does not tell.

    The slots share one pool, and each says the pool's size and how many tokens of it are its own.
    """
    if not isinstance(slots, list) or not slots or not all(isinstance(slot, Mapping) for slot in slots):
        return None
    pool = max((size for slot in slots if isinstance(size := slot.get("n_ctx"), int)), default=0)
    held = [count for slot in slots if isinstance(count := slot.get("n_prompt_tokens"), int)]
    if not pool or (not held and any(slot.get("is_processing") for slot in slots)):
        return None
    return min(1.0, sum(held) / pool)
