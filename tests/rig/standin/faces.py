"""Knows how each engine looks from outside: routes, log lines, start-up order, manners."""

import json
import os
import signal
import sys
import time

from standin import this
from standin.answers import Busy, chat_completions, completions, embeddings, limit_of, tokenize, tokens
from standin.knobs import STARTED, journal, knob, name_process, start_child, write_out


class LlamaServer:
    """The native server: health 503 while loading, everything else too; ends in no time on SIGTERM once loaded."""

    name, default_port, key_variable = "llama-server", 8080, "LLAMA_API_KEY"
    health_path, open_paths = "/health", ("/health", "/v1/health", "/metrics")
    serial = False
    has_timings = has_stream_usage = True
    binds_late = False
    unknown_flag_code = 1
    unauthorized = {"error": {"message": "Invalid API Key", "type": "authentication_error", "code": 401}}

    def __init__(self):
        self.routes = {
            ("GET", "/v1/models"): self.models, ("GET", "/models"): self.models, ("GET", "/props"): self.props, ("GET", "/slots"): self.slots,
            ("GET", "/metrics"): self.metrics, ("POST", "/v1/chat/completions"): chat_completions, ("POST", "/chat/completions"): chat_completions,
            ("POST", "/v1/completions"): completions, ("POST", "/completion"): completions, ("POST", "/v1/embeddings"): embeddings,
            ("POST", "/tokenize"): tokenize,
        }  # fmt: skip

    def prefix(self, level="I"):
        elapsed = int((time.monotonic() - STARTED) * 1e6)
        return f"{elapsed // 60_000_000}.{elapsed // 1_000_000 % 60:02d}.{elapsed // 1000 % 1000:03d}.{elapsed % 1000:03d} {level} "

    def error(self, status, message, kind):
        return {"error": {"code": status, "message": message, "type": kind}}

    def unknown_flag(self, flag):
        return f"error: invalid argument: {flag}\n"

    def early(self):
        write_out(
            "build: 7000 (stand-in) with a text editor for x86_64-linux-gnu\nsystem_info: n_threads = 1 (n_threads_batch = 1) / 2\n"
        )

    def stages(self):
        model, context = this.options.model, this.options.context
        told = [
            f"srv    load_model: loading model '{model}'",
            f"llama_model_loader: loaded meta data with 30 key-value pairs and 38 tensors from {model} (version GGUF V3 (latest))",
            "print_info: file type   = Q8_0",
            "print_info: file size   = 2.67 MiB (8.52 BPW)",
            "print_info: n_ctx_train           = 4096",
            "load_tensors: loading model tensors, this can take a while... (mmap = true, direct_io = false)",
            "load_tensors:   CPU_Mapped model buffer size =     2.67 MiB",
            "llama_context: constructing llama_context",
            f"llama_context: n_ctx         = {context}",
            "llama_context:        CPU  output buffer size =     0.01 MiB",
            "llama_kv_cache:        CPU KV buffer size =     2.00 MiB",
            "sched_reserve:        CPU compute buffer size =    13.01 MiB",
            "common_init_from_params: warming up the model with an empty run - please wait ... (--no-warmup to disable)",
            f"srv          init: initializing slots, n_slots = {this.options.parallel}",
        ]
        return [(2, f"{self.prefix()}{line}\n") for line in told]

    def ready(self):
        place = f"http://{this.options.host}:{this.options.port}"
        write_out(
            f"{self.prefix()}srv  llama_server: model loaded\n{self.prefix()}srv  llama_server: server is listening on {place}\n"
        )

    def port_taken(self):
        write_out(
            f"{self.prefix('E')}srv         start: couldn't bind HTTP server socket, hostname: {this.options.host}, port: {this.options.port}\n"
            f"{self.prefix('E')}srv  llama_server: exiting due to HTTP server error\n"
        )
        return 1

    def health(self, connection):
        if not this.state.loaded.is_set() or knob("NEVER_HEALTHY"):
            return connection.error(503, "Loading model", "unavailable_error")
        return connection.send_json({"status": "ok"})

    def echo_model(self, asked):
        return this.options.name

    def models(self, connection, _):
        meta = {
            "vocab_type": 2,
            "n_vocab": 1024,
            "n_ctx": this.options.context,
            "n_ctx_train": 4096,
            "n_embd": 256,
            "n_params": 2_600_000,
            "size": 2_800_000,
            "ftype": "Q8_0",
        }
        entry = {
            "id": this.options.name,
            "aliases": [this.options.name],
            "object": "model",
            "created": int(time.time()),
            "owned_by": "llamacpp",
            "meta": meta,
        }
        connection.send_json({"object": "list", "data": [entry]})

    def props(self, connection, _):
        connection.send_json({
            "default_generation_settings": {"id": 0, "n_ctx": this.options.context}, "total_slots": int(this.options.parallel), "model_alias": this.options.name,
            "model_path": this.options.model, "model_ftype": "Q8_0", "modalities": {"vision": False, "audio": False}, "is_sleeping": False,
            "chat_template": "{{ messages }}", "build_info": "b7000-stand-in",
        })  # fmt: skip

    def slots(self, connection, _):
        count = int(this.options.parallel)
        connection.send_json(
            [{"id": n, "n_ctx": this.options.context, "is_processing": n < this.state.busy} for n in range(count)]
        )

    def metrics(self, connection, _):
        if "--metrics" not in this.options.flags:
            return connection.error(
                501, "This server does not support metrics endpoint. Start it with `--metrics`", "not_supported_error"
            )
        return send_metrics(connection, {
            "llamacpp:prompt_tokens_total": this.state.prompt_tokens, "llamacpp:tokens_predicted_total": this.state.generated_tokens,
            "llamacpp:prompt_tokens_seconds": 0, "llamacpp:predicted_tokens_seconds": knob("TOKENS_PER_SECOND"),
            "llamacpp:requests_processing": this.state.busy, "llamacpp:requests_deferred": 0, "llamacpp:n_decode_total": this.state.generated_tokens,
        })  # fmt: skip


def hold(share):
    from standin.life import allocate  # which knows the faces

    allocate(share)


def send_metrics(connection, values):
    text = "".join(
        f"# HELP {key} A number.\n# TYPE {key.partition('{')[0]} gauge\n{key} {value}\n"
        for key, value in values.items()
    )
    connection.send_body(text.encode(), "text/plain; version=0.0.4")


class LlamaCppPython(LlamaServer):
    """The Python server: no health route, binds when loaded, one request at a time; newcomers cut the running stream."""

    name, default_port, key_variable = "llama-cpp-python", 8000, "API_KEY"
    health_path, open_paths = "/openapi.json", ("/openapi.json", "/docs")
    serial = True
    has_timings = has_stream_usage = False
    binds_late = True
    unknown_flag_code = 2
    unauthorized = {"detail": "Invalid API key"}

    def __init__(self):
        self.routes = {
            ("GET", "/v1/models"): self.models, ("POST", "/v1/chat/completions"): chat_completions, ("POST", "/v1/completions"): completions,
            ("POST", "/v1/embeddings"): embeddings, ("POST", "/extras/tokenize"): tokenize,
        }  # fmt: skip

    def prefix(self, level="I"):
        return ""

    def unknown_flag(self, flag):
        return f"usage: __main__.py [-h] [--model MODEL]\n__main__.py: error: unrecognized arguments: {flag}\n"

    def early(self):
        pass

    def stages(self):
        return [(2, line) for _, line in super().stages() if not line.startswith("srv")]

    def ready(self):
        write_out(
            f"INFO:     Started server process [{os.getpid()}]\nINFO:     Waiting for application startup.\nINFO:     Application startup complete.\n"
            f"INFO:     Uvicorn running on http://{this.options.host}:{this.options.port} (Press CTRL+C to quit)\n"
        )

    def port_taken(self):
        write_out(
            f"ERROR:    [Errno 98] error while attempting to bind on address ('{this.options.host}', {this.options.port}): address already in use\n"
        )
        return 3

    def health(self, connection):
        return connection.send_json({"openapi": "3.1.0", "info": {"title": "stand-in"}, "paths": {}})

    def echo_model(self, asked):
        return asked.get("model") or this.options.name  # as the real one: an unknown name is echoed

    def models(self, connection, _):
        with Busy():
            connection.send_json(
                {
                    "object": "list",
                    "data": [{"id": this.options.name, "object": "model", "owned_by": "me", "permissions": []}],
                }
            )


class Vllm(LlamaServer):
    """vLLM: API server → EngineCore → Worker, refuses connections until ready, does not honour SIGTERM while loading."""

    name, default_port, key_variable = "vllm", 8000, "VLLM_API_KEY"
    health_path, open_paths = "/health", ("/health", "/metrics", "/version", "/load")
    has_timings = False
    binds_late = True
    unknown_flag_code = 2
    unauthorized = {"error": "Unauthorized"}

    def __init__(self):
        super().__init__()
        self.routes = {
            ("GET", "/v1/models"): self.models, ("GET", "/metrics"): self.metrics, ("GET", "/version"): lambda c, _: c.send_json({"version": "0.32.0"}),
            ("GET", "/load"): lambda c, _: c.send_json({"server_load": this.state.busy}), ("POST", "/v1/chat/completions"): chat_completions,
            ("POST", "/v1/completions"): completions, ("POST", "/v1/embeddings"): embeddings, ("POST", "/tokenize"): tokenize,
        }  # fmt: skip
        self.asleep = set()
        if "--enable-sleep-mode" in sys.argv and os.environ.get("VLLM_SERVER_DEV_MODE") == "1":
            self.routes |= {
                ("POST", "/sleep"): self.sleep, ("POST", "/wake_up"): self.wake_up, ("POST", "/collective_rpc"): self.reload,
                ("GET", "/is_sleeping"): lambda c, _: c.send_json({"is_sleeping": bool(self.asleep)}),
                ("POST", "/v1/chat/completions"): self.awake_chat,
            }  # fmt: skip

    def sleep(self, connection, _):
        level = int(dict(part.split("=") for part in connection.query.split("&") if part).get("level", 1))
        journal("sleep", level=level)
        self.asleep = {"weights", "kv_cache"}
        self.weights_lost = level == 2
        hold(knob("SLEEP_KEEPS"))
        connection.send_json({"status": "sleeping", "level": level})

    def wake_up(self, connection, _):
        tags = {part.split("=")[1] for part in connection.query.split("&") if part} or set(self.asleep)
        journal("wake_up", tags=sorted(tags))
        if knob("WAKE_FAILS"):
            return self.error_of(connection, "CUDA out of memory while waking")
        self.asleep -= tags
        hold(1.0 if not self.asleep else 0.6)
        return connection.send_json({"status": "sleeping" if self.asleep else "awake", "tags": sorted(tags)})

    def reload(self, connection, asked):
        journal("collective_rpc", method_called=asked.get("method"))
        self.weights_lost = self.weights_lost and asked.get("method") != "reload_weights"
        connection.send_json({"results": [None]})

    def awake_chat(self, connection, asked):
        """An engine that sleeps or has lost its weights must not be asked: the real one hangs or talks nonsense."""
        if self.asleep or getattr(self, "weights_lost", False):
            return self.error_of(connection, "asked while asleep")
        return chat_completions(connection, asked)

    def error_of(self, connection, words):
        return connection.error(500, words, "internal_server_error")

    def unknown_flag(self, flag):
        return f"usage: vllm serve [model_tag] [options]\nvllm: error: unrecognized arguments: {flag}\n"

    def prefix(self, level="I", role="APIServer", where="api_server.py:1"):
        word = {"I": "INFO", "W": "WARNING", "E": "ERROR"}[level]
        return f"({role} pid={os.getpid()}) {word} {time.strftime('%m-%d %H:%M:%S')} [{where}] "

    def early(self):
        """The process tree, before any thread is started."""
        name_process("vllm")
        this.state.children.append(start_child("python"))  # the resource tracker
        me = os.getpid()
        core = os.fork()
        if core == 0:
            name_process("VLLM::EngineCore")
            start_child("VLLM::Worker", doomed_with_parent=True)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            while True:  # an orphan keeps running with all its memory, as the real one does
                time.sleep(3600)
        this.state.children.append(core)
        write_out(f"{self.prefix()}non-default args: {{'model_tag': '{this.options.model}'}}\n", 1)
        journal("tree", parent=me, core=core)

    def stages(self):
        def line(role, where, text):
            return 1, f"{self.prefix('I', role, where)}{text}\n"

        def shards(share):
            done = int(share * 4)
            return (
                2,
                f"\n\rLoading safetensors checkpoint shards: {int(share * 100):3d}% Completed | {done}/4 [00:00<00:00,  9.52it/s]",
            )

        return [
            line("APIServer", "model.py:733", "Resolved architecture: LlamaForCausalLM"),
            line("APIServer", "model.py:2152", f"Using max model len {this.options.context}"),
            line("EngineCore", "core.py:133", f"Initializing a V1 LLM engine (v0.32.0) with config: model='{this.options.model}'"),
            line("Worker", "gpu_model_runner.py:68", f"Starting to load model {this.options.model}..."),
            shards(0.0), shards(0.25), shards(0.5), shards(0.75), shards(1.0), (2, "\n\n"),
            line("Worker", "default_loader.py:501", "Loading weights took 0.01 seconds"),
            line("Worker", "cpu_model_runner.py:87", "Warming up model for the compilation..."),
            line("Worker", "cpu_model_runner.py:91", "Warming up done."),
            line("EngineCore", "kv_cache_utils.py:2327", "GPU KV cache size: 524,288 tokens, Maximum concurrency for 512 tokens per request: 1024.00x"),
            line("EngineCore", "core.py:402", "init engine (profile, create kv cache, warmup model) took 0.05 s"),
        ]  # fmt: skip

    def ready(self):
        write_out(
            f"{self.prefix()}Supported tasks: ['generate']\n{self.prefix()}Starting vLLM server on http://{this.options.host}:{this.options.port}\n",
            1,
        )
        write_out(
            f"INFO:     Started server process [{os.getpid()}]\nINFO:     Waiting for application startup.\nINFO:     Application startup complete.\n"
        )

    def port_taken(self):
        write_out(
            f"ERROR:    [Errno 98] error while attempting to bind on address ('{this.options.host}', {this.options.port}): address already in use\n"
        )
        return 1

    def health(self, connection):
        connection.send_body(b"", "text/plain")

    def models(self, connection, _):
        entry = {
            "id": this.options.name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "vllm",
            "root": this.options.model,
            "parent": None,
            "max_model_len": this.options.context,
            "permission": [],
        }
        connection.send_json({"object": "list", "data": [entry]})

    def metrics(self, connection, _):
        label = f'{{engine="0",model_name="{this.options.name}"}}'
        values = {
            "vllm:num_requests_running": this.state.busy, "vllm:num_requests_waiting": 0, "vllm:kv_cache_usage_perc": 0.25,
            "vllm:prompt_tokens_total": this.state.prompt_tokens, "vllm:generation_tokens_total": this.state.generated_tokens,
        }  # fmt: skip
        send_metrics(connection, {key + label: value for key, value in values.items()})


class Ollama(LlamaServer):
    """Ollama: a server that is up at once and answers under its own routes and the OpenAI ones."""

    name, default_port, key_variable = "ollama", 11434, "OLLAMA_NO_KEY"
    health_path, open_paths = "/", ("/",)
    has_timings = False

    def __init__(self):
        super().__init__()
        self.routes = {
            ("GET", "/v1/models"): self.models, ("GET", "/api/version"): lambda c, _: c.send_json({"version": "0.30.0"}),
            ("GET", "/api/tags"): self.tags, ("GET", "/api/ps"): self.tags, ("POST", "/api/chat"): self.chat, ("POST", "/api/generate"): self.chat,
            ("POST", "/v1/chat/completions"): chat_completions, ("POST", "/v1/completions"): completions, ("POST", "/v1/embeddings"): embeddings,
        }  # fmt: skip

    def early(self):
        pass

    def stages(self):
        return [(2, f'time={time.strftime("%Y-%m-%dT%H:%M:%S")} level=INFO source=routes.go:1 msg="server config"\n')]

    def ready(self):
        write_out(
            f'time={time.strftime("%Y-%m-%dT%H:%M:%S")} level=INFO source=routes.go:2 msg="Listening on {this.options.host}:{this.options.port} (version 0.30.0)"\n'
        )

    def port_taken(self):
        write_out(f"Error: listen tcp {this.options.host}:{this.options.port}: bind: address already in use\n")
        return 1

    def health(self, connection):
        connection.send_body(b"Ollama is running", "text/plain; charset=utf-8")

    def tags(self, connection, _):
        connection.send_json(
            {
                "models": [
                    {
                        "name": this.options.name,
                        "model": this.options.name,
                        "size": 2_800_000,
                        "size_vram": 0,
                        "details": {"format": "gguf", "family": "llama"},
                    }
                ]
            }
        )

    def chat(self, connection, asked):
        with Busy():
            if asked.get("stream") is False:
                said = list(tokens(connection, limit_of(asked)))
                return connection.send_json(
                    {
                        "model": this.options.name,
                        "message": {"role": "assistant", "content": "".join(said)},
                        "done": True,
                        "eval_count": len(said),
                    }
                )
            connection.begin_stream("application/x-ndjson")
            count = 0
            for word in tokens(connection, limit_of(asked)):
                count += 1
                connection.chunk(
                    json.dumps(
                        {"model": this.options.name, "message": {"role": "assistant", "content": word}, "done": False}
                    ).encode()
                    + b"\n"
                )
            connection.chunk(
                json.dumps(
                    {
                        "model": this.options.name,
                        "message": {"role": "assistant", "content": ""},
                        "done": True,
                        "eval_count": count,
                    }
                ).encode()
                + b"\n"
            )
            return connection.send(b"0\r\n\r\n")


FACES = {face.name: face for face in (LlamaServer, LlamaCppPython, Vllm, Ollama)}
