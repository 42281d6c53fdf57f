"""The exact argv and environment of each family, as a person would see it in a process list; I18 and I20 in argv's form."""

from pathlib import Path

import pytest

from app.core.catalog.facts import ModelFacts
from app.core.errors import SettingInvalid
from app.core.options import OptionKind
from app.engines import llama_cpp_python
from app.engines.base import COUNTERS
from app.engines.llama_cpp import HOST_SCRIPT
from app.engines.registry import DEFAULT_FAMILY, FAMILIES
from tests.engines.launches import command_of, launch

TRAINED_FOR_131072 = ModelFacts(
    path=Path("/models/demo.gguf"),
    format="gguf",
    name="demo",
    architecture="llama",
    file_bytes=1,
    weights_bytes=1,
    context_max=131_072,
)


def test_the_built_in_engine_with_nothing_set() -> None:
    command = command_of(launch("llama.cpp", executable="/data/engines/x/bin/python"))
    assert command.argv == (
        *("/data/engines/x/bin/python", "-I", str(HOST_SCRIPT)),
        *("--model", "/models/demo.gguf", "--alias", "demo", "--host", "127.0.0.1", "--port", "18000"),
        *("--ctx-size", "4096", "--parallel", "4", "--cache-ram", "2048", "--threads", "7", "--log-verbosity", "4"),
    )
    assert command.environment == {"GGML_NO_BACKTRACE": "1"}


def test_the_native_program_with_nothing_set() -> None:
    command = command_of(launch("llama-server", executable="/usr/bin/llama-server"))
    assert command.argv == (
        *("/usr/bin/llama-server", "--model", "/models/demo.gguf", "--alias", "demo"),
        *("--host", "127.0.0.1", "--port", "18000", "--metrics"),
        *("--ctx-size", "4096", "--parallel", "4", "--threads", "7", "--log-verbosity", "4"),
    )
    assert command.environment == {
        "LLAMA_ARG_OFFLINE": "1",
        "LLAMA_ARG_UI": "0",
        "LLAMA_ARG_NO_WEBUI": "1",
        "LLAMA_ARG_CORS_ORIGINS": "http://localhost.invalid",
        "LLAMA_ARG_KV_UNIFIED": "1",
        "LLAMA_ARG_FIT": "off",
        "LLAMA_ARG_CACHE_RAM": "2048",
        "GGML_NO_BACKTRACE": "1",
    }


def test_the_native_program_gets_by_variable_what_an_older_build_would_refuse_as_a_flag() -> None:
    command = command_of(
        launch(
            "llama-server",
            {"flash_attention": "on", "load_mode": "mlock", "repack": False, "kv_type_k": "q8_0", "kv_type_v": "q8_0"},
        )
    )
    assert "--flash-attn" not in command.argv
    assert "--load-mode" not in command.argv
    said = command.environment
    assert said["LLAMA_ARG_FLASH_ATTN"] == "on"
    assert said["LLAMA_ARG_REPACK"] == "0"
    assert said["LLAMA_ARG_LOAD_MODE"] == "mlock"
    assert (said["LLAMA_ARG_NO_MMAP"], said["LLAMA_ARG_MLOCK"]) == ("1", "1"), "what builds before --load-mode knew"
    assert command.argv[-6:] == ("--cache-type-v", "q8_0", "--threads", "7", "--log-verbosity", "4")


def test_llama_cpp_python_with_its_traps_closed() -> None:
    command = command_of(
        launch(
            "llama-cpp-python",
            {"context_tokens": 2_048, "kv_type_k": "q8_0", "flash_attention": "on", "gpu_layers": 999},
            executable="/env/bin/python",
            accelerator="cuda",
            gpu_uuids=("GPU-a",),
        )
    )
    assert command.argv == (
        *("/env/bin/python", "-I", str(llama_cpp_python.HOST_SCRIPT)),
        *("--model", "/models/demo.gguf", "--model_alias", "demo", "--host", "127.0.0.1", "--port", "18000"),
        *("--interrupt_requests", "false", "--logits_all", "false", "--use_mlock", "false", "--verbose", "true"),
        *("--n_ctx", "2048", "--n_gpu_layers", "-1", "--type_k", "8"),
        *("--n_threads", "7", "--n_threads_batch", "7", "--flash_attn", "true"),
    )
    assert command.environment == {
        "GGML_NO_BACKTRACE": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-a",
    }
    assert {"PORT", "HOST", "API_KEY", "MODEL", "N_CTX", "port", "model"} <= set(command.scrub)
    traits = FAMILIES["llama-cpp-python"].traits
    assert (traits.concurrency, traits.always_stream, traits.empty_stream_is_error) == (1, True, True)
    assert FAMILIES["llama-cpp-python"].readiness.health_path == "/openapi.json"


def test_cards_are_chosen_by_uuid_and_all_layers_go_there() -> None:
    command = command_of(launch("llama.cpp", accelerator="cuda", gpu_uuids=("GPU-a", "GPU-b")))
    assert command.environment["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert command.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    at = command.argv.index("--n-gpu-layers")
    assert command.argv[at + 1] == "999"


def test_without_layers_on_the_card_not_even_a_context_is_made_there() -> None:
    command = command_of(launch("llama.cpp", {"gpu_layers": 0}, accelerator="cuda", gpu_uuids=("GPU-a",)))
    assert command.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert "GGML_VK_VISIBLE_DEVICES" not in command_of(launch("llama-server", accelerator="vulkan")).environment
    command = command_of(launch("llama-server", {"gpu_layers": 0}, accelerator="vulkan"))
    assert command.environment["GGML_VK_VISIBLE_DEVICES"] == ""


def test_a_processor_build_is_not_told_about_cards() -> None:
    command = command_of(launch("llama.cpp", {"gpu_layers": 20}, gpu_uuids=("GPU-a",)))
    assert "--n-gpu-layers" not in command.argv
    assert "CUDA_VISIBLE_DEVICES" not in command.environment


NO_KEY = ("ollama", "remote")  # one has none of ours to check, the other's is kept for its address alone
OWN_FLAGS = [family for family in FAMILIES if family not in NO_KEY]


@pytest.mark.parametrize("family", OWN_FLAGS)
def test_a_key_is_in_the_environment_and_masked_never_in_argv(family: str) -> None:
    command = command_of(launch(family, api_key="canary-5309"))
    assert "canary-5309" not in " ".join(command.argv)
    assert "canary-5309" in command.environment.values()
    assert command.secrets == ("canary-5309",)


def test_who_has_no_command_says_so() -> None:
    with pytest.raises(SettingInvalid):
        command_of(launch("remote"))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "remote"])
def test_every_engine_listens_on_loopback_and_inherits_no_setting(family: str) -> None:
    """I20: a container listens inside itself, and what leads to it is published on the loopback."""
    command = command_of(launch(family))
    said = " ".join(command.argv)
    match family:
        case "ollama":
            assert command.environment["OLLAMA_HOST"] == "127.0.0.1:18000"
        case "vllm-docker":
            assert "--publish 127.0.0.1:18000:" in said.replace("--publish=", "--publish ")
        case _:
            assert command.argv[command.argv.index("--host") + 1] == "127.0.0.1"
    assert {"LLAMA_*", "GGML_*", "CUDA_VISIBLE_DEVICES"} <= set(command.scrub)


def test_one_thread_less_than_the_cores_but_never_none() -> None:
    one = command_of(launch("llama.cpp", physical_cores=1)).argv
    assert one[one.index("--threads") + 1] == "1"
    mine = command_of(launch("llama.cpp", {"threads": 3}, physical_cores=8)).argv
    assert mine[mine.index("--threads") + 1] == "3"


def test_the_context_is_what_the_model_was_trained_for_but_at_most_32768() -> None:
    argv = command_of(launch("llama.cpp", facts=TRAINED_FOR_131072)).argv
    assert argv[argv.index("--ctx-size") + 1] == "32768"
    asked = command_of(launch("llama.cpp", {"context_tokens": 65_536}, facts=TRAINED_FOR_131072)).argv
    assert asked[asked.index("--ctx-size") + 1] == "65536"


def test_extra_arguments_come_last_and_the_profiles_environment_is_added() -> None:
    command = command_of(launch("llama-server", extra_arguments=("--seed", "4"), environment={"OMP_PROC_BIND": "true"}))
    assert command.argv[-2:] == ("--seed", "4")
    assert command.environment["OMP_PROC_BIND"] == "true"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"context_token": 4_096}, "Did you mean context_tokens?"),
        ({"context_tokens": "4096"}, "must be a whole number"),
        ({"context_tokens": 1}, "at least 64"),
        ({"kv_type_k": "q3"}, "must be one of"),
        ({"warm_up": "yes"}, "true or false"),
    ],
)
def test_a_setting_that_cannot_be_said_is_refused_by_name(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingInvalid, match=r"Profile demo: settings\.") as refusal:
        command_of(launch("llama.cpp", settings))  # type: ignore[arg-type]
    assert words in str(refusal.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_option_is_explained_bounded_and_can_be_said(family: str) -> None:
    names = [option.name for option in FAMILIES[family].options]
    assert len(names) == len(set(names))
    for option in FAMILIES[family].options:
        assert option.sentence.endswith("."), option.name
        by_request = family in NO_KEY  # what an engine is asked with, not started with
        assert (bool(option.flag) != bool(option.environment)) or by_request, option.name
        if option.kind in (OptionKind.INTEGER, OptionKind.NUMBER):
            assert option.minimum is not None, option.name


def test_counters_carry_the_same_names_for_all_engines() -> None:
    assert DEFAULT_FAMILY in FAMILIES
    for family in FAMILIES.values():
        assert set(family.traits.counters) <= set(COUNTERS)
