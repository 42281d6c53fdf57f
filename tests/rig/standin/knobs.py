"""Decides what the FAKE_ENGINE_* environment asks for, keeps the journal, and ends or multiplies the process as told."""

# ruff: noqa: PTH110, PTH123

import json
import os
import signal
import threading
import time

from standin import this

# name → (default, what it does). Values are read with the default's type.
KNOBS = {
    "LOAD_SECONDS": (0.05, "time that loading takes"),
    "LOAD_STEPS": (4, "steps in which it loads; each prints and allocates its share"),
    "START_SECONDS": (0.0, "time before anything at all happens (imports)"),
    "QUIET": (False, "prints no stages"),
    "BIND_LATE": (False, "binds only after loading (llama-cpp-python and vllm always do)"),
    "TOKENS": (16, "tokens of an answer, unless the request wants fewer"),
    "TOKENS_PER_SECOND": (0.0, "speed of an answer; 0 = as fast as it goes"),
    "FIRST_TOKEN_SECONDS": (0.0, "time before the first token"),
    "ANSWER": ("", "words of the answer, repeated as needed"),
    "MODEL_NAME": ("", "answers as this model instead of the one asked for"),
    "ERROR_STATUS": (0, "answers each generation with this HTTP status"),
    "NO_TOKEN": (False, "accepts a generation and never sends a token; health stays 200"),
    "EMPTY_STREAM": (False, "ends each stream with 200 and no token, not even [DONE]"),
    "TRUNCATE_STREAM": (0, "closes the stream after so many tokens, without [DONE]"),
    "CRASH_MID_STREAM": (0, "dies after so many tokens of a stream"),
    "HANG_MID_STREAM": (0, "sends no more after so many tokens; health stays 200"),
    "NEVER_HEALTHY": (False, "health stays 503 (or the port stays closed) for ever"),
    "HEALTH_HANGS": (False, "accepts a health request and never answers it"),
    "CRASH_AT": (-1.0, "dies at this share of the load (0..1)"),
    "HANG_AT": (-1.0, "stops loading at this share, without a word"),
    "HOLD_AT": (-1.0, "loads no further than this share until GO_ON exists"),
    "CRASH_AFTER_READY_SECONDS": (-1.0, "dies so long after its first token, which makes it ready"),
    "EXIT_CODE": (1, "exit code of a crash"),
    "EXIT_SIGNAL": (0, "dies by this signal instead"),
    "OOM_TEXT": ("", "cuda · kv · host: prints that out-of-memory text half-way and exits"),
    "IGNORE_TERM": (False, "ignores SIGTERM"),
    "SLOW_TERM_SECONDS": (0.0, "time from SIGTERM to the end"),
    "WRAPPER": (False, "forks, goes on in the child, and the parent exits 0"),
    "CHILD": (False, "has a child process that outlives it"),
    "GRANDCHILD": (False, "has a grandchild in a session of its own that ignores SIGTERM and outlives it"),
    "KEEP_PORT": (
        False,
        "has a child in its own session that inherits the listening socket and keeps it after the end",
    ),
    "PORT_TAKEN_BY": ("", "Unix socket to which the port number is sent first; goes on when a line comes back"),
    "WHEN_TAKEN": ("exit", "exit · stay: what it does when its port is taken"),
    "NOISE_BYTES": (0, "bytes of carriage-return noise on stdout once loading began"),
    "NON_UTF8": (False, "prints bytes that are not UTF-8"),
    "LONG_LINE_BYTES": (0, "prints one line of that length"),
    "PRINT": ("", "prints this text while loading"),
    "PRINT_VARIABLES": ("", "prints the values of these environment variables, split at commas"),
    "PRINT_HALVES": ("", "prints the first half of this variable's value, and the rest once GO_ON exists"),
    "GO_ON": ("", "file to wait for"),
    "LEAK_DESCRIPTORS": (0, "opens so many descriptors with each request"),
    "SLEEP_KEEPS": (0.1, "share of its memory that it holds while it sleeps"),
    "WAKE_FAILS": (False, "answers 500 when it is to wake"),
    "VRAM": ("", "JSON object GPU uuid → bytes that it allocates while loading, in the simulated driver's folder"),
    "BALLOON_MIB": (0, "main memory that it takes while loading, at most 512"),
    "REFUSE_UNKNOWN_FLAGS": (False, "exits on a flag it does not know"),
    "ONLY_WHILE": ("", "misbehaves only while this file exists"),
    "JOURNAL": ("", "file for the journal"),
}
MISBEHAVIOUR = {
    *("ERROR_STATUS", "NO_TOKEN", "EMPTY_STREAM", "TRUNCATE_STREAM", "CRASH_MID_STREAM", "HANG_MID_STREAM", "NEVER_HEALTHY"),
    *("HEALTH_HANGS", "CRASH_AT", "HANG_AT", "CRASH_AFTER_READY_SECONDS", "OOM_TEXT", "MODEL_NAME", "PORT_TAKEN_BY"),
}  # fmt: skip
STARTED = time.monotonic()


def knob(name):
    default = KNOBS[name][0]
    only_while = os.environ.get("FAKE_ENGINE_ONLY_WHILE", "")
    if name in MISBEHAVIOUR and only_while and not os.path.exists(only_while):
        return default
    text = os.environ.get("FAKE_ENGINE_" + name)
    if text is None:
        return default
    if isinstance(default, bool):
        return text.lower() not in ("", "0", "false", "no")
    return type(default)(text)


def journal(event, **fields):
    path = knob("JOURNAL")
    if path:
        line = json.dumps({"t": time.monotonic(), "pid": os.getpid(), "event": event, "face": this.face.name, **fields})
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.write(descriptor, line.encode() + b"\n")
        os.close(descriptor)


def write_out(text, stream=2):
    data = memoryview(text if isinstance(text, bytes) else text.encode())
    try:
        while data:
            data = data[os.write(stream, data) :]
    except OSError:
        pass


def leave(code=None, number=0):
    """Ends this process now, as a crash would: no destructor runs, no thread is waited for."""
    journal("exit", code=code, signal=number)
    if number:
        if threading.current_thread() is threading.main_thread() and number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(1)
    os._exit(code or 0)


def crash():
    leave(knob("EXIT_CODE"), knob("EXIT_SIGNAL"))


def sleep_for_ever():
    while True:
        signal.pause() if threading.current_thread() is threading.main_thread() else time.sleep(3600)


def name_process(title):
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(title[:15])
    except OSError:
        pass


def start_child(title, own_session=False, ignore_term=False, doomed_with_parent=False):
    """A child process that only exists (forked before any thread is started, or it does nothing but sleep)."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    if own_session:
        os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN if ignore_term else signal.SIG_DFL)
    name_process(title)
    while not doomed_with_parent or os.getppid() == parent:
        time.sleep(0.2 if doomed_with_parent else 3600)
    os._exit(0)
