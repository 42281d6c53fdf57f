"""What is elsewhere, from the window: a key given unseen, an endpoint loaded with it, a model fetched by Ollama (I5, I18)."""

from collections.abc import Iterator

import pytest

from tests.rig.attached import Ollama, Remote, profile
from tests.rig.daemon import Daemon
from tests.rig.home import Home, contents
from tests.rig.window import WindowProcess

KEY = "sk-canary-in-a-window-0123"
NEW = "fresh:1b"


@pytest.fixture
def window(home: Home, daemon: Daemon) -> Iterator[WindowProcess]:
    window = WindowProcess(home)
    yield window
    window.close()


def test_a_key_and_a_pull_by_ollama_from_the_window(home: Home, daemon: Daemon, window: WindowProcess) -> None:
    remote, ollama = Remote(home, key=KEY), Ollama(home)
    remote.start()
    ollama.start()
    try:
        _story(home, daemon, window, remote, ollama)
    finally:
        assert remote.alive
        assert ollama.alive
        remote.stop()
        ollama.stop()
    assert not remote.journal("signal", from_test=False) + ollama.journal("signal", from_test=False)


def _story(home: Home, daemon: Daemon, window: WindowProcess, remote: Remote, ollama: Ollama) -> None:
    profile(home, "far", "remote", "gpt-test", base_url=f"{remote.url}/v1", key_name="work")
    window.open()
    window.wait(lambda now: now["buttons"].get("Give the key of far"), "the card asks for its key")
    daemon.adopt()
    assert "Load far" not in window.look()["buttons"]
    window.click("Give the key of far")
    window.type("Key", KEY)
    window.click("Keep the key")
    window.wait_text("file that only this account can read")
    window.click("Load far")
    window.wait_pill("Attached")

    window.click("Navigation: Download")
    window.type("Model for Ollama to fetch", NEW)
    window.click("Have Ollama fetch it")
    window.wait_text(f"{NEW} is here")
    ollama.knobs(pull_error="pull model manifest: file does not exist")
    window.type("Model for Ollama to fetch", "other:3b")
    window.click("Have Ollama fetch it")
    window.wait_text("other:3b could not be downloaded")
    ollama.knobs(pull_error="", pull_steps=1000, pull_pause=0.05)
    window.click("Try again other:3b")
    window.wait_text(" of 3.8 MiB")
    window.click("Cancel other:3b")
    window.wait_text("Cancelled. Ollama keeps what has come.")

    window.click("Navigation: Settings")
    window.wait_text("For The far model.")
    window.click("Forget work")
    window.click("Forget it")
    window.wait(lambda now: "Missing" in now["names"], "the key is missing again")
    assert KEY not in str(window.look())
    assert KEY not in daemon.log_text()
    ours = {file: data for file, data in contents(home.folder).items() if "stand-in" not in str(file)}
    assert not [file for file, data in ours.items() if KEY.encode() in data], "I18"
