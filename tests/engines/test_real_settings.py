"""Every setting as the real engine takes it: parts of the model, templates, grammar, embeddings, reranking, the cache's fill."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import gguf
import numpy as np
import pytest

from app.core.options import Option, OptionKind, Scalar
from app.core.resources import builtin_model
from app.engines.base import Installation
from app.engines.llama_cpp import LlamaCpp
from app.engines.native_server import kv_cache_usage
from app.engines.registry import FAMILIES
from tests.engines.launches import command_of, launch
from tests.engines.running import Running, ended, free_port, running, tokens_of
from tests.engines.tiny_model import write_tiny_model
from tests.engines.tiny_projector import assert_it_looks_at_an_image, write_tiny_projector

FAMILY = FAMILIES["llama.cpp"]
SAY_HELLO = {"model": "tiny", "max_tokens": 8, "temperature": 0, "messages": [{"role": "user", "content": "hi"}]}
Start = Callable[..., AbstractContextManager[Running]]


@pytest.fixture
def start(embedded_engine: Installation, tmp_path: Path) -> Start:
    """Runs the built-in engine on a tiny model with the given settings, until it is ready."""
    tiny = write_tiny_model(tmp_path / "tiny.gguf")

    @contextmanager
    def started(settings: dict[str, Scalar], model: Path = tiny) -> Iterator[Running]:
        port = free_port()
        made = launch(
            "llama.cpp",
            {"context_tokens": 256, "slots": 2, "prompt_cache_mib": 0, **settings},
            executable=embedded_engine.executable,
            model_path=str(model),
            model_name="tiny",
            port=port,
            physical_cores=2,
        )
        with running(command_of(made), tmp_path / "run.log", port) as engine:
            engine.until_ready(FAMILY.readiness.health_path)
            yield engine

    return started


def write_lora(path: Path, model_width: int = 64) -> Path:
    """An adapter for the tiny model that changes what attention asks for, strongly enough to change its answers."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 8.0)
    random = np.random.default_rng(11)
    for layer in range(2):
        for name in ("ffn_up", "ffn_gate"):
            shape = {"lora_a": (4, model_width), "lora_b": (2 * model_width, 4)}
            for half, size in shape.items():
                weights = random.standard_normal(size).astype(np.float32)
                writer.add_tensor(f"blk.{layer}.{name}.weight.{half}", weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def answer(engine: Running, **more: object) -> str:
    status, text = engine.request("/v1/chat/completions", {**SAY_HELLO, **more})
    assert status == 200, text
    return str(json.loads(text)["choices"][0]["message"]["content"])


def prompt(engine: Running) -> str:
    """The prompt that the engine makes of one message."""
    status, text = engine.request("/apply-template", {"messages": SAY_HELLO["messages"]})
    assert status == 200, text
    return str(json.loads(text)["prompt"])


def test_a_lora_changes_the_answers_by_its_strength(start: Start, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "lora.gguf")

    def adapters(engine: Running) -> list[tuple[str, float]]:
        return [(row["path"], row["scale"]) for row in json.loads(engine.request("/lora-adapters")[1])]

    with start({}) as engine:
        plain = answer(engine)
    with start({"lora": str(lora)}) as engine:
        assert adapters(engine) == [(str(lora), 1.0)]
        assert answer(engine) != plain
    with start({"lora": f"{lora}:0, {lora}:0.5", "lora_scale": 3}) as engine:
        assert adapters(engine) == [(str(lora), 0.0), (str(lora), 0.5)]
    with start({"lora": f"{lora}:0"}) as engine:
        assert answer(engine) == plain, "of no strength, it changes nothing"


def test_a_draft_model_guesses_and_the_answer_stays_the_same(start: Start) -> None:
    demo = builtin_model("builtin:demo")
    assert demo is not None
    ask = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 24}
    with start({}, demo) as engine:
        plain = answer(engine, **ask)
    with start({"draft_model": str(demo), "draft_tokens_max": 6, "draft_kv_type_k": "q8_0"}, demo) as engine:
        status, text = engine.request("/v1/chat/completions", {**SAY_HELLO, **ask})
        timings = json.loads(text)["timings"]
        assert status == 200
        assert timings["draft_n"] > 0
        assert timings["draft_n_accepted"] > 0, "the model agrees with itself"
        assert json.loads(text)["choices"][0]["message"]["content"] == plain


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"chat_template": "llama3"}, "<|start_header_id|>user"),
        ({"chat_template": "mistral-v3"}, "[INST]"),
        ({"chat_template": "gemma"}, "<start_of_turn>user"),
        ({"chat_template": "chatml"}, "<|im_start|>user"),
        ({"chat_template": "{% for m in messages %}~{{ m.content }}~{% endfor %}"}, "~hi~"),
        ({"chat_template": "vicuna", "jinja": False}, "USER: hi"),
    ],
)
def test_a_template_by_name_or_text_makes_the_prompt(start: Start, settings: dict[str, Scalar], part: str) -> None:
    """With Jinja, the engine takes a name for the template itself: every prompt would read "llama3"."""
    with start(settings) as engine:
        assert part in prompt(engine)


def test_a_template_from_a_file_with_arguments_of_its_own(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{% for m in messages %}{{ tone }}: {{ m.content }}{% endfor %}", "utf-8")
    with start({"chat_template_file": str(file), "chat_template_arguments": '{"tone": "calm"}'}) as engine:
        assert "calm: hi" in prompt(engine)


def test_a_grammar_holds_every_answer_and_a_request_may_bring_its_own(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "yes.gbnf"
    file.write_text('root ::= "yes"', "utf-8")
    with start({"grammar_file": str(file)}) as engine:
        assert answer(engine) == "yes"
        assert answer(engine, grammar='root ::= "no"') == "no"


def test_a_schema_holds_every_answer(start: Start) -> None:
    schema = """{"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": false,
        "x-guidance": {"whitespace_flexible": false}}"""  # a model of noise would write spaces for ever
    with start({"json_schema": schema}) as engine:
        assert json.loads(answer(engine, max_tokens=40)) == {"n": 7}


def test_an_image_is_looked_at(start: Start, tmp_path: Path) -> None:
    with start({"mmproj": str(write_tiny_projector(tmp_path / "mmproj.gguf"))}) as engine:
        assert_it_looks_at_an_image(engine)


def test_embeddings_are_served_and_are_the_same_for_the_same_text(start: Start) -> None:
    with start({"embeddings": True, "pooling": "mean"}) as engine:
        status, text = engine.request("/v1/embeddings", {"model": "tiny", "input": ["one", "two", "one"]})
        assert status == 200, text
        vectors = [row["embedding"] for row in json.loads(text)["data"]]
        assert len(vectors[0]) == 64
        assert vectors[0] == pytest.approx(vectors[2], abs=1e-3)
        assert vectors[0] != pytest.approx(vectors[1], abs=1e-3)


def test_documents_are_ordered_by_a_question(start: Start, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "ranker.gguf", ranks=True)
    with start({"rerank": True}, model) as engine:
        documents = ["first", "second one", "third document"]
        status, text = engine.request("/v1/rerank", {"model": "tiny", "query": "which?", "documents": documents})
        assert status == 200, text
        assert sorted(row["index"] for row in json.loads(text)["results"]) == [0, 1, 2]


def test_the_cache_s_fill_is_told_by_the_slots(start: Start) -> None:
    with start({"slots": 2}) as engine:
        assert kv_cache_usage(json.loads(engine.request("/slots")[1])) == 0
        answer(engine, max_tokens=60, ignore_eos=True)
        slots = json.loads(engine.request("/slots")[1])
        usage = kv_cache_usage(slots)
        assert usage is not None
        held = sum(slot.get("n_prompt_tokens", 0) for slot in slots)
        assert held > 60
        assert usage == pytest.approx(held / 256)


# A value for each setting of the table with which a tiny model still loads.
VALUES: dict[str, Scalar] = {
    "context_tokens": 256,
    "slots": 2,
    "batch_tokens": 128,
    "ubatch_tokens": 64,
    "flash_attention": "on",
    "gpu_layers": 3,
    "override_tensor": "ffn=CPU",
    "tensor_split": "3,1",
    "chat_template": "chatml",
    "chat_template_arguments": '{"a": 1}',
    "grammar": 'root ::= "a"',
    "json_schema": '{"type": "boolean"}',
    "pooling": "mean",
    "numa": "isolate",
    "priority": "low",
    "verbosity": 5,
    "yarn_context_tokens": 256,
}


def value_for(option: Option, files: dict[str, Path]) -> Scalar:
    if option.name in VALUES:
        return VALUES[option.name]
    match option.kind:
        case OptionKind.SWITCH:
            return not option.flag.startswith("--no-")
        case OptionKind.PATH:
            return str(files[option.name])
        case OptionKind.CHOICE:
            return option.choices[-1]
        case OptionKind.INTEGER:
            return int(max(option.minimum or 0, 1))
    return max(option.minimum or 0.0, 0.5)


EXCLUDED = {
    "mmproj",
    "rerank",
    "grammar_file",
    "json_schema",
    "json_schema_file",
    "chat_template",
    "embeddings",
    "pooling",
}


def test_the_engine_loads_with_every_setting_that_can_stand_beside_the_others(start: Start, tmp_path: Path) -> None:
    files = {
        "lora": write_lora(tmp_path / "lora.gguf"),
        "draft_model": write_tiny_model(tmp_path / "draft.gguf"),
        "chat_template_file": tmp_path / "t.jinja",
        "prompts_folder": tmp_path,
    }
    files["chat_template_file"].write_text("{% for m in messages %}{{ m.content }}{% endfor %}", "utf-8")
    settings = {option.name: value_for(option, files) for option in FAMILY.options if option.name not in EXCLUDED}
    with start(settings) as engine:
        assert answer(engine) == "a", "the grammar holds"


@pytest.mark.parametrize("option", LlamaCpp().options, ids=lambda option: option.name)
def test_each_setting_alone_is_understood_by_the_hosted_engine(
    embedded_engine: Installation, tmp_path: Path, option: Option
) -> None:
    """Said in both positions where it is a switch; a model that is not there ends the engine after it has read the flags."""
    files = {option.name: tmp_path / "none"}
    files[option.name].write_text("{}" if "schema" in option.name else 'root ::= "a"', "utf-8")
    values = [True, False] if option.kind is OptionKind.SWITCH else [value_for(option, files)]
    for value in values:
        made = launch(
            "llama.cpp",
            {option.name: value},
            executable=embedded_engine.executable,
            model_path=str(tmp_path / "missing.gguf"),
            port=free_port(),
            accelerator="cuda" if option.name == "gpu_layers" else "cpu",
        )
        code, log = ended(command_of(made), tmp_path / "run.log")
        assert code == 1, log
        assert "failed to open" in log or "could not be loaded" in log
        assert "argument" not in log.split("missing.gguf")[-1]


def test_tokens_stream_with_a_seed_the_same_way_twice(start: Start) -> None:
    body = {**SAY_HELLO, "temperature": 2.0, "stream": True}
    with start({"seed": 42}) as engine:
        first = tokens_of(engine.request("/v1/chat/completions", body)[1])
    with start({"seed": 42}) as engine:
        assert tokens_of(engine.request("/v1/chat/completions", body)[1]) == first
