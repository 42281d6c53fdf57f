"""What a family reads from a real engine's log and answers: stages that only move forward, the context really served."""

from pathlib import Path

import pytest

from app.engines.base import Stage
from app.engines.registry import FAMILIES

RECORDED = Path(__file__).resolve().parents[1] / "core" / "recorded"


def stages_in(recording: str, family: str) -> list[Stage]:
    lines = (RECORDED / recording).read_text("utf-8").splitlines()
    return [stage for line in lines if (stage := FAMILIES[family].stage_of(line)) is not None]


@pytest.mark.parametrize(
    ("recording", "family"), [("healthy.log", "llama.cpp"), ("healthy-python.log", "llama-cpp-python")]
)
def test_a_whole_load_passes_its_stages_in_order(recording: str, family: str) -> None:
    stages = stages_in(recording, family)
    names = list(dict.fromkeys(stage.name for stage in stages))
    assert names == ["reading", "weights", "kv_cache", "graphs", "warm_up", "first_token"]
    shares = [stage.progress or 0 for stage in stages]
    assert shares == sorted(shares), "progress never goes back"
    assert 0 < shares[0] < shares[-1] < 1, "whole only when a token has come"


def test_a_build_of_2024_without_the_clock_in_front_is_understood() -> None:
    family = FAMILIES["llama-server"]
    old = {
        "llama_model_loader: loaded meta data with 22 key-value pairs and 291 tensors from m.gguf": "reading",
        "load_tensors: offloaded 33/33 layers to GPU": "weights",
        "llama_kv_cache_init:      CUDA0 KV buffer size =  1024.00 MiB": "kv_cache",
        "llama_new_context_with_model:      CUDA0 compute buffer size =   296.00 MiB": "graphs",
        "common_init_from_params: warming up the model with an empty run - please wait ...": "warm_up",
        "main: server is listening on http://127.0.0.1:8080 - starting the main loop": "first_token",
    }
    assert {line: (family.stage_of(line) or Stage(name="none")).name for line in old} == old


def test_other_lines_say_nothing_about_the_load() -> None:
    assert FAMILIES["llama.cpp"].stage_of("slot print_timing: id 0 | prompt eval time = 0.5 ms") is None


@pytest.mark.parametrize("family", ["llama.cpp", "llama-server"])
def test_the_context_is_what_the_engine_says_not_what_was_asked_for(family: str) -> None:
    served = FAMILIES[family].served_context
    assert served({}, {"data": [{"id": "demo", "meta": {"n_ctx": 512, "n_ctx_train": 512}}]}) == 512
    assert served({"default_generation_settings": {"n_ctx": 1_024}}, {"data": []}) == 1_024
    assert served({"status": "ok"}, {"data": [{"id": "demo"}]}) is None
    assert served({}, {"data": "nonsense"}) is None
