"""Knows the images of engines on this machine and how one comes here: listed by the container engine, fetched by a job.

The list is remembered from one start to the next, because the container engine is asked only after the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from app.core.diagnosis.docker import DOCKER
from app.core.diagnosis.pattern import FailurePattern
from app.core.errors import EngineFailed, EngineNotInstalled, SettingInvalid, StorageError
from app.core.values import from_json, to_json
from app.daemon import docker
from app.daemon.asking import Answer
from app.daemon.installations import accelerator_in, id_of
from app.daemon.settings_file import write_whole
from app.daemon.work import Work
from app.engines.base import Installation
from app.engines.containers import vllm_image

FAMILY = "vllm-docker"
NOT_STARTED = (
    "Engine Room starts vLLM in containers, and not this engine; `engine-room export --as compose` writes one."
)
REFERENCE = re.compile(r"[a-z0-9][\w./:@-]{0,250}", re.ASCII)
_VLLM_NAMES = ("vllm-openai", "vllm-openai-cpu", "vllm-openai-rocm", "vllm-openai-xpu", "vllm-cpu-env", "vllm")


# --- what is there ----------------------------------------------------------------------------------------------------


def family_of_image(repository: str, tag: str) -> str:
    """Which engine an image holds, by the names under which they are published; "" for all others."""
    name = repository.rpartition("/")[2]
    if name == "llama.cpp" and tag.startswith(("server", "full")):
        return "llama-server"
    return FAMILY if name in _VLLM_NAMES else ""


def image_in(client: str, line: str) -> Installation | None:
    """The engine in one row of `image ls`: repository, tag and id with tabs between."""
    repository, _, rest = line.strip().partition("\t")
    tag, _, number = rest.partition("\t")
    family = family_of_image(repository, tag)
    if not family or not tag or tag == "<none>":
        return None
    return _installation(family, client, f"{repository}:{tag}", number)


def _installation(family: str, client: str, image: str, number: str = "") -> Installation:
    name, _, tag = image.rpartition(":")
    said = accelerator_in(tag) or accelerator_in(name.rpartition("/")[2]) or accelerator_in(name)
    return Installation(
        family=family,
        executable=image,
        id=id_of(family, f"{Path(client).name}:{image}"),
        version=tag,
        build=image,
        accelerator=said or ("cuda" if family == FAMILY else "cpu"),
        source="docker",
        client=client if family == FAMILY else "",
        fingerprint=number,
        problem="" if family == FAMILY else NOT_STARTED,
    )


def silent(client: str, answer: Answer) -> Installation:
    """What to show of a container engine that is installed and does not answer."""
    trouble = docker.trouble_in(answer.text)
    why = (
        f"{trouble.summary} {trouble.advice}"
        if trouble is not None
        else f"It does not answer: {answer.why or 'see `docker info`'}."
    )
    return Installation(
        family=FAMILY, executable=client, id=id_of(FAMILY, client), build="Docker", source="docker", problem=why
    )


def wanted(pin: str, environ: Mapping[str, str]) -> tuple[Installation, ...]:
    """The image that a pin names, whether it is here yet or not: the container engine fetches it at the first launch."""
    if pin.startswith(f"{FAMILY}-") or not REFERENCE.fullmatch(pin) or "/" not in pin:
        return ()
    client = docker.client_of(environ)
    whole = pin if ":" in pin.rpartition("/")[2] else f"{pin}:latest"
    row = _installation(FAMILY, str(client or "docker"), whole)
    missing = docker.not_installed()
    problem = "" if client is not None else f"{missing.summary} {missing.advice}"
    return (msgspec.structs.replace(row, executable=pin, problem=problem),)


def remembered(file: Path) -> tuple[Installation, ...]:
    try:
        return from_json(tuple[Installation, ...], file.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return ()


def remember(file: Path, rows: Sequence[Installation]) -> None:
    if rows or file.exists():
        with suppress(StorageError):  # a full disk costs only that the list comes some seconds later
            write_whole(file, to_json(tuple(rows)).decode())


# --- how one comes here -----------------------------------------------------------------------------------------------


class PullingImage(msgspec.Struct, frozen=True, kw_only=True, tag="image"):
    client: str
    image: str


def order_for(version: str, accelerator: str, environ: Mapping[str, str], usual_version: str) -> PullingImage:
    """What to fetch for `engines install vllm-docker==VERSION`: a version, or a whole image's name. Raises
    EngineNotInstalled without Docker, SettingInvalid for what no image can be called."""
    client = docker.client_of(environ)
    if client is None:
        raise docker.not_installed()
    image = version if "/" in version else vllm_image(accelerator, version or usual_version)
    if not REFERENCE.fullmatch(image):
        raise SettingInvalid(f"{version!r} is no image's name and no version.", f"Say for example {FAMILY}=={image}.")
    docker.check_service(str(client), environ)
    return PullingImage(client=str(client), image=image)


_LAYER = re.compile(r"^([0-9a-f]{6,64}): (.+?)(?:\s*\[[=> ]*\]\s*([\d.]+)(\w+)/([\d.]+)(\w+))?$")
_UNITS = {"B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_DONE = ("Pull complete", "Already exists")
_FETCHED = ("Download complete", "Verifying Checksum", "Extracting")


class Layers:
    """Adds up what the client tells of each layer. Bytes are known for those that have begun."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._state: dict[str, str] = {}

    def heard(self, line: str) -> bool:
        """Whether the line told of a layer."""
        found = _LAYER.match(line)
        if found is None:
            return False
        layer, state, done, unit, total, unit_of_total = found.groups()
        if state not in ("Pulling from", "Digest"):
            self._state[layer] = state
        if state == "Downloading" and total and unit in _UNITS and unit_of_total in _UNITS:
            self._total[layer] = int(float(total) * _UNITS[unit_of_total])
            self._done[layer] = min(self._total[layer], int(float(done) * _UNITS[unit]))
        elif state.startswith((*_FETCHED, *_DONE)):
            self._done[layer] = self._total.get(layer, 0)
        return True

    @property
    def bytes_done(self) -> int:
        return sum(self._done.values())

    @property
    def bytes_total(self) -> int:
        return sum(self._total.values())

    @property
    def progress(self) -> float:
        """By layers, each for nine tenths by its bytes and for the rest by being unpacked; 0..1."""
        if not self._state:
            return 0.0
        return sum(self._share(layer) for layer in self._state) / len(self._state)

    def _share(self, layer: str) -> float:
        state = self._state[layer]
        if state.startswith(_DONE):
            return 1.0
        if state.startswith(_FETCHED):
            return 0.9
        total = self._total.get(layer, 0)
        return 0.9 * self._done.get(layer, 0) / total if total else 0.0


def pull(order: PullingImage, work: Work) -> dict[str, object]:
    """Fetches the image; the client tells figures on a terminal only. What was fetched stays when it is cancelled."""
    layers = Layers()
    title = f"Fetching {order.image}"

    def heard(line: str) -> None:
        if layers.heard(line):
            work.say(title, progress=layers.progress, bytes_done=layers.bytes_done, bytes_total=layers.bytes_total)

    work.say(f"{title} …")
    ended = work.run((order.client, "pull", order.image), heard=heard, on_terminal=True)
    if not ended.ok:
        raise failed(order.image, ended.said)
    return {"installation": id_of(FAMILY, f"{Path(order.client).name}:{order.image}")}


def failed(image: str, said: Sequence[str]) -> EngineFailed | EngineNotInstalled:
    """Why a pull failed, from the client's own words."""
    text = "\n".join(said)
    if (trouble := docker.trouble_in(text)) is not None:
        return trouble
    row, found = next(_matches(said), (None, {}))
    if row is not None:
        known = {"private": "", "image": "", "what": "", **found}
        return EngineFailed(row.summary.format_map(known), row.advice.format_map(known))
    last = said[-1].rstrip(".") if said else "it said nothing"
    return EngineFailed(f"{image} could not be fetched: {last}.", "Look at the job's log.")


def _matches(said: Sequence[str]) -> Iterator[tuple[FailurePattern, Mapping[str, str]]]:
    for row in DOCKER:
        for line in said:
            text = line if line.startswith("docker: ") else f"docker: {line}"
            if (found := row.match(text)) is not None:
                yield row, found
