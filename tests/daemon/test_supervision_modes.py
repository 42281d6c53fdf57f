"""What an engine is made to serve decides what proves it Ready: embeddings and rankings as well as chat (I10), on the real one."""

from pathlib import Path

import tomli_w

from app.core import lifecycle
from tests.engines.tiny_model import write_tiny_model
from tests.rig.daemon import Daemon
from tests.rig.home import Home


def write_profile(home: Home, name: str, model: Path, **settings: object) -> None:
    values = {"engine": "llama.cpp", "model": str(model), "settings": {"context_tokens": 256, "slots": 2, **settings}}
    (home.paths.profiles / f"{name}.toml").write_text(tomli_w.dumps(values), "utf-8")


def test_embeddings_and_rankings_are_loaded_served_and_counted_as_ready(
    home: Home, daemon: Daemon, embedded_python: Path
) -> None:
    home.environment["ENGINE_ROOM_EMBEDDED_PYTHON"] = str(embedded_python)
    home.paths.profiles.mkdir(parents=True, exist_ok=True)
    write_profile(home, "vectors", write_tiny_model(home.models / "a.gguf"), embeddings=True, pooling="mean")
    write_profile(home, "ranks", write_tiny_model(home.models / "b.gguf", ranks=True), rerank=True)
    daemon.start()
    assert isinstance(daemon.load("vectors").phase, lifecycle.Ready)
    with daemon.gateway() as client:
        answer = client.post("/embeddings", json={"model": "vectors", "input": ["one", "two"]})
        assert answer.status_code == 200, answer.text
        assert [len(row["embedding"]) for row in answer.json()["data"]] == [64, 64]
        tokens = client.post("/tokenize", json={"input": "ab"})
        assert tokens.headers["X-Engine-Room-Changed"] == "input as content"
        assert len(tokens.json()["tokens"]) == 1
    assert isinstance(daemon.load("ranks").phase, lifecycle.Ready)
    with daemon.gateway() as client:
        answer = client.post("/rerank", json={"model": "ranks", "query": "a", "documents": ["b", "c"]})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["results"]) == 2


def test_the_monitor_learns_how_full_the_cache_is(home: Home, daemon: Daemon, embedded_python: Path) -> None:
    home.environment["ENGINE_ROOM_EMBEDDED_PYTHON"] = str(embedded_python)
    daemon.start()
    daemon.load("demo")
    daemon.wait_slice("traffic", lambda traffic: traffic.kv_cache_usage is not None)
    with daemon.gateway() as client:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 200, "ignore_eos": True}
        assert client.post("/chat/completions", json=body).status_code == 200
    usage = daemon.wait_slice("traffic", lambda traffic: (traffic.kv_cache_usage or 0) > 0.15).kv_cache_usage
    assert usage < 0.4, "about 220 of 1,024 tokens"
    daemon.unload()
    daemon.wait_idle()
    daemon.wait_slice("traffic", lambda traffic: traffic.kv_cache_usage is None)
