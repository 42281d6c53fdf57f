"""Argv of what a model brings along or is made to do: adapters, drafts, images, templates, thinking, embeddings, reranking."""

from pathlib import Path

import pytest

from app.core.catalog.facts import ModelFacts
from app.core.errors import SettingInvalid
from app.core.options import Scalar
from app.engines.base import Trial
from app.engines.llama_cpp_python import HOST_SCRIPT
from app.engines.registry import FAMILIES
from tests.engines.launches import command_of, launch

NATIVE = ("llama.cpp", "llama-server")
ENCODER = ModelFacts(
    path=Path("/models/e.gguf"),
    format="gguf",
    name="e",
    architecture="bert",
    file_bytes=1,
    weights_bytes=1,
    capabilities=("embeddings",),
)


def settings_of(family: str, settings: dict[str, Scalar]) -> list[str]:
    """The words that the settings alone put into argv."""
    silent = list(command_of(launch(family)).argv)
    said = list(command_of(launch(family, settings)).argv)
    return [word for word in said if word not in silent]


@pytest.mark.parametrize("family", NATIVE)
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mmproj": "/m/mmproj.gguf", "mmproj_on_gpu": False}, ["--mmproj", "/m/mmproj.gguf", "--no-mmproj-offload"]),
        ({"mmproj": "/m/mmproj.gguf", "mmproj_on_gpu": True}, ["--mmproj", "/m/mmproj.gguf", "--mmproj-offload"]),
        ({"lora": "/l/a.gguf"}, ["--lora", "/l/a.gguf"]),
        ({"lora": "/l/a.gguf", "lora_scale": 0.5}, ["--lora-scaled", "/l/a.gguf:0.5"]),
        ({"lora": "/l/a.gguf:0.25,/l/b.gguf"}, ["--lora-scaled", "/l/a.gguf:0.25", "--lora", "/l/b.gguf"]),
        (
            {"draft_model": "/d.gguf", "draft_tokens_max": 8, "draft_tokens_min": 2, "draft_kv_type_k": "q8_0"},
            [
                *("--model-draft", "/d.gguf", "--spec-draft-n-max", "8", "--spec-draft-n-min", "2"),
                *("--cache-type-k-draft", "q8_0"),
            ],
        ),
        ({"rope_scaling": "yarn", "rope_scale": 2.0, "yarn_context_tokens": 32_768},
         ["--rope-scaling", "yarn", "--rope-scale", "2.0", "--yarn-orig-ctx", "32768"]),
        ({"context_shift": True, "cache_reuse_tokens": 256}, ["--cache-reuse", "256", "--context-shift"]),
        ({"context_shift": False}, ["--no-context-shift"]),
        ({"reasoning": "off", "reasoning_budget_tokens": 0}, ["--reasoning", "off", "--reasoning-budget", "0"]),
        ({"chat_template_file": "/t.jinja"}, ["--chat-template-file", "/t.jinja"]),
        ({"chat_template": "chatml"}, ["--chat-template", "chatml"]),
        ({"grammar_file": "/g.gbnf", "seed": 7}, ["--grammar-file", "/g.gbnf", "--seed"]),
        ({"embeddings": True, "pooling": "mean"}, ["--embeddings", "--pooling", "mean"]),
        ({"rerank": True}, ["--embeddings", "--reranking"]),
        ({"priority": "low", "numa": "isolate"}, ["--prio", "-1", "--numa", "isolate"]),
        ({"override_tensor": "exps=CPU", "main_gpu": 1}, ["--main-gpu", "1", "--override-tensor", "exps=CPU"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_part_is_said(family: str, settings: dict[str, Scalar], words: list[str]) -> None:
    assert settings_of(family, settings) == [word for word in words if word != "7"]


def test_a_template_that_is_only_a_name_is_never_taken_for_the_template() -> None:
    """With Jinja on, the engine would write "llama3" in place of every conversation, and say nothing."""
    assert settings_of("llama.cpp", {"chat_template": "llama3"}) == ["--chat-template", "llama3", "--no-jinja"]
    by_variable = command_of(launch("llama-server", {"chat_template": "llama3"}))
    assert by_variable.environment["LLAMA_ARG_JINJA"] == "0", "older builds have no --no-jinja, and have it off"
    assert settings_of("llama.cpp", {"chat_template": "{{ messages }}"}) == ["--chat-template", "{{ messages }}"]
    with pytest.raises(SettingInvalid, match="Jinja needs its text"):
        command_of(launch("llama.cpp", {"chat_template": "llama3", "jinja": True}))


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama.cpp", {"chat_template": "chatml", "chat_template_file": "/t"}),
        ("llama-server", {"grammar": "a", "grammar_file": "/g"}),
        ("llama.cpp", {"grammar": "a", "json_schema": "{}"}),
        ("llama-cpp-python", {"chat_format": "chatml", "chat_template_file": "/t"}),
    ],
)
def test_settings_that_exclude_each_other_are_refused_by_name(family: str, settings: dict[str, Scalar]) -> None:
    with pytest.raises(SettingInvalid, match=" and ".join(rf"settings\.{name}" for name in settings)):
        command_of(launch(family, settings))


def test_a_draft_model_alone_is_not_enough_for_a_current_program() -> None:
    command = command_of(launch("llama-server", {"draft_model": "/d.gguf"}))
    assert command.environment["LLAMA_ARG_SPEC_TYPE"] == "draft-simple"
    assert "LLAMA_ARG_SPEC_TYPE" not in command_of(launch("llama-server")).environment


@pytest.mark.parametrize("family", [*NATIVE, "llama-cpp-python"])
def test_what_proves_that_it_works_is_what_it_serves(family: str) -> None:
    def trial(settings: dict[str, Scalar], **more: object) -> Trial:
        return FAMILIES[family].trial(launch(family, settings, **more))  # type: ignore[arg-type]

    assert trial({}) == Trial(), "one token of chat"
    assert trial({"embeddings": True}).path == "/v1/embeddings"
    assert trial({}, facts=ENCODER).path == "/v1/embeddings", "an encoder cannot chat, whatever the profile says"
    if family in NATIVE:
        assert trial({"rerank": True}).path == "/v1/rerank"
        assert trial({"embeddings": True, "pooling": "none"}).path == "/embeddings"


def test_llama_cpp_python_says_lists_as_words_and_formats_as_numbers() -> None:
    words = settings_of(
        "llama-cpp-python",
        {
            "tensor_split": "3, 1",
            "override_kv": "a.b=bool:false,c=int:3",
            "rope_scaling": "yarn",
            "split_mode": "row",
            "prompt_cache_mib": 64,
            "prompt_lookup_tokens": 12,
            "lora": "/l.gguf",
            "chat_format": "mistral-instruct",
            "chat_template_arguments": '{"a": 1}',
        },
    )
    assert words == [
        *("--split_mode", "2", "--tensor_split", "3", "1"),
        *("--kv_overrides", "a.b=bool:false", "c=int:3"),
        *("--chat_template_kwargs", '{"a": 1}'),
        *("--rope_scaling_type", "2"),
        *("--cache_size", "67108864", "--lora_path", "/l.gguf", "--draft_model_num_pred_tokens", "12"),
        *("--chat_format", "mistral-instruct"),
        *("--cache", "--draft_model", "prompt-lookup-decoding"),
    ]
    assert "--cache" not in settings_of("llama-cpp-python", {"prompt_cache_mib": 0})


def test_llama_cpp_python_runs_in_a_host_of_ours_that_takes_a_template_file() -> None:
    argv = command_of(launch("llama-cpp-python", {"chat_template_file": "/t.jinja"}, executable="/e/python")).argv
    assert argv[:5] == ("/e/python", "-I", str(HOST_SCRIPT), "--chat-template-file", "/t.jinja")
    assert command_of(launch("llama-cpp-python")).argv[2:4] == (str(HOST_SCRIPT), "--model")


def test_libraries_built_elsewhere_are_found() -> None:
    """One build serves the program and the Python binding."""
    made = launch("llama-cpp-python")
    installation = type(made.installation)(family="x", executable="/e", library_folder="/native")
    python = FAMILIES["llama-cpp-python"].command(type(made)(**{**_fields(made), "installation": installation}))
    assert python.environment["LLAMA_CPP_LIB_PATH"] == "/native"
    program = FAMILIES["llama-server"].command(
        type(made)(**{**_fields(launch("llama-server")), "installation": installation})
    )
    assert program.environment["LD_LIBRARY_PATH"] == "/native"


def _fields(made: object) -> dict[str, object]:
    return {name: getattr(made, name) for name in made.__struct_fields__}  # type: ignore[attr-defined]


def test_a_projector_chooses_the_format_in_which_the_python_server_looks_at_images() -> None:
    """In any other it would take the projector and leave it out without a word."""

    def chosen(**settings: Scalar) -> str:
        argv = command_of(launch("llama-cpp-python", {"mmproj": "/m/mmproj.gguf", **settings})).argv
        return argv[argv.index("--chat_format") + 1]

    assert chosen() == "mtmd"
    assert chosen(chat_format="llava-1-5") == "llava-1-5"
    assert chosen(chat_format="a-newer-one") == "a-newer-one", "who knows"
    for settings in ({"chat_format": "chatml"}, {"chat_template_file": "/t.jinja"}):
        with pytest.raises(SettingInvalid, match=f"with settings.{next(iter(settings))} .* shows no image") as refused:
            chosen(**settings)
        assert "take settings.mmproj out" in refused.value.advice
