"""Defines the engine family `llama-cpp-python`: its own HTTP server, run with its traps closed.

The server answers one request at a time and by default cuts a running stream off for the next one, even for a look at
its model list; it locks memory and keeps every token's scores unless told otherwise; it takes settings from variables as
common as PORT and MODEL. So: nothing inherited, no interruption, one request at a time, health by a page that touches no
model, and always asked to stream, because only a stream can be cancelled (`hosts/llama_cpp_python_host.py` counts it).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec.structs import replace

from app.core.diagnosis.llama_cpp import LLAMA_CPP, LLAMA_CPP_PYTHON
from app.core.errors import SettingInvalid
from app.core.ollama_options import LLAMA_CPP_PYTHON as LLAMA_CPP_PYTHON_OPTIONS
from app.core.options import Option, Preset, Scalar
from app.engines import native_options
from app.engines import native_server as native
from app.engines.arguments import checked_settings, text_of
from app.engines.base import Command, FailurePattern, Launch, Readiness, Stage, Traits, Trial
from app.engines.native_options import choice, group, path, switch, text, whole

# ggml's numbers of the formats, which this server wants instead of names.
KV_TYPE_NUMBERS = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30,
}  # fmt: skip
SPLIT_MODE_NUMBERS = {"none": 0, "layer": 1, "row": 2}
ROPE_SCALING_NUMBERS = {"none": 0, "linear": 1, "yarn": 2}

HOST_SCRIPT = Path(__file__).parent / "hosts" / "llama_cpp_python_host.py"
CHAT_TEMPLATE_FLAG = "--chat-template-file"

_NATIVE = {option.name: option for option in (*native_options.OPTIONS, *native_options.PROGRAM_ONLY)}

# Our name → this server's; the meaning, the bounds and the sentence are those of the native server.
_SHARED_FLAGS = {
    "context_tokens": "--n_ctx",
    "gpu_layers": "--n_gpu_layers",
    "kv_type_k": "--type_k",
    "kv_type_v": "--type_v",
    "kv_on_gpu": "--offload_kqv",
    "split_mode": "--split_mode",
    "tensor_split": "--tensor_split",
    "main_gpu": "--main_gpu",
    "threads": "--n_threads",
    "threads_batch": "--n_threads_batch",
    "batch_tokens": "--n_batch",
    "ubatch_tokens": "--n_ubatch",
    "mmproj": "--clip_model_path",
    "override_kv": "--kv_overrides",
    "seed": "--seed",
    "chat_template_arguments": "--chat_template_kwargs",
    "rope_scaling": "--rope_scaling_type",
    "rope_frequency_base": "--rope_freq_base",
    "rope_frequency_scale": "--rope_freq_scale",
    "yarn_context_tokens": "--yarn_orig_ctx",
    "yarn_extrapolation": "--yarn_ext_factor",
    "yarn_attention": "--yarn_attn_factor",
    "yarn_beta_slow": "--yarn_beta_slow",
    "yarn_beta_fast": "--yarn_beta_fast",
    "embeddings": "--embedding",
}

CHAT_FORMATS = (
    *("chatml", "llama-2", "llama-3", "mistral-instruct", "gemma", "qwen", "zephyr", "openchat", "vicuna", "alpaca"),
    *("chatglm3", "phind", "open-orca", "chatml-function-calling", "functionary-v2", "llava-1-5", "mtmd", "qwen2.5-vl"),
)

SEEING_FORMATS = (
    *("mtmd", "llava-1-5", "llava-1-6", "qwen2.5-vl", "gemma4", "minicpm-v-2.6", "moondream", "nanollava", "obsidian"),
    "llama-3-vision-alpha",
)

# What this server says in its own way; the same kind of table as the native server's.
# fmt: off
_OWN: tuple[Option, ...] = (
    *group(
        "Context and memory",
        advanced=(
            switch(name="memory_mapping", title="Map the file", flag="--use_mmap",
                sentence="Map the model file into memory instead of reading it."),
            whole(name="prompt_cache_mib", title="Prompt cache", flag="--cache_size", minimum=0, maximum=1_048_576, unit="MiB",
                sentence="Main memory for prompts seen before; 0, the default, turns it off."),
        ),
    ),
    *group(
        "Speed",
        choice(name="flash_attention", title="Flash attention", flag="--flash_attn", choices=("on", "off"),
            sentence=_NATIVE["flash_attention"].sentence.removesuffix(" auto decides by the device.")),
        advanced=(
            switch(name="numa", title="NUMA", flag="--numa",
                sentence="Spread the threads over all processors of a machine that has several."),
        ),
    ),
    *group(
        "Model parts",
        path(name="lora", title="LoRA", flag="--lora_path",
            sentence="A LoRA adapter to put onto the model."),
        advanced=(
            whole(name="prompt_lookup_tokens", title="Guess from the prompt", flag="--draft_model_num_pred_tokens", minimum=1, maximum=128, unit="tokens",
                sentence="Guess so many tokens ahead by looking for the same words in the prompt: faster where answers repeat it."),
        ),
    ),
    *group(
        "Chat",
        text(name="chat_format", title="Chat format", flag="--chat_format", suggestions=CHAT_FORMATS,
            sentence="Name of a built-in chat format, in place of the template in the model file."),
        path(name="chat_template_file", title="Template file", flag="--chat-template-file",
            sentence="A file with a Jinja chat template in place of the one in the model file."),
    ),
)
# fmt: on

OPTIONS: tuple[Option, ...] = (
    *(replace(_NATIVE[name], flag=flag, default=None) for name, flag in _SHARED_FLAGS.items()),
    *_OWN,
)

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="low-latency",
        title="Low latency",
        sentence="It answers one request at a time anyway; small steps let a cancelled one end sooner.",
        settings={"batch_tokens": 512, "ubatch_tokens": 256},
    ),
    Preset(
        name="high-throughput",
        title="High throughput",
        sentence="Long prompts are read in fewer, larger steps, and prompts seen before are kept; costs memory.",
        settings={"batch_tokens": 2_048, "ubatch_tokens": 1_024, "prompt_cache_mib": 4_096},
    ),
)

# Every setting of this server can come from a variable of the same name, in either case: its `server/settings.py` lists them.
_SETTING_NAMES = [
    "model",
    "model_alias",
    "models",
    "n_gpu_layers",
    "split_mode",
    "main_gpu",
    "tensor_split",
    "vocab_only",
    "use_mmap",
    "use_mlock",
    "kv_overrides",
    "rpc_servers",
    "seed",
    "n_ctx",
    "n_batch",
    "n_ubatch",
    "n_threads",
    "n_threads_batch",
    "rope_scaling_type",
    "rope_freq_base",
    "rope_freq_scale",
    "yarn_ext_factor",
    "yarn_attn_factor",
    "yarn_beta_fast",
    "yarn_beta_slow",
    "yarn_orig_ctx",
    "mul_mat_q",
    "logits_all",
    "embedding",
    "offload_kqv",
    "flash_attn",
    "last_n_tokens_size",
    "lora_base",
    "lora_path",
    "numa",
    "chat_format",
    "chat_template_kwargs",
    "clip_model_path",
    "cache",
    "cache_type",
    "cache_size",
    "hf_tokenizer_config_path",
    "hf_pretrained_model_name_or_path",
    "hf_model_repo_id",
    "draft_model",
    "draft_model_num_pred_tokens",
    "type_k",
    "type_v",
    "verbose",
    "host",
    "port",
    "ssl_keyfile",
    "ssl_certfile",
    "api_key",
    "interrupt_requests",
    "disable_ping_events",
    "root_path",
    "config_file",
    "web_concurrency",
    "forwarded_allow_ips",
]

SCRUB = (
    *native.SCRUB,
    *(form for name in _SETTING_NAMES for form in (name, name.upper())),
    "MTMD_CPP_LIB",
    "UVICORN_*",
)


class LlamaCppPython:
    id = "llama-cpp-python"
    title = "llama-cpp-python"
    presets: tuple[Preset, ...] = PRESETS
    readiness = Readiness(health_path="/openapi.json")  # answers within milliseconds, needs no key, cuts no stream
    traits = Traits(
        concurrency=1,
        always_stream=True,
        empty_stream_is_error=True,
        ollama_options=LLAMA_CPP_PYTHON_OPTIONS,
        paths={"/v1/tokenize": "/extras/tokenize", "/v1/detokenize": "/extras/detokenize"},
        renames={"/v1/tokenize": {"content": "input", "prompt": "input"}},
    )
    failures: tuple[FailurePattern, ...] = (*LLAMA_CPP_PYTHON, *LLAMA_CPP)

    def __init__(self, options: tuple[Option, ...] = OPTIONS) -> None:
        self.options = options

    def effective_settings(self, launch: Launch) -> dict[str, Scalar]:
        """Threads for prompts are said too: left alone, this server takes every core for them."""
        values = checked_settings(launch.profile, self.options, self.title, launch.installation.version)
        if values.get("chat_format") and values.get("chat_template_file"):
            raise SettingInvalid(
                f"Profile {launch.profile.id}: settings.chat_format and settings.chat_template_file exclude each other.",
                "Take one of them out.",
            )
        if values.get("mmproj"):
            values = {**values, "chat_format": _seeing_format(values, launch.profile.id)}
        complete = native.with_launch_defaults(values, launch)
        complete.setdefault("threads_batch", complete["threads"])
        return complete

    def command(self, launch: Launch) -> Command:
        values = self.effective_settings(launch)
        template = values.pop("chat_template_file", None)
        argv = [
            # The same program in a host of ours: it counts the tokens of streams, and takes a template file.
            *(launch.installation.executable, "-I", str(HOST_SCRIPT)),
            *(() if template is None else (CHAT_TEMPLATE_FLAG, str(template))),
            *("--model", launch.model_path),
            *("--model_alias", launch.model_name),
            *("--host", launch.host, "--port", str(launch.port)),
            *("--interrupt_requests", "false", "--logits_all", "false", "--use_mlock", "false"),
            *("--verbose", "true"),  # quiet means that errors are swallowed as well
            *_flags(self.options, values),
            *launch.profile.extra_arguments,
        ]
        environment = native.common_environment(launch, values)
        if launch.installation.library_folder:
            environment["LLAMA_CPP_LIB_PATH"] = launch.installation.library_folder
            # What looks at images has a variable of its own.
            environment["MTMD_CPP_LIB"] = launch.installation.library_folder
        if "LLAMA_API_KEY" in environment:
            environment["API_KEY"] = environment.pop("LLAMA_API_KEY")
        return Command(argv=tuple(argv), environment=environment, scrub=SCRUB, secrets=native.secrets(launch))

    def trial(self, launch: Launch) -> Trial:
        return native.trial(launch, self.effective_settings(launch))

    def kv_cache_usage(self, slots: object) -> float | None:
        return None  # it does not say

    def stage_of(self, line: str) -> Stage | None:
        for pattern, stage in _STAGES:
            if pattern.search(line):
                return stage
        return native.stage_of(line)

    def served_context(self, health: Mapping[str, object], models: Mapping[str, object]) -> int | None:
        return None  # it does not say

    def how_to_get(self) -> str:
        return (
            "`engine-room engines install llama-cpp-python` compiles it for this machine, together with llama-server "
            "(about ten minutes; it needs a C++ compiler, and the CUDA toolkit for an NVIDIA card); one that you have is "
            "found in the usual environments, or by ENGINE_ROOM_LLAMA_CPP_PYTHON, which names its Python."
        )


def _seeing_format(values: Mapping[str, Scalar], profile_id: str) -> str:
    """The format with which this server looks at images; with any other it would leave the projector out silently."""
    named = str(values.get("chat_format") or "")
    if values.get("chat_template_file") or (named in CHAT_FORMATS and named not in SEEING_FORMATS):
        setting = "chat_template_file" if values.get("chat_template_file") else "chat_format"
        raise SettingInvalid(
            f"Profile {profile_id}: with settings.{setting} llama-cpp-python shows no image to the model, and "
            "settings.mmproj is there for images only.",
            f"Take settings.{setting} out, and the template in the model file is used; or take settings.mmproj out.",
        )
    return named or SEEING_FORMATS[0]


_STAGES = (
    (re.compile(r"Started server process"), Stage(name="warm_up", progress=0.90)),
    (re.compile(r"Application startup complete|Uvicorn running on"), Stage(name="first_token", progress=0.97)),
)


def _flags(options: Iterable[Option], values: Mapping[str, Scalar]) -> list[str]:
    """argv for the settings: lists are several words here, and two settings need a second flag to count."""
    argv: list[str] = []
    for option in options:
        value = values.get(option.name)
        if value is None:
            continue
        if option.several:
            argv += [option.flag, *(part.strip() for part in str(value).split(",") if part.strip())]
        elif option.name != "prompt_cache_mib" or value:
            argv += [option.flag, text_of(_as_it_wants(option.name, value))]
    if values.get("prompt_cache_mib"):
        argv += ["--cache", "true"]
    if values.get("prompt_lookup_tokens"):
        argv += ["--draft_model", "prompt-lookup-decoding"]
    return argv


def _as_it_wants(name: str, value: Scalar) -> Scalar:
    """Formats by ggml's number, switches as words (each takes a value here), -1 for all layers, bytes for MiB."""
    if name in ("kv_type_k", "kv_type_v"):
        return KV_TYPE_NUMBERS[str(value)]
    if name == "split_mode":
        return SPLIT_MODE_NUMBERS[str(value)]
    if name == "rope_scaling":
        return ROPE_SCALING_NUMBERS[str(value)]
    if name == "prompt_cache_mib":
        return int(value) * 1024**2
    if name == "gpu_layers" and value == native_options.ALL_LAYERS:
        return -1
    if name == "flash_attention":
        return "true" if value == "on" else "false"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
