"""Runs llama-cpp-python's own server with what it lacks: token counts and reading speed in a stream, a template from a file.

A program of its own: the standard library and llama_cpp only, run by the engine environment's interpreter with -I. Takes
`--chat-template-file PATH` and hands all other flags to the server unchanged. Ends with 2 and a sentence when the file
cannot be read or is no template.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FLAG = "--chat-template-file"
FORMAT = "template-from-file"


class Tally:
    """The tokens of one answer as the library generates them. The server answers one request at a time, so one is enough."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.prompts: list[int] = []
        self.generated = 0

    def usage(self) -> dict[str, int] | None:
        """The figures as the library's answers in one piece have them; None for an answer made of several generations."""
        if len(self.prompts) != 1:
            return None
        prompt = self.prompts[0]
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.generated,
            "total_tokens": prompt + self.generated,
        }


def count_tokens(
    llama_class: Any, is_end: Callable[[Any, int], bool], timings: Callable[[Any], dict[str, float]]
) -> None:
    """Makes each streamed answer of `llama_class` tell its `usage` in the chunk that tells why it ended, and its `timings`.

    The server knows no `stream_options`, and Engine Room always asks it to stream, because only a stream can be cancelled.
    """
    tally = Tally()
    generate = llama_class.generate

    def counted_generate(self: Any, tokens: Any, *rest: Any, **named: Any) -> Iterator[int]:
        tally.prompts.append(len(tokens))
        inner = generate(self, tokens, *rest, **named)
        answer = None
        while True:
            try:
                token = inner.send(answer)
            except StopIteration:
                return
            if not is_end(self, token):
                tally.generated += 1
            answer = yield token

    def told(answer: Callable[..., Any]) -> Callable[..., Any]:
        def answering(self: Any, *rest: Any, **named: Any) -> Any:
            tally.begin()
            made = answer(self, *rest, **named)
            return with_usage(made, tally, lambda: timings(self)) if named.get("stream") else made

        return answering

    llama_class.generate = counted_generate
    llama_class.__call__ = told(llama_class.__call__)
    llama_class.create_chat_completion = told(llama_class.create_chat_completion)


def with_usage(chunks: Iterator[Any], tally: Tally, timings: Callable[[], dict[str, float]]) -> Iterator[Any]:
    for chunk in chunks:
        ended = any(choice.get("finish_reason") for choice in chunk.get("choices") or ())
        usage = tally.usage() if ended else None
        if usage is None:
            yield chunk
        else:
            read = timings()
            yield {**chunk, "usage": usage, **({"timings": read} if read else {})}


def prompt_timings(perf: Any) -> dict[str, float]:
    """How fast a prompt was read, under llama-server's names, from the library's own clock; empty when it was not timed.

    Its clock of the generation is left out: it stops between two tokens, while this server chooses one.
    """
    tokens, milliseconds = perf.n_p_eval, perf.t_p_eval_ms
    if not milliseconds > 0:
        return {}
    return {"prompt_n": tokens, "prompt_ms": milliseconds, "prompt_per_second": 1000 * tokens / milliseconds}


def template_handler(template: str) -> Any:
    """A chat handler for `template`; the model's own first and last tokens are known only when a model is loaded."""
    from llama_cpp import llama_chat_format as chat  # type: ignore[import-not-found, unused-ignore]

    def handler(*, llama: Any, **request: Any) -> Any:
        def text(token: int) -> str:
            return llama._model.token_get_text(token) if token >= 0 else ""

        formatter = chat.Jinja2ChatFormatter(
            template=template,
            eos_token=text(llama.token_eos()),
            bos_token=text(llama.token_bos()),
            stop_token_ids=[llama.token_eos()],
        )
        return chat.chat_formatter_to_chat_completion_handler(formatter)(llama=llama, **request)

    return handler


def fail(sentence: str) -> int:
    print(f"llama_cpp_python_host: error: {sentence}", file=sys.stderr, flush=True)
    return 2


def main(argv: list[str]) -> int:
    template = None
    if FLAG in argv[:-1]:
        at = argv.index(FLAG)
        file, argv = Path(argv[at + 1]), [*argv[:at], *argv[at + 2 :]]
        try:
            template = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            return fail(f"the chat template cannot be read: {error}")
    sys.argv = ["llama_cpp.server", *argv]
    try:
        import llama_cpp
        from llama_cpp.server.__main__ import main as serve  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        return fail(f"the engine's library cannot be loaded: {error}")
    if template is not None:
        from llama_cpp import llama_chat_format as chat

        try:
            chat.Jinja2ChatFormatter(template=template, eos_token="", bos_token="")
        except Exception as error:  # Jinja's own errors; to name them would take one more import
            return fail(f"{file} is not a chat template: {error}")
        chat.register_chat_completion_handler(FORMAT)(template_handler(template))
        sys.argv += ["--chat_format", FORMAT]
    is_end_token = getattr(llama_cpp, "llama_vocab_is_eog", None)
    perf_of = getattr(llama_cpp, "llama_perf_context", None)
    if is_end_token is not None:  # an older library: its streams stay without counts
        count_tokens(
            llama_cpp.Llama,
            lambda llama, token: bool(is_end_token(llama._model.vocab, token)),
            lambda llama: {} if perf_of is None else prompt_timings(perf_of(llama._ctx.ctx)),
        )
    serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
