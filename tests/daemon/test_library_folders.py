"""Hugging Face folders in the list of models: found, named by the hub's name, read in place, loaded by vLLM (E3, M1)."""

import json
from pathlib import Path

import pytest

from app.core.catalog.hub_cache import cached_snapshot, hub_cache_folder, name_of_folder
from app.core.memory.usable import total_bytes, usable_bytes
from app.core.snapshot import DriverState, Gpus, GpuSample, HostSample
from tests.daemon.test_library import Place
from tests.engines.tiny_folder import write_tiny_folder

GIB = 1024**3
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def into_cache(cache: Path, name: str = "org/tiny-7B") -> Path:
    """A model as the hub's tools keep it: links in a snapshot folder, the files elsewhere."""
    top = cache / f"models--{name.replace('/', '--')}"
    whole = write_tiny_folder(cache.parent.parent / "elsewhere")
    snapshot = top / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in whole.iterdir():
        (snapshot / file.name).symlink_to(file)
    (top / "refs").mkdir()
    (top / "refs" / "main").write_text(COMMIT)
    return snapshot


async def test_a_folder_is_one_model_and_goes_to_vllm(place: Place) -> None:
    write_tiny_folder(place.models / "Tiny-2.5B-Chat", shards=3)
    await place.library.rescan()
    (card,) = (card for card in place.library.current.profiles if card.profile.source == "found")
    assert card.profile.id == "tiny-2.5b-chat", "a dot in a folder's name is no extension"
    assert card.profile.engine == "vllm"
    assert card.profile.settings == {"context_tokens": 2_048}
    assert card.facts is not None
    assert (card.facts.format, card.facts.architecture, card.facts.layers) == ("safetensors", "llama", 2)


async def test_a_damaged_shard_is_a_problem_and_mending_it_is_noticed(place: Place) -> None:
    folder = write_tiny_folder(place.models / "tiny", shards=1)
    file = folder / "model-00001-of-00001.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    await place.library.rescan()
    assert "cut short" in place.library.current.problems[0].summary
    file.write_bytes(whole)
    await place.library.rescan()
    assert not place.library.current.problems
    assert "tiny" in place.library.profiles


async def test_parts_of_other_kinds_of_models_are_not_taken_for_language_models(place: Place) -> None:
    folder = write_tiny_folder(place.models / "painter" / "vae")
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    await place.library.rescan()
    assert not [card for card in place.library.current.profiles if card.profile.source == "found"]


async def test_a_snapshot_has_the_models_name_and_a_hub_name_leads_to_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = place.models / "hub"
    snapshot = into_cache(cache)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    profile = 'engine = "vllm"\nmodel = "{}"\n'
    (place.paths.profiles / "here.toml").write_text(profile.format("org/tiny-7B"))
    (place.paths.profiles / "away.toml").write_text(profile.format("org/not-here"))
    await place.library.rescan()
    cards = {card.profile.id: card for card in place.library.current.profiles}
    assert cards["here"].model_path == str(snapshot)
    assert cards["here"].available
    problem = cards["away"].problem
    assert problem is not None
    assert problem.summary == "org/not-here is not on this machine."
    assert set(cards) == {"here", "away"}, "found in the folder too, and listed once"
    (place.paths.profiles / "here.toml").unlink()
    await place.library.rescan()
    assert place.library.card("tiny-7b").model_path == str(snapshot)


def test_the_branch_decides_which_snapshot_and_strange_names_lead_nowhere(tmp_path: Path) -> None:
    snapshot = into_cache(tmp_path)
    other = snapshot.parent / ("f" * 40)
    other.mkdir()
    (other / "config.json").write_text("{}")
    assert cached_snapshot(tmp_path, "org/tiny-7B") == snapshot
    (snapshot.parent.parent / "refs" / "main").write_text("../../../../etc")
    assert cached_snapshot(tmp_path, "org/tiny-7B") == other, "the newest whole one"
    for name in ("tiny-7B", "../etc/passwd", "org/../tiny", "/org/tiny", ""):
        assert cached_snapshot(tmp_path, name) is None
    assert name_of_folder(snapshot) == "tiny-7B"
    assert hub_cache_folder({"HOME": "/home/me", "HF_HOME": "/data/hf"}) == Path("/data/hf/hub")
    assert hub_cache_folder({"HOME": "/home/me"}) == Path("/home/me/.cache/huggingface/hub")


def test_what_may_be_used_is_what_is_free_less_the_headroom() -> None:
    card = GpuSample(uuid="a", index=0, name="A", total_bytes=24 * GIB, used_bytes=4 * GIB, free_bytes=20 * GIB)
    silent = GpuSample(uuid="b", index=1, name="B", total_bytes=None, used_bytes=None, free_bytes=None)
    gpus = Gpus(
        driver=DriverState.OK,
        gpus=(card, silent),
        host=HostSample(total_bytes=32 * GIB, available_bytes=1 * GIB),
    )
    found = usable_bytes(gpus, headroom_bytes=2 * GIB, host_headroom_bytes=3 * GIB)
    assert found == {"a": 18 * GIB, "host": -2 * GIB}
    assert total_bytes(gpus) == {"a": 24 * GIB}
