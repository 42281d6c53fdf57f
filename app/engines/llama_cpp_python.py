"""Defines the engine family `llama-cpp-python`: its own HTTP server, run with its traps closed.

The server answers one request at a time and by default cuts a running stream off for the next one, even for a look at
its model list; it locks memory and keeps every token's scores unless told otherwise; it takes settings from variables as
common as PORT and MODEL. So: nothing inherited, no interruption, one request at a time, health by a page that touches no
model, and always asked to stream, because only a stream can be cancelled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.core.diagnosis.llama_cpp import LLAMA_CPP, LLAMA_CPP_PYTHON
from app.core.options import Option, OptionKind, Scalar
from app.engines import native_server as native
from app.engines.arguments import checked_settings, flags
from app.engines.base import Command, FailurePattern, Launch, Readiness, Stage, Traits

# ggml's numbers of the formats, which this server wants instead of names.
KV_TYPE_NUMBERS = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30,
}  # fmt: skip
SPLIT_MODE_NUMBERS = {"none": 0, "layer": 1, "row": 2}

_NATIVE = {option.name: option for option in native.OPTIONS}

# Our name → this server's; the meaning, the bounds and the sentence are those of the native server.
_SHARED_FLAGS = {
    "context_tokens": "--n_ctx",
    "gpu_layers": "--n_gpu_layers",
    "kv_type_k": "--type_k",
    "kv_type_v": "--type_v",
    "kv_on_gpu": "--offload_kqv",
    "batch_tokens": "--n_batch",
    "ubatch_tokens": "--n_ubatch",
    "threads": "--n_threads",
    "split_mode": "--split_mode",
    "tensor_split": "--tensor_split",
    "embeddings": "--embedding",
    "mmproj": "--clip_model_path",
    "lora": "--lora_path",
    "rope_frequency_base": "--rope_freq_base",
    "rope_frequency_scale": "--rope_freq_scale",
}

OPTIONS: tuple[Option, ...] = (
    *(
        Option(
            name=name,
            kind=_NATIVE[name].kind,
            sentence=_NATIVE[name].sentence,
            minimum=_NATIVE[name].minimum,
            maximum=_NATIVE[name].maximum,
            choices=_NATIVE[name].choices,
            unit=_NATIVE[name].unit,
            flag=flag,
        )
        for name, flag in _SHARED_FLAGS.items()
    ),
    Option(
        name="flash_attention",
        kind=OptionKind.CHOICE,
        sentence=_NATIVE["flash_attention"].sentence,
        choices=("on", "off"),
        flag="--flash_attn",
    ),
    Option(
        name="memory_mapping",
        kind=OptionKind.SWITCH,
        sentence="Map the model file into memory instead of reading it.",
        flag="--use_mmap",
    ),
    Option(
        name="chat_format",
        kind=OptionKind.TEXT,
        sentence="Name of a built-in chat format, in place of the template in the model file.",
        flag="--chat_format",
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

SCRUB = (*native.SCRUB, *(form for name in _SETTING_NAMES for form in (name, name.upper())), "UVICORN_*")


class LlamaCppPython:
    id = "llama-cpp-python"
    title = "llama-cpp-python"
    options: tuple[Option, ...] = OPTIONS
    readiness = Readiness(health_path="/openapi.json")  # answers within milliseconds, needs no key, cuts no stream
    traits = Traits(
        concurrency=1,
        always_stream=True,
        empty_stream_is_error=True,
        paths={"/v1/tokenize": "/extras/tokenize", "/v1/detokenize": "/extras/detokenize"},
    )
    failures: tuple[FailurePattern, ...] = (*LLAMA_CPP_PYTHON, *LLAMA_CPP)

    def effective_settings(self, launch: Launch) -> dict[str, Scalar]:
        return native.with_launch_defaults(checked_settings(launch.profile, self.options, self.title), launch)

    def command(self, launch: Launch) -> Command:
        values = self.effective_settings(launch)
        argv = [
            *(launch.installation.executable, "-I", "-m", "llama_cpp.server"),
            *("--model", launch.model_path),
            *("--model_alias", launch.model_name),
            *("--host", launch.host, "--port", str(launch.port)),
            *("--interrupt_requests", "false", "--logits_all", "false", "--use_mlock", "false"),
            *("--verbose", "true"),  # quiet means that errors are swallowed as well
            *flags(OPTIONS, {name: _as_it_wants(name, value) for name, value in values.items()}),
            *launch.profile.extra_arguments,
        ]
        environment = native.common_environment(launch, values)
        if "LLAMA_API_KEY" in environment:
            environment["API_KEY"] = environment.pop("LLAMA_API_KEY")
        return Command(argv=tuple(argv), environment=environment, scrub=SCRUB, secrets=native.secrets(launch))

    def stage_of(self, line: str) -> Stage | None:
        for pattern, stage in _STAGES:
            if pattern.search(line):
                return stage
        return native.stage_of(line)

    def served_context(self, health: Mapping[str, object], models: Mapping[str, object]) -> int | None:
        return None  # it does not say

    def how_to_get(self) -> str:
        return (
            "It has no prebuilt package for Linux: `pip install 'llama-cpp-python[server]'` in an environment of its own "
            "builds it (about ten minutes; cmake and a C++ compiler; CMAKE_ARGS=-DGGML_CUDA=on for an NVIDIA card); "
            "ENGINE_ROOM_LLAMA_CPP_PYTHON then names that environment's Python."
        )


_STAGES = (
    (re.compile(r"Started server process"), Stage(name="warm_up", progress=0.90)),
    (re.compile(r"Application startup complete|Uvicorn running on"), Stage(name="first_token", progress=0.97)),
)


def _as_it_wants(name: str, value: Scalar) -> Scalar:
    """Formats by ggml's number, switches as words (each takes a value here), -1 for all layers."""
    if name in ("kv_type_k", "kv_type_v"):
        return KV_TYPE_NUMBERS[str(value)]
    if name == "split_mode":
        return SPLIT_MODE_NUMBERS[str(value)]
    if name == "gpu_layers" and value == native.ALL_LAYERS:
        return -1
    if name == "flash_attention":
        return "true" if value == "on" else "false"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
