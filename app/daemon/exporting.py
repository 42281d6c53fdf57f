"""Turns a launch into what can be written down: no key in it, the port open, the machine's files named for a container."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec.structs import replace

from app.core.catalog.gguf_facts import shards_of
from app.core.control import Export
from app.core.errors import BadRequest
from app.core.export import (
    PORT,
    Argument,
    Container,
    Launchable,
    Variable,
    compose_file,
    refuse_kind,
    shell_script,
    systemd_unit,
)
from app.core.redaction import HIDDEN, masked, masked_arguments, secrets_of
from app.engines.base import Command, Launch
from app.engines.containers import ContainerSide, container_side
from app.engines.registry import FAMILIES
from app.engines.vllm import Vllm, cards_used
from app.engines.vllm_docker import DEVICES_OF_OTHERS, places

NOT_OURS = "exported"  # in the place of the owner: a container that Engine Room did not start is never ended by it
_PLAIN = re.compile(r"[A-Za-z0-9.:]*")
_SOME_KEY = "the-key-of-an-export"  # given to a family only to see where it puts one


def export(launch: Launch, kind: str, port: int) -> Export:
    """Raises BadRequest for another kind or port, SettingInvalid for what cannot be written down."""
    if not 1 <= port <= 65_535:
        raise BadRequest(f"{port} is no port.", "Choose one from 1 to 65535.")
    if kind == "compose" and FAMILIES[launch.profile.engine].traits.model_by_name:
        raise BadRequest(
            f"{launch.profile.engine} has its models in a store of its own, which no compose file of ours can name.",
            "A shell script or a systemd unit can be written.",
        )
    match kind:
        case "shell":
            return shell_script(launchable(launch, port))
        case "systemd":
            return systemd_unit(launchable(launch, port))
        case "compose":
            return compose_file(*contained(launch, port))
    raise refuse_kind(kind)


def launchable(launch: Launch, port: int) -> Launchable:
    """The launch without its secrets; what differs between two ports is the port."""
    profile = launch.profile
    command, other = (_command(launch, port=number) for number in (port, port % 65_535 + 1))
    with_key = _command(launch, port=port, api_key=_SOME_KEY).environment
    environment = command.environment | profile.environment
    argv, told = _arguments(command, other, secrets_of(profile.environment), port)
    secret = [name for name, value in environment.items() if secrets_of({name: value}) or _hides(value)]
    return Launchable(
        id=profile.id,
        title=profile.title,
        argv=argv,
        port=port,
        environment={name: value for name, value in environment.items() if name not in secret},
        secrets=tuple(secret),
        key_name=next((name for name, value in with_key.items() if value == _SOME_KEY), ""),
        scrub=command.scrub,
        path_folders=command.path_folders,
        notes=told,
    )


def _command(launch: Launch, *, port: int, api_key: str = "") -> Command:
    exported = replace(launch, port=port, api_key=api_key, run_id=launch.profile.id, owner=NOT_OURS)
    return FAMILIES[launch.profile.engine].command(exported)


def _hides(value: str) -> bool:
    data = value.encode("utf-8", "surrogateescape")
    return masked(data) != data


def _arguments(
    command: Command, other: Command, hidden: tuple[str, ...], port: int
) -> tuple[tuple[Argument, ...], tuple[str, ...]]:
    """The command line with a variable for the port and for each secret, and what each secret's variable stands for."""
    shown = masked_arguments((text.encode("utf-8", "replace").decode() for text in command.argv), hidden)
    arguments: list[Argument] = []
    told: list[str] = []
    for argument, elsewhere, mask in zip(command.argv, other.argv, shown, strict=True):
        if argument != elsewhere:
            arguments.append(_port_in(argument, str(port)))
        elif argument.encode("utf-8", "replace").decode() != mask:
            name = f"ENGINE_SECRET_{len(told) + 1}"
            before = f" after {shown[len(arguments) - 1]}" if mask == HIDDEN and arguments else ""
            told.append(f"{name} is the argument {mask}{before}, as a whole.")
            arguments.append(Variable(name=name))
        else:
            arguments.append(argument)
    return tuple(arguments), tuple(told)


def _port_in(argument: str, port: str) -> Variable:
    """The argument with a variable for the port, which may be a part of it: 127.0.0.1:PORT:8000."""
    before, _, after = argument.partition(port)
    plain = _PLAIN.fullmatch(before + after) is not None and argument.count(port) == 1
    return (
        Variable(name=PORT, default=port, before=before, after=after)
        if plain
        else Variable(name=PORT, default=argument)
    )


def contained(launch: Launch, port: int) -> tuple[Launchable, Container]:
    """The launch as it is inside a container: every file of the machine that an argument names is mounted."""
    side = container_side(launch.installation)
    if isinstance(FAMILIES[launch.profile.engine], Vllm):
        return _contained_vllm(launch, port, side)
    installation = replace(launch.installation, executable=side.program, library_folder="")
    inside = launchable(replace(launch, installation=installation, host="0.0.0.0"), port)  # published on the loopback
    mounts: dict[str, str] = {}
    argv = tuple(_mounted(argument, mounts) for argument in inside.argv[0 if side.program else 1 :])
    devices: tuple[str, ...] = ()
    cards = None
    layers = FAMILIES[launch.profile.engine].effective_settings(launch).get("gpu_layers")
    match launch.installation.accelerator:
        case "cuda" if layers != 0:
            cards = launch.profile.gpus
        case "rocm":
            devices = ("/dev/kfd", "/dev/dri")
        case "vulkan":
            devices = ("/dev/dri",)
    container = Container(
        image=side.image,
        entrypoint=side.entrypoint,
        mounts=mounts,
        cards=cards,
        devices=devices,
        passed=side.passed,
    )
    return replace(inside, argv=argv, notes=(*inside.notes, *side.notes)), container


def _contained_vllm(launch: Launch, port: int, side: ContainerSide) -> tuple[Launchable, Container]:
    """As `vllm-docker` starts it: files have the same paths inside, because some stand within an argument."""
    installation = replace(launch.installation, family=Vllm.id, executable="", client="")
    plain = replace(launch, profile=replace(launch.profile, engine=Vllm.id), installation=installation, host="0.0.0.0")
    inside = launchable(plain, port)
    accelerator = launch.installation.accelerator
    values = FAMILIES[Vllm.id].effective_settings(plain)
    container = Container(
        image=side.image,
        entrypoint=side.entrypoint,
        mounts={place: place for place in places(launch)},
        cards=cards_used(launch, values) if accelerator == "cuda" else None,
        devices=DEVICES_OF_OTHERS.get(accelerator, ()),
        ipc="host",
    )
    argv = inside.argv[inside.argv.index("serve") :]
    return replace(inside, argv=argv, path_folders=(), notes=(*inside.notes, *side.notes)), container


def _mounted(argument: Argument, mounts: dict[str, str]) -> Argument:
    """The argument as it is inside; all parts of a split model lie in one folder there too."""
    if not isinstance(argument, str) or not argument.startswith("/") or not _is_there(Path(argument)):
        return argument
    folder = f"/engine-room/{len(mounts)}"
    for part in shards_of(Path(argument)):
        mounts.setdefault(str(part), f"{folder}/{part.name}")
    return mounts[argument]


def _is_there(path: Path) -> bool:
    try:
        return path.is_file() or (path / "config.json").is_file()
    except (OSError, ValueError):
        return False
