"""Streamed Markdown: what is finished never changes, whatever the pieces in which it came (H1)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.core.markdown import Splitter, blocks

ANSWER = """About **18.2 GiB**. The parts:

| Part | Size |
|---|---|
| Weights | 16.4 GiB |

1. Lower the context

   as far as you can

2. Quantise the KV cache

```python
def kv_bytes(layers: int) -> int:

    return layers
```

Done.
"""
MARKDOWN = st.lists(
    st.sampled_from(
        ["text ", "\n", "\n\n", "```", "```python\n", "~~~\n", "- item\n", "1. one\n", "  more\n", "| a |\n", "`"]
    )
).map("".join)


def test_an_answer_falls_into_its_blocks() -> None:
    found = blocks(ANSWER)
    assert [block.kind for block in found] == ["text", "text", "text", "code", "text"]
    assert found[2].source.startswith("1. Lower"), "a list over blank lines is one block"
    assert "2. Quantise" in found[2].source
    code = found[3]
    assert (code.language, code.closed) == ("python", True)
    assert code.text == "def kv_bytes(layers: int) -> int:\n\n    return layers"


@given(MARKDOWN, st.lists(st.integers(1, 7)))
def test_any_cut_gives_the_same_blocks_and_loses_nothing(text: str, cuts: list[int]) -> None:
    splitter = Splitter()
    at = 0
    seen = 0
    for cut in [*cuts, len(text)]:
        splitter.feed(text[at : at + cut])
        at += cut
        assert len(splitter.finished) >= seen
        seen = len(splitter.finished)
        rest = splitter.open.source if splitter.open else ""
        assert "".join(block.source for block in splitter.finished) + rest == text[:at]
    splitter.close()
    assert splitter.finished == blocks(text)


def test_code_that_is_still_open_is_code() -> None:
    splitter = Splitter()
    splitter.feed("```bash\ncurl http")
    assert splitter.open is not None
    assert (splitter.open.kind, splitter.open.language, splitter.open.text) == ("code", "bash", "curl http")


def test_a_longer_fence_holds_a_shorter_one() -> None:
    (block,) = blocks("````md\n```\ninner\n```\n````\n")
    assert block.text == "```\ninner\n```"


def test_long_code_and_long_lists_come_in_parts_of_bounded_size() -> None:
    code = "```python\n" + "".join(f"x{n} = {n}\n" for n in range(200)) + "```\n"
    parts = blocks(code)
    assert "".join(part.text for part in parts) == code[10:-4]
    assert "".join(part.source for part in parts) == code
    assert [part.first for part in parts] == [True] + [False] * (len(parts) - 1)
    assert len(parts) > 4
    assert parts[-1].closed
    assert all(part.language == "python" for part in parts)
    items = "".join(f"{n}. item with some words in it\n" for n in range(1, 400))
    listed = blocks(items)
    assert len(listed) > 3
    assert "".join(block.source for block in listed) == items
    assert max(len(block.source) for block in listed) < 2_200


def test_a_closing_fence_at_the_very_end_is_no_code() -> None:
    """Models often end an answer with the fence and no end of line."""
    (block,) = blocks("```python\nx = 1\n```")
    assert (block.text, block.closed) == ("x = 1", True)
