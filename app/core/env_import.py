"""Turns a `.env` file of the systems that people come from into profiles and settings, and says what of it has no place here.

The names are those of five systems: an audio service and a RAG service in front of vLLM, a voice assistant's proxy, a move
from Ollama to vLLM, and a backend for one 16 GB card. A key never enters a profile: it is named, and its owner keeps it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import dotenv
import msgspec
import tomli_w
from pydantic import ValidationError

from app.core.profiles import slug
from app.core.settings import GatewaySettings

KINDS = {
    **{"llama_cpp": "llama.cpp", "llama.cpp": "llama.cpp", "llamacpp": "llama.cpp", "vllm": "vllm", "ollama": "ollama"},
    **{"local_vllm": "vllm", "vllm_server": "remote", "openai": "remote", "remote": "remote"},
}
KIND_NAMES = ("LLM_BACKEND", "JARVIS_INFERENCE_ENGINE", "LLM_PROVIDER")
MODEL_NAMES = ("JARVIS_MODEL_NAME", "LLM_MODEL", "VLLM_MODEL_PATH", "DEFAULT_MODEL", "OLLAMA_MODEL")
ADDRESS_NAMES = ("LLM_SERVER__BASE_URL", "LLM_BASE_URL")
KEY_NAMES = ("LLM_SERVER__API_KEY", "LLM_API_KEY")
TIMEOUT_NAMES = ("LLM_SERVER__REQUEST_TIMEOUT_SECONDS", "LLM_TIMEOUT", "OLLAMA_TIMEOUT")
NO_KEY = ("", "EMPTY", "ollama", "none", "None")  # what such files say where a server asks for no key
GONE_BACKENDS = ("TORCH_SDPA", "XFORMERS")  # vLLM 0.32 has them no more
# Task → (names of its model, name of its address): each task gets a profile with the task as its alias.
TASKS: dict[str, tuple[tuple[str, ...], str]] = {
    "enhance": (
        ("LLM_SERVER__ENHANCE_MODEL_NAME", "LLM_SERVER__MODEL_ENHANCE", "LLM_ENHANCE_MODEL"),
        "LLM_SERVER__ENHANCE_BASE_URL",
    ),
    "summary": (
        ("LLM_SERVER__SUMMARY_MODEL_NAME", "LLM_SERVER__MODEL_SUMMARY", "LLM_SUM_MODEL"),
        "LLM_SERVER__SUMMARY_BASE_URL",
    ),
}
# Name → (setting of a profile, how its text is read, engines that have it).
SETTINGS: dict[str, tuple[str, Callable[[str], object], tuple[str, ...]]] = {
    "JARVIS_VLLM_TENSOR_PARALLEL_SIZE": ("tensor_parallel", int, ("vllm",)),
    "VLLM_TENSOR_PARALLEL_SIZE": ("tensor_parallel", int, ("vllm",)),
    "JARVIS_VLLM_GPU_MEMORY_UTILIZATION": ("gpu_memory_utilisation", float, ("vllm",)),
    "GPU_MEMORY_UTILIZATION": ("gpu_memory_utilisation", float, ("vllm",)),
    "JARVIS_VLLM_MAX_MODEL_LEN": ("context_tokens", int, ("vllm",)),
    "OLLAMA_NUM_CTX": ("context_tokens", int, ("vllm", "llama.cpp", "ollama")),
    "VLLM_ATTENTION_BACKEND": ("attention_backend", str, ("vllm",)),
}
# Name → why it has no effect here.
EXPLAINED = {
    "VLLM_SERVER_HOST": "every engine stays on this machine; the one endpoint for clients is Engine Room's own.",
    "VLLM_SERVER_PORT": "a free port is taken for each launch; clients use Engine Room's endpoint.",
    "VLLM_BASE_URL": "Engine Room starts the server itself; clients use its endpoint.",
    "OLLAMA_HOST": "a running Ollama is found by this variable when it is set for Engine Room itself.",
    "OLLAMA_BASE_URL": "a running Ollama is found by OLLAMA_HOST when it is set for Engine Room itself.",
    "VLLM_GPU_COUNT": "the cards are those of the profile's `gpus`, else all.",
    "LLAMA_LOG_LEVEL": "every engine's whole log is kept; its levels are filtered when it is read.",
    "DEBUG": "every engine's whole log is kept; its levels are filtered when it is read.",
    "XFORMERS_DISABLED": "vLLM has no xFormers any more.",
    "HF_HOME": "the hub's cache is found by this variable when it is set for Engine Room itself.",
}
KNOWN = {
    *(*KIND_NAMES, *MODEL_NAMES, *ADDRESS_NAMES, *KEY_NAMES, *TIMEOUT_NAMES, *SETTINGS, *EXPLAINED),
    *("CUDA_VISIBLE_DEVICES", *(name for names, address in TASKS.values() for name in (*names, address))),
}


class ImportedProfile(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    text: str  # TOML


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """`settings` are Engine Room's own, by dotted name; `keys` maps the name of a key to the variable that holds it."""

    profiles: tuple[ImportedProfile, ...] = ()
    settings: dict[str, int | float | str] = {}
    keys: dict[str, str] = {}
    notes: tuple[str, ...] = ()


def read_env(text: str) -> dict[str, str]:
    """Name → value of a `.env` file's text, quotes and comments as such files have them; nothing is substituted."""
    values = dotenv.dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}


ProblemOf = Callable[[str, str, object], str | None]  # engine, setting, value → the end of a sentence


def imported_from(
    values: Mapping[str, str], cards: Sequence[str] = (), problem_of: ProblemOf = lambda *_: None
) -> Imported:
    """What `values` mean here; `cards` are the uuids of this machine's cards in their order. What `problem_of` tells of a value
    is said, and the value left out: one bad line is no reason to refuse the others."""
    notes: list[str] = []
    kind = _kind(values, notes)
    keys: dict[str, str] = {}
    key_name = _key_name(values, keys) if kind == "remote" else ""
    shared = _shared(values, kind, key_name, cards, notes, problem_of)
    tasks = [(task, _first(values, names), values.get(address, "")) for task, (names, address) in TASKS.items()]
    wanted: list[tuple[str, str, tuple[str, ...]]]
    wanted = [(model, address, (task,)) for task, model, address in tasks if model or address]
    model = _first(values, MODEL_NAMES)
    if model or not wanted:
        wanted.insert(0, (model, "", ()))
    profiles = _profiles(wanted, shared, kind, values, notes)
    notes += [f"{name}: {EXPLAINED[name]}" for name in EXPLAINED if name in values]
    unknown = sorted(name for name in values if name not in KNOWN)
    if unknown:
        notes.append(f"Not known here and left alone: {', '.join(unknown)}.")
    settings: dict[str, int | float | str] = {}
    name = next((name for name in TIMEOUT_NAMES if values.get(name, "").strip()), "")
    if name:
        _put(settings, "gateway.request_timeout_seconds", values[name].strip(), float, notes, name, _timeout_problem)
    return Imported(profiles=profiles, settings=settings, keys=keys, notes=tuple(notes))


def _first(values: Mapping[str, str], names: Sequence[str]) -> str:
    return next((values[name].strip() for name in names if values.get(name, "").strip()), "")


def _kind(values: Mapping[str, str], notes: list[str]) -> str:
    said = _first(values, KIND_NAMES)
    if said:
        if (kind := KINDS.get(said.lower())) is not None:
            return kind
        notes.append(f"There is no engine {said!r} here; llama.cpp is taken.")
        return "llama.cpp"
    if _first(values, ADDRESS_NAMES) or any(values.get(address) for _, address in TASKS.values()):
        return "remote"
    if any(name in values for name in ("OLLAMA_MODEL", "OLLAMA_HOST")) and "VLLM_MODEL_PATH" not in values:
        return "ollama"
    return "llama.cpp" if _first(values, MODEL_NAMES).lower().endswith(".gguf") else "vllm"


def _key_name(values: Mapping[str, str], keys: dict[str, str]) -> str:
    """A key's name for the profile; its value stays where it is until its owner keeps it."""
    for variable in KEY_NAMES:
        if values.get(variable, "").strip() not in NO_KEY:
            keys["llm-server"] = variable
            return "llm-server"
    return ""


def _shared(
    values: Mapping[str, str],
    kind: str,
    key_name: str,
    cards: Sequence[str],
    notes: list[str],
    problem_of: ProblemOf,
) -> dict[str, object]:
    settings: dict[str, object] = {"key_name": key_name} if key_name else {}
    for name, (setting, read, engines) in SETTINGS.items():
        said = values.get(name, "").strip()
        if not said:
            continue
        if kind not in engines:
            notes.append(f"{name} is not of {kind} and was left out.")
        elif name == "VLLM_ATTENTION_BACKEND" and said in GONE_BACKENDS:
            notes.append(f"{name}: {said} is gone from vLLM; the best one for the card is taken.")
        else:
            _put(settings, setting, said, read, notes, name, partial(problem_of, kind, setting))
    shared: dict[str, object] = {"settings": settings}
    if chosen := _cards(values.get("CUDA_VISIBLE_DEVICES", ""), cards, notes):
        shared["gpus"] = chosen
    return shared


def _put(
    into: dict[str, object] | dict[str, int | float | str],
    setting: str,
    said: str,
    read: Callable[[str], object],
    notes: list[str],
    name: str,
    problem_of: Callable[[object], str | None],
) -> None:
    try:
        value = read(said)
    except ValueError:
        notes.append(f"{name}: {said!r} is no {'whole ' if read is int else ''}number and was left out.")
        return
    if problem := problem_of(value):
        notes.append(f"{name} {problem}; it was left out.")
        return
    into[setting] = value  # type: ignore[assignment]


def _timeout_problem(value: object) -> str | None:
    try:
        GatewaySettings.model_validate({"request_timeout_seconds": value})
    except ValidationError as error:
        return f"is no time limit of a request: {error.errors()[0]['msg'][0].lower()}{error.errors()[0]['msg'][1:]}"
    return None


def _cards(said: str, cards: Sequence[str], notes: list[str]) -> list[str]:
    chosen = []
    for part in (part.strip() for part in said.split(",")):
        if part.startswith(("GPU-", "MIG-")):
            chosen.append(part)
        elif part.isdigit() and int(part) < len(cards):
            chosen.append(cards[int(part)])
        elif part:
            notes.append(f"CUDA_VISIBLE_DEVICES: there is no card {part} on this machine.")
    return chosen


def _profiles(
    wanted: Sequence[tuple[str, str, tuple[str, ...]]],
    shared: Mapping[str, object],
    kind: str,
    values: Mapping[str, str],
    notes: list[str],
) -> tuple[ImportedProfile, ...]:
    """One profile per model and address; what several tasks share is one profile with both names."""
    default = _first(values, ADDRESS_NAMES)
    merged: dict[tuple[str, str], list[str]] = {}
    for model, own, aliases in wanted:
        address = _with_version(_without_password(own or default, notes)) if kind == "remote" else ""
        if kind == "remote" and not address:
            notes.append("No address is named, so no remote model can be had.")
            continue
        if not model:
            notes.append("No model is named: name it in the profile.")
            continue
        merged.setdefault((model, address), []).extend(aliases)
    found: list[ImportedProfile] = []
    for (model, address), names in merged.items():
        settings = dict(shared["settings"])  # type: ignore[call-overload]
        if address:
            settings["base_url"] = address
        title = model.rstrip("/").rpartition("/")[2]
        whole: dict[str, object] = {"title": title, "engine": kind, "model": model}
        if names:
            whole["aliases"] = list(dict.fromkeys(names))
        if "gpus" in shared and kind != "remote":
            whole["gpus"] = shared["gpus"]
        if settings:
            whole["settings"] = settings
        name = slug(title.removesuffix(".gguf"))
        others = {each.id for each in found}
        number = 1
        while (each_name := name if number == 1 else f"{name}-{number}") in others:
            number += 1
        found.append(ImportedProfile(id=each_name, text=tomli_w.dumps(whole)))
    return tuple(found)


def _without_password(address: str, notes: list[str]) -> str:
    """A name and password in an address would stand in the profile and in every log."""
    scheme, mark, rest = address.rpartition("://")
    place, slash, path = rest.partition("/")
    if "@" not in place:
        return address
    notes.append("The address held a name or a password, which was left out: keep it with `engine-room keys set`.")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}"


def _with_version(address: str) -> str:
    """An OpenAI-compatible base with its version, as clients of these systems add it themselves."""
    address = address.rstrip("/")
    return address if not address or address.endswith("/v1") else f"{address}/v1"
