"""The tables against the engines built from source: every flag is in the engine's own help, and what is said is done."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.core.loglines import Level, parsed
from app.core.options import Scalar
from app.engines.base import Command
from app.engines.registry import FAMILIES
from tests.engines.launches import command_of, launch
from tests.engines.running import free_port, running
from tests.engines.test_real_settings import write_lora
from tests.engines.tiny_model import write_tiny_model
from tests.engines.tiny_projector import assert_it_looks_at_an_image, write_tiny_projector
from tests.rig.embedded import KEPT_IN
from tests.rig.waiting import eventually

pytestmark = pytest.mark.engines


def built(variable: str, place: str) -> str:
    """The program of that variable, else of the engine that the tests keep."""
    return os.environ.get(variable) or str(next(iter(KEPT_IN.glob(f"llama-cpp-python-*/{place}")), ""))


PROGRAMS = {
    "llama-server": built("ENGINE_ROOM_LLAMA_SERVER", "native/llama-server"),
    "llama-cpp-python": built("ENGINE_ROOM_LLAMA_CPP_PYTHON", "bin/python"),
}


def command(family: str, settings: dict[str, Scalar], model: Path, port: int = 0) -> Command:
    """The launch of a built engine; where the binding has no libraries of its own, those of the program are its."""
    made = launch(
        family,
        {"context_tokens": 256, **settings},
        executable=PROGRAMS[family],
        model_path=str(model),
        model_name="tiny",
        port=port,
        physical_cores=2,
    )
    native = Path(PROGRAMS[family]).parent.parent / "native"
    if family == "llama-cpp-python" and native.is_dir():
        made = type(made)(
            **{name: getattr(made, name) for name in made.__struct_fields__}
            | {
                "installation": type(made.installation)(
                    family=family, executable=PROGRAMS[family], library_folder=str(native)
                )
            }
        )
    return command_of(made)


def environment_of(made: Command, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    return {**inherited, **made.environment}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.mark.parametrize("family", PROGRAMS)
def test_every_flag_and_variable_of_the_table_is_in_the_engine_s_own_help(family: str, tiny: Path) -> None:
    made = command(family, {}, tiny)
    program = [PROGRAMS[family]] if family == "llama-server" else [PROGRAMS[family], "-I", "-m", "llama_cpp.server"]
    told = subprocess.run([*program, "--help"], capture_output=True, text=True, env=environment_of(made), timeout=120)
    words = set((told.stdout + told.stderr).replace(",", " ").replace(")", " ").split())
    host_flag = {"--chat-template-file"} if family == "llama-cpp-python" else set()
    for option in FAMILIES[family].options:
        for said in filter(None, (option.flag, option.flag_off, option.environment)):
            assert said in words | host_flag, option.name


def test_the_program_does_what_its_settings_say(tiny: Path, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "lora.gguf")
    draft = write_tiny_model(tmp_path / "draft.gguf")
    port = free_port()
    settings: dict[str, Scalar] = {
        "slots": 2,
        "lora": f"{lora}:0.5",
        "draft_model": str(draft),
        "draft_tokens_max": 4,
        "chat_template": "llama3",
        "kv_type_k": "q8_0",
        "kv_type_v": "q8_0",
        "flash_attention": "on",
        "context_shift": True,
        "cache_reuse_tokens": 32,
        "load_mode": "none",
        "repack": False,
        "override_kv": "llama.context_length=int:300",
        "rope_scaling": "yarn",
        "rope_scale": 2.0,
        "priority": "normal",
        "threads_batch": 2,
        "grammar": 'root ::= "yes" | "no"',
        "seed": 3,
    }
    made = command("llama-server", settings, tiny, port)
    with running(made, tmp_path / "run.log", port) as engine:
        engine.until_ready("/health")
        assert json.loads(engine.request("/lora-adapters")[1])[0]["scale"] == 0.5
        messages = [{"role": "user", "content": "hi"}]
        assert (
            "<|start_header_id|>user"
            in json.loads(engine.request("/apply-template", {"messages": messages})[1])["prompt"]
        )
        status, text = engine.request("/v1/chat/completions", {"messages": messages, "max_tokens": 8})
        assert status == 200, text
        assert json.loads(text)["choices"][0]["message"]["content"] in ("yes", "no")
        assert "draft_n" in json.loads(text)["timings"], "the draft model guesses"
        engine.says("load_mode = none")
        engine.says("n_ctx_train           = 300")
        engine.says("K (q8_0)")
        assert engine.stop() == 0


def test_a_json_log_tells_the_same_as_a_plain_one(tiny: Path, tmp_path: Path) -> None:
    """Stages, levels and sizes are read from either."""
    port = free_port()
    with running(command("llama-server", {"json_log": True}, tiny, port), tmp_path / "run.log", port) as engine:
        engine.until_ready("/health")

        def stages() -> list[str]:
            return list(
                dict.fromkeys(
                    s.name for line in engine.log.splitlines() if (s := FAMILIES["llama-server"].stage_of(line))
                )
            )

        eventually(lambda: "first_token" in stages(), what="its log is written by a thread of its own")
        lines = engine.log.splitlines()
        assert sum(line.startswith('{"type":"log"') for line in lines) > 100
        assert stages() == ["reading", "weights", "kv_cache", "graphs", "warm_up", "first_token"]
        read = next(line for line in map(parsed, engine.log.encode().splitlines()) if "KV buffer size" in line.text)
        assert (read.level, read.text[:1]) == (Level.INFO, "l"), "the message, not its wrapping"


@pytest.mark.parametrize("mode", ["embeddings", "rerank"])
def test_the_program_serves_what_it_is_made_to(mode: str, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.gguf", ranks=mode == "rerank")
    port = free_port()
    settings: dict[str, Scalar] = {mode: True} if mode == "rerank" else {mode: True, "pooling": "mean"}
    made = launch(
        "llama-server", settings, executable=PROGRAMS["llama-server"], model_name="tiny", model_path=str(model)
    )
    trial = FAMILIES["llama-server"].trial(made)
    with running(command("llama-server", settings, model, port), tmp_path / "run.log", port) as engine:
        engine.until_ready("/health")
        status, text = engine.request(trial.path, trial.body)
        assert status == 200, text
        assert json.loads(text)


def test_the_python_server_does_what_its_settings_say(tiny: Path, tmp_path: Path) -> None:
    """Each of these flags has a form of its own there: numbers for names, words for lists, bytes for MiB."""
    template = tmp_path / "template.jinja"
    template.write_text("{{ bos_token }}{% for m in messages %}~{{ m.content }}~{% endfor %}", "utf-8")
    port = free_port()
    settings: dict[str, Scalar] = {
        "kv_type_k": "q8_0",
        "flash_attention": "on",
        "split_mode": "none",
        "tensor_split": "3,1",
        "threads_batch": 1,
        "batch_tokens": 128,
        "ubatch_tokens": 64,
        "lora": str(write_lora(tmp_path / "lora.gguf")),
        "override_kv": "llama.context_length=int:300",
        "rope_scaling": "linear",
        "rope_frequency_scale": 0.5,
        "prompt_cache_mib": 8,
        "prompt_lookup_tokens": 4,
        "memory_mapping": False,
        "seed": 5,
        "chat_template_file": str(template),
    }
    made = command("llama-cpp-python", settings, tiny, port)
    with running(made, tmp_path / "run.log", port) as engine:
        engine.until_ready("/openapi.json")
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        status, text = engine.request("/v1/chat/completions", body)
        assert status == 200, text
        tokens = json.loads(text)["usage"]["prompt_tokens"]
        assert tokens == len(["<|endoftext|>", *"~hi~"]), "the template's own words, its first token the model's"
        status, text = engine.request("/extras/tokenize", {"input": "ab"})
        assert (status, len(json.loads(text)["tokens"])) == (200, 1)
        engine.says("n_ctx_train           = 300")
        engine.says("freq_scale            = 0.5")
        engine.says("loaded 8 tensors from lora file")


SPECIAL = ("<|im_start|>", "<|im_end|>")  # one token each in the tiny model; all else is a token for each letter


def token_count(prompt: str) -> int:
    for special in SPECIAL:
        prompt = prompt.replace(special, "*")
    return len(prompt)


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("chatml", "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        (
            "llama-3",
            "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("mistral-instruct", "[INST] hi [/INST]"),
        ("", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_the_python_server_takes_a_chat_format_by_name(name: str, prompt: str, tiny: Path, tmp_path: Path) -> None:
    """The prompt has as many tokens as the format gives it, and another number than by the model's own template."""
    port = free_port()
    settings: dict[str, Scalar] = {"chat_format": name} if name else {}
    with running(command("llama-cpp-python", settings, tiny, port), tmp_path / "run.log", port) as engine:
        engine.until_ready("/openapi.json")
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        status, text = engine.request("/v1/chat/completions", body)
        assert status == 200, text
        assert json.loads(text)["usage"]["prompt_tokens"] == token_count(prompt)


def test_the_python_server_serves_embeddings(tiny: Path, tmp_path: Path) -> None:
    """The same text has the same vector, another text another; the launch is tried by asking for one."""
    port = free_port()
    settings: dict[str, Scalar] = {
        "embeddings": True,
        "override_kv": "llama.pooling_type=int:1",
    }  # as embedders have it
    made = launch("llama-cpp-python", settings, model_name="tiny", model_path=str(tiny))
    trial = FAMILIES["llama-cpp-python"].trial(made)
    with running(command("llama-cpp-python", settings, tiny, port), tmp_path / "run.log", port) as engine:
        engine.until_ready("/openapi.json")
        status, text = engine.request(trial.path, trial.body)
        assert status == 200, text
        status, text = engine.request("/v1/embeddings", {"model": "tiny", "input": ["one", "two", "one"]})
        assert status == 200, text
        first, other, same = (row["embedding"] for row in json.loads(text)["data"])
        assert len(first) == 64
        assert first == pytest.approx(same, abs=1e-3)
        assert first != pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("family", PROGRAMS)
def test_a_built_engine_looks_at_an_image(family: str, tiny: Path, tmp_path: Path) -> None:
    """llama-cpp-python does so in one of its formats only, which a projector chooses."""
    port = free_port()
    settings: dict[str, Scalar] = {"mmproj": str(write_tiny_projector(tmp_path / "mmproj.gguf"))}
    with running(command(family, settings, tiny, port), tmp_path / "run.log", port) as engine:
        engine.until_ready(FAMILIES[family].readiness.health_path)
        assert_it_looks_at_an_image(engine)


def test_a_template_file_that_is_none_ends_the_python_server_with_a_sentence(tiny: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jinja"
    bad.write_text("{% for m in %}", "utf-8")
    made = command("llama-cpp-python", {"chat_template_file": str(bad)}, tiny, free_port())
    done = subprocess.run(made.argv, capture_output=True, text=True, env=environment_of(made), timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith(f"llama_cpp_python_host: error: {bad} is not a chat template: ")
    assert "Traceback" not in done.stderr
