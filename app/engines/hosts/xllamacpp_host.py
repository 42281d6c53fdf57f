"""Runs llama.cpp's native server from the `xllamacpp` package until it is told to stop.

A program of its own: the standard library and xllamacpp only, run by the engine environment's interpreter with -I. It
takes llama-server's flags, closes what the package leaves open by default (web page, any web origin, all threads), and
ends with 0 when asked to stop, 1 when the model cannot be loaded, 2 when it does not know a flag. The key comes by
LLAMA_API_KEY, never by a flag.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
PRIORITIES = {-1: "LOW", 0: "NORMAL", 1: "MEDIUM", 2: "HIGH", 3: "REALTIME"}
CPU_EXPERTS = r"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"


def folder(text: str) -> str:
    """The package puts a file's name right behind it."""
    return text.rstrip("/") + "/"


# flag → the package's field that takes its value as it is
FIELDS: tuple[tuple[tuple[str, ...], str, Callable[[str], Any]], ...] = (
    (("--n-gpu-layers", "-ngl", "--gpu-layers"), "n_gpu_layers", int),
    (("--batch-size", "-b"), "n_batch", int),
    (("--ubatch-size", "-ub"), "n_ubatch", int),
    (("--cache-ram", "-cram"), "cache_ram_mib", int),
    (("--cache-reuse",), "n_cache_reuse", int),
    (("--main-gpu", "-mg"), "main_gpu", int),
    (("--slot-save-path",), "slot_save_path", folder),
    (("--mmproj", "-mm"), "mmproj.path", str),
    (("--model-draft", "-md", "--spec-draft-model"), "speculative.draft.mparams.path", str),
    (("--n-gpu-layers-draft", "-ngld", "--spec-draft-ngl"), "speculative.draft.n_gpu_layers", int),
    (("--spec-draft-n-max",), "speculative.draft.n_max", int),
    (("--spec-draft-n-min",), "speculative.draft.n_min", int),
    (("--draft-p-min", "--spec-draft-p-min"), "speculative.draft.p_min", float),
    (("--chat-template",), "chat_template", str),
    (("--reasoning-budget",), "sampling.reasoning_budget_tokens", int),
    (("--seed", "-s"), "sampling.seed", int),
    (("--rope-freq-base",), "rope_freq_base", float),
    (("--rope-freq-scale",), "rope_freq_scale", float),
    (("--yarn-orig-ctx",), "yarn_orig_ctx", int),
    (("--yarn-ext-factor",), "yarn_ext_factor", float),
    (("--yarn-attn-factor",), "yarn_attn_factor", float),
    (("--yarn-beta-slow",), "yarn_beta_slow", float),
    (("--yarn-beta-fast",), "yarn_beta_fast", float),
)

# flag → field, the package's enumeration, what its members' names begin with, the words of the flag
WORDS: tuple[tuple[tuple[str, ...], str, str, str, tuple[str, ...]], ...] = (
    (("--cache-type-k", "-ctk"), "cache_type_k", "ggml_type", "GGML_TYPE_", KV_TYPES),
    (("--cache-type-v", "-ctv"), "cache_type_v", "ggml_type", "GGML_TYPE_", KV_TYPES),
    (("--cache-type-k-draft", "-ctkd"), "speculative.draft.cache_type_k", "ggml_type", "GGML_TYPE_", KV_TYPES),
    (("--cache-type-v-draft", "-ctvd"), "speculative.draft.cache_type_v", "ggml_type", "GGML_TYPE_", KV_TYPES),
    (("--split-mode", "-sm"), "split_mode", "llama_split_mode", "LLAMA_SPLIT_MODE_", ("layer", "row", "none")),
    (
        ("--load-mode", "-lm"),
        *("load_mode", "llama_load_mode", "LLAMA_LOAD_MODE_"),
        ("auto", "mmap", "none", "mlock", "mmap+mlock"),
    ),
    (
        ("--flash-attn", "-fa"),
        *("flash_attn_type", "llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_"),
        ("auto", "on", "off"),
    ),
    (
        ("--reasoning-format",),
        *("reasoning_format", "common_reasoning_format", "COMMON_REASONING_FORMAT_"),
        ("auto", "deepseek", "none"),
    ),
    (
        ("--rope-scaling",),
        *("rope_scaling_type", "llama_rope_scaling_type", "LLAMA_ROPE_SCALING_TYPE_"),
        ("none", "linear", "yarn"),
    ),
    (
        ("--pooling",),
        *("pooling_type", "llama_pooling_type", "LLAMA_POOLING_TYPE_"),
        ("none", "mean", "cls", "last", "rank"),
    ),
    (("--numa",), "numa", "ggml_numa_strategy", "GGML_NUMA_STRATEGY_", ("distribute", "isolate", "numactl")),
)
SYNONYMS = {"on": "enabled", "off": "disabled"}

# flag → field, the value that the flag's presence gives it
SWITCHES: tuple[tuple[tuple[str, ...], str, bool], ...] = (
    (("--no-kv-offload", "-nkvo"), "no_kv_offload", True),
    (("--no-repack", "-nr"), "no_extra_bufts", True),
    (("--no-warmup",), "warmup", False),
    (("--swa-full",), "swa_full", True),
)

# flags that are said either way (--x, --no-x) → field
POSITIONS = (("context-shift", "ctx_shift"), ("mmproj-offload", "mmproj_use_gpu"), ("jinja", "use_jinja"))


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The flags as a namespace; a flag that this host does not know ends the program with 2 and a sentence."""
    parser = argparse.ArgumentParser(
        prog="xllamacpp_host.py", allow_abbrev=False, description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ctx-size", "-c", type=int, default=4096)
    parser.add_argument("--parallel", "-np", type=int, default=4)
    parser.add_argument("--threads", "-t", type=int, default=1)
    parser.add_argument("--threads-batch", "-tb", type=int)
    parser.add_argument("--log-verbosity", "-lv", "--verbosity", type=int, default=4)  # 4 prints the buffer sizes
    for names, _, kind in FIELDS:
        parser.add_argument(*names, type=kind)
    for names, *_, words in WORDS:
        parser.add_argument(*names, choices=words)
    for names, _, _ in SWITCHES:
        parser.add_argument(*names, action="store_true")
    for name, _ in POSITIONS:
        parser.add_argument(f"--{name}", action="store_true", default=None)
        parser.add_argument(f"--no-{name}", action="store_false", dest=name.replace("-", "_"))
    parser.add_argument("--embeddings", "--embedding", action="store_true")
    parser.add_argument("--reranking", "--rerank", action="store_true")
    parser.add_argument("--n-cpu-moe", "-ncmoe", type=int, default=0)
    parser.add_argument("--override-tensor", "-ot", default="")
    parser.add_argument("--tensor-split", "-ts")
    parser.add_argument("--rope-scale", type=float)
    parser.add_argument("--fit", choices=("on", "off"), default="off")
    parser.add_argument("--prio", type=int, choices=tuple(PRIORITIES))
    parser.add_argument("--lora", action="append", default=[])
    parser.add_argument("--lora-scaled", action="append", default=[], metavar="FILE:SCALE")
    parser.add_argument("--reasoning", choices=("auto", "on", "off"))
    parser.add_argument("--chat-template-file")
    parser.add_argument("--chat-template-kwargs", metavar="JSON")
    for name in ("--grammar", "--grammar-file", "--json-schema", "--json-schema-file"):
        parser.add_argument(name)
    return parser.parse_args(argv)


def enum_value(enumeration: object, prefix: str, word: str, flag: str) -> Any:
    """The member of an enumeration that a flag's word means; raises ValueError when this build does not have it."""
    word = SYNONYMS.get(word, word)
    value = getattr(enumeration, prefix + word.upper().replace("+", "_").replace("-", "_"), None)
    if value is None:
        raise ValueError(f"argument {flag}: this build has no {word!r}")
    return value


def parameters(xllamacpp: Any, options: argparse.Namespace, api_key: str) -> Any:
    """The package's parameter object for `options`; raises ValueError with a sentence for what it cannot do."""
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    if hasattr(params, "hostnames"):
        params.hostnames = [options.host]
    else:  # before October 2026; going back to such a build must be possible
        params.hostname = options.host
    params.port = options.port
    params.n_ctx = options.ctx_size
    params.n_parallel = options.parallel
    params.kv_unified = True  # one pool for all slots: each may use the whole context
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads_batch or options.threads
    # What fits was decided before. "on" is for whoever wants to hear what the load would take: it is computed first.
    params.fit_params = options.fit == "on"
    params.endpoint_metrics = True
    params.offline = True
    params.ui = False
    params.cors_origins = "http://localhost.invalid"  # can never be a page's origin
    params.cors_credentials = False
    params.verbosity = options.log_verbosity
    params.embedding = options.embeddings or options.reranking
    if options.reranking:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    if api_key:
        params.api_keys = [api_key]
    for names, field, _ in FIELDS:
        put(params, field, given(options, names))
    for names, field, enumeration, prefix, _ in WORDS:
        word = given(options, names)
        if word is not None:
            put(params, field, enum_value(getattr(xllamacpp, enumeration), prefix, word, names[0]))
    for names, field, value in SWITCHES:
        put(params, field, value if given(options, names) else None)
    for name, field in POSITIONS:
        put(params, field, given(options, (f"--{name}",)))
    if options.model_draft:  # the package, unlike the program, does not conclude it from the draft model's presence
        params.speculative.types = [xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    put_chat(xllamacpp, params, options)
    put_places(xllamacpp, params, options)
    return params


def put_chat(xllamacpp: Any, params: Any, options: argparse.Namespace) -> None:
    """Template, thinking, and what an answer must look like."""
    if options.chat_template_file:
        params.chat_template = read(options.chat_template_file)
    # A JSON object; each value travels as JSON text, as the native server keeps it.
    arguments = json.loads(options.chat_template_kwargs or "{}")
    if not isinstance(arguments, dict):
        raise ValueError("argument --chat-template-kwargs: it must be a JSON object")
    if options.reasoning in ("on", "off"):
        params.enable_reasoning = int(options.reasoning == "on")
        arguments["enable_thinking"] = options.reasoning == "on"
    if arguments:
        params.default_template_kwargs = {name: json.dumps(value) for name, value in arguments.items()}
    grammar = options.grammar or (read(options.grammar_file) if options.grammar_file else "")
    schema = options.json_schema or (read(options.json_schema_file) if options.json_schema_file else "")
    if schema:  # as a grammar of the person's own: one that counts as an output format is dropped by chat requests
        grammar = xllamacpp.json_schema_to_grammar(json.loads(schema))
    if grammar:
        user = xllamacpp.common_grammar_type.COMMON_GRAMMAR_TYPE_USER
        params.sampling.grammar = xllamacpp.CommonGrammar(user, grammar)


def put_places(xllamacpp: Any, params: Any, options: argparse.Namespace) -> None:
    """Which part of the model lies or runs where."""
    if options.rope_scale is not None:
        params.rope_freq_scale = 1.0 / options.rope_scale
    if options.prio is not None:
        priority = getattr(xllamacpp.ggml_sched_priority, f"GGML_SCHED_PRIO_{PRIORITIES[options.prio]}")
        params.cpuparams.priority = params.cpuparams_batch.priority = priority
    if options.tensor_split:
        shares = [float(share) for share in options.tensor_split.split(",")]
        params.tensor_split = shares + [0.0] * (len(params.tensor_split) - len(shares))
    places = [CPU_EXPERTS.format(layer=layer) for layer in range(options.n_cpu_moe)]
    if places or options.override_tensor:
        params.tensor_buft_overrides = ",".join(filter(None, [*places, options.override_tensor]))
    adapters = [(path, 1.0) for path in options.lora]
    for item in options.lora_scaled:
        path, _, scale = item.rpartition(":")
        adapters.append((path, float(scale)))
    if adapters:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, scale) for path, scale in adapters]


def given(options: argparse.Namespace, names: Sequence[str]) -> Any:
    return getattr(options, names[0].removeprefix("--").replace("-", "_"))


def put(params: Any, field: str, value: object) -> None:
    """Sets `field`, which may lie in a part of the parameters (`speculative.draft.n_max`); None leaves it as it is."""
    if value is None:
        return
    *parts, name = field.split(".")
    for part in parts:
        params = getattr(params, part)
    setattr(params, name, value)


def read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def fail(sentence: str, code: int = 1) -> int:
    print(f"xllamacpp_host: error: {sentence}", file=sys.stderr, flush=True)
    return code


def stop_signal() -> Callable[[], bytes]:
    """A function that returns once TERM or INT has come. A pipe, because any of the server's threads may be the receiver."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return lambda: os.read(woken, 1)


def main(argv: Sequence[str]) -> int:
    options = parsed(argv)
    with suppress(OSError):
        adjustment = Path("/proc/self/oom_score_adj")
        if int(adjustment.read_text()) < 500:  # when memory runs out, the engine goes before the desktop
            adjustment.write_text("500")
    try:
        import xllamacpp  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        return fail(f"the engine's library cannot be loaded: {error}")
    try:
        params = parameters(xllamacpp, options, os.environ.get("LLAMA_API_KEY", ""))
    except (OSError, ValueError, TypeError) as error:
        return fail(str(error), 2)
    # Until the server stands, TERM and INT end the program at once, as they do the native one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        server = xllamacpp.Server(params)
    except MemoryError:
        return fail("out of memory while loading the model")
    except RuntimeError:
        return fail("the model could not be loaded; the first error above says why")
    wait_for_stop = stop_signal()
    print(f"xllamacpp_host: serving {options.alias} on {server.listening_address}", file=sys.stderr, flush=True)
    wait_for_stop()
    print("xllamacpp_host: stopped, as asked", file=sys.stderr, flush=True)
    # The package's own way to end a server waits for ever for an answer that is still being streamed, and holds Python's
    # lock meanwhile. Leaving at once closes the connections and gives all memory back, as the native program does.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
