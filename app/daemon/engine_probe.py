"""Asks an installed engine what it is: `--version`, `--list-devices` and `--help` in short-lived processes, remembered by file.

An engine is foreign code: it may hang, print without end, lack a library or an instruction. So each question has a deadline
and a bound on its answer, runs in a session of its own that is killed as a whole, dies with us, and sees only an environment
of plain names. Nothing of an engine is ever imported here.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from app.core.errors import StorageError
from app.daemon.asking import ANSWER_SECONDS, Answer, ask
from app.daemon.settings_file import write_whole
from app.engines.base import Installation
from app.engines.llama_cpp import HOST_SCRIPT
from app.engines.vllm import PROGRAM as VLLM_PROGRAM

FACTS_FORM = 3  # of the remembered facts: another one is not read
PACKAGES = {"llama.cpp": "xllamacpp", "llama-cpp-python": "llama-cpp-python", "vllm": "vllm"}  # family → package
FACTS_KEPT = 200
VLLM_SECONDS = 120.0  # for its help it imports all of itself

_HOSTED_DEVICES = (
    "import xllamacpp\n"
    "print('Available devices:')\n"
    "for one in xllamacpp.get_device_info():\n"
    "    if 'TYPE_CPU' not in repr(one['type']): print(f\"  {one['name']}: {one['description']} (0 MiB)\")\n"
)


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says of itself. `flags` is None when it cannot be known; `lasting` facts hold until its files change."""

    version: str = ""
    build: str = ""
    devices: tuple[str, ...] = ()
    told_devices: bool = False  # whether it said what it computes on: without a device that means the processor
    features: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    problem: str = ""
    note: str = ""
    lasting: bool = True


# --- what the answers mean -------------------------------------------------------------------------------------------

_OLD_VERSION = re.compile(r"^version:\s*(\d+)\s*\((\w+)\)", re.MULTILINE)
_VERSION = re.compile(r"^version:\s*(\S+)\s*\(build\s*(\d+),\s*commit\s*(\w+)\)", re.MULTILINE)
_DEVICE = re.compile(r"^\s+([\w.:-]+): (.+?)(?: \(\d+ MiB.*\))?$", re.MULTILINE)

# feature → flags of which one is enough
_FEATURES: dict[str, tuple[str, ...]] = {
    "metrics": ("--metrics",),
    "slots": ("--slots",),
    "fit": ("--fit",),
    "lora": ("--lora", "--lora_path"),
    "mmproj": ("--mmproj", "--clip_model_path"),
    "draft": ("--model-draft", "--spec-draft-model", "--draft_model"),
    "grammar": ("--grammar",),
    "embeddings": ("--embeddings", "--embedding"),
    "rerank": ("--reranking", "--rerank"),
    "jinja": ("--jinja",),
    "json log": ("--log-jsonl",),
    "sleep": ("--sleep-idle-seconds",),
}


def version_of(text: str) -> tuple[str, str]:
    """(version, build) of llama-server's `--version`; ("", "") when it says neither.

    Builds before llama.cpp had versions say a number only, which releases write as b1234.
    """
    if found := _VERSION.search(text):
        version, number, commit = found.groups()
        return version, f"{version} ({f'b{number}, ' if int(number) else ''}{commit[:9]})"
    if found := _OLD_VERSION.search(text):
        return f"b{found[1]}", f"b{found[1]} ({found[2][:9]})"
    return "", ""


_DEVICES_BEGIN = "Available devices:"


def devices_of(text: str) -> tuple[str, ...]:
    """ "CUDA0: NVIDIA GeForce RTX 4090" for each line of `--list-devices`."""
    _, _, rows = text.partition(_DEVICES_BEGIN)
    return tuple(f"{name}: {words}" for name, words in _DEVICE.findall(rows))


_FLAG = re.compile(r"-{1,2}[A-Za-z0-9][\w.-]*")
_VALUE = re.compile(r"[ =](?:\{[^}]*\}|\[[^\]]*\]|[^\s,]+)(?=,\s*-)")
_MORE = re.compile(r",\s*(?=-)")


def flags_of(text: str) -> frozenset[str]:
    """Every flag that a `--help` lists, whether it is llama-server's or one of Python's argparse.

    Flags stand at the beginning of a line, several of them with commas between; what follows is their value and their text.
    """
    flags: set[str] = set()
    for line in text.splitlines():
        rest = line.lstrip()
        if len(line) - len(rest) > 8:
            continue  # a text that goes on
        while found := _FLAG.match(rest):
            flags.add(found[0])
            rest = rest[found.end() :]
            if value := _VALUE.match(rest):
                rest = rest[value.end() :]
            more = _MORE.match(rest)
            if not more:
                break
            rest = rest[more.end() :]
    return frozenset(flags)


def features_of(flags: Iterable[str]) -> tuple[str, ...]:
    known = frozenset(flags)
    return tuple(name for name, ways in _FEATURES.items() if known.intersection(ways))


def refusal(answer: Answer) -> str:
    """Why a program could not even start, as the end of a sentence; "" when it could."""
    code = answer.code
    if code is None or code == 0:
        return ""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number == signal.SIGILL:
        return "it needs CPU instructions that this processor lacks"
    if number:
        try:
            return f"it crashes as soon as it is started ({signal.Signals(number).name})"
        except ValueError:
            pass
    line = _telling_line(answer.text)
    if code in (126, 127) or "shared librar" in line:
        return line or "it cannot be executed"
    return ""


def _telling_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "cannot" in line]
    return (telling or lines or [""])[-1].rstrip(".")[:300]


# --- one installation ------------------------------------------------------------------------------------------------


def learn(
    installation: Installation,
    environment: Mapping[str, str],
    *,
    seconds: float = ANSWER_SECONDS,
    stop: threading.Event | None = None,
) -> Facts:
    """What the installation says of itself, by as many questions as its family needs; nothing for those not ours to start."""
    program = installation.executable

    def answer(*arguments: str, **variables: str) -> Answer:
        longest = max(seconds, VLLM_SECONDS) if installation.family == "vllm" else seconds
        return ask((program, *arguments), {**environment, **variables}, seconds=longest, stop=stop)

    match installation.family:
        case "llama-server":
            native = _of_native(answer("--version"), answer("--help"), lambda: answer("--list-devices"))
            return _with_what_it_lacks(native, installation.accelerator)
        case "llama.cpp":
            started = answer("-I", "-c", _HOSTED_DEVICES)
            facts = _of_python(started, answer("-I", str(HOST_SCRIPT), "--help"))
            facts = replace(facts, features=("metrics", "slots", *facts.features))  # our host turns them on
            return _with_what_it_lacks(facts, installation.accelerator)
        case "llama-cpp-python":
            libraries = {"LLAMA_CPP_LIB_PATH": installation.library_folder} if installation.library_folder else {}
            started = answer("-I", "-m", "llama_cpp.server", "--help", **libraries)
            return _of_python(started, started)
        case "vllm":
            return _of_vllm(lambda word: answer("-I", "-m", VLLM_PROGRAM, "serve", word))
    return Facts()


def _of_native(version: Answer, help_text: Answer, list_devices: Callable[[], Answer]) -> Facts:
    if problem := refusal(version):
        return Facts(problem=f"{problem}.", lasting=False)
    name, build = version_of(version.text)
    flags = flags_of(help_text.text) if help_text.code == 0 else frozenset()
    if version.code != 0 and not flags and not version.why:
        line = _telling_line(version.text) or f"it ends with {version.code}"
        return Facts(problem=f"it does not even tell its version: {line}.", lasting=False)
    devices = list_devices() if "--list-devices" in flags else None
    notes = [
        f"asked for {question}, {answer.why}" if answer.why else f"asked for {question}, it ends with {answer.code}"
        for question, answer in (("its version", version), ("its flags", help_text), ("its devices", devices))
        if answer is not None and answer.code != 0
    ]
    return Facts(
        version=name,
        build=build,
        devices=devices_of(devices.text) if devices is not None and devices.code == 0 else (),
        told_devices=devices is not None and devices.code == 0 and _DEVICES_BEGIN in devices.text,
        features=features_of(flags),
        flags=tuple(sorted(flags)) or None,
        note=_sentence("; ".join(notes)),
        lasting=not notes,
    )


def _of_python(started: Answer, help_text: Answer) -> Facts:
    """A package's version stands in its metadata; here only whether it starts, on what, and with which flags."""
    problem = refusal(started)
    if not problem and started.code not in (0, None):
        problem = _telling_line(started.text) or f"it ends with {started.code}"
    if problem:
        return Facts(problem=f"it does not start: {problem}.", lasting=False)
    flags = flags_of(help_text.text) if help_text.code == 0 else frozenset()
    why = started.why or help_text.why
    return Facts(
        devices=devices_of(started.text) if started.code == 0 else (),
        told_devices=started.code == 0 and _DEVICES_BEGIN in started.text,
        features=features_of(flags),
        flags=tuple(sorted(flags)) or None,
        note=_sentence(f"asked for its flags, {why}" if why else ""),
        lasting=not why,
    )


# What a build for cards needs from the driver, where it starts well and finds none.
_DRIVERS = {
    "cuda": "an NVIDIA card (`nvidia-smi` lists those that answer)",
    "rocm": "an AMD card with ROCm (`rocminfo` lists those that answer)",
    "vulkan": "a card with a Vulkan driver (`vulkaninfo --summary` lists those that answer)",
}


def _with_what_it_lacks(facts: Facts, accelerator: str) -> Facts:
    """A build for cards that finds none works, on the processor, and says nothing of it: we do. It is asked again at each
    look: a driver comes without a change to the engine's files."""
    if not facts.told_devices or facts.devices or accelerator not in _DRIVERS:
        return facts
    words = f"It finds no device for {accelerator.upper()}, so models run on the processor; it needs {_DRIVERS[accelerator]}."
    return replace(facts, note=" ".join(part for part in (words, facts.note) if part), lasting=False)


def _of_vllm(asked: Callable[[str], Answer]) -> Facts:
    """Its flags alone: whether it starts is seen when it is loaded, and its diagnosis tells more than a help's failure."""
    answer = asked("--help=all")
    if answer.code == 2:  # older ones name all of them at once, and take no word
        answer = asked("--help")
    flags = flags_of(answer.text) if answer.code == 0 else frozenset()
    return Facts(flags=tuple(sorted(flags)) or None, lasting=bool(flags))


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def with_facts(installation: Installation, facts: Facts) -> Installation:
    """The installation with what it says of itself over what its files say."""
    return replace(
        installation,
        version=facts.version or installation.version,
        build=facts.build or installation.build,
        devices=facts.devices,
        features=facts.features,
        problem=installation.problem or _sentence(facts.problem.rstrip(".")),
        note=installation.note or facts.note,
    )


def known_flags(
    installation: Installation, environment: Mapping[str, str] | None = None, *, seconds: float = ANSWER_SECONDS
) -> frozenset[str] | None:
    """The flags of the installation's own help, asked now; None when it has none or does not tell."""
    facts = learn(installation, os.environ if environment is None else environment, seconds=seconds)
    return None if facts.flags is None else frozenset(facts.flags)


# --- what is remembered ----------------------------------------------------------------------------------------------


class _Remembered(msgspec.Struct, frozen=True, kw_only=True):
    form: int = FACTS_FORM
    rows: dict[str, tuple[str, Facts]] = {}  # installation → stamp of its files, facts


def stamp_of(installation: Installation) -> str:
    """Changes when the engine's files do: the program and what lies beside it, or the package's own folder."""
    program = Path(installation.executable)
    parts = [program, *sorted(program.resolve().parent.glob("lib*.so*"))]
    if installation.family in PACKAGES:
        name = PACKAGES[installation.family].replace("-", "_")
        metadata = program.parent.parent.glob(f"lib*/python3*/*-packages/{name}-*.dist-info/METADATA")
        parts = [program, HOST_SCRIPT, *sorted(metadata)]
    if installation.library_folder:
        parts += sorted(Path(installation.library_folder).glob("lib*.so*"))
    return " ".join([installation.executable, *(_stamp(part) for part in parts[:200])])


def _key(installation: Installation) -> str:
    return f"{installation.family} {installation.id}"


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:
        return "-"
    return f"{found.st_size}:{found.st_mtime_ns}"


class FactsFile:
    """The facts of every installation that was ever asked, until its files change. Used by one thread at a time."""

    def __init__(self, file: Path, environment: Mapping[str, str], seconds: float = ANSWER_SECONDS) -> None:
        self._file = file
        self._environment = environment
        self._seconds = seconds
        self._rows: dict[str, tuple[str, Facts]] | None = None

    def of(self, installation: Installation) -> Facts | None:
        """What is known already; None when it has to be asked."""
        kept = self._read().get(_key(installation))
        return kept[1] if kept is not None and kept[0] == stamp_of(installation) else None

    def learn(self, installation: Installation, stop: threading.Event) -> Facts:
        """Asks and remembers. A failure is remembered only as long as we run: a library may come, a disk may wake up."""
        stamp = stamp_of(installation)
        try:
            facts = learn(installation, self._environment, seconds=self._seconds, stop=stop)
        except OSError as error:  # no process can be started now
            facts = Facts(note=f"It could not be asked: {error.strerror}.", lasting=False)
        rows = self._read()
        rows.pop(_key(installation), None)
        rows[_key(installation)] = (stamp, facts)
        if facts.lasting:
            self._write()
        return facts

    def forget_failures(self) -> None:
        self._rows = {key: row for key, row in self._read().items() if row[1].lasting}

    def _read(self) -> dict[str, tuple[str, Facts]]:
        if self._rows is None:
            self._rows = {}
            with suppress(OSError, msgspec.DecodeError):
                kept = msgspec.json.decode(self._file.read_bytes(), type=_Remembered)
                if kept.form == FACTS_FORM:
                    self._rows = dict(kept.rows)
        return self._rows

    def _write(self) -> None:
        lasting = {key: row for key, row in self._read().items() if row[1].lasting}
        newest = dict(list(lasting.items())[-FACTS_KEPT:])
        with suppress(StorageError):  # a full disk costs only that the engines are asked again
            write_whole(self._file, msgspec.json.encode(_Remembered(rows=newest)).decode())
