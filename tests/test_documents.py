"""The documents that can be derived are derived: a stale picture fails."""

from __future__ import annotations

from tests.derived import DOCUMENT, SETTINGS_DOCUMENT, document, settings_document


def test_the_architecture_document_shows_the_code_as_it_is() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert text == document(text), "run `python -m tests.derived`"


def test_the_settings_document_says_what_the_tables_say() -> None:
    assert SETTINGS_DOCUMENT.read_text("utf-8") == settings_document(), "run `python -m tests.derived`"
