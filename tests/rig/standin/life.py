"""Runs the stand-in from its command line to its end: options, loading, listening, signals."""

# ruff: noqa: PTH103, PTH105, PTH118, PTH119, PTH123

import json
import os
import signal
import socket
import sys
import threading
import time

from standin import this
from standin.faces import FACES
from standin.knobs import crash, journal, knob, leave, sleep_for_ever, start_child, write_out
from standin.web import Connection

# Flags that the help names beside those that the stand-in minds.
HELP = (
    "--help",
    "--version",
    "--list-devices",
    "--slots",
    "--lora",
    "--mmproj",
    "--embeddings",
    "--reranking",
    "--grammar",
)


class Options:
    """The command line, read as the face's engine would."""

    ALIASES = {
        "-m": "model", "--model": "model", "-a": "alias", "--alias": "alias", "--model_alias": "alias", "--served-model-name": "alias",
        "--host": "host", "--port": "port", "-c": "context", "--ctx-size": "context", "--n_ctx": "context", "--max-model-len": "context",
        "-np": "parallel", "--parallel": "parallel", "--api-key": "api_key", "--api-key-file": "api_key_file", "--api_key": "api_key",
        "--interrupt_requests": "interrupt",
    }  # fmt: skip
    SWITCHES = (
        "--metrics",
        "--log-jsonl",
        "--no-webui",
        "--jinja",
        "--verbose-prompt",
        "--mlock",
        "--no-mmap",
        "--offline",
    )

    def __init__(self, arguments):
        self.model, self.alias, self.host, self.port = "", "", "127.0.0.1", this.face.default_port
        self.context, self.parallel, self.api_key, self.api_key_file = "4096", "4", "", ""
        self.interrupt = "true"
        self.flags = set()
        rest = list(arguments)
        while rest:
            flag, _, value = rest.pop(0).partition("=")
            if flag in self.ALIASES:
                setattr(self, self.ALIASES[flag], value or (rest.pop(0) if rest else ""))
            elif flag.startswith("-"):
                self.flags.add(flag)
                if flag not in self.SWITCHES and knob("REFUSE_UNKNOWN_FLAGS"):
                    write_out(this.face.unknown_flag(flag))
                    leave(this.face.unknown_flag_code)
            elif flag not in ("serve", "llama_cpp.server") and not self.model and this.face.name in ("vllm",):
                self.model = flag
        if this.face.name == "ollama" and os.environ.get("OLLAMA_HOST"):
            self.host, _, port = os.environ["OLLAMA_HOST"].rpartition("//")[2].partition(":")
            self.port = port or self.port
        self.port = int(self.port)
        self.context = int(self.context or 0) or 4096
        key = self.api_key or os.environ.get(this.face.key_variable, "")
        if self.api_key_file:
            with open(self.api_key_file) as file:
                key = file.read().strip()
        self.keys = {part for part in key.split(",") if part}

    @property
    def name(self):
        return (
            knob("MODEL_NAME")
            or self.alias
            or (self.model if this.face.name == "vllm" else os.path.basename(self.model))
            or "model"
        )


def allocate(share):
    """Tells the simulated driver what this process holds now; the driver sees by itself when the process is gone."""
    folder, wanted = os.environ.get("ENGINE_ROOM_TEST_DRIVER", ""), knob("VRAM")
    if not (folder and wanted):
        return
    place = os.path.join(folder, "allocations")
    os.makedirs(place, exist_ok=True)
    path = os.path.join(place, f"{os.getpid()}.json")
    with open(path + ".new", "w") as file:
        json.dump({uuid: int(amount * share) for uuid, amount in json.loads(wanted).items()}, file)
    os.replace(path + ".new", path)


def simulated_cards():
    """The simulated driver's cards, as `--list-devices` prints them."""
    try:
        with open(os.path.join(os.environ["ENGINE_ROOM_TEST_DRIVER"], "driver.json")) as file:
            cards = json.load(file).get("gpus", [])
    except (OSError, ValueError, KeyError):
        return ""
    return "".join(
        f"  CUDA{n}: {card.get('name', 'card')} (24576 MiB, 24000 MiB free)\n" for n, card in enumerate(cards)
    )


def make_noise():
    total = knob("NOISE_BYTES")
    block = b"".join(b"\rprompt processing progress, n_tokens = %6d" % n for n in range(1500))
    while total > 0:
        write_out(block[: min(total, len(block))], 1)
        total -= len(block)


def odd_output():
    if knob("NON_UTF8"):
        write_out(b"llama_model_loader: - kv  7: general.name str = \xff\xfe\xc3\x28 caf\xe9\n")
    if knob("LONG_LINE_BYTES"):
        write_out(b"x" * knob("LONG_LINE_BYTES") + b"\n")
    if knob("PRINT"):
        write_out(knob("PRINT") + "\n")
    for name in filter(None, knob("PRINT_VARIABLES").split(",")):
        write_out(f"{this.face.prefix()}environment {name}={os.environ.get(name, '')}\n")
    if knob("PRINT_HALVES"):
        value = os.environ[knob("PRINT_HALVES")]
        write_out(f"{this.face.prefix()}half a value {value[: len(value) // 2]}")
        wait_for_go_on()
        write_out(value[len(value) // 2 :] + " and the rest\n")
    if knob("NOISE_BYTES"):
        threading.Thread(target=make_noise, daemon=True).start()


def wait_for_go_on():
    while not os.path.exists(knob("GO_ON")):  # noqa: PTH110
        time.sleep(0.01)


OOM_TEXTS = {
    "cuda": "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory\n"
    "alloc_tensor_range: failed to allocate CUDA0 buffer of size 8589934592\n"
    "llama_model_load: error loading model: unable to allocate CUDA0 buffer\n"
    "llama_model_load_from_file_impl: failed to load model\n"
    "srv    load_model: failed to load model, '{model}'\n",
    "kv": "llama_kv_cache: failed to allocate buffer for kv cache\n"
    "llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache\n"
    "srv    load_model: failed to load model, '{model}'\n",
    "host": "ggml_aligned_malloc: insufficient memory (attempted to allocate 65536.00 MB)\n"
    "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 68719476736\n"
    "srv    load_model: failed to load model, '{model}'\n",
}


def load():
    """Loads in steps; prints, allocates, crashes or hangs where it is told to."""
    steps, seconds = max(1, knob("LOAD_STEPS")), knob("LOAD_SECONDS")
    odd_output()
    lines = this.face.stages()
    told = 0
    for step in range(steps + 1):
        share = step / steps
        this.state.progress = share
        until = int(len(lines) * share)
        if not knob("QUIET"):
            for stream, line in lines[told:until]:
                write_out(line, stream)
        told = until
        allocate(share)
        if knob("BALLOON_MIB") and step:
            block = bytearray(min(512, knob("BALLOON_MIB")) * 1024 * 1024 // steps)
            block[::4096] = b"\x01" * len(block[::4096])  # touched, or it would not be resident
            this.state.balloon.append(block)
        if 0 <= knob("CRASH_AT") <= share:
            write_out("GGML_ASSERT(n_stand_in > 0) failed\n")
            crash()
        if knob("OOM_TEXT") and share >= 0.5:
            write_out(OOM_TEXTS[knob("OOM_TEXT")].format(model=this.options.model))
            leave(1)
        if 0 <= knob("HANG_AT") <= share:
            journal("hangs", share=share)
            sleep_for_ever()
        if 0 <= knob("HOLD_AT") <= share:
            wait_for_go_on()
        if step < steps:
            time.sleep(seconds / steps)


def on_term(number, _frame):
    journal("signal", number=number)
    if knob("IGNORE_TERM") or this.state.stopping:
        return
    if this.face.name == "vllm" and not this.state.loaded.is_set():
        return  # not honoured while loading: it comes up anyway
    this.state.stopping = True
    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(0.0001, knob("SLOW_TERM_SECONDS")))


def end(_number, _frame):
    for pid in this.state.children:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    write_out(f"{this.face.prefix()}srv    operator(): cleaning up before exit...\n")
    if this.face.name == "llama-cpp-python":
        leave(number=signal.SIGTERM)
    leave(0)


def bind():
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if knob("PORT_TAKEN_BY"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.connect(knob("PORT_TAKEN_BY"))
            other.sendall(b"%d\n" % this.options.port)
            other.recv(64)
    try:
        listener.bind((this.options.host, this.options.port))
        listener.listen(128)
    except OSError:
        code = this.face.port_taken()
        if knob("WHEN_TAKEN") == "stay":
            return None
        leave(code)
    this.options.port = listener.getsockname()[1]
    return listener


def serve(listener):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            time.sleep(0.05)  # out of descriptors: the leak knob reached the limit
            continue
        Connection(connection).start()


def listening(listener):
    if listener is None:
        return
    if knob("KEEP_PORT") and os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleep_for_ever()
    journal("listening", port=this.options.port)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()


def main():
    which = "llama-server"
    if "--face" in sys.argv:
        which = sys.argv.pop(sys.argv.index("--face") + 1)
        sys.argv.remove("--face")
    this.face = FACES[which]()
    this.options = Options(sys.argv[1:])
    if "--version" in sys.argv:
        write_out(
            "version: 7000 (standin)\nbuilt with a text editor for x86_64-linux-gnu\n",
            2 if this.face.name == "llama-server" else 1,
        )
        return
    if "--help" in sys.argv or "--help=all" in sys.argv:
        write_out(
            "".join(
                f"{flag:<39} as its model has it\n" for flag in sorted({*Options.ALIASES, *Options.SWITCHES, *HELP})
            ),
            1,
        )
        return
    if "--list-devices" in sys.argv:
        write_out("Available devices:\n" + simulated_cards(), 1)
        return
    if knob("WRAPPER") and os.fork():
        os._exit(0)
    journal("start", argv=sys.argv[1:], alias=this.options.name, port=this.options.port)
    if this.face.name == "vllm" or knob("IGNORE_TERM") or knob("SLOW_TERM_SECONDS"):
        signal.signal(
            signal.SIGTERM, on_term
        )  # the others install it after loading: until then SIGTERM ends them at once
    if knob("CHILD"):
        start_child("left-behind")
    if knob("GRANDCHILD") and os.fork() == 0:
        start_child("grandchild", own_session=True, ignore_term=True)
        os._exit(0)
    this.face.early()
    time.sleep(knob("START_SECONDS"))
    late = knob("BIND_LATE") or this.face.binds_late
    if not late:
        listening(bind())
    load()
    if late and knob("NEVER_HEALTHY"):
        sleep_for_ever()
    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, on_term)
    this.state.loaded.set()
    if late:  # last: whoever is answered may end it at once
        listening(bind())
    journal("loaded", port=this.options.port)
    this.face.ready()
    while True:
        delay = knob("CRASH_AFTER_READY_SECONDS")
        if delay >= 0 and this.state.generated_tokens:
            time.sleep(delay)
            crash()
        time.sleep(0.1 if knob("ONLY_WHILE") or delay >= 0 else 3600)
