"""Defines the engine family `vllm-docker`: vLLM's server in a container, with the same settings as vLLM itself.

The command line is `docker run`, attached: what the engine prints comes out of the client and so into the run's log, and
a polite signal to the client reaches the engine. Only the container engine can end a container, so the launch carries
what ends it. Files of the machine have the same paths inside, read-only. Values of variables stand in no argument: the
client takes them from its own environment by their names.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from app.core.diagnosis.docker import DOCKER
from app.core.options import paths_in
from app.engines.base import Command, Container, FailurePattern, Launch, Stage
from app.engines.vllm import Vllm, cards_used
from app.engines.vllm_options import OPTIONS

PORT = 8000  # in the container, where nobody else listens
RUN_LABEL = "io.engine-room.run"
OWNER_LABEL = "io.engine-room.owner"
PROGRAM = "vllm"  # the images' own entrypoints differ from version to version
# What is compiled for a model is kept from one container to the next.
HOME_IN_IMAGE = "/root"  # of the images' own account; no folder of this machine
CACHE = f"type=volume,source=engine-room-vllm-cache,target={HOME_IN_IMAGE}/.cache"
DEVICES_OF_OTHERS = {"rocm": ("/dev/kfd", "/dev/dri"), "vulkan": ("/dev/dri",)}
# Variables that the client itself obeys: of a profile, they are meant for the engine alone.
_OF_THE_CLIENT = re.compile(
    r"PATH|HOME|TMPDIR|XDG_\w+|DOCKER_(HOST|CONTEXT|CONFIG|CERT_PATH|TLS|TLS_VERIFY|API_VERSION)"
)
_PULLING = re.compile(
    r"^Unable to find image '|: Pulling from |: Pulling fs layer$|: (Download|Pull) complete$|: Verifying Checksum$"
    r"|: Already exists$|^Digest: sha256:"
)


class VllmDocker(Vllm):
    id = "vllm-docker"
    title = "vLLM in Docker"
    failures: tuple[FailurePattern, ...] = (*DOCKER, *Vllm.failures)

    def command(self, launch: Launch) -> Command:
        values = self.effective_settings(launch)
        inside = super().command(replace(launch, host="0.0.0.0", port=PORT))  # published on the loopback alone
        client = launch.installation.client or "docker"
        container = Container(
            client=client, name=f"engine-room-{launch.run_id}", run_id=launch.run_id, owner=launch.owner
        )
        own = {name: value for name, value in inside.environment.items() if _OF_THE_CLIENT.fullmatch(name)}
        named = {name: value for name, value in inside.environment.items() if name not in own}
        argv = [
            *(client, "run", "--rm", "--init", "--name", container.name),
            *("--label", f"{RUN_LABEL}={launch.run_id}", "--label", f"{OWNER_LABEL}={launch.owner}"),
            *("--ipc=host", "--publish", f"{launch.host}:{launch.port}:{PORT}"),
            *_devices(launch, cards_used(launch, values)),
            *(word for place in places(launch) for word in ("--mount", bind(place))),
            *("--mount", CACHE),
            *(word for name, value in own.items() for word in ("--env", f"{name}={value}")),
            *(word for name in named for word in ("--env", name)),
            *("--entrypoint", PROGRAM, launch.installation.executable),
            *inside.argv[inside.argv.index("serve") :],
        ]
        return replace(
            inside,
            argv=tuple(argv),
            environment=named,
            path_folders=(),
            container=container,
            withheld=tuple(own),
        )

    def stage_of(self, line: str) -> Stage | None:
        if _PULLING.search(line):
            return Stage(name="download")
        return super().stage_of(line)

    def how_to_get(self) -> str:
        return (
            "It needs Docker, and an image of vLLM: `engine-room engines install vllm-docker` fetches one (about 10 GB); "
            'one that is there already is found, and `installation = "IMAGE:TAG"` in a profile names another.'
        )


def places(launch: Launch) -> tuple[str, ...]:
    """Every file and folder of the machine that the engine is told of, the ones that lie in another left out."""
    told = [launch.model_path, *(path for _, path in paths_in(OPTIONS, launch.profile.settings))]
    told += [text for text in (launch.profile.settings.get("tokenizer"),) if isinstance(text, str)]
    return outermost(place_of(Path(path)) for path in told if path.startswith("/"))


def place_of(path: Path) -> Path:
    """What has to be inside for a path to be readable there: in the hub's cache the model's whole folder, because a
    snapshot is made of links into another part of it."""
    for folder in path.parents:
        if folder.name == "snapshots" and folder.parent.name.startswith("models--"):
            return folder.parent
    return path


def outermost(places: Iterable[Path]) -> tuple[str, ...]:
    found = dict.fromkeys(places)
    return tuple(str(place) for place in found if not any(other in place.parents for other in found))


def bind(place: str) -> str:
    """One --mount: unlike a --volume, a place that is not there is refused and not made. It is read as a row of CSV."""
    return csv_row("type=bind", f"source={place}", f"target={place}", "readonly")


def csv_row(*fields: str) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="").writerow(fields)
    return row.getvalue()


def _devices(launch: Launch, cards: tuple[str, ...]) -> tuple[str, ...]:
    """The cards by their uuids; the order of several is said by CUDA_VISIBLE_DEVICES inside."""
    accelerator = launch.installation.accelerator
    if accelerator == "cuda":
        return ("--gpus", csv_row(f"device={','.join(cards)}") if cards else "all")
    others = DEVICES_OF_OTHERS.get(accelerator, ())
    groups = ("--group-add", "video") if others else ()
    return (*(word for device in others for word in ("--device", device)), *groups)
