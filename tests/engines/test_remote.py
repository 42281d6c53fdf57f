"""A remote's address is judged before a key could be sent to it (I18)."""

import pytest

from app.engines.remote import problem_with_address


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "gpu-box", "gpu-box.lan", "gpu.local", "box.localhost", "llm.internal"),
        *("127.0.0.1", "10.1.2.3", "192.168.0.7", "[::1]", "[fd00::5]", "[fe80::1]"),
    ],
)
def test_plain_http_with_a_key_is_for_this_machine_and_its_own_network(host: str) -> None:
    assert problem_with_address(f"http://{host}:8000/v1", with_key=True) is None


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "8.8.8.8",
        "[2606:4700:4700::1111]",
        "[2001:4860::8888]",
        "134744072",
        "0x08080808",
        "lan.example.org",
    ],
)
def test_no_key_goes_in_the_clear_over_a_foreign_network(host: str) -> None:
    assert "in the clear" in str(problem_with_address(f"http://{host}/v1", with_key=True))
    assert problem_with_address(f"http://{host}/v1", with_key=False) is None
    assert problem_with_address(f"https://{host}/v1", with_key=True) is None
