"""A `.env` file of each of the five systems becomes profiles that can be read, and every name in it is answered for (G7, M9)."""

import tomllib
from pathlib import Path

import pytest

from app.core.env_import import KNOWN, Imported, imported_from, read_env
from app.core.profiles import Profile, parse_profile
from app.engines.registry import FAMILIES

OPTIONS = {family.id: family.options for family in FAMILIES.values()}
CARDS = ("GPU-a", "GPU-b")
NAMES = Path(__file__).resolve().parents[3] / "shared" / "data" / "env_names.toml"


def taken(text: str) -> tuple[Imported, dict[str, Profile]]:
    """What was made of it, and its profiles as the service would read them."""
    found = imported_from(read_env(text), CARDS)
    return found, {
        each.id: parse_profile(each.text, Path(f"/profiles/{each.id}.toml"), OPTIONS) for each in found.profiles
    }


def test_the_audio_service_with_a_server_gets_a_profile_per_task_and_its_key_stays_out_of_them() -> None:
    found, profiles = taken("""
        LLM_BACKEND=vllm_server
        LLM_SERVER__BASE_URL=http://127.0.0.1:8001
        LLM_SERVER__API_KEY="sk-secret-canary"   # quoted, with a comment
        LLM_SERVER__MODEL_ENHANCE=org/enhancer
        LLM_SERVER__SUMMARY_BASE_URL=http://127.0.0.1:8002/v1
        LLM_SERVER__SUMMARY_MODEL_NAME=org/summarizer
        LLM_SERVER__REQUEST_TIMEOUT_SECONDS=120
    """)
    enhance, summary = profiles["enhancer"], profiles["summarizer"]
    assert (enhance.engine, enhance.model, enhance.aliases) == ("remote", "org/enhancer", ("enhance",))
    assert enhance.settings == {"base_url": "http://127.0.0.1:8001/v1", "key_name": "llm-server"}
    assert (summary.aliases, summary.settings["base_url"]) == (("summary",), "http://127.0.0.1:8002/v1")
    assert found.settings == {"gateway.request_timeout_seconds": 120}
    assert found.keys == {"llm-server": "LLM_SERVER__API_KEY"}
    assert "canary" not in str(found), "I18"


def test_one_model_for_both_tasks_is_one_profile_with_both_names() -> None:
    _, profiles = taken("LLM_BACKEND=local_vllm\nLLM_ENHANCE_MODEL=org/one\nLLM_SUM_MODEL=org/one")
    assert [(each.engine, each.aliases) for each in profiles.values()] == [("vllm", ("enhance", "summary"))]


def test_the_voice_assistant_keeps_its_engine_and_its_limits() -> None:
    _, profiles = taken("""
        JARVIS_INFERENCE_ENGINE=vllm
        JARVIS_MODEL_NAME=org/voice
        JARVIS_VLLM_TENSOR_PARALLEL_SIZE=2
        JARVIS_VLLM_GPU_MEMORY_UTILIZATION=0.85
        JARVIS_VLLM_MAX_MODEL_LEN=8192
        CUDA_VISIBLE_DEVICES=1,0
    """)
    voice = profiles["voice"]
    assert voice.settings == {"tensor_parallel": 2, "gpu_memory_utilisation": 0.85, "context_tokens": 8192}
    assert voice.gpus == ("GPU-b", "GPU-a"), "in the order that was said"


def test_a_llama_cpp_of_it_leaves_out_what_only_vllm_has_and_says_so() -> None:
    found, profiles = taken("""
        JARVIS_INFERENCE_ENGINE=llama_cpp
        JARVIS_MODEL_NAME=/models/voice-Q4_K_M.gguf
        JARVIS_VLLM_MAX_MODEL_LEN=8192
    """)
    assert (profiles["voice-q4_k_m"].engine, profiles["voice-q4_k_m"].settings) == ("llama.cpp", {})
    assert any("JARVIS_VLLM_MAX_MODEL_LEN" in note for note in found.notes)


def test_one_model_at_two_addresses_is_two_profiles_and_no_password_enters_one() -> None:
    """I18: an address may hold a password; it is left out and said."""
    found, profiles = taken(
        "LLM_SERVER__ENHANCE_MODEL_NAME=qwen\nLLM_SERVER__ENHANCE_BASE_URL=https://me:s3cret@one.example/v1\n"
        "LLM_SERVER__SUMMARY_MODEL_NAME=qwen\nLLM_SERVER__SUMMARY_BASE_URL=https://two.example/a@b\n"
    )
    assert [profiles[name].settings["base_url"] for name in ("qwen", "qwen-2")] == [
        "https://one.example/v1",
        "https://two.example/a@b/v1",
    ]
    assert "s3cret" not in str(found)
    assert "held a name or a password" in str(found.notes)


def test_a_move_from_ollama_takes_the_address_with_its_version() -> None:
    found, profiles = taken("LLM_BASE_URL=http://box:8000/\nLLM_MODEL=org/chat\nLLM_API_KEY=ollama\nLLM_TIMEOUT=60")
    assert profiles["chat"].settings == {"base_url": "http://box:8000/v1"}, "that key is none"
    assert (found.keys, found.settings) == ({}, {"gateway.request_timeout_seconds": 60})


def test_an_ollama_stays_one() -> None:
    _, profiles = taken("OLLAMA_HOST=http://127.0.0.1:11434\nOLLAMA_MODEL=llama3.1:8b\nOLLAMA_NUM_CTX=4096")
    assert [(p.engine, p.model, p.settings) for p in profiles.values()] == [
        ("ollama", "llama3.1:8b", {"context_tokens": 4096})
    ]


def test_the_rag_service_s_own_server_becomes_one_that_is_started_here() -> None:
    found, profiles = taken("""
        LLM_PROVIDER=vllm
        VLLM_MODEL_PATH=/models/rag
        VLLM_BASE_URL=http://localhost:8001
        VLLM_TENSOR_PARALLEL_SIZE=2
        VLLM_GPU_COUNT=2
    """)
    assert (profiles["rag"].engine, profiles["rag"].settings) == ("vllm", {"tensor_parallel": 2})
    assert any(note.startswith("VLLM_BASE_URL: ") for note in found.notes)


def test_the_backend_for_one_card_loses_what_vllm_has_no_more() -> None:
    found, profiles = taken("""
        DEFAULT_MODEL=org/one
        LLM_PROVIDER=vllm
        VLLM_ATTENTION_BACKEND=TORCH_SDPA
        XFORMERS_DISABLED=1
        GPU_MEMORY_UTILIZATION=0.85
    """)
    assert profiles["one"].settings == {"gpu_memory_utilisation": 0.85}
    assert {note.partition(":")[0] for note in found.notes} >= {"VLLM_ATTENTION_BACKEND", "XFORMERS_DISABLED"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("LLM_BACKEND=llamafile\nLLM_MODEL=x", "There is no engine 'llamafile'"),
        ("LLM_PROVIDER=vllm", "No model is named"),
        ("LLM_BACKEND=vllm_server\nLLM_MODEL=x", "No address is named"),
        ("LLM_PROVIDER=vllm\nDEFAULT_MODEL=x\nGPU_MEMORY_UTILIZATION=much", "is no number"),
        ("CUDA_VISIBLE_DEVICES=7\nDEFAULT_MODEL=x", "no card 7"),
        ("SOMETHING_ELSE=secret-canary", "SOMETHING_ELSE"),
    ],
)
def test_what_cannot_be_taken_over_is_said_and_nothing_is_lost(text: str, told: str) -> None:
    found, _ = taken(text)
    assert told in " ".join(found.notes)
    assert "canary" not in str(found)


def test_every_name_that_the_five_systems_use_is_answered_for() -> None:
    if not NAMES.is_file():
        pytest.skip("the list of names is not beside this checkout")
    listed = {name for system in tomllib.loads(NAMES.read_text("utf-8")).values() for name in system}
    assert listed <= KNOWN
