"""A model that another program fetched is loaded where it lies, and answers (M1)."""

import shutil
from pathlib import Path

import pytest

from app.core.resources import builtin_model
from app.engines.base import Installation
from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon, chat_body
from tests.rig.home import Home
from tests.rig.stores import into_hub, into_ollama


@pytest.mark.slow
def test_a_model_of_ollama_and_one_of_the_hub_answer_through_the_real_engine(
    home: Home, daemon: Daemon, commands: Commands, embedded_engine: Installation, tmp_path: Path
) -> None:
    demo = builtin_model("builtin:demo")
    assert demo is not None
    cache = Path(home.environment["XDG_CACHE_HOME"]) / "huggingface" / "hub"
    store = home.folder / ".ollama" / "models"
    into_ollama(store, "small:1b", demo)
    other = shutil.copy(demo, tmp_path / "Demo-Q8_0.gguf")
    with other.open("ab") as file:
        file.write(b"\0")  # another content, so another model
    into_hub(cache, "org/demo-GGUF", {"Demo-Q8_0.gguf": other})
    (cache / "models--org--demo-GGUF" / "blobs" / f"{'a' * 64}.incomplete").write_bytes(b"x")
    daemon.start()
    listed = commands.ok("ls").out
    assert [line.split()[0] for line in listed.splitlines() if "Ollama" in line] == ["small-1b"]
    assert any(line.startswith("demo-q8_0") and "Hugging Face cache" in line for line in listed.splitlines())
    assert "A download into it has not finished." in listed
    before = {path: path.lstat().st_mtime_ns for top in (cache, store) for path in top.rglob("*")}
    for profile in ("small-1b", "demo-q8_0"):
        daemon.load(profile, 60)
        with daemon.gateway() as client:
            name = "small:1b" if profile == "small-1b" else profile
            answer = client.post("/chat/completions", json=chat_body(name, max_tokens=8)).raise_for_status().json()
        assert answer["choices"][0]["message"]["content"]
        run = daemon.seat().run
        assert run is not None
        assert any(word.startswith((str(store), str(cache))) for word in run.argv), "read where it lies"
    after = {path: path.lstat().st_mtime_ns for top in (cache, store) for path in top.rglob("*")}
    assert after == before, "nothing of another program's is changed"
