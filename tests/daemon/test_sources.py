"""Models in the stores of other programs are listed in place, each file counted once, whatever else lies there (M1)."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from app.core.settings import LibrarySettings, Settings
from app.core.snapshot import ModelGroup
from app.daemon.folders import Walker
from app.daemon.sources import Sources
from app.daemon.tiny_folder import write_tiny_folder
from tests.core.catalog.ggufs import write_gguf
from tests.daemon.test_library import Place, ids
from tests.rig.stores import checksum, into_hub, into_ollama


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in ("HF_HOME", "HF_HUB_CACHE", "LLAMA_CACHE", "OLLAMA_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = Place(tmp_path)
    place.library.take_over(Settings(library=LibrarySettings(folders=(str(place.models),))))  # type: ignore[call-arg]
    return place


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".cache" / "huggingface" / "hub"


@pytest.fixture
def ollama(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".ollama" / "models"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "made" / "Tiny-3B-Instruct-Q8_0.gguf", name="Tiny 3B Instruct")


def projector(path: Path, width: int = 64) -> Path:
    return write_gguf(path, architecture="clip", tensors={"mm.0.weight": (width, 48), "v.patch.weight": (48, 12)})


def size_of(path: Path) -> int:
    return path.stat().st_size


async def groups(place: Place) -> dict[str, ModelGroup]:
    return {group.name: group for group in (await place.look()).models}


async def test_every_store_is_looked_into_and_says_where_a_model_is_from(
    place: Place, hub: Path, ollama: Path, tmp_path: Path
) -> None:
    made = {name: write_gguf(tmp_path / "made" / f"{name}.gguf", name=f"{name} 1B") for name in ("a", "b", "c", "d")}
    into_hub(hub, "org/A-GGUF", {"Alpha-1B-Q8_0.gguf": made["a"]})
    into_ollama(ollama, "beta:1b", made["b"])
    home = tmp_path / "home"
    write_gguf(home / ".cache" / "llama.cpp" / "org_gamma-Q4_0.gguf")
    write_gguf(home / ".lmstudio" / "models" / "pub" / "delta-GGUF" / "delta.gguf")
    write_gguf(place.models / "own.gguf")
    library = await place.look()
    found = {card.profile.id: card.store for card in library.profiles}
    assert found == {
        "alpha-1b-q8_0": "Hugging Face cache",
        "beta-1b": "Ollama",
        "org_gamma-q4_0": "llama.cpp cache",
        "delta": "LM Studio",
        "own": "",
    }
    assert not library.problems
    assert place.card("beta-1b").profile.title == "beta:1b"
    assert place.card("beta:1b").profile.id == "beta-1b", "its clients' name leads to it"


@pytest.mark.parametrize("kind", ["huggingface", "ollama", "llama.cpp", "lmstudio"])
async def test_each_store_can_be_switched_off(place: Place, hub: Path, ollama: Path, model: Path, kind: str) -> None:
    into_hub(hub, "org/A", {"alpha.gguf": model})
    into_ollama(ollama, "beta", write_gguf(model.parent / "other.gguf", name="other"))
    home = hub.parents[2]
    write_gguf(home / ".cache" / "llama.cpp" / "gamma.gguf")
    write_gguf(home / ".lmstudio" / "models" / "p" / "m" / "delta.gguf")
    names = {"huggingface": "alpha", "ollama": "beta-latest", "llama.cpp": "gamma", "lmstudio": "delta"}
    rest = tuple(each for each in names if each != kind)
    place.library.take_over(Settings(library=LibrarySettings(folders=(), sources=rest)))
    assert set(ids(await place.look())) == {names[each] for each in rest}


async def test_variables_of_the_other_programs_are_followed(
    place: Place, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "o"))
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "l"))
    into_hub(tmp_path / "hf" / "hub", "org/A", {"alpha.gguf": model})
    into_ollama(tmp_path / "o", "beta", write_gguf(model.parent / "other.gguf", name="other"))
    write_gguf(tmp_path / "l" / "gamma.gguf")
    assert set(ids(await place.look())) == {"alpha", "beta-latest", "gamma"}
    assert place.card("beta").profile.title == "beta:latest"


async def test_stores_that_are_not_there_say_nothing(place: Place) -> None:
    library = await place.look()
    assert (library.profiles, library.problems, library.models) == ((), (), ())


# --- Ollama ----------------------------------------------------------------------------------------------------------


async def test_a_model_of_ollama_brings_its_projector_adapter_and_parameters(
    place: Place, ollama: Path, model: Path
) -> None:
    eye = projector(model.parent / "eye.gguf")
    adapter = write_gguf(model.parent / "lora.gguf", texts={"general.type": "adapter"})
    parameters = {"temperature": 0.6, "num_ctx": 512, "num_predict": 100, "stop": ["x"], "top_k": "many"}
    into_ollama(
        ollama, "seer:3b", model, projector=eye, adapter=adapter, parameters=parameters, system="You are short."
    )
    await place.look()
    card = place.card("seer:3b")
    blobs = ollama / "blobs"
    assert card.model_path == str(blobs / f"sha256-{checksum(model)}")
    assert card.profile.settings == {
        "context_tokens": 512,
        "mmproj": str(blobs / f"sha256-{checksum(eye)}"),
        "lora": str(blobs / f"sha256-{checksum(adapter)}"),
    }
    assert (card.profile.sampling.temperature, card.profile.sampling.max_tokens) == (0.6, 100)
    assert card.profile.sampling.top_k is None
    assert card.profile.system_prompt == "You are short."
    assert card.facts is not None
    assert card.facts.capabilities == ("chat", "vision")
    (group,) = place.library.current.models
    assert {file.role for file in group.companions} == {"vision", "lora"}
    assert group.disk_bytes == sum(file.stat().st_size for file in (model, eye, adapter))


async def test_two_tags_of_one_model_are_one_card_and_another_prompt_is_another(
    place: Place, ollama: Path, model: Path
) -> None:
    for tag in ("tiny:latest", "tiny:3b"):
        into_ollama(ollama, tag, model)
    into_ollama(ollama, "pirate", model, system="Arr.")
    library = await place.look()
    assert sorted(ids(library)) == ["pirate-latest", "tiny-3b"]
    assert set(place.card("tiny-3b").profile.aliases) == {"tiny:latest", "tiny:3b", "tiny"}
    (group,) = library.models
    (variant,) = group.variants
    assert sorted(variant.profile_ids) == ["pirate-latest", "tiny-3b"]
    assert group.disk_bytes == size_of(model), "one blob, counted once"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b"[" * 100_000, b'{"layers": [{"mediaType": "x", "digest": "sha256:../../x"}]}'],
)
async def test_a_broken_manifest_is_told_and_takes_no_other_away(
    place: Place, ollama: Path, model: Path, content: bytes
) -> None:
    into_ollama(ollama, "good", model)
    into_ollama(ollama, "bad", model).write_bytes(content)
    library = await place.look()
    assert ids(library) == ["good-latest"]
    (problem,) = library.problems
    assert problem.where.endswith("bad/latest")
    assert problem.advice == "Get the model again with `ollama pull`."


async def test_a_model_that_runs_in_a_cloud_is_none_of_this_machine(place: Place, ollama: Path, model: Path) -> None:
    manifest = into_ollama(ollama, "cloud", model)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": []}))
    library = await place.look()
    assert (library.profiles, library.problems) == ((), ())


async def test_a_missing_blob_is_a_model_that_is_not_whole(place: Place, ollama: Path, model: Path) -> None:
    into_ollama(ollama, "tiny", model)
    next((ollama / "blobs").glob(f"*{checksum(model)}")).unlink()
    library = await place.look()
    assert (library.profiles, library.problems) == ((), ())
    assert library.models[0].name == "tiny:latest"
    assert library.models[0].variants[0].incomplete == "Its file is not whole yet."


def test_a_manifest_is_read_once_until_it_changes(ollama: Path, model: Path, tmp_path: Path) -> None:
    manifest = into_ollama(ollama, "tiny", model)
    sources = Sources({"HOME": str(tmp_path / "home")})
    first = sources.look((), ("ollama",))
    changed = manifest.stat().st_mtime_ns
    data = manifest.read_bytes()
    manifest.write_bytes(b"x" * len(data))  # as a file that is not opened again: same size, same time
    os.utime(manifest, ns=(changed, changed))
    assert sources.look((), ("ollama",)) == first
    os.utime(manifest)
    assert sources.look((), ("ollama",)).problems


# --- the hub's cache -------------------------------------------------------------------------------------------------


async def test_an_older_revision_of_the_same_file_is_not_a_second_model(place: Place, hub: Path, model: Path) -> None:
    older = write_gguf(model.parent / "older.gguf", name="Tiny 3B Instruct", layers=3)
    once = write_gguf(model.parent / "once.gguf", name="Once")
    into_hub(hub, "org/tiny", {"tiny.gguf": older, "only-then.gguf": once}, commit="f" * 40, main=False)
    snapshot = into_hub(hub, "org/tiny", {"tiny.gguf": model})
    library = await place.look()
    assert place.card("tiny").model_path == str(snapshot / "tiny.gguf")
    assert set(ids(library)) == {"tiny", "only-then"}


async def test_an_unfinished_download_is_shown_as_that(place: Place, hub: Path, model: Path) -> None:
    into_hub(hub, "org/Tiny-3B-Instruct-GGUF", {"Tiny-3B-Instruct-Q8_0.gguf": model})
    blobs = hub / "models--org--Tiny-3B-Instruct-GGUF" / "blobs"
    (blobs / f"{'a' * 64}.incomplete").write_bytes(b"x" * 1000)
    (blobs / f"{checksum(model)}.incomplete").write_bytes(b"left behind; the blob is whole")
    library = await place.look()
    assert not library.problems
    (group,) = library.models
    assert [variant.incomplete for variant in group.variants] == ["", "A download into it has not finished."]
    assert group.disk_bytes == size_of(model) + 1000


async def test_a_folder_that_lacks_a_part_is_not_listed_as_broken(place: Place, hub: Path, tmp_path: Path) -> None:
    whole = write_tiny_folder(tmp_path / "made", shards=3)
    files = {file.name: file for file in whole.iterdir() if "-00002-of" not in file.name}
    into_hub(hub, "org/tiny-7B", files)
    library = await place.look()
    assert (library.profiles, library.problems) == ((), ())
    assert library.models[0].variants[0].incomplete == "One of its files is not here yet."


async def test_a_link_whose_blob_was_removed_is_not_whole(place: Place, hub: Path, model: Path) -> None:
    snapshot = into_hub(hub, "org/tiny", {"tiny.gguf": model})
    (snapshot / "tiny.gguf").resolve().unlink()
    library = await place.look()
    assert (library.profiles, library.problems) == ((), ())
    assert library.models[0].variants[0].incomplete == "Its file is not here yet."


# --- one model, its forms, what lies beside it -----------------------------------------------------------------------


async def test_all_forms_of_a_model_are_one_group(place: Place, hub: Path, ollama: Path, tmp_path: Path) -> None:
    small = write_gguf(place.models / "Tiny-3B-Instruct-Q4_K_M.gguf", name="Tiny 3B Instruct")
    large = write_gguf(place.models / "Tiny-3B-Instruct-BF16.gguf", name="Tiny 3B Instruct", layers=3)
    other = write_gguf(place.models / "Tiny-7B-Instruct-BF16.gguf", name="Tiny 7B Instruct", width=128)
    into_ollama(ollama, "tiny3:3b", large)
    found = await groups(place)
    assert set(found) == {"Tiny 3B Instruct", "Tiny 7B Instruct"}
    assert len(found["Tiny 3B Instruct"].variants) == 3, "a copy that no store knows by checksum counts as one more"
    assert found["Tiny 3B Instruct"].disk_bytes == small.stat().st_size + 2 * large.stat().st_size
    assert found["Tiny 7B Instruct"].disk_bytes == other.stat().st_size


async def test_one_blob_in_two_stores_is_one_variant_with_both_places(
    place: Place, hub: Path, ollama: Path, model: Path
) -> None:
    into_hub(hub, "org/tiny", {"tiny.gguf": model})
    into_ollama(ollama, "tiny3:3b", model)  # a copy: the same checksum, twice on the disk
    library = await place.look()
    (variant,) = library.models[0].variants
    assert set(variant.sources) == {"huggingface", "ollama"}
    assert variant.disk_bytes == 2 * size_of(model)
    blob = ollama / "blobs" / f"sha256-{checksum(model)}"
    blob.unlink()
    os.link((hub / "models--org--tiny" / "blobs" / checksum(model)), blob)  # and now one file with two names
    library = await place.look()
    (variant,) = library.models[0].variants
    assert variant.disk_bytes == size_of(model)
    assert len(variant.paths) == 2
    assert len(library.profiles) == 1
    assert library.profiles[0].profile.title == "tiny3:3b"


@pytest.mark.parametrize("names", [("mmproj-F16.gguf",), ("tiny.mmproj.gguf",)])
async def test_the_one_projector_of_a_folder_is_set(place: Place, names: tuple[str, ...]) -> None:
    write_gguf(place.models / "seer" / "Tiny-3B-Q4_0.gguf")
    write_gguf(place.models / "seer" / "Tiny-3B-Q8_0.gguf")
    eyes = [projector(place.models / "seer" / name) for name in names]
    await place.look()
    for name in ("tiny-3b-q4_0", "tiny-3b-q8_0"):
        card = place.card(name)
        assert card.profile.settings["mmproj"] == str(eyes[0])
        assert card.facts is not None
        assert "vision" in card.facts.capabilities


async def test_which_of_several_models_has_the_eyes_is_told_by_the_names(place: Place) -> None:
    for name in ("Tiny-3B-VL-Q4_0", "Other-3B-Q4_0"):
        write_gguf(place.models / f"{name}.gguf", name="")
    eye = projector(place.models / "mmproj-Tiny-3B-VL-f16.gguf")
    await place.look()
    assert place.card("tiny-3b-vl-q4_0").profile.settings["mmproj"] == str(eye)
    assert "mmproj" not in place.card("other-3b-q4_0").profile.settings


@pytest.mark.parametrize(("width", "count"), [(96, 1), (64, 2)])
async def test_a_projector_of_another_width_or_one_of_two_is_not_set(place: Place, width: int, count: int) -> None:
    write_gguf(place.models / "tiny.gguf")
    for number in range(count):
        projector(place.models / f"mmproj-{number}.gguf", width)
    await place.look()
    assert "mmproj" not in place.card("tiny").profile.settings
    assert len(place.library.current.models[0].companions) == (2 if width == 64 else 0)


async def test_adapters_and_drafts_lie_under_their_model(place: Place) -> None:
    write_gguf(place.models / "m" / "Tiny-3B-Q8_0.gguf")
    write_gguf(place.models / "m" / "style-lora.gguf", texts={"general.type": "adapter"})
    write_gguf(place.models / "m" / "Tiny-3B-draft.gguf", layers=1)
    found = await place.look()
    (group,) = found.models
    assert {file.role for file in group.companions} == {"lora", "draft"}
    assert "tiny-3b-draft" in ids(found), "it can be loaded by itself too"


async def test_parts_that_are_missing_are_shown_as_not_whole(place: Place) -> None:
    write_gguf(place.models / "big-00001-of-00003.gguf")
    (group,) = (await place.look()).models
    assert group.variants[0].incomplete == "2 of its 3 parts are not here yet."


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_five_thousand_files_and_loops_are_no_trouble(place: Place, hub: Path, ollama: Path, model: Path) -> None:
    snapshot = into_hub(hub, "org/tiny", {"tiny.gguf": model})
    for number in range(5_000):
        (snapshot / f"{number}.txt").write_bytes(b"")
    (snapshot / "up").symlink_to(hub)
    (hub / "models--loop--loop").symlink_to(hub / "models--loop--loop")
    into_ollama(ollama, "tiny", write_gguf(model.parent / "other.gguf", name="other"))
    (ollama / "manifests" / "again").symlink_to(ollama / "manifests")
    os.mkfifo(ollama / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "pipe")
    library = await place.look()
    assert sorted(ids(library)) == ["tiny", "tiny-latest"]
    assert [Path(problem.where).name for problem in library.problems] == ["pipe"]
    assert not await place.library.rescan(), "nothing changed, nothing read"


def test_a_store_of_too_many_files_says_so_and_the_others_are_still_read(tmp_path: Path, model: Path) -> None:
    crowd = tmp_path / "crowd"
    crowd.mkdir()
    for number in range(30):
        (crowd / f"{number:02d}").mkdir()
        (crowd / f"{number:02d}" / "x").touch()
    walker = Walker(max_entries=20)
    walker.search(crowd)
    walker.count_anew()
    walker.search(model.parent)
    (problem,) = walker.problems
    assert "More than 20 files" in problem.summary
    assert list(walker.models) == [model]


def test_a_store_that_may_not_be_read_is_told_and_the_rest_is_listed(model: Path) -> None:
    top = Path(tempfile.mkdtemp(prefix="er-shut-", dir="/tmp"))
    try:
        top.chmod(0o755)
        store = top / ".ollama" / "models"
        into_ollama(store, "tiny", model)
        write_gguf(top / "own" / "own.gguf")
        store.chmod(0o700)
        (top / ".ollama").chmod(0o700)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65_534)
        else:
            (top / ".ollama").chmod(0)
        try:
            seen = Sources({"HOME": str(top)}).look([top / "own"], ("ollama", "huggingface"))
        finally:
            if root:
                os.seteuid(0)
    finally:
        (top / ".ollama").chmod(0o700)
        shutil.rmtree(top)
    assert [path.name for path in seen.models] == ["own.gguf"]
    (problem,) = seen.problems
    assert problem.summary == f"{store} cannot be read: Permission denied."
    assert "library.sources" in problem.advice
