"""No secret leaves (I18): what is masked, and that offsets stay those of the original."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.redaction import masked, masked_environment, secrets_of

CANARY = "canary-51f2e0"


@pytest.mark.parametrize(
    "line",
    [
        f"starting with key {CANARY}",
        f"--api-key={CANARY}",
        f"Authorization: Bearer {CANARY}.x",
        f'{{"api_key": "{CANARY}"}}',
        f"https://host/?token={CANARY}&x=1",
    ],
)
def test_a_known_secret_is_masked_wherever_it_stands(line: str) -> None:
    clean = masked(line.encode(), (CANARY,))
    assert CANARY.encode() not in clean
    assert len(clean) == len(line.encode())


@pytest.mark.parametrize(
    "line",
    [
        "HF_TOKEN is hf_abcdefghijklmnopqrstuvwxyz012345",
        "key sk-proj-abcdefghijklmnop1234",
        "authorization: bearer abcdefgh12345678",
        "started with api_key=zzzz9999",
    ],
)
def test_what_looks_like_a_secret_is_masked_without_being_known(line: str) -> None:
    secret = line.replace("=", " ").split()[-1].encode()
    assert secret not in masked(line.encode())


@given(st.binary(max_size=400), st.lists(st.text(min_size=4, max_size=12), max_size=3))
def test_masking_never_changes_the_length(data: bytes, secrets: list[str]) -> None:
    assert len(masked(data, secrets)) == len(data)


def test_ordinary_lines_stay_as_they_are() -> None:
    line = b"llama_kv_cache: size = 2.00 MiB ( 1024 cells, 4 layers), K (f16): 1.00 MiB, tokens=128"
    assert masked(line) == line


def test_the_environment_shows_names_and_hides_what_speaks_of_a_secret() -> None:
    environment = {"LLAMA_API_KEY": "x1234", "HF_TOKEN": "", "THREADS": "4"}
    assert masked_environment(environment) == {"LLAMA_API_KEY": "***", "HF_TOKEN": "", "THREADS": "4"}
    assert secrets_of(environment) == ("x1234",)
