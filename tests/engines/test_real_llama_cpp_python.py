"""llama-cpp-python's server as it really is, built from source: `./packaging/test --engines`."""

import ast
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from app.core.resources import builtin_model
from app.engines.base import Installation
from app.engines.llama_cpp_python import SCRUB
from app.engines.registry import FAMILIES
from tests.engines.launches import command_of, launch
from tests.engines.running import free_port, running, tokens_of
from tests.engines.tiny_model import write_tiny_model
from tests.rig.home import Home
from tests.rig.real_engines import installation_in

pytestmark = pytest.mark.engines

FAMILY = FAMILIES["llama-cpp-python"]


@pytest.fixture
def installed(home: Home) -> Installation:
    return installation_in(home, "llama-cpp-python")


def test_it_loads_by_our_settings_only_and_answers(installed: Installation, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    port = free_port()
    made = launch(
        "llama-cpp-python",
        {"context_tokens": 256, "kv_type_k": "q8_0", "flash_attention": "on"},
        installation=installed,
        model_path=str(model),
        model_name="tiny",
        port=port,
        physical_cores=2,
        api_key="canary-1414",
    )
    hostile = {**os.environ, "PORT": "1", "HOST": "0.0.0.0", "N_CTX": "64", "model": "/none", "API_KEY": "wrong"}
    with running(command_of(made), tmp_path / "run.log", port, hostile) as engine:
        engine.until_ready(FAMILY.readiness.health_path)
        status, models = engine.request(FAMILY.readiness.models_path, key="canary-1414")
        assert status == 200
        assert [row["id"] for row in json.loads(models)["data"]] == ["tiny"]
        engine.says("n_ctx                 = 256")
        body = {"model": "tiny", "max_tokens": 6, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        status, stream = engine.request(FAMILY.readiness.generate_path, body, key="canary-1414")
        assert status == 200
        assert "[DONE]" in stream
        assert tokens_of(stream)
        assert engine.stop() in (0, -signal.SIGTERM)
        names = list(dict.fromkeys(s.name for line in engine.log.splitlines() if (s := FAMILY.stage_of(line))))
        assert names == ["reading", "weights", "kv_cache", "graphs", "warm_up", "first_token"]


def test_a_stream_tells_the_counts_that_an_answer_in_one_piece_has(installed: Installation, tmp_path: Path) -> None:
    """Chat and completion, ended by length, by a stop word and by the model: the same figures, and none in between."""
    port = free_port()
    made = launch(
        "llama-cpp-python",
        {"context_tokens": 512},
        installation=installed,
        model_path=str(builtin_model("builtin:demo")),
        model_name="demo",
        port=port,
        physical_cores=2,
    )
    chat = {"messages": [{"role": "user", "content": "What is the KV cache?"}], "temperature": 0}
    plain = {"prompt": "hi there", "temperature": 0, "max_tokens": 9}
    ends = set()
    with running(command_of(made), tmp_path / "run.log", port) as engine:
        engine.until_ready(FAMILY.readiness.health_path)
        for path, body in (
            ("/v1/chat/completions", {**chat, "max_tokens": 7}),
            ("/v1/chat/completions", {**chat, "max_tokens": 60, "stop": ["e"]}),
            ("/v1/chat/completions", chat),
            ("/v1/completions", plain),
        ):
            whole = json.loads(engine.request(path, body)[1])
            chunks = [
                json.loads(line.removeprefix("data: "))
                for line in engine.request(path, {**body, "stream": True})[1].splitlines()
                if line.startswith("data: {")
            ]
            assert [chunk["usage"] for chunk in chunks if "usage" in chunk] == [whole["usage"]]
            assert chunks[-1]["usage"]["prompt_tokens"] > 0
            assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
            ends.add(whole["choices"][0]["finish_reason"])
    assert ends == {"length", "stop"}


def test_every_variable_that_could_set_it_is_scrubbed(installed: Installation) -> None:
    """The list in the family was read off the package; a newer package may have more."""
    asked = (
        "from llama_cpp.server import settings as s\n"
        "models = (s.ServerSettings, s.ModelSettings, s.Settings, s.ConfigFileSettings)\n"
        "print(sorted({name for model in models for name in model.model_fields}))"
    )
    environment = {**os.environ, "LLAMA_CPP_LIB_PATH": installed.library_folder}
    command = [installed.executable, "-c", asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    names = ast.literal_eval(done.stdout)
    assert {name.upper() for name in names} <= set(SCRUB)
    assert set(names) <= set(SCRUB)
