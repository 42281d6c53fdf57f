"""Our tables of settings against the engines themselves: each flag, variable and choice is one that the installed engine knows.

The hosted llama.cpp always; llama-server and llama-cpp-python, built from source, with the marker `engines`.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from app.core.options import Option, OptionKind, Scalar, version_problem
from app.core.profiles import Profile
from app.engines.base import Command, EngineFamily, Installation, Launch
from app.engines.llama_cpp import HOST_SCRIPT
from app.engines.llama_cpp_python import CHAT_TEMPLATE_FLAG  # of our own host around that server
from app.engines.llama_server import ALWAYS
from app.engines.registry import FAMILIES
from tests.rig.home import Home
from tests.rig.real_engines import ENGINES, installation_in

OLDER_BUILDS_ONLY = {"LLAMA_ARG_NO_WEBUI"}  # named for builds of before; today's ignore it


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, home: Home) -> Installation:
    return installation_in(home, request.param)


def run(command: tuple[str, ...], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=120, check=False)


HELPS: dict[str, str] = {}  # asked for once: a Python engine takes its time to say it


def help_of(engine: Installation) -> str:
    if engine.family not in HELPS:
        HELPS[engine.family] = asked_for_help(engine)
    return HELPS[engine.family]


def asked_for_help(engine: Installation) -> str:
    command = {
        "llama-server": (engine.executable, "--help"),
        "llama.cpp": (engine.executable, "-I", str(HOST_SCRIPT), "--help"),
        "llama-cpp-python": (engine.executable, "-I", "-m", "llama_cpp.server", "--help"),
    }[engine.family]
    done = run(command, {"COLUMNS": "200", **launched(engine, {}).environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


def launched(engine: Installation, settings: dict[str, Scalar]) -> Command:
    profile = Profile(id="p", title="p", engine=engine.family, model="/none.gguf", settings=settings)
    launch = Launch(
        profile=profile, model_path="/none.gguf", installation=engine, port=1, run_id="r", model_name="p", physical_cores=2
    )  # fmt: skip
    return FAMILIES[engine.family].command(launch)


def options_of(engine: Installation) -> list[Option]:
    """Those that this version has."""
    return [option for option in FAMILIES[engine.family].options if version_problem(option, engine.version) is None]


def entries(text: str) -> dict[str, str]:
    """Each flag of a help with all that is said about it."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\s{0,2}-)", text):
        head = re.split(r"\s{2,}(?![-\s])|\n", entry.strip(), maxsplit=1)[0]
        for flag in re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", head):
            found[flag] = entry
    return found


def test_every_flag_and_variable_of_the_table_is_known_to_the_engine(engine: Installation) -> None:
    known = entries(help_of(engine))
    for option in options_of(engine):
        for flag in filter(None, (option.flag, option.flag_off)):
            assert flag in known or flag == CHAT_TEMPLATE_FLAG, f"{option.name}: {flag}"
        if option.environment:
            assert f"(env: {option.environment})" in help_of(engine), f"{option.name}: {option.environment}"
    if engine.family == "llama-server":
        for name in set(ALWAYS) - OLDER_BUILDS_ONLY:
            assert f"(env: {name})" in help_of(engine), name


def listed_values(entry: str) -> set[str]:
    """The values that a help lists: {a,b}, [a|b], <0|1>, "allowed values: a, b", or one line for each."""
    text = " ".join(entry.split())
    values = {value for group in re.findall(r"\{([\w+,. -]+)\}", text) for value in group.split(",")}
    values |= {value for group in re.findall(r"\[([\w+.|-]+)\]", text) for value in group.split("|")}
    values |= {value for group in re.findall(r"allowed values: ([\w, ]+)", text) for value in re.split(r"[, ]+", group)}
    values |= set(re.findall(r"^\s+- ([\w+]+)(?: \(default\))?:", entry, re.MULTILINE))
    values |= set(re.findall(r"\w+\((-?\d)\)", text))  # low(-1), normal(0)
    values |= set(re.findall(r"\(default: (\w+)\)", text)) if values else set()
    return {value.strip() for value in values}


def said(engine: Installation, option: Option, value: Scalar) -> str:
    """How a launch says the value to the engine."""
    command = launched(engine, {option.name: value})
    return command.argv[command.argv.index(option.flag) + 1] if option.flag else command.environment[option.environment]


def test_every_choice_of_the_table_is_one_that_the_help_lists(engine: Installation) -> None:
    known = entries(help_of(engine))
    by_variable = {name: entry for entry in known.values() for name in re.findall(r"\(env: (\w+)\)", entry)}
    compared = 0
    for option in options_of(engine):
        entry = known.get(option.flag) or by_variable.get(option.environment, "")
        values = listed_values(entry)
        if option.kind is OptionKind.CHOICE and len(values) > 1:
            compared += 1
            assert {said(engine, option, choice) for choice in option.choices} <= values, f"{option.name}: {entry}"
    assert compared >= 5 or engine.family == "llama-cpp-python", "that one lists nothing"


def values_to_try(option: Option, file: Path) -> list[Scalar]:
    match option.kind:
        case OptionKind.SWITCH:
            return [True, False]
        case OptionKind.CHOICE:
            return list(option.choices)
        case OptionKind.PATH:
            return [str(file.parent if option.folder else file)]
        case OptionKind.TEXT:
            return list(TEXTS.get(option.name, ("text",)))
    least = option.minimum if option.minimum is not None else 0
    most = option.maximum if option.maximum is not None else 1_000_000
    return [int(least), int(most)] if option.kind is OptionKind.INTEGER else [float(least), float(most)]


TEXTS: dict[str, tuple[str, ...]] = {
    "tensor_split": ("3,1",),
    "override_tensor": ("exps=CPU",),
    "chat_template": ("chatml", "llama3", "{{ messages[0].content }}"),
    "chat_template_arguments": ('{"language": "en"}',),
    "grammar": ('root ::= "a"',),
    "override_kv": ("tokenizer.ggml.add_bos_token=bool:false",),
}


def judged(engine: Installation, settings: dict[str, Scalar]) -> "subprocess.CompletedProcess[str]":
    """The engine reads the whole command line of a launch with these settings, then ends: --version comes last."""
    command = launched(engine, settings)
    return run((*command.argv, "--version"), command.environment)


@pytest.mark.engines
def test_every_value_that_the_table_allows_is_one_that_llama_server_takes(home: Home, tmp_path: Path) -> None:
    """Its own reading of flags and variables decides: bounds, choices, forms."""
    engine = installation_in(home, "llama-server")
    family: EngineFamily = FAMILIES["llama-server"]
    file = tmp_path / "file"
    file.write_text('root ::= "a"', "utf-8")
    refused = []
    for option in family.options:
        for value in values_to_try(option, file):
            done = judged(engine, {option.name: value})
            if done.returncode != 0:
                refused.append(f"{option.name} = {value!r}: {done.stderr.strip().splitlines()[-1:]}")
    assert not refused, "\n".join(refused)
    everything = launched(engine, {})
    wrong = run((*everything.argv, "--cache-type-k", "nonsense", "--version"), everything.environment)
    assert wrong.returncode != 0, "it does look at values before it tells its version"
