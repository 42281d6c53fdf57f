"""Engines are found wherever people have them, several side by side, by files alone; a pin decides which one is used (E7)."""

from pathlib import Path

import msgspec
import pytest

from app.core.errors import EngineNotInstalled, SettingInvalid
from app.core.profiles import Profile
from app.daemon.choosing import choose, effective_pin, why_none
from app.daemon.engine_choices import Choices, change_choices, choices_or_none, read_choices
from app.daemon.installations import RECORD, EngineRecord, accelerator_in, at, find, listed, need, views
from app.engines.base import Installation
from tests.rig.home import Home
from tests.rig.programs import write_environment, write_llama_server, write_script


def found(home: Home, family: str = "", **environment: str) -> list[Installation]:
    return list(listed(home.paths, {**home.environment, **environment}, family))


def places(rows: list[Installation]) -> list[tuple[str, str]]:
    return [(row.source, row.executable) for row in rows]


def choices(home: Home, **fields: object) -> None:
    change_choices(home.paths.engine_choices, lambda before: msgspec.structs.replace(before, **fields))


# --- where -----------------------------------------------------------------------------------------------------------


def test_every_folder_of_path_counts_not_only_the_first(home: Home, tmp_path: Path) -> None:
    first, second = write_llama_server(home.bin / "llama-server"), write_llama_server(tmp_path / "b" / "llama-server")
    link = tmp_path / "c" / "llama-server"
    link.parent.mkdir()
    link.symlink_to(first)
    rows = found(home, "llama-server", PATH=f"{home.bin}:{tmp_path / 'b'}:{tmp_path / 'c'}::relative")
    assert places(rows) == [("path", str(first)), ("path", str(second))], "a link to the first is the first"
    assert len({row.id for row in rows}) == 2


def test_environments_in_the_usual_places_and_those_that_conda_lists(home: Home, tmp_path: Path) -> None:
    expected = []
    for folder in (
        home.folder / ".venv",
        home.folder / "venv",
        home.folder / "work" / ".venv",
        home.folder / ".virtualenvs" / "one",
        home.folder / "data" / "uv" / "tools" / "llama",
    ):
        expected.append(("venv", str(write_environment(folder, llama_cpp_python="0.3.36"))))
    for folder in (home.folder / "miniforge3", home.folder / "miniconda3" / "envs" / "gpu", tmp_path / "far" / "env"):
        expected.append(("conda", str(write_environment(folder, conda=True, llama_cpp_python="0.3.36"))))
    (home.folder / ".conda").mkdir()
    (home.folder / ".conda" / "environments.txt").write_text(f"{tmp_path}/far/env\n{tmp_path}/gone\n", "utf-8")
    rows = found(home, "llama-cpp-python")
    assert sorted(places(rows)) == sorted(expected)
    assert {row.build for row in rows} == {"llama-cpp-python 0.3.36"}
    assert not list(tmp_path.rglob("was-run")), "nobody was started"


def test_the_active_environment_comes_first_and_only_once(home: Home) -> None:
    write_environment(home.folder / ".venv", llama_cpp_python="0.3.1")
    active = write_environment(home.folder / "venv", llama_cpp_python="0.3.2")
    rows = found(home, "llama-cpp-python", VIRTUAL_ENV=str(home.folder / "venv"))
    assert rows[0].executable == str(active)
    assert len(rows) == 2


def test_a_folder_that_only_looks_like_an_environment_is_none(home: Home) -> None:
    python = write_environment(home.folder / ".venv", llama_cpp_python="0.3.1")
    python.chmod(0o644)
    assert found(home, "llama-cpp-python") == []
    (home.folder / "venv").write_text("a file")
    assert found(home, "llama-cpp-python") == []


def test_vllm_is_found_but_said_not_to_be_usable_yet(home: Home) -> None:
    python = write_environment(home.folder / "vllm-env" / "venv", vllm="0.11.2")
    write_script(home.bin / "vllm", "").write_text(f"#!{python}\nfrom vllm import main\n", "utf-8")
    rows = found(home, "vllm")
    assert places(rows) == [("path", str(python))]
    assert (rows[0].build, rows[0].accelerator) == ("vllm 0.11.2", "cuda")
    if rows[0].problem:
        assert "cannot launch it yet" in rows[0].problem
        view = next(row for row in views(home.paths, home.environment) if row.family == "vllm")
        assert (view.title, view.available) == ("vLLM", False)


def test_the_installers_folders_newest_first_and_one_build_for_two_families(home: Home) -> None:
    for number, name in enumerate(("llama.cpp-1-cpu", "llama.cpp-2-cpu")):
        write_environment(home.paths.engines / name, xllamacpp=f"{number + 1}.0")
        record = EngineRecord(
            family="llama.cpp", package="xllamacpp", version=f"{number + 1}.0", accelerator="cpu", installed_at_unix=number
        )  # fmt: skip
        (home.paths.engines / name / RECORD).write_bytes(msgspec.json.encode(record))
    both = home.paths.engines / "llama-cpp-python-1-cuda"
    write_environment(both, llama_cpp_python="0.3.36")
    write_llama_server(both / "native" / "llama-server")
    shared = EngineRecord(
        family="llama-cpp-python", package="llama-cpp-python", version="0.3.36", accelerator="cuda", installed_at_unix=9,
        library_folder="native", programs={"llama-server": "native/llama-server", "llama-cpp-python": "bin/python"},
    )  # fmt: skip
    (both / RECORD).write_bytes(msgspec.json.encode(shared))
    assert [row.id for row in found(home, "llama.cpp")] == ["llama.cpp-2-cpu", "llama.cpp-1-cpu"]
    for family in ("llama-server", "llama-cpp-python"):
        row = found(home, family)[0]
        assert (row.id, row.source, row.accelerator) == (both.name, "ours", "cuda")
        assert row.library_folder == str(both / "native")


@pytest.mark.parametrize("record", [b"", b"{", b'{"family": 3}', b"\xff" * 10])
def test_a_broken_record_is_no_engine(home: Home, record: bytes) -> None:
    write_environment(home.paths.engines / "llama.cpp-1-cpu", xllamacpp="1")
    (home.paths.engines / "llama.cpp-1-cpu" / RECORD).write_bytes(record)
    assert found(home, "llama.cpp", PATH="/nowhere") == [row for row in found(home, "llama.cpp") if row.source == "own"]


def test_what_a_variable_names_wins_even_when_it_is_not_there(home: Home) -> None:
    write_environment(home.folder / ".venv", llama_cpp_python="0.3.1")
    gone = {"ENGINE_ROOM_LLAMA_CPP_PYTHON": "/nowhere/bin/python"}
    row = found(home, "llama-cpp-python", **gone)[0]
    assert (row.source, "/nowhere/bin/python" in row.problem) == ("variable", True)
    assert find("llama-cpp-python", home.paths, {**home.environment, **gone}) is None


# --- added places ----------------------------------------------------------------------------------------------------


def test_a_place_may_be_a_program_an_interpreter_an_environment_or_a_folder_with_builds(tmp_path: Path) -> None:
    program = write_llama_server(tmp_path / "fork" / "my-server")
    python = write_environment(tmp_path / "env", llama_cpp_python="0.3.36", xllamacpp="1.0")
    builds = [
        write_llama_server(tmp_path / "builds" / "llama-b8000" / "llama-server"),
        write_llama_server(tmp_path / "builds" / "llama.cpp" / "build-cuda" / "bin" / "llama-server"),
    ]
    assert [row.executable for row in at(program)] == [str(program)]
    for place in (python, tmp_path / "env"):
        assert {row.family for row in at(place)} == {"llama.cpp", "llama-cpp-python"}
    rows = at(tmp_path / "builds")
    assert {row.executable for row in rows} == {str(one) for one in builds}
    assert {row.version for row in rows} == {"b8000", ""}
    assert at(tmp_path / "nothing") == ()


def test_added_places_are_kept_and_searched(home: Home, tmp_path: Path) -> None:
    program = write_llama_server(tmp_path / "fork" / "llama-server")
    choices(home, places=(str(program), str(tmp_path / "gone")))
    assert places(found(home, "llama-server", PATH="/nowhere")) == [("file", str(program))]


@pytest.mark.parametrize("text", ["pins = 3", "places = [1]", "= broken", "\udcff"])
def test_a_broken_file_of_choices_is_told_and_never_overwritten(home: Home, text: str) -> None:
    """I8: bad input, and nothing is lost."""
    file = home.paths.engine_choices
    file.write_bytes(text.encode(errors="surrogateescape"))
    before = file.read_bytes()
    with pytest.raises(SettingInvalid, match=r"engines\.toml"):
        change_choices(file, lambda _: Choices(places=("/x",)))
    assert file.read_bytes() == before
    assert choices_or_none(file) == Choices()
    assert find("llama-server", home.paths, {**home.environment, "PATH": "/nowhere"}) is None


def test_choices_survive_being_written(home: Home) -> None:
    choices(home, pins={"llama.cpp": "x"}, places=('/a "quoted" place',))
    assert read_choices(home.paths.engine_choices) == Choices(pins={"llama.cpp": "x"}, places=('/a "quoted" place',))


# --- pins ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(home: Home, tmp_path: Path) -> list[Installation]:
    for name in ("a", "b"):
        write_llama_server(tmp_path / name / "llama-server")
    home.environment["PATH"] = f"{tmp_path / 'a'}:{tmp_path / 'b'}"
    write_llama_server(tmp_path / "elsewhere" / "llama-server")
    return found(home, "llama-server")


def pinned(home: Home, pin: str = "") -> str | None:
    row = find("llama-server", home.paths, home.environment, pin)
    return row.executable if row else None


def test_the_familys_pin_decides_and_a_profiles_pin_goes_before_it(
    home: Home, three: list[Installation], tmp_path: Path
) -> None:
    a, b = three[0].executable, three[1].executable
    assert pinned(home) == a
    choices(home, pins={"llama-server": three[1].id})
    assert pinned(home) == b
    assert pinned(home, three[0].id) == a
    assert pinned(home, a) == a, "by path"
    assert pinned(home, str(tmp_path / "elsewhere" / "llama-server")) == str(tmp_path / "elsewhere" / "llama-server")
    home.environment["ENGINE_ROOM_LLAMA_SERVER"] = a
    assert pinned(home) == a, "a variable is the word for this session"
    assert pinned(home, three[1].id) == b


def test_a_pin_that_leads_nowhere_is_not_replaced_by_something_else(home: Home, three: list[Installation]) -> None:
    choices(home, pins={"llama-server": "llama-server-00000000"})
    assert pinned(home) is None
    with pytest.raises(EngineNotInstalled) as refusal:
        need(Profile(id="p", title="P", engine="llama-server", model=""), home.paths, home.environment)
    assert "llama-server-00000000" in refusal.value.summary
    assert "engines unpin llama-server" in refusal.value.advice
    assert three[0].id in refusal.value.advice, "what is there is named"


def test_an_id_stays_while_the_engine_stays_where_it_is(home: Home, three: list[Installation], tmp_path: Path) -> None:
    write_llama_server(tmp_path / "a" / "llama-server", version="echo 'version: 9999 (new)'")
    assert found(home, "llama-server")[0].id == three[0].id


def test_choosing_and_its_sentences() -> None:
    good = Installation(family="llama-server", executable="/a/llama-server", id="one", build="b1")
    bad = Installation(family="llama-server", executable="/b/llama-server", id="two", problem="It crashes.")
    other = Installation(family="vllm", executable="/v/bin/python", id="three")
    assert choose([bad, good], "") is good, "one that cannot be used is passed over"
    assert choose([bad, good], "two") is None
    assert choose([], "") is None
    assert effective_pin([good], "mine", "family") == "mine"
    assert effective_pin([msgspec.structs.replace(good, source="variable")], "", "family") == ""
    said = why_none("llama-server", [bad, good], "two", "writer")
    assert said.summary == "writer asks for two (CPU), which cannot be used: It crashes."
    assert "`installation`" in said.advice
    assert "one (b1, CPU)" in said.advice
    assert "one of vLLM" in why_none("llama-server", [good, other], "three", "writer").summary
    assert "It crashes." in why_none("llama-server", [bad], "").summary
    assert why_none("llama-server", [], "").summary.endswith("is not installed.")
    assert len(why_none("llama-server", [], "x" * 10_000).summary) < 300


@pytest.mark.parametrize(
    ("words", "accelerator"),
    [("cu128", "cuda"), ("server-cuda12", "cuda"), ("cpu", "cpu"), ("rocm6.3", "rocm"), ("server", ""), ("accu", "")],
)
def test_what_a_name_says_of_the_accelerator(words: str, accelerator: str) -> None:
    assert accelerator_in(words) == accelerator
