"""A remote endpoint and an Ollama by the command line: keys from standard input, attached, asked, let go, never signalled (I5, I18)."""

import httpx

from tests.end2end.commands import Commands
from tests.rig.attached import Ollama, Remote, profile
from tests.rig.custody import processes_of
from tests.rig.home import Home

KEY = "sk-canary-from-a-pipe-0123"


def test_a_remote_and_an_ollama_from_keys_to_quit(home: Home, commands: Commands) -> None:
    remote, ollama = Remote(home, key=KEY), Ollama(home)
    remote.start()
    ollama.start()
    try:
        _story(home, commands, remote, ollama)
    finally:
        assert remote.alive
        assert ollama.alive
        remote.stop()
        ollama.stop()
    assert not remote.journal("signal", from_test=False) + ollama.journal("signal", from_test=False)


def _story(home: Home, commands: Commands, remote: Remote, ollama: Ollama) -> None:
    profile(home, "far", "remote", "gpt-test", base_url=f"{remote.url}/v1", key_name="work")
    profile(home, "near", "ollama", "fresh:1b", context_tokens=2048)
    assert "No key is kept" in commands.ok("keys").out
    assert "there is no key called 'work'" in commands.run("load", "far").err
    said = commands.ok("keys", "set", "work", typed=f"{KEY}\n")
    commands.adopt()
    assert "file that only this account can read" in said.out
    assert KEY not in said.out + said.err
    assert commands.ok("keys").out.split()[0] == "work"
    commands.ok("load", "far")
    status = commands.ok("status").out
    assert f"attached to {remote.address}: ready" in status
    base = next(line.split()[1] for line in status.splitlines() if line.startswith("endpoint"))
    body = {"model": "far", "messages": [{"role": "user", "content": "Hi"}]}
    assert httpx.post(f"{base}/chat/completions", json=body, timeout=60).json()["model"] == "gpt-test-2026-08-06"
    assert "no command line" in commands.run("command", "far").err
    assert "no command line" in commands.run("export", "far", "--as", "shell").err
    doctor = commands.run("doctor").out
    assert "any address that a profile names" in doctor
    assert "Ollama 0.12.3, running" in doctor
    assert "1 kept: work" in doctor

    assert "has no model fresh:1b" in commands.run("load", "near").err
    assert "fresh:1b is there" in commands.ok("ollama", "pull", "fresh:1b").out
    commands.ok("load", "near")
    assert ollama.loaded == ["engine-room-near:latest"]
    assert f"attached to {ollama.address}: ready" in commands.ok("status").out
    assert not processes_of(home, runs_only=True)
    shown = "".join(
        commands.ok(*words).out for words in (("ls", "--json"), ("status", "--json"), ("profiles", "show", "far"))
    )
    assert KEY not in shown
    assert "forgotten" in commands.ok("keys", "remove", "work").out
    commands.ok("quit")
    assert ollama.loaded == []
