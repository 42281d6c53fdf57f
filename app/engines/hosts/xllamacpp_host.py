"""Runs llama.cpp's native server from the `xllamacpp` package until it is told to stop.

A program of its own: the standard library and xllamacpp only, run by the engine environment's interpreter with -I. It
takes llama-server's flags, closes what the package leaves open by default (web page, any web origin, all threads), and
ends with 0 when asked to stop, 1 when the model cannot be loaded, 2 when it does not know a flag. The key comes by
LLAMA_API_KEY, never by a flag.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


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
    parser.add_argument("--n-gpu-layers", "-ngl", type=int)
    parser.add_argument("--n-cpu-moe", type=int)
    parser.add_argument("--cache-type-k", "-ctk")
    parser.add_argument("--cache-type-v", "-ctv")
    parser.add_argument("--flash-attn", "-fa", choices=("auto", "on", "off"))
    parser.add_argument("--batch-size", "-b", type=int)
    parser.add_argument("--ubatch-size", "-ub", type=int)
    parser.add_argument("--load-mode", choices=("auto", "mmap", "none", "mlock", "mmap+mlock"))
    parser.add_argument("--cache-ram", type=int)
    parser.add_argument("--split-mode", choices=("layer", "row", "none"))
    parser.add_argument("--tensor-split")
    parser.add_argument("--chat-template")
    parser.add_argument("--chat-template-file")
    parser.add_argument("--reasoning-format", choices=("auto", "deepseek", "none"))
    parser.add_argument("--mmproj")
    parser.add_argument("--lora", action="append", default=[])
    parser.add_argument("--rope-freq-base", type=float)
    parser.add_argument("--rope-freq-scale", type=float)
    parser.add_argument("--log-verbosity", "-lv", type=int, default=4)  # 4 prints the buffer sizes
    for name in ("--no-kv-offload", "--no-repack", "--no-warmup", "--swa-full", "--embeddings"):
        parser.add_argument(name, action="store_true")
    return parser.parse_args(argv)


def enum_value(owner: object, prefix: str, name: str) -> Any:
    """The member of a ggml enumeration that a flag's word means; None when this build does not have it."""
    return getattr(owner, prefix + name.upper().replace("+", "_").replace("-", "_"), None)


def parameters(xllamacpp: Any, options: argparse.Namespace, api_key: str) -> Any:
    """The package's parameter object for `options`; raises ValueError with a sentence for what it cannot do."""
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_ctx = options.ctx_size
    params.n_parallel = options.parallel
    params.kv_unified = True  # one pool for all slots: each may use the whole context
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.fit_params = False  # what fits was decided before; a second opinion would load the file twice
    params.endpoint_metrics = True
    params.offline = True
    params.ui = False
    params.cors_origins = "http://localhost.invalid"  # can never be a page's origin
    params.cors_credentials = False
    params.verbosity = options.log_verbosity
    params.warmup = not options.no_warmup
    params.no_kv_offload = options.no_kv_offload
    params.no_extra_bufts = options.no_repack
    params.swa_full = options.swa_full
    params.embedding = options.embeddings
    if api_key:
        params.api_keys = [api_key]
    for field, value in (
        ("n_gpu_layers", options.n_gpu_layers),
        ("n_batch", options.batch_size),
        ("n_ubatch", options.ubatch_size),
        ("cache_ram_mib", options.cache_ram),
        ("chat_template", options.chat_template),
        ("rope_freq_base", options.rope_freq_base),
        ("rope_freq_scale", options.rope_freq_scale),
    ):
        if value is not None:
            setattr(params, field, value)
    for field, owner, prefix, flag, word in (
        ("cache_type_k", xllamacpp.ggml_type, "GGML_TYPE_", "--cache-type-k", options.cache_type_k),
        ("cache_type_v", xllamacpp.ggml_type, "GGML_TYPE_", "--cache-type-v", options.cache_type_v),
        ("split_mode", xllamacpp.llama_split_mode, "LLAMA_SPLIT_MODE_", "--split-mode", options.split_mode),
        ("load_mode", xllamacpp.llama_load_mode, "LLAMA_LOAD_MODE_", "--load-mode", options.load_mode),
        (
            "flash_attn_type",
            xllamacpp.llama_flash_attn_type,
            "LLAMA_FLASH_ATTN_TYPE_",
            "--flash-attn",
            {"on": "enabled", "off": "disabled"}.get(options.flash_attn, options.flash_attn),
        ),
        (
            "reasoning_format",
            xllamacpp.common_reasoning_format,
            "COMMON_REASONING_FORMAT_",
            "--reasoning-format",
            options.reasoning_format,
        ),
    ):
        if word is not None:
            value = enum_value(owner, prefix, word)
            if value is None:
                raise ValueError(f"argument {flag}: this build has no {word!r}")
            setattr(params, field, value)
    if options.chat_template_file:
        params.chat_template = Path(options.chat_template_file).read_text(encoding="utf-8")
    if options.mmproj:
        params.mmproj.path = options.mmproj
    if options.tensor_split:
        shares = [float(share) for share in options.tensor_split.split(",")]
        params.tensor_split = shares + [0.0] * (len(params.tensor_split) - len(shares))
    if options.n_cpu_moe:
        params.tensor_buft_overrides = ",".join(
            rf"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU" for layer in range(options.n_cpu_moe)
        )
    if options.lora:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 1.0) for path in options.lora]
    return params


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
