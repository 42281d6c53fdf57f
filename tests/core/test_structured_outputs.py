"""Old names for bound answers are said by the current ones, and nothing else of a request is touched (E3)."""

from app.core.structured_outputs import by_current_names


def test_each_old_name_goes_where_the_engine_looks_now() -> None:
    body = {"model": "x", "guided_json": {"type": "object"}, "guided_decoding_backend": "xgrammar", "temperature": 0}
    values, told = by_current_names(body)
    assert values == {"model": "x", "temperature": 0, "structured_outputs": {"json": {"type": "object"}}}
    assert told == {"guided_json": "structured_outputs.json", "guided_decoding_backend": ""}
    for old, new in (("guided_regex", "regex"), ("guided_choice", "choice"), ("guided_grammar", "grammar")):
        assert by_current_names({old: "v"})[0] == {"structured_outputs": {new: "v"}}


def test_what_is_said_in_the_current_way_stays_as_it_is() -> None:
    body = {"structured_outputs": {"choice": ["a"]}, "guided_choice": ["b"]}
    assert by_current_names(body) == (body, {})
    assert by_current_names({"model": "x"}) == ({"model": "x"}, {})


def test_an_old_name_without_a_value_binds_nothing() -> None:
    assert by_current_names({"guided_json": None, "n": 1}) == ({"n": 1}, {"guided_json": ""})
