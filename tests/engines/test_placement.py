"""Whether a model can be spread over cards is said before anything starts; where it lies is looked at after it (E8)."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from app.core.catalog.facts import ModelFacts
from app.core.errors import EngineNotInstalled, SettingInvalid
from app.core.snapshot import GpuProcess, Gpus, GpuSample
from app.engines import ray
from app.engines.placement import check_known, check_ranks, check_split, placement_notice, whole_cards

GIB = 1024**3
MODEL = ModelFacts(
    path=Path("/m"), format="safetensors", name="m", architecture="qwen3", file_bytes=1, weights_bytes=1, layers=36,
    heads=32, kv_heads=(8,) * 36, vocabulary=151_936, feed_forward_length=12_288,
)  # fmt: skip


def gpu(number: int, used: float = 0.0, ours: float | None = None, **more: object) -> GpuSample:
    processes = () if ours is None else (GpuProcess(pid=7, name="VLLM", bytes=int(ours * GIB), run_id="r"),)
    values = {"processes": processes, "total_bytes": 24 * GIB, "used_bytes": int(used * GIB), "free_bytes": 0, **more}
    return GpuSample(uuid=f"GPU-{number}", index=number, name=f"Card {number}", **values)  # type: ignore[arg-type]


def gpus(*cards: GpuSample) -> Gpus:
    return Gpus(gpus=cards)


@pytest.mark.parametrize("each", [1, 2, 4, 8, 16, 32])
def test_what_divides_is_taken(each: int) -> None:
    check_split("Profile p", MODEL, each=each, groups=2)


@pytest.mark.parametrize(
    ("facts", "each", "words"),
    [
        (MODEL, 3, "32 attention heads"),
        (replace(MODEL, kv_heads=(6,) * 36), 4, "6 KV heads"),
        (replace(MODEL, heads=30, kv_heads=(10,) * 36, feed_forward_length=12_000, vocabulary=100), 5, "vocabulary of 100 tokens (128"),
        (replace(MODEL, feed_forward_length=11_001), 2, "feed-forward layers of 11,001"),
    ],
)  # fmt: skip
def test_what_does_not_is_refused_with_what_does(facts: ModelFacts, each: int, words: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        check_split("Profile p", facts, each=each, groups=1)
    assert words in refused.value.summary
    assert "Take one of 1" in refused.value.advice
    assert str(each) not in refused.value.advice.split(",")[0]


def test_more_groups_than_layers_and_more_ranks_than_cards() -> None:
    with pytest.raises(SettingInvalid, match="only 36 layers"):
        check_split("Profile p", MODEL, each=1, groups=40)
    with pytest.raises(SettingInvalid, match="4 cards are needed"):
        check_ranks("Profile p", ("GPU-0", "GPU-1"), 4, elsewhere=False)
    check_ranks("Profile p", ("GPU-0", "GPU-1"), 4, elsewhere=True)
    check_split("Profile p", None, each=7, groups=7)


def test_slices_of_a_card() -> None:
    """MIG: a divided card is none itself, and a model is not spread over slices."""
    parent, first, second = gpu(0), gpu(1, mig_parent="GPU-0"), gpu(2, mig_parent="GPU-0")
    here = gpus(parent, first, second, gpu(3))
    assert whole_cards(here) == ("GPU-3", "GPU-1", "GPU-2")
    with pytest.raises(SettingInvalid, match="divided into slices") as refused:
        check_known("Profile p", ("GPU-0",), here)
    assert "GPU-1, GPU-2" in refused.value.advice
    with pytest.raises(SettingInvalid, match="no card GPU-9"):
        check_known("Profile p", ("GPU-9",), here)
    check_known("Profile p", ("GPU-1",), here)
    with pytest.raises(SettingInvalid, match="slice of a card"):
        check_ranks("Profile p", ("MIG-1", "MIG-2"), 2, elsewhere=False)
    check_ranks("Profile p", ("MIG-1", "MIG-2"), 1, elsewhere=False)


def test_a_card_that_was_not_selected_and_grew() -> None:
    before = gpus(gpu(0), gpu(1), gpu(2))
    assert placement_notice(("GPU-0", "GPU-1"), "r", before, gpus(gpu(0, 9, 9), gpu(1, 9, 9), gpu(2, 3))) == ""
    strayed = placement_notice(("GPU-0",), "r", before, gpus(gpu(0, 9, 9), gpu(1, 1, 0.4), gpu(2, 0.2, 0.1)))
    assert strayed == "Cards that were not selected were used: Card 1 GPU-1 took 0.4 GiB."
    unknown = placement_notice(("GPU-0",), "r", before, gpus(gpu(0, 9, processes=None), gpu(1, 2, processes=None)))
    assert "Card 1 GPU-1 took 2.0 GiB (of whom, the driver does not tell)" in unknown
    idle = placement_notice(("GPU-0", "GPU-1"), "r", before, gpus(gpu(0, 9, 9), gpu(1)))
    assert idle == "Cards that were selected hold nothing of this model: Card 1 GPU-1."
    assert placement_notice((), "r", before, gpus(gpu(0, 9, 9))) == "", "nothing was selected"


# --- Ray ---------------------------------------------------------------------------------------------------------------


def answer(**found: object) -> str:
    return f"noise\n{ray.MARK}{json.dumps(found)}\n"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (answer(missing="ModuleNotFoundError: No module named 'ray'"), EngineNotInstalled, "not in vLLM's environment"),
        (
            answer(version="2.9", unreachable="Connection refused"),
            SettingInvalid,
            "answers at head:6379: Connection refused",
        ),
        (answer(version="2.9", refused="RuntimeError: Version mismatch"), SettingInvalid, "did not take us"),
        (answer(version="2.9", gpus=2, free=2), SettingInvalid, "has 2"),
        (answer(version="2.9", gpus=8, free=1), SettingInvalid, "1 of the 8"),
        ("Segmentation fault\n", SettingInvalid, "Segmentation fault"),
    ],
)
def test_what_ray_says(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words.replace("(", "\\(")):
        ray.check_answer("Profile p", "head:6379", 4, text, "")


def test_a_cluster_that_can() -> None:
    ray.check_answer("Profile p", "head:6379", 4, answer(version="2.9", gpus=8, free=4), "")
    ray.check_answer("Profile p", "", 4, answer(version="2.9"), "")
    ray.check_address("Profile p", "10.0.0.1:6379")
    with pytest.raises(SettingInvalid, match="no address"):
        ray.check_address("Profile p", "; rm -rf /")
