"""A `.env` file of another system on the real command line: what it becomes, what is said of the rest, and no key in sight (G7)."""

import json
import tomllib
from pathlib import Path

from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon
from tests.rig.home import Home, contents

KEY = "canary-key-6121"
AUDIO_SERVICE = f"""
# --- language model -------------------------------------------------
LLM_BACKEND=vllm_server            # local_vllm | vllm_server
LLM_SERVER__BASE_URL="http://user:canary-word@10.0.0.5:8001"
export LLM_SERVER__API_KEY='{KEY}'
LLM_SERVER__MODEL_ENHANCE=Qwen/Qwen2.5-7B-Instruct
LLM_SERVER__SUMMARY_MODEL_NAME=Qwen/Qwen2.5-14B-Instruct
LLM_SERVER__REQUEST_TIMEOUT_SECONDS=240
VLLM_SERVER_HOST=0.0.0.0
VLLM_SERVER_PORT=8001
# --- other parts of that system --------------------------------------
POSTGRES_PASSWORD=canary-password
WHISPER_MODEL=large-v3
"""
RAG_SERVICE = """
LLM_PROVIDER=vllm
VLLM_MODEL_PATH=/models/rag-7b
VLLM_TENSOR_PARALLEL_SIZE=two
GPU_MEMORY_UTILIZATION=1.7
OLLAMA_NUM_CTX=nan
VLLM_ATTENTION_BACKEND=TORCH_SDPA
VLLM_GPU_COUNT=2
CUDA_VISIBLE_DEVICES=0,GPU-1234
LLM_TIMEOUT=-5
CHROMA_HOST=localhost
"""


def test_an_audio_service_moves_in_and_its_key_is_seen_nowhere(
    home: Home, daemon: Daemon, commands: Commands, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text(AUDIO_SERVICE, "utf-8")
    daemon.start()

    shown = commands.ok("profiles", "import", str(file)).out
    assert "Would make the profile qwen2.5-7b-instruct:" in shown
    assert "Would set gateway.request_timeout_seconds = 240" in shown
    assert "Would keep the key of LLM_SERVER__API_KEY as 'llm-server'; no profile holds it." in shown
    assert "VLLM_SERVER_HOST: every engine stays on this machine" in shown
    assert "The address held a name or a password" in shown
    assert "Not known here and left alone: POSTGRES_PASSWORD, WHISPER_MODEL." in shown
    assert "Nothing was changed: say --write to do it." in shown
    assert "canary" not in shown
    assert not list(home.paths.profiles.iterdir())
    assert commands.ok("keys", "--json").json["keys"] == {}

    done = commands.ok("profiles", "import", str(file), "--write", "--json").json
    assert "canary" not in json.dumps(done)
    made = {path.stem: tomllib.loads(path.read_text("utf-8")) for path in home.paths.profiles.glob("*.toml")}
    assert {each["model"]: each["aliases"] for each in made.values()} == {
        "Qwen/Qwen2.5-7B-Instruct": ["enhance"],
        "Qwen/Qwen2.5-14B-Instruct": ["summary"],
    }
    for each in made.values():
        assert each["engine"] == "remote"
        assert each["settings"] == {"base_url": "http://10.0.0.5:8001/v1", "key_name": "llm-server"}
    assert list(commands.ok("keys", "--json").json["keys"]) == ["llm-server"]
    assert tomllib.loads(home.paths.settings_file.read_text("utf-8")) == {"gateway": {"request_timeout_seconds": 240.0}}
    daemon.wait_slice("library", lambda library: {card.profile.id for card in library.profiles} >= set(made))
    held = [path for path, data in contents(home.folder).items() if KEY.encode() in data]
    assert [path.relative_to(home.folder).as_posix() for path in held] == ["data/engine-room/keys.json"]
    assert held[0].stat().st_mode & 0o077 == 0
    assert daemon.slices_seen is not None
    assert KEY.encode() not in daemon.slices_seen.raw

    mine = home.paths.profiles / "qwen2.5-7b-instruct.toml"
    mine.write_text("# mine\n" + mine.read_text("utf-8"), "utf-8")
    commands.refused(8, "profiles", "import", str(file), "--write")
    assert mine.read_text("utf-8").startswith("# mine\n"), "a second time takes nothing away"


def test_bad_values_are_sentences_and_what_is_good_is_taken(
    home: Home, daemon: Daemon, commands: Commands, tmp_path: Path
) -> None:
    file = tmp_path / "rag.env"
    file.write_text(RAG_SERVICE, "utf-8")
    daemon.start()
    said = commands.ok("profiles", "import", str(file), "--write").out
    assert "VLLM_TENSOR_PARALLEL_SIZE: 'two' is no whole number and was left out." in said
    assert "GPU_MEMORY_UTILIZATION must be at most" in said
    assert "OLLAMA_NUM_CTX: 'nan' is no whole number and was left out." in said
    assert "VLLM_ATTENTION_BACKEND: TORCH_SDPA is gone from vLLM" in said
    assert "CUDA_VISIBLE_DEVICES: there is no card 0 on this machine." in said
    assert "LLM_TIMEOUT is no time limit of a request" in said
    assert "Not known here and left alone: CHROMA_HOST." in said
    (made,) = home.paths.profiles.glob("*.toml")
    assert tomllib.loads(made.read_text("utf-8")) == {
        "title": "rag-7b", "engine": "vllm", "model": "/models/rag-7b", "gpus": ["GPU-1234"],
    }  # fmt: skip
    assert not home.paths.settings_file.exists()
    card = daemon.wait_slice("library", lambda library: any(card.profile.id == made.stem for card in library.profiles))
    assert not any(problem.where == str(made) for problem in card.problems)

    assert "cannot be read" in commands.refused(2, "profiles", "import", str(tmp_path / "none.env")).err
    (tmp_path / "binary.env").write_bytes(b"\xff\xfe\0A")
    assert "is not text in UTF-8" in commands.refused(2, "profiles", "import", str(tmp_path / "binary.env")).err
    (tmp_path / "empty.env").write_text("# nothing\n", "utf-8")
    assert "No model is named" in commands.ok("profiles", "import", str(tmp_path / "empty.env")).out
