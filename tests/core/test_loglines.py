"""Log lines of the engines that we know, and of nobody (L1, I17)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.loglines import Level, level_of, parsed, spans, visible, without_escapes


@pytest.mark.parametrize(
    ("raw", "level", "source", "text"),
    [
        (b"0.00.119.251 I srv  load_model: loading", Level.INFO, "srv", "load_model: loading"),
        (b"0.01.002.003 E llama_model_load: error", Level.ERROR, "", "llama_model_load: error"),
        (b'{"type":"log","time":776,"level":"warn","msg":"no key"}', Level.WARNING, "", "no key"),
        (
            b"(EngineCore pid=1199) INFO 11-21 02:32:58 [core.py:133] Initializing",
            Level.INFO,
            "EngineCore",
            "[core.py:133] Initializing",
        ),
        (
            b"INFO:     Uvicorn running on http://127.0.0.1:18110",
            Level.INFO,
            "",
            "Uvicorn running on http://127.0.0.1:18110",
        ),
        (b"ValueError: Model path does not exist: x", Level.ERROR, "", "ValueError: Model path does not exist: x"),
        (b"CUDA error: out of memory", Level.ERROR, "", "CUDA error: out of memory"),
        (b"finished with 0 errors", Level.INFO, "", "finished with 0 errors"),
        (b"\x1b[31mWARNING\x1b[0m: careful", Level.WARNING, "", "careful"),
    ],
)
def test_a_line_tells_its_level_source_and_text(raw: bytes, level: Level, source: str, text: str) -> None:
    line = parsed(raw)
    assert level_of(raw) is level
    assert (line.level, line.source, line.text) == (level, source, text)


def test_a_progress_bar_shows_its_last_state() -> None:
    assert visible(b"\rLoading:   0%\rLoading:  50%\rLoading: 100%\r\n") == "Loading: 100%"


@given(st.binary(max_size=300))
def test_no_bytes_can_stop_the_reader(raw: bytes) -> None:
    line = parsed(raw)
    assert len(line.text) <= len(raw)
    assert "".join(span.text for span in spans(visible(raw))) == without_escapes(visible(raw))


def test_colours_are_cut_out() -> None:
    found = spans("plain \x1b[1;32mgreen\x1b[0m \x1b[38;5;9mred\x1b[38;2;1;2;3m own")
    assert [(span.text, span.colour, span.bold) for span in found] == [
        ("plain ", None, False),
        ("green", 2, True),
        (" ", None, False),
        ("red", 9, False),
        (" own", 9, False),
    ]
