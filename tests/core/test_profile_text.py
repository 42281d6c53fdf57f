"""Changing one key of a profile's text: the value is what was asked for, and nothing that the person wrote is lost."""

from __future__ import annotations

import tomllib

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from app.core.profile_text import with_value

MINE = """# My coder: do not touch the cache type!
title = "Coder"  # short
engine = "llama.cpp"
model = "/models/coder.gguf"
aliases = [
    "code",  # the editor's
    "fim",
]

[settings]
context_tokens = 16384  # 32k does not fit
# kv_type_k = "q4_0" was bad
kv_type_k = "q8_0"

[sampling]
temperature = 0.2
"""


def test_a_value_is_changed_and_its_comment_stays() -> None:
    changed = with_value(MINE, ("settings", "context_tokens"), 8192)
    assert changed == MINE.replace("16384", "8192")


def test_a_new_setting_joins_its_table() -> None:
    changed = with_value(MINE, ("settings", "slots"), 2)
    assert 'kv_type_k = "q8_0"\nslots = 2\n' in changed
    assert changed.replace("slots = 2\n", "") == MINE


def test_a_key_is_taken_out_and_its_neighbours_stay() -> None:
    assert with_value(MINE, ("title",), None) == MINE.replace('title = "Coder"  # short\n', "")
    without = with_value(MINE, ("aliases",), None)
    assert "fim" not in without
    assert "# My coder" in without


def test_a_table_that_is_not_there_is_made() -> None:
    changed = with_value(MINE, ("environment", "HF_HOME"), "/data/hf")
    assert changed.endswith('\n[environment]\nHF_HOME = "/data/hf"\n')


def test_a_new_key_of_the_file_does_not_fall_into_a_table() -> None:
    changed = with_value(MINE, ("load_at_start",), True)
    assert tomllib.loads(changed)["load_at_start"] is True
    assert "# kv_type_k" in changed
    assert tomllib.loads(with_value("[settings]\nslots = 1\n", ("title",), "T")) == {
        "title": "T",
        "settings": {"slots": 1},
    }


def test_an_inline_table_is_written_anew_rather_than_wrongly() -> None:
    changed = with_value("settings = {slots = 1}\n", ("settings", "context_tokens"), 64)
    assert tomllib.loads(changed) == {"settings": {"slots": 1, "context_tokens": 64}}


def test_text_over_several_lines_is_replaced_whole() -> None:
    text = with_value(MINE, ("system_prompt",), 'Be brief.\n[settings]\nSay "no".\n')
    assert tomllib.loads(text)["system_prompt"] == 'Be brief.\n[settings]\nSay "no".\n'
    assert tomllib.loads(with_value(text, ("system_prompt",), "Short.")) == {
        **tomllib.loads(MINE),
        "system_prompt": "Short.",
    }


scalars = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.text(max_size=30), st.lists(st.text(max_size=5), max_size=3)
)
keys = st.from_regex(r"[a-z_]{1,6}", fullmatch=True)
tables = st.dictionaries(keys, scalars, max_size=4)


@given(
    top=tables,
    inner=st.dictionaries(st.sampled_from(["settings", "sampling"]), tables),
    key=keys,
    value=st.none() | scalars,
)
def test_whatever_the_file_the_result_holds_exactly_what_was_asked_for(
    top: dict[str, object], inner: dict[str, dict[str, object]], key: str, value: object
) -> None:
    before = {**{name: held for name, held in top.items() if name not in inner}, **inner}
    after = tomllib.loads(with_value(tomli_w.dumps(before), ("settings", key), value))
    wanted = {**before, "settings": {**inner.get("settings", {}), key: value}}  # type: ignore[arg-type]
    if value is None:
        wanted["settings"].pop(key)  # type: ignore[attr-defined]
        if "settings" not in before:
            del wanted["settings"]
    if not isinstance(before.get("settings", {}), dict):
        return  # a top-level key of that name: the table takes its place
    assert after == wanted
