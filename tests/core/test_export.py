"""What is written down runs as the launch would: every argument and variable arrives as it was (E9, I18)."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.core.errors import SettingInvalid
from app.core.export import Container, Launchable, Variable, compose_file, shell_script, systemd_unit
from tests.rig.docker.composing import PROGRAMS, compose_words
from tests.rig.written import compose, unit, unit_words

NASTY = (
    "", " ", "a b", "-n", "--", "-e x", "'", '"', "''", '"quoted"', "it's", "\\", "a\\", "\\n", "\\x41", "$", "$HOME",
    "${HOME}", "$$", "$(id)", "`id`", "%", "%h", "%%", "100 %", ";", "; id", "\\;", "#", "# no", "&", "|", "*", "~", "!",
    "a\nb", "\n", "\t", "line\\\nnext", "é", "日本語", "🚀", "\u2028", "\x85", "\x7f", "\x01", "yes", "null", "1.0", "=", "a=b",
    "{a}", "[1]", ": ", "- x", "@x", "+x", "-x", ":x",
)  # fmt: skip
TEXT = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.lists(st.sampled_from(NASTY), max_size=3).map("".join),
)
ARGUMENTS = st.lists(TEXT, max_size=8)
NAMES = st.sampled_from(["A", "LLAMA_ARG_X", "_x1", "HF_HOME", "IFS", "UID", "RANDOM", "SHELLOPTS", "NO", "y", "null"])
VALUES = st.dictionaries(NAMES, TEXT, max_size=3)


def systemd_takes(text: str) -> bool:
    """Unit files hold no character that Unicode has set apart for nobody, and variables no control character."""
    return not any(0xFDD0 <= ord(sign) <= 0xFDEF or ord(sign) & 0xFFFE == 0xFFFE for sign in text)


def of(*argv: str | Variable, environment: dict[str, str] | None = None, **more: object) -> Launchable:
    return Launchable(
        id="demo", title="Demo", argv=argv or ("/bin/engine",), port=8080, environment=environment or {}, **more
    )  # type: ignore[arg-type]


PORT = Variable(name="ENGINE_PORT", default="8080")


# --- the shell script -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[list[str], dict[str, str]]]:
    """Executes a script whose program says what it was given."""
    folder = tmp_path_factory.mktemp("script")
    shows = folder / 'it\'s a $HOME of "engines"'
    shows.mkdir()
    program = shows / "shows it"
    program.write_text(
        f"#!{Path(sys.executable).resolve()} -IS\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))\n"
    )
    program.chmod(0o755)
    (shows / "shows=it").symlink_to(program)
    script = folder / "script.sh"

    def runs(launch: Launchable, **environment: str) -> tuple[list[str], dict[str, str]]:
        whole = replace(launch, argv=(str(shows / (str(launch.argv[0]) or "shows it")), *launch.argv[1:]))
        script.write_text(shell_script(whole).text, "utf-8")
        about = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", **environment}
        done = subprocess.run(["bash", str(script)], env=about, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, "bash", done.stdout, done.stderr)
        argv, folder_of_it, seen = json.loads(done.stdout)
        assert folder_of_it == "/"
        return argv, seen

    return runs


@settings(max_examples=60)
@given(argv=ARGUMENTS, environment=VALUES)
@example(argv=list(NASTY), environment={})
@example(argv=["\x80"], environment={"IFS": "\x80", "UID": "x", "A": "\n"})
def test_a_script_hands_everything_on_as_it_is(
    run: Callable[..., tuple[list[str], dict[str, str]]], argv: list[str], environment: dict[str, str]
) -> None:
    seen_argv, seen = run(of("", *argv, environment=environment))
    assert seen_argv == argv
    assert {name: seen.get(name) for name in environment} == environment


def test_a_program_whose_name_looks_like_a_variable_is_started(
    run: Callable[..., tuple[list[str], dict[str, str]]],
) -> None:
    argv, seen = run(of("shows=it", "a b", environment={"A": "x y"}))
    assert (argv, seen["A"]) == (["a b"], "x y")


def test_a_script_drops_what_would_change_the_engine_unseen(
    run: Callable[..., tuple[list[str], dict[str, str]]],
) -> None:
    launch = of("", environment={"LLAMA_OURS": "1"}, scrub=("LLAMA_*", "PORT"))
    _, seen = run(launch, LLAMA_ARG_CTX_SIZE="17", PORT="1", PORTAL="stays")
    assert (seen.get("LLAMA_ARG_CTX_SIZE"), seen.get("PORT")) == (None, None)
    assert (seen["LLAMA_OURS"], seen["PORTAL"]) == ("1", "stays")


def test_a_script_takes_port_and_keys_from_outside(
    run: Callable[..., tuple[list[str], dict[str, str]]], tmp_path: Path
) -> None:
    """I18: keys come from a file; without them the script says which file it wants."""
    launch = of("", "--port", PORT, Variable(name="ENGINE_SECRET_1"), secrets=("HF_TOKEN",), scrub=("HF_*",))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        run(launch)
    assert "HF_TOKEN" in refused.value.stderr
    assert "demo.env" in refused.value.stderr
    file = tmp_path / "keys of mine.env"
    file.write_text("# mine\n\nHF_TOKEN=a b=$c'\"\nENGINE_SECRET_1=--api-key=x y", "utf-8")
    argv, seen = run(launch, ENGINE_ENVIRONMENT=str(file), HF_HOME="/inherited", ENGINE_PORT="9999")
    assert argv == ["--port", "9999", "--api-key=x y"]
    assert seen["HF_TOKEN"] == "a b=$c'\""
    assert "HF_HOME" not in seen


# --- the systemd unit ------------------------------------------------------------------------------------------------


@given(argv=ARGUMENTS.filter(lambda texts: all(map(systemd_takes, texts))))
@example(argv=list(NASTY))
def test_a_unit_says_every_argument_as_it_is(argv: list[str]) -> None:
    started = unit(systemd_unit(of("/bin/engine", *argv, PORT)).text)
    assert started.argv == ["/bin/engine", *argv, "8080"]
    assert started.raw["Restart"] == "no"


@given(environment=VALUES)
@example(environment={"A": "a\n\tb $HOME %h \"'\\ \\x41 é"})
def test_a_unit_says_every_variable_as_it_is_or_refuses(environment: dict[str, str]) -> None:
    whole = "".join(environment.values())
    if systemd_takes(whole) and not re.search(r"[\x01-\x08\x0b-\x1f\x7f-\x9f]", whole):
        text = systemd_unit(of(environment=environment)).text
        assert unit(text).environment == {"ENGINE_PORT": "8080", **environment}
    else:
        with pytest.raises(SettingInvalid, match="systemd"):
            systemd_unit(of(environment=environment))


@given(program=TEXT.filter(lambda text: text and systemd_takes(text)))
def test_a_program_with_an_odd_name_is_still_started(program: str) -> None:
    started = unit(systemd_unit(of("/" + program, "x")).text)
    direct, through = ["/" + program, "x"], ["/bin/sh", "-c", 'exec "$@"', "sh", "/" + program, "x"]
    assert started.argv in (direct, through)


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine"
)


@needs_systemd
@settings(max_examples=25)
@given(argv=ARGUMENTS.filter(lambda texts: all(map(systemd_takes, texts))), environment=VALUES)
@example(argv=list(NASTY), environment={"A": "a\n\tb $HOME %h \"'\\ \\x41 é"})
@example(argv=[], environment={})
def test_systemd_itself_reads_the_unit_as_the_test_does(
    tmp_path_factory: pytest.TempPathFactory, argv: list[str], environment: dict[str, str]
) -> None:
    """`systemd-analyze verify` finds no fault, and its own dump of the unit shows the words that were meant."""
    try:
        made = systemd_unit(of("/bin/sh", *argv, PORT, environment=environment, scrub=("LLAMA_*", "PORT")))
    except SettingInvalid:
        return
    folder = tmp_path_factory.mktemp("unit")
    file = folder / made.file_name
    file.write_text(made.text, "utf-8")
    about = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "LC_ALL": "C.UTF-8"}
    verify = ["systemd-analyze", "--user", "verify", str(file)]
    quiet = subprocess.run(verify, env=about, capture_output=True, text=True, timeout=60)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    told = subprocess.run(
        verify, env={**about, "SYSTEMD_LOG_LEVEL": "debug"}, capture_output=True, timeout=60
    ).stdout.decode("utf-8", "surrogateescape")
    line = re.search(r"^\s*Command Line: (.*)$", told, re.MULTILINE)
    if line is None:
        pytest.skip("this systemd-analyze does not show the command lines that it has read")
    assert shell_words(line[1]) == unit_words(made.text)


def shell_words(line: str) -> list[str]:
    """The words of systemd's own dump: double quotes with C escapes where they are needed."""
    words = []
    for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|([^ ]+)', line):
        text = quoted or plain
        data = re.sub(
            rb"\\(?:([0-7]{3})|(.))",
            lambda found: (
                bytes([int(found[1], 8)])
                if found[1]
                else {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}.get(
                    found[2], found[2]
                )
            ),
            text.encode("utf-8", "surrogateescape"),
        )
        words.append(data.decode("utf-8"))
    return words


# --- the compose file ------------------------------------------------------------------------------------------------


@given(argv=ARGUMENTS, environment=VALUES, source=TEXT, target=TEXT)
@example(argv=list(NASTY), environment={}, source="/a: b", target="/$x")
def test_a_compose_file_says_everything_as_it_is(
    argv: list[str], environment: dict[str, str], source: str, target: str
) -> None:
    container = Container(image="image:tag", entrypoint=("/bin/sh", "-c", 'exec "$@"'), mounts={source: target})
    started = compose(compose_file(of(*argv, PORT, environment=environment), container).text)
    assert started.argv == ["/bin/sh", "-c", 'exec "$@"', *argv, "8080"]
    assert started.environment == environment
    (volume,) = started.raw["volumes"]
    assert (volume["source"], volume["target"], volume["read_only"]) == (source, target, True)


def test_a_compose_file_publishes_on_this_machine_only_and_asks_for_the_cards() -> None:
    """I20: the engine listens on all of the container's addresses, and is published on the loopback."""

    def service(**more: object) -> dict[str, object]:
        made = compose_file(of("x", PORT), Container(image="i", entrypoint=("e",), **more))  # type: ignore[arg-type]
        return compose(made.text, {"ENGINE_PORT": "9000"}).raw

    plain = service()
    assert plain["ports"] == ["127.0.0.1:9000:8080"]
    assert plain["restart"] == "no"
    assert not {"deploy", "devices"} & plain.keys()

    def cards(found: dict[str, object]) -> dict[str, object]:
        (reserved,) = found["deploy"]["resources"]["reservations"]["devices"]  # type: ignore[index]
        return dict(reserved)

    assert cards(service(cards=("GPU-1", "GPU-2")))["device_ids"] == ["GPU-1", "GPU-2"]
    assert cards(service(cards=()))["count"] == "all"
    assert service(devices=("/dev/kfd",))["devices"] == ["/dev/kfd"]


def test_a_compose_file_takes_keys_from_outside() -> None:
    """I18: keys, in variables or in arguments, come from the environment or its file; without them nothing starts."""
    launch = of("x", Variable(name="ENGINE_SECRET_1"), secrets=("HF_TOKEN",), key_name="LLAMA_API_KEY")
    made = compose_file(launch, Container(image="i", entrypoint=("e",)))
    keys = {"HF_TOKEN": "a b=$c'\"", "ENGINE_SECRET_1": "--api-key=x y"}
    for name in keys:
        with pytest.raises(AssertionError, match=rf"put {name}=\.\.\. into demo\.env"):
            compose(made.text, {other: value for other, value in keys.items() if other != name})
    started = compose(made.text, keys)
    assert started.argv == ["e", "x", "--api-key=x y"]
    assert started.environment == {"HF_TOKEN": keys["HF_TOKEN"]}, "no key is asked for unless one is given"
    assert compose(made.text, {**keys, "LLAMA_API_KEY": "mine"}).environment["LLAMA_API_KEY"] == "mine"
    assert "docker compose -p engine-room-demo --env-file demo.env -f demo.compose.yaml up" in made.notes[0]


def test_a_compose_file_is_in_the_words_that_each_docker_compose_knows() -> None:
    """1.29 refuses a `name`, an env_file that may be absent, and `create_host_path`; 2.40 makes an empty folder of a file
    that is not there, unless the mount says more than its paths. Two files in one folder are one project to both."""
    launch = replace(of("x", PORT, environment={"NO": "1"}, key_name="Y"), id="no")
    text = compose_file(launch, Container(image="i", entrypoint=("e",), mounts={"/a": "/b"})).text
    project = yaml.safe_load(text)
    assert project.keys() == {"services"}
    assert project["services"].keys() == {"no"}
    service = project["services"]["no"]
    assert "env_file" not in service
    assert service["environment"] == {"NO": "1", "Y": None}
    assert [volume["bind"] for volume in service["volumes"]] == [{"propagation": "rprivate"}]


@pytest.mark.parametrize("program", PROGRAMS)
def test_docker_compose_takes_the_file(tmp_path: Path, program: str) -> None:
    """Where there is one, it reads the file as the test does; it needs no service for that. Three texts are spoilt by how
    some versions print what they have read; the story with a real Docker (end2end/test_compose.py) has those as well."""
    words = compose_words(program)
    nasty = [text for text in NASTY if text not in ("\x85", "=", "\n")]
    container = Container(image="i", entrypoint=("e",), mounts={"/a: b": "/$x"}, cards=("GPU-1",), ipc="host")
    launch = of(*nasty, PORT, environment={"NO": "$x", "A": "".join(nasty)}, key_name="LLAMA_API_KEY")
    file = tmp_path / "compose.yaml"
    for asking, gpus in ((container, {"device_ids": ["GPU-1"]}), (replace(container, cards=()), {})):
        file.write_text(compose_file(launch, asking).text, "utf-8")
        done = subprocess.run([*words, "-f", str(file), "config"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        read = compose(done.stdout)
        assert read.argv == ["e", *nasty, "8080"]
        assert read.environment == {"NO": "$x", "A": "".join(nasty)}
        assert (read.raw["volumes"][0]["source"], read.raw["volumes"][0]["target"]) == ("/a: b", "/$x")
        (asked,) = read.raw["deploy"]["resources"]["reservations"]["devices"]
        assert gpus.items() <= asked.items()


# --- what none can say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [shell_script, systemd_unit, lambda launch: compose_file(launch, Container(image="i", entrypoint=()))])  # fmt: skip
def test_what_cannot_be_written_is_refused_by_a_sentence(make: Callable[[Launchable], object]) -> None:
    for launch, told in (
        (of("a\0b"), "UTF-8"),
        (of("caf\udce9"), "UTF-8"),
        (of(environment={"A": "\0"}), "UTF-8"),
        (of(environment={"my-name": "x"}), "my-name"),
        (of(environment={"A=B": "x"}), "A=B"),
    ):
        with pytest.raises(SettingInvalid, match=told):
            make(launch)


def test_a_title_changes_nothing() -> None:
    """A title is any text; in a comment or a description it must not end a line or continue one."""
    title = 'x\nExecStart=/bin/false\r# %h $HOME "\\'
    nasty = Launchable(id="demo", title=title, argv=("/bin/engine",), port=8080)
    assert unit(systemd_unit(nasty).text).argv == ["/bin/engine"]
    assert "%%h" in systemd_unit(nasty).text
    assert subprocess.run(["bash", "-n"], input=shell_script(nasty).text, text=True).returncode == 0
    assert "/bin/false" not in yaml.safe_load(compose_file(nasty, Container(image="i", entrypoint=())).text)
    script = shell_script(nasty).text.splitlines()
    assert [line for line in script if "/bin/false" in line] == [script[1]]
