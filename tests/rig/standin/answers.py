"""Makes the answers: words at the asked speed, whole or streamed, well-behaved or not."""

import json
import socket
import time

from standin import this
from standin.knobs import crash, journal, knob
from standin.web import Gone

WORDS = [
    "This",
    "is",
    "{name}",
    "speaking,",
    "and",
    "every",
    "word",
    "of",
    "it",
    "was",
    "made",
    "up",
    "by",
    "a",
    "stand-in",
    "that",
    "counts",
    "as",
    "it",
    "goes",
    "on:",
]


def words_of(asked):
    """The prompt, cut into what counts as tokens here."""
    if "messages" in asked:
        text = " ".join(
            part if isinstance(part, str) else " ".join(str(piece.get("text", "")) for piece in part)
            for part in (message.get("content") or "" for message in asked["messages"])
        )
    else:
        text = asked.get("prompt", asked.get("input", asked.get("content", "")))
        text = " ".join(map(str, text)) if isinstance(text, list) else str(text)
    return text.split()


def answer_words(count):
    words = [word.format(name=this.options.name) for word in (knob("ANSWER").split() or WORDS)]
    return [(words[n] if n < len(words) else f"{n}") + (" " if n < count - 1 else "") for n in range(count)]


def limit_of(asked):
    options = asked.get("options") or {}
    asked_for = asked.get(
        "max_tokens", asked.get("max_completion_tokens", asked.get("n_predict", options.get("num_predict")))
    )
    return knob("TOKENS") if not isinstance(asked_for, int) or asked_for < 0 else min(knob("TOKENS"), asked_for)


def tokens(connection, count):
    """Yields the answer's words at the asked speed; misbehaves where it is told to."""
    connection.wait(knob("FIRST_TOKEN_SECONDS"))
    speed = knob("TOKENS_PER_SECOND")
    begun = time.monotonic()
    for index, word in enumerate(answer_words(count)):
        if speed and index:
            connection.wait(max(0.0, begun + index / speed - time.monotonic()))
        yield word
        with this.state.lock:
            this.state.generated_tokens += 1
        if 0 < knob("CRASH_MID_STREAM") <= index + 1:
            crash()
        if 0 < knob("HANG_MID_STREAM") <= index + 1:
            journal("hangs", id=connection.id)
            connection.hang()
        if 0 < knob("TRUNCATE_STREAM") <= index + 1:
            journal("truncates", id=connection.id)
            connection.socket.shutdown(socket.SHUT_RDWR)
            raise Gone
        if this.face.serial and this.options.interrupt.lower() != "false" and this.state.newcomers:
            return


class Busy:
    """Counts a running generation; the serial face lets only one run, and a newcomer may cut it short."""

    def __enter__(self):
        if this.face.serial:
            with this.state.lock:
                this.state.newcomers += 1
            this.state.serial.acquire()
            with this.state.lock:
                this.state.newcomers -= 1
        with this.state.lock:
            this.state.busy += 1

    def __exit__(self, *_):
        with this.state.lock:
            this.state.busy -= 1
        if this.face.serial:
            this.state.serial.release()


def timings(prompt, count, begun, first):
    now = time.monotonic()
    prompt_ms, predicted_ms = (first - begun) * 1000, max(0.001, (now - first) * 1000)
    return {
        "cache_n": 0, "prompt_n": prompt, "prompt_ms": prompt_ms, "prompt_per_second": prompt / max(prompt_ms / 1000, 1e-6),
        "predicted_n": count, "predicted_ms": predicted_ms, "predicted_per_second": count / (predicted_ms / 1000),
    }  # fmt: skip


def generate(connection, asked, chat):
    if chat and not isinstance(asked.get("messages"), list):
        return connection.error(400, "'messages' is required", "invalid_request_error")
    if knob("ERROR_STATUS"):
        return connection.error(knob("ERROR_STATUS"), "the stand-in was told to fail", "server_error")
    with Busy():
        if knob("NO_TOKEN"):
            if asked.get("stream"):
                connection.begin_stream()
            connection.hang()
        return _generate(connection, asked, chat)


def _generate(connection, asked, chat):
    prompt, count = len(words_of(asked)), limit_of(asked)
    connection.deaf = this.face.serial and not asked.get("stream")  # that server finishes an answer nobody reads
    if prompt + 1 > this.options.context and this.face.serial and asked.get("stream"):
        connection.begin_stream()
        return connection.send(b"0\r\n\r\n")
    if prompt + 1 > this.options.context:
        return connection.error(
            400,
            f"the request exceeds the available context size ({prompt} > {this.options.context})",
            "exceed_context_size_error",
        )
    with this.state.lock:
        this.state.prompt_tokens += prompt
    wanted = asked.get("max_tokens", asked.get("max_completion_tokens"))
    finish = "length" if wanted == count else "stop"
    identity = {"id": f"cmpl-{connection.id}", "created": int(time.time()), "model": this.face.echo_model(asked)}
    begun = first = time.monotonic()
    if not asked.get("stream"):
        said = []
        for word in tokens(connection, count):
            first = first if said else time.monotonic()
            said.append(word)
        text = "".join(said)
        choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text, "logprobs": None}
        value = {
            **identity, "object": "chat.completion" if chat else "text_completion",
            "choices": [{"index": 0, **choice, "finish_reason": finish}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": len(said), "total_tokens": prompt + len(said)},
        }  # fmt: skip
        if this.face.has_timings:
            value["timings"] = timings(prompt, len(said), begun, first)
        return connection.send_json(value)

    def event(delta, finish_reason=None, **more):
        choice = {"delta": delta} if chat else {"text": delta.get("content", "")}
        kind = "chat.completion.chunk" if chat else "text_completion"
        value = {
            **identity,
            "object": kind,
            "choices": [{"index": 0, **choice, "finish_reason": finish_reason}],
            **more,
        }
        connection.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    connection.begin_stream()
    if knob("EMPTY_STREAM"):
        return connection.send(b"0\r\n\r\n")
    if chat:
        event({"role": "assistant", "content": None} if this.face.name == "llama-server" else {"role": "assistant"})
    sent = 0
    for word in tokens(connection, count):
        first = first if sent else time.monotonic()
        event({"content": word})
        sent += 1
    usage = {"prompt_tokens": prompt, "completion_tokens": sent, "total_tokens": prompt + sent}
    wants_usage = bool((asked.get("stream_options") or {}).get("include_usage")) and this.face.has_stream_usage
    numbers = {"timings": timings(prompt, sent, begun, first)} if this.face.has_timings else {}
    event({}, finish, **({} if wants_usage else numbers))
    if wants_usage:
        value = {**identity, "object": "chat.completion.chunk", "choices": [], "usage": usage, **numbers}
        connection.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")
    connection.chunk(b"data: [DONE]\n\n")
    connection.send(b"0\r\n\r\n")
    return None


def chat_completions(connection, asked):
    return generate(connection, asked, chat=True)


def completions(connection, asked):
    return generate(connection, asked, chat=False)


def embeddings(connection, asked):
    inputs = asked.get("input", "")
    inputs = inputs if isinstance(inputs, list) else [inputs]
    data = [
        {"object": "embedding", "index": n, "embedding": [len(str(text)) / 100, 0.5, -0.5]}
        for n, text in enumerate(inputs)
    ]
    used = sum(len(str(text).split()) for text in inputs)
    connection.send_json(
        {
            "object": "list",
            "model": this.face.echo_model(asked),
            "data": data,
            "usage": {"prompt_tokens": used, "total_tokens": used},
        }
    )


def tokenize(connection, asked):
    found = list(range(1, len(words_of(asked)) + 1))
    connection.send_json(
        {"tokens": found}
        if this.face.name != "vllm"
        else {"count": len(found), "max_model_len": this.options.context, "tokens": found, "token_strs": None}
    )
