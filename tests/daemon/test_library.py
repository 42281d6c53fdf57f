"""What is in the folders is in the list: every broken file is told, none takes another away, nothing is sent twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.core.errors import EngineNotInstalled, SettingInvalid, UnknownProfile
from app.core.memory.plan_types import Verdict
from app.core.paths import Paths
from app.core.profiles import Profile
from app.core.settings import LibrarySettings, Settings
from app.core.snapshot import DriverState, GpuProcess, Gpus, GpuSample, HostSample, ProfileCard, from_json, to_json
from app.core.snapshot import Library as LibrarySlice
from app.daemon.folders import MAX_DEPTH, walk
from app.daemon.library import Library
from app.daemon.shelf import Shelf
from app.daemon.survey import Surveyor
from app.engines.base import Installation
from tests.core.catalog.ggufs import write_gguf
from tests.rig.gguf_file import F16
from tests.rig.gguf_file import write_gguf as write_whole_gguf

GIB = 1024**3


async def eventually(condition: Callable[[], bool], seconds: float, what: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - files change, nobody tells
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"not within {seconds:g} s: {what}")


ENGINE = Installation(family="llama.cpp", executable="/bin/true")


class Place:
    """Folders of an account, a shipped folder of its own, and what the library has published."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(
            config=folder / "config", data=folder / "data", state=folder / "state", cache=folder / "cache", runtime=folder / "run"
        )  # fmt: skip
        self.models = folder / "models"
        self.shipped = folder / "shipped"
        self.builtin = folder / "demo.gguf"
        for path in (self.paths.profiles, self.models, self.shipped):
            path.mkdir(parents=True)
        self.settings = Settings(library=LibrarySettings(folders=(str(self.models),), sources=()))
        self.published: list[LibrarySlice] = []
        self.engine: Installation | None = ENGINE
        self.library = Library(
            self.paths,
            self.settings,
            self.published.append,
            find_engine=self.find_engine,
            shelf=Shelf(Surveyor(self.paths, self.find_engine, self.shipped, {"builtin:demo": self.builtin}.get)),
            poll_seconds=0.01,
        )

    def find_engine(self, profile: Profile) -> Installation:
        if self.engine is None:
            raise EngineNotInstalled("llama.cpp is not installed.", "Install it.")
        return self.engine

    def profile(self, name: str, text: str = "", *, folder: Path | None = None, model: str = "tiny.gguf") -> Path:
        path = (folder or self.paths.profiles) / f"{name}.toml"
        path.write_text(text or f'engine = "llama.cpp"\nmodel = "{self.models / model}"\n', "utf-8")
        return path

    async def begin(self) -> None:
        self.library.start()
        await self.library.listed()

    async def look(self) -> LibrarySlice:
        await self.library.rescan()
        return self.library.current

    def card(self, name: str) -> ProfileCard:
        return self.library.card(name)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    yield place
    await place.library.close()


def ids(library: LibrarySlice) -> list[str]:
    return [card.profile.id for card in library.profiles]


async def test_own_shipped_and_found_models_are_listed(place: Place) -> None:
    write_gguf(place.builtin)
    place.profile("demo", 'engine = "llama.cpp"\nmodel = "builtin:demo"\n', folder=place.shipped)
    write_gguf(place.models / "deep" / "er" / "Small-Q8_0.gguf", name="Small One")
    write_gguf(place.models / "mine.gguf")
    place.profile("mine", model="mine.gguf")
    library = await place.look()
    assert ids(library) == ["mine", "demo", "small-q8_0"]
    assert not library.problems
    found = place.card("small-q8_0")
    assert (found.profile.title, found.profile.source, found.available) == ("Small One", "found", True)
    assert found.profile.settings == {"context_tokens": 1024}
    assert place.card("demo").profile.source == "shipped"
    assert place.card("demo").model_path == str(place.builtin)
    assert library.folders == (str(place.models),)


async def test_a_broken_file_is_a_problem_and_removes_no_other(place: Place) -> None:
    write_gguf(place.models / "good.gguf")
    (place.models / "garbage.gguf").write_bytes(b"\x89PNG" * 50)
    os.truncate(write_gguf(place.models / "cut.gguf"), 9_000)
    write_gguf(place.models / "split-00001-of-00002.gguf")
    place.profile("fine", model="good.gguf")
    place.profile("typo", 'engine = "llama.cpp"\nmodel = "x.gguf"\nsettings = {slots = "two", contxt = 1}\n')
    place.profile("nonsense", "engine = = 1")
    (place.paths.profiles / "latin.toml").write_bytes(b'title = "\xe9"')
    library = await place.look()
    assert ids(library) == ["fine"]
    told = {Path(problem.where).name: problem.summary for problem in library.problems}
    assert set(told) == {
        "garbage.gguf",
        "cut.gguf",
        "split-00001-of-00002.gguf",
        "typo.toml",
        "nonsense.toml",
        "latin.toml",
    }
    assert "does not begin with" in told["garbage.gguf"]
    assert "cut short" in told["cut.gguf"]
    assert "Part 2 of 2" in told["split-00001-of-00002.gguf"]
    assert len([problem for problem in library.problems if problem.where.endswith("typo.toml")]) == 2
    assert all(problem.summary.endswith(".") for problem in library.problems)


async def test_a_mended_file_is_listed_again(place: Place) -> None:
    path = place.models / "model.gguf"
    path.write_bytes(b"GGUF\x03")
    assert (await place.look()).problems
    write_gguf(path)
    library = await place.look()
    assert ids(library) == ["model"]
    assert not library.problems


async def test_a_profile_whose_model_is_missing_stays_visible_and_says_so(place: Place) -> None:
    place.profile("gone", model="nowhere.gguf")
    await place.look()
    card = place.card("gone")
    assert not card.available
    assert card.problem is not None
    assert "is not there" in card.problem.summary
    assert card.problem.advice


async def test_a_model_that_disappears_leaves_the_list_and_comes_back(place: Place) -> None:
    path = write_gguf(place.models / "usb.gguf")
    assert ids(await place.look()) == ["usb"]
    path.rename(place.models / "usb.away")
    assert ids(await place.look()) == []
    (place.models / "usb.away").rename(path)
    assert ids(await place.look()) == ["usb"]


async def test_an_unknown_architecture_is_listed_with_what_its_file_says(place: Place) -> None:
    write_gguf(place.models / "new.gguf", architecture="brandnew", bare=True, template=None)
    await place.look()
    card = place.card("new")
    assert card.available
    assert card.facts is not None
    assert (card.facts.architecture, card.facts.layers) == ("brandnew", None)
    assert card.profile.settings == {}


async def test_your_own_profile_has_the_place_of_a_shipped_one_of_its_name(place: Place) -> None:
    write_gguf(place.builtin)
    write_gguf(place.models / "own.gguf")
    place.profile("demo", 'engine = "llama.cpp"\nmodel = "builtin:demo"\n', folder=place.shipped)
    place.profile("demo", model="own.gguf")
    library = await place.look()
    assert ids(library) == ["demo"]
    assert place.card("demo").model_path == str(place.models / "own.gguf")
    assert not library.problems, "a copy of a shipped profile is how one is changed"


async def test_an_alias_that_is_taken_is_said_and_the_first_keeps_it(place: Place) -> None:
    write_gguf(place.models / "tiny.gguf")
    for name in ("a", "b"):
        place.profile(name, f'engine = "llama.cpp"\nmodel = "{place.models}/tiny.gguf"\naliases = ["fast"]')
    library = await place.look()
    assert place.card("fast").profile.id == "a"
    assert [problem.summary for problem in library.problems] == ["The alias fast of b already belongs to a."]


async def test_found_models_of_one_name_get_ids_of_their_own(place: Place) -> None:
    for folder in ("one", "two", "x/two"):
        write_gguf(place.models / folder / "same.gguf")
    assert sorted(ids(await place.look())) == ["same", "two-same", "two-same-2"]


async def test_projectors_and_parts_are_not_models_of_their_own(place: Place) -> None:
    write_gguf(place.models / "big-00001-of-00002.gguf")
    write_gguf(place.models / "big-00002-of-00002.gguf", tensors={"blk.1.more.weight": (64, 64)})
    write_gguf(place.models / "mmproj-big.gguf", architecture="clip")
    write_gguf(place.models / "vision.gguf", architecture="clip")
    library = await place.look()
    assert ids(library) == ["big"]
    assert not library.problems


async def test_a_relative_path_counts_from_the_profile(place: Place) -> None:
    write_gguf(place.paths.profiles / "beside.gguf")
    place.profile("near", 'engine = "llama.cpp"\nmodel = "beside.gguf"')
    await place.look()
    assert place.card("near").available


@pytest.mark.parametrize("model", ["~nobody-here/m.gguf", "builtin:other", "\\u0000", "/dev/null", "/", ""])
async def test_strange_model_paths_are_problems(place: Place, model: str) -> None:
    place.profile("strange", f'engine = "llama.cpp"\nmodel = "{model}"')
    library = await place.look()
    problem = library.profiles[0].problem if library.profiles else library.problems[0]
    assert problem is not None
    assert problem.summary.endswith(".")


async def test_a_name_that_is_not_there_lists_what_is(place: Place) -> None:
    write_gguf(place.models / "tiny.gguf")
    await place.look()
    with pytest.raises(UnknownProfile, match="Did you mean tiny"):
        place.card("tini")
    with pytest.raises(UnknownProfile, match="There are: tiny"):
        place.card("qqqqqqq")


async def test_settings_of_one_launch_are_checked(place: Place) -> None:
    write_gguf(place.models / "tiny.gguf")
    await place.look()
    assert place.library.merged(place.card("tiny"), {"slots": 2}).settings == {"context_tokens": 1024, "slots": 2}
    with pytest.raises(SettingInvalid, match="must be a whole number"):
        place.library.merged(place.card("tiny"), {"slots": "two"})
    with pytest.raises(SettingInvalid, match="not a setting"):
        place.library.merged(place.card("tiny"), {"wings": 2})


async def test_nothing_is_published_while_nothing_changes(place: Place) -> None:
    write_gguf(place.models / "tiny.gguf")
    for _ in range(3):
        await place.look()
    assert len([each for each in place.published if not each.unread]) == 1


async def test_changes_are_noticed_without_being_asked(place: Place) -> None:
    await place.begin()
    assert ids(place.library.current) == []
    write_gguf(place.models / "late.gguf")
    await eventually(lambda: ids(place.library.current) == ["late"], 60, "the new model is listed")
    place.profile("own", model="late.gguf")
    await eventually(lambda: ids(place.library.current) == ["own"], 60, "the profile takes the model's place")


async def test_an_engine_that_is_installed_later_is_noticed(place: Place) -> None:
    write_gguf(place.models / "tiny.gguf")
    place.engine = None
    await place.look()
    assert not place.card("tiny").engine_available
    problem = place.card("tiny").problem
    assert problem is not None
    assert (problem.summary, problem.advice) == ("llama.cpp is not installed.", "Install it.")
    place.engine = ENGINE
    await place.look()
    assert place.card("tiny").engine_available


async def test_other_folders_are_taken_over_while_running(place: Place, tmp_path: Path) -> None:
    write_gguf(tmp_path / "elsewhere" / "other.gguf")
    await place.begin()
    place.library.take_over(Settings(library=LibrarySettings(folders=(str(tmp_path / "elsewhere"),))))
    await eventually(lambda: ids(place.library.current) == ["other"], 60, "the other folder is listed")
    assert place.card("other").model_path == str(tmp_path / "elsewhere" / "other.gguf")


# --- prices ----------------------------------------------------------------------------------------------------------


def sample(free_gib: float, available_gib: float = 20, processes: tuple[GpuProcess, ...] = ()) -> Gpus:
    gpu = GpuSample(
        uuid="GPU-a", index=0, name="RTX", total_bytes=24 * GIB, free_bytes=int(free_gib * GIB),
        used_bytes=24 * GIB - int(free_gib * GIB), processes=processes,
    )  # fmt: skip
    host = HostSample(total_bytes=32 * GIB, available_bytes=int(available_gib * GIB))
    return Gpus(driver=DriverState.OK, gpus=(gpu,), host=host)


async def priced(place: Place, verdict: Verdict) -> None:
    def seen() -> bool:
        plan = place.card("tiny").plan
        return plan is not None and plan.verdict is verdict

    await eventually(seen, 60, f"the card says {verdict.value}")


async def test_cards_are_priced_and_priced_again_when_memory_moves(place: Place) -> None:
    write_gguf(place.models / "tiny.gguf")
    place.engine = Installation(family="llama.cpp", executable="/bin/true", accelerator="cuda")
    await place.begin()
    place.library.reprice(sample(20))
    await priced(place, Verdict.FITS)
    count = len(place.published)
    for step in range(20):
        place.library.reprice(sample(20 + step / 1000))  # a browser breathes
    for step in range(5):  # enough to be priced again, too little to be seen
        place.library.reprice(sample(20 + step / 50))
        for _ in range(20):
            await asyncio.sleep(0)
    assert len(place.published) == count
    place.library.reprice(sample(1))
    await priced(place, Verdict.DOES_NOT_FIT)
    assert len(place.published) == count + 1
    assert place.published[-1] == place.library.current


async def test_a_model_found_after_the_sample_is_priced_too(place: Place) -> None:
    await place.begin()
    place.library.reprice(sample(20))
    write_gguf(place.models / "tiny.gguf")
    await eventually(lambda: ids(place.library.current) == ["tiny"], 60, "the model is listed")
    await priced(place, Verdict.FITS)
    plan = place.card("tiny").plan
    assert plan is not None
    assert plan.devices, "by the sample that was there before it"


async def test_what_our_engines_hold_is_credited_to_a_switch(place: Place) -> None:
    write_gguf(place.models / "tiny.gguf")
    place.engine = Installation(family="llama.cpp", executable="/bin/true", accelerator="cuda")
    await place.begin()
    foreign = (GpuProcess(pid=7, name="game", bytes=22 * GIB),)
    place.library.reprice(sample(1, processes=foreign))
    await priced(place, Verdict.DOES_NOT_FIT)
    plan = place.card("tiny").plan
    assert plan is not None
    assert "22.0 GiB held by game (pid 7)" in plan.summary
    ours = (GpuProcess(pid=7, name="llama-server", bytes=22 * GIB, run_id="run-1"),)
    place.library.reprice(sample(1, processes=ours))
    await priced(place, Verdict.FITS)


async def test_a_context_larger_than_the_machine_is_refused_with_numbers_on_the_card(place: Place) -> None:
    write_gguf(place.models / "tiny.gguf")
    model = place.models / "tiny.gguf"
    place.profile("tiny", f'engine = "llama.cpp"\nmodel = "{model}"\n[settings]\ncontext_tokens = 10000000\n')
    place.engine = Installation(family="llama.cpp", executable="/bin/true", accelerator="cpu")
    await place.begin()
    place.library.reprice(sample(20, available_gib=1.5))
    await priced(place, Verdict.DOES_NOT_FIT)
    plan = place.card("tiny").plan
    assert plan is not None
    assert "of main memory, but only 0.50 GiB" in plan.summary
    assert plan.remedies


async def test_what_a_profile_loads_beside_its_model_is_part_of_the_plan(place: Place) -> None:
    """A projector named beside the profile weighs too, and only what is read of it counts (I4)."""
    write_gguf(place.models / "tiny.gguf")
    clip = {"general.architecture": "clip", "clip.vision.image_size": 336, "clip.vision.patch_size": 14}
    write_whole_gguf(place.paths.profiles / "eye.gguf", clip, {"v.weight": ((1024, 1024 * 1024), F16)})
    model = place.models / "tiny.gguf"
    place.profile("tiny", f'engine = "llama.cpp"\nmodel = "{model}"\n[settings]\nmmproj = "eye.gguf"\n')
    place.engine = Installation(family="llama.cpp", executable="/bin/true", accelerator="cuda")
    await place.begin()
    place.library.reprice(sample(20))
    await priced(place, Verdict.FITS)
    plan = place.card("tiny").plan
    assert plan is not None
    assert {part.name: part.bytes for part in plan.devices[0].parts}["vision"] == 2 * GIB
    place.library.reprice(sample(3))
    await priced(place, Verdict.DOES_NOT_FIT)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_links_and_loops_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "m.gguf").write_bytes(b"x")
    (tmp_path / "a" / "z-again.gguf").symlink_to(tmp_path / "a" / "m.gguf")
    (tmp_path / "a" / "broken.gguf").symlink_to(tmp_path / "nowhere")
    seen = walk([tmp_path / "a", tmp_path / "a" / "b"])
    assert [path.name for path in seen.models] == ["m.gguf"]
    assert [Path(problem.where).name for problem in seen.problems] == ["broken.gguf"]


def test_hidden_entries_are_passed_over_and_pipes_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "m.gguf").write_bytes(b"x")
    (tmp_path / ".m.gguf").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.gguf")
    assert walk([tmp_path]).models == {}


def test_depth_and_count_are_bounded(tmp_path: Path) -> None:
    deep = tmp_path
    for number in range(MAX_DEPTH + 2):
        deep = deep / str(number)
        deep.mkdir()
        (deep / f"m{number}.gguf").write_bytes(b"x")
    assert len(walk([tmp_path]).models) == MAX_DEPTH
    seen = walk([tmp_path], max_entries=3)
    assert len(seen.models) <= 3
    assert "was not searched" in seen.problems[0].summary


def test_a_missing_folder_is_told_unless_it_is_only_the_default(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    assert "is not there" in walk([missing]).problems[0].summary
    assert walk([missing], quiet_when_missing=[missing]).problems == ()
    (tmp_path / "file").write_text("x")
    assert "is not a folder" in walk([tmp_path / "file"]).problems[0].summary
    assert "cannot be read" in walk([Path("a\0b")]).problems[0].summary


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_told_and_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o000)
    (tmp_path / "m.gguf").write_bytes(b"x")
    seen = walk([tmp_path])
    assert [path.name for path in seen.models] == ["m.gguf"]
    assert "cannot be read" in seen.problems[0].summary


async def test_the_whole_list_travels_as_json(place: Place) -> None:
    write_gguf(place.models / "tiny.gguf")
    await place.look()
    current = place.library.current
    assert from_json(LibrarySlice, to_json(current)) == current
