"""The hub's cache on this disk: what is there, deleted into a trash, and back."""

from pathlib import Path

import pytest

from app.core.errors import ModelMissing
from app.core.hub import Downloaded
from app.daemon import hub_shelf

A, B = "a" * 40, "b" * 40


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


def put(cache: Path, name: str, commit: str, files: dict[str, bytes], main: bool = True) -> Path:
    """A revision as the hub's own library lays it out."""
    repository = cache / f"models--{name.replace('/', '--')}"
    for path, data in files.items():
        blob = repository / "blobs" / f"{hash(data) & 0xFFFFFFFF:064x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link = repository / "snapshots" / commit / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../" * (2 + path.count("/")) + f"blobs/{blob.name}")
    if main:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)
    return repository


def everything(folder: Path) -> dict[str, object]:
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def model(cache: Path, file: str, older: bool = False) -> Downloaded:
    found, _ = hub_shelf.contents(cache)
    return next(each for each in found if each.file == file and each.older == older)


def test_each_form_is_listed_with_what_deleting_it_frees(cache: Path) -> None:
    put(
        cache,
        "acme/x-GGUF",
        A,
        {
            "x-Q4_K_M.gguf": b"4" * 40,
            "x-Q8_0-00001-of-00002.gguf": b"8" * 50,
            "x-Q8_0-00002-of-00002.gguf": b"9" * 30,
            "mmproj-F16.gguf": b"m" * 5,
        },
    )
    put(cache, "acme/y", A, {"config.json": b"{}", "model.safetensors": b"w" * 100})
    (cache / "models--acme--x-GGUF" / "blobs" / "abc.incomplete").write_bytes(b"half")
    models, parts = hub_shelf.contents(cache)
    assert [(each.name, each.file, each.title, each.disk_bytes) for each in models] == [
        ("acme/x-GGUF", "x-Q4_K_M.gguf", "x-GGUF Q4_K_M", 40),
        ("acme/x-GGUF", "x-Q8_0-00001-of-00002.gguf", "x-GGUF Q8_0", 80),
        ("acme/y", "", "y", 102),
    ]
    assert [(part.name, part.disk_bytes) for part in parts] == [("acme/x-GGUF", 4)]


def test_what_is_deleted_can_come_back_just_as_it_was(cache: Path) -> None:
    put(cache, "acme/x-GGUF", A, {"sub/x-Q4_K_M.gguf": b"4" * 40, "x-Q8_0.gguf": b"8" * 50})
    before = everything(cache)
    gone = hub_shelf.delete(cache, model(cache, "sub/x-Q4_K_M.gguf"))
    assert gone.disk_bytes == 40
    assert [each.file for each in hub_shelf.contents(cache)[0]] == ["x-Q8_0.gguf"]
    assert not (cache / "models--acme--x-GGUF" / "snapshots" / A / "sub").exists()
    assert [(each.id, each.title) for each in hub_shelf.trashed(cache)] == [(gone.id, "x-GGUF Q4_K_M")]
    assert hub_shelf.restore(cache, gone.id) == "x-GGUF Q4_K_M"
    assert everything(cache) == before
    assert hub_shelf.trashed(cache) == ()


def test_content_that_another_revision_has_too_stays(cache: Path) -> None:
    put(cache, "acme/x", A, {"x.gguf": b"same", "old.gguf": b"old!!"}, main=False)
    put(cache, "acme/x", B, {"x.gguf": b"same"})
    older = model(cache, "x.gguf", older=True)
    assert older.disk_bytes == 0, "deleting a name frees nothing while the other one is there"
    hub_shelf.delete(cache, older)
    assert Path(model(cache, "x.gguf").path).read_bytes() == b"same"


def test_undo_gives_way_to_what_came_in_the_meantime(cache: Path) -> None:
    put(cache, "acme/x", A, {"x.gguf": b"data"})
    gone = hub_shelf.delete(cache, model(cache, "x.gguf"))
    put(cache, "acme/x", A, {"x.gguf": b"data"})
    hub_shelf.restore(cache, gone.id)
    assert Path(model(cache, "x.gguf").path).read_bytes() == b"data"
    assert hub_shelf.trashed(cache) == ()


def test_the_trash_is_emptied_for_good_and_strange_ids_are_refused(cache: Path) -> None:
    put(cache, "acme/x", A, {"x.gguf": b"data"})
    gone = hub_shelf.delete(cache, model(cache, "x.gguf"))
    for strange in ("", "../../x", "x" * 99):
        with pytest.raises(ModelMissing):
            hub_shelf.restore(cache, strange)
    assert hub_shelf.empty(cache) == 4
    with pytest.raises(ModelMissing):
        hub_shelf.restore(cache, gone.id)


def test_parts_of_a_broken_download_are_discarded_alone(cache: Path) -> None:
    repository = put(cache, "acme/x", A, {"x.gguf": b"data"})
    (repository / "blobs" / "abc.incomplete").write_bytes(b"half a file")
    assert hub_shelf.discard_parts(cache, "acme/x") == 11
    assert Path(model(cache, "x.gguf").path).read_bytes() == b"data"


def test_a_loaded_model_is_known_by_its_content(cache: Path) -> None:
    put(cache, "acme/x", A, {"x.gguf": b"data"})
    mine = model(cache, "x.gguf")
    blob = str(Path(mine.path).resolve())
    assert hub_shelf.loaded_from(mine, {blob: "My profile"}) == "My profile"
    assert hub_shelf.loaded_from(mine, {"/elsewhere/x.gguf": "Other"}) == ""
