"""Runs llama-cpp-python's own server with a chat template from a file, which the server itself cannot take.

A program of its own: the standard library and llama_cpp only, run by the engine environment's interpreter with -I. Takes
`--chat-template-file PATH` and hands all other flags to the server unchanged. Ends with 2 and a sentence when the file
cannot be read or is no template.
"""

import sys
from pathlib import Path
from typing import Any

FLAG = "--chat-template-file"
FORMAT = "template-from-file"


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
    if FLAG not in argv[:-1]:
        return fail(f"{FLAG} and a file are needed")
    at = argv.index(FLAG)
    file, rest = Path(argv[at + 1]), [*argv[:at], *argv[at + 2 :]]
    try:
        template = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        return fail(f"the chat template cannot be read: {error}")
    try:
        from llama_cpp import llama_chat_format as chat
        from llama_cpp.server.__main__ import main as serve  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        return fail(f"the engine's library cannot be loaded: {error}")
    try:
        chat.Jinja2ChatFormatter(template=template, eos_token="", bos_token="")
    except Exception as error:  # Jinja's own errors; to name them would take one more import
        return fail(f"{file} is not a chat template: {error}")
    chat.register_chat_completion_handler(FORMAT)(template_handler(template))
    sys.argv = ["llama_cpp.server", *rest, "--chat_format", FORMAT]
    serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
