"""The host of llama-cpp-python's server, on a stand-in of its library: each streamed answer tells what it took."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.engines.llama_cpp_python import HOST_SCRIPT

LIBRARY = '''
class Llama:
    """Generates the letters of a word; token 0 ends. Shaped as the library: answers are made from `generate`."""

    class _model:
        vocab = "vocab"

    def generate(self, tokens, **named):
        for token in [*named["word"], 0]:
            yield token

    def _answer(self, prompts, word, stream):
        made = []
        for prompt in prompts:
            for token in self.generate(prompt, word=word):
                if not token:
                    break
                made.append(token)
                if stream:
                    yield {"choices": [{"text": token, "finish_reason": None}]}
        yield {"choices": [{"text": "", "finish_reason": "stop"}], **({} if stream else {"usage": "its own"})}

    def __call__(self, prompts, word, stream=False):
        chunks = self._answer(prompts, word, stream)
        return chunks if stream else next(chunks)

    create_chat_completion = __call__
'''
KNOWS_ENDS = "def llama_vocab_is_eog(vocab, token):\n    return token == 0\n"
HAS_A_CLOCK = """
class llama_perf_context:
    def __init__(self, context):
        self.n_p_eval, self.t_p_eval_ms = 3, context

class _Context:
    ctx = 1.5

Llama._ctx = _Context
"""
SERVER = """
import json, sys
from llama_cpp import Llama

def main():
    llama, told = Llama(), {"argv": sys.argv}
    for name in ("__call__", "create_chat_completion"):
        answer = getattr(Llama, name)
        told[name] = [list(answer(llama, prompts, word, stream=True)) for prompts, word in (([[1, 2, 3]], "ab"), ([[1]], "c"))]
    told["twice"] = list(Llama.__call__(llama, [[1], [2]], "ab", stream=True))
    told["whole"] = Llama.__call__(llama, [[1]], "ab")
    print(json.dumps(told))
"""


@pytest.fixture
def hosted(tmp_path: Path) -> Any:
    def run(library: str, *arguments: str) -> dict[str, Any]:
        files = {"__init__.py": library, "server/__init__.py": "", "server/__main__.py": SERVER}
        for name, text in files.items():
            path = tmp_path / "llama_cpp" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        command = [sys.executable, "-S", str(HOST_SCRIPT), *arguments]
        environment = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    return run


def usages(chunks: list[dict[str, Any]]) -> list[object]:
    return [chunk["usage"] for chunk in chunks if "usage" in chunk]


def test_each_stream_tells_its_own_tokens_once_at_its_end(hosted: Any) -> None:
    told = hosted(LIBRARY + KNOWS_ENDS, "--model", "m.gguf")
    assert told["argv"] == ["llama_cpp.server", "--model", "m.gguf"]
    for name in ("__call__", "create_chat_completion"):
        first, second = told[name]
        assert usages(first) == [{"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}], "its end is no token"
        assert "usage" in first[-1]
        assert usages(second) == [{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}], (
            "not of the one before"
        )


def test_a_stream_tells_how_fast_its_prompt_was_read(hosted: Any) -> None:
    told = hosted(LIBRARY + KNOWS_ENDS + HAS_A_CLOCK)
    timings = [chunk["timings"] for chunk in told["__call__"][0] if "timings" in chunk]
    assert timings == [{"prompt_n": 3, "prompt_ms": 1.5, "prompt_per_second": 2000.0}]
    untimed = hosted(LIBRARY + KNOWS_ENDS + HAS_A_CLOCK.replace("1.5", "0.0"))
    assert not any("timings" in chunk for chunk in untimed["__call__"][0])
    assert usages(untimed["__call__"][0])


def test_what_cannot_be_said_for_sure_is_not_said(hosted: Any) -> None:
    told = hosted(LIBRARY + KNOWS_ENDS)
    assert usages(told["twice"]) == [], "made of two generations"
    assert told["whole"]["usage"] == "its own"
    older = hosted(LIBRARY)
    assert usages(older["__call__"][0]) == [], "a library that does not tell ends: its streams stay as they are"
    assert len(older["__call__"][0]) == 3
