"""Writes a launch down so that it runs without Engine Room: as a shell script, a systemd user unit, a compose file; pure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.core.control import Export
from app.core.errors import BadRequest, SettingInvalid

PORT = "ENGINE_PORT"
USUAL_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
KINDS = ("shell", "systemd", "compose")
ENVIRONMENT_FILE = ".config/engine-room/exports"  # in the home folder: one file for each profile

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN_PROGRAM = re.compile(r"/[\w./+-]*", re.ASCII)
_PLAIN_PATTERN = re.compile(r"[A-Za-z0-9_*]+")
# Without quotes these are no texts in YAML.
_YAML_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """An argument that is filled in when the export runs. No default: it must come from the environment file."""

    name: str
    default: str = ""
    before: str = ""  # what of the argument stands around it: plain letters, digits, dots and colons
    after: str = ""


Argument = str | Variable


class Launchable(msgspec.Struct, frozen=True, kw_only=True):
    """A launch as values. Secrets are names only; `scrub` are patterns of inherited variables that the engine must not see."""

    id: str
    title: str
    argv: tuple[Argument, ...]
    port: int
    environment: dict[str, str] = {}
    secrets: tuple[str, ...] = ()  # variables without which the engine is not what the profile says
    key_name: str = ""  # the variable by which this engine takes a key that clients must show
    scrub: tuple[str, ...] = ()
    path_folders: tuple[str, ...] = ()  # before the PATH that is there
    notes: tuple[str, ...] = ()


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """What a launch needs in a container. The launch's argv follows `entrypoint`, with paths as they are inside."""

    image: str
    entrypoint: tuple[str, ...]
    mounts: dict[str, str] = {}  # a file or folder of the machine → where it is inside, read-only
    cards: tuple[str, ...] | None = None  # uuids; empty = all; None = no NVIDIA card is used
    devices: tuple[str, ...] = ()  # of other makers' cards
    ipc: str = ""  # "host": shared memory of the machine, for engines of several processes
    passed: tuple[str, ...] = ()  # variables that are handed on where the person has set them


def shell_script(launch: Launchable) -> Export:
    """For bash. Raises SettingInvalid for what no script can say."""
    _check(launch)
    lines = [
        "#!/usr/bin/env bash",
        f"# {_one_line(launch.title)}: the engine as Engine Room starts it, without Engine Room.",
        "set -eu",
    ]
    if launch.scrub:
        lines += [
            "",
            "# What the terminal's environment could change unseen.",
            "while IFS= read -r name; do",
            f'    case $name in {"|".join(_patterns(launch.scrub))}) unset -v "$name" ;; esac',
            "done < <(compgen -e)",
        ]
    file = f'"${{ENGINE_ENVIRONMENT:-$HOME/{ENVIRONMENT_FILE}/{launch.id}.env}}"'
    lines += [
        "",
        "# Keys are not in this script: lines of NAME=value in this file, without quotes.",
        f"environment_file={file}",
        'if [ -r "$environment_file" ]; then',
        '    while IFS= read -r line || [ -n "$line" ]; do',
        "        case $line in '' | '#'*) ;; *=*) export \"${line%%=*}=${line#*=}\" ;; esac",
        '    done <"$environment_file"',
        "fi",
        *(f': "${{{name}:?put {name}=… into $environment_file}}"' for name in _needed(launch)),
        "",
        *([f'export PATH={shlex.quote(":".join(launch.path_folders))}:"$PATH"', ""] if launch.path_folders else []),
        "argv=(",
        *(f"    {word}" for word in _with_environment(launch)),
        ")",
        "cd /",
        'exec -- "${argv[@]}"',
        "",
    ]
    notes = (f"Run it as it is; {PORT}=… in front of it chooses another port than {launch.port}.", *_key_notes(launch))
    return Export(file_name=f"{launch.id}.sh", text="\n".join(lines), notes=(*notes, *launch.notes))


def _with_environment(launch: Launchable) -> list[str]:
    """The words to execute. `env` sets the variables, because some of them would mean something to the shell itself."""
    words = [_in_shell(argument) for argument in launch.argv]
    if not launch.environment:
        return words
    if "=" in words[0]:  # `env` would take it for one more variable
        words = ["sh", "-c", "'exec \"$@\"'", "sh", *words]
    return ["env", *(shlex.quote(f"{name}={value}") for name, value in launch.environment.items()), *words]


def _in_shell(argument: Argument) -> str:
    if isinstance(argument, str):
        return shlex.quote(argument)
    filled = f"${{{argument.name}:-{argument.default}}}" if argument.default else f"${{{argument.name}}}"
    return f'"{argument.before}{filled}{argument.after}"'


def systemd_unit(launch: Launchable) -> Export:
    """For `systemctl --user`. Raises SettingInvalid for what no unit can say."""
    _check(launch)
    for text in (*launch.argv, *launch.environment.values()):
        if isinstance(text, str) and any(
            0xFDD0 <= ord(sign) <= 0xFDEF or ord(sign) & 0xFFFE == 0xFFFE for sign in text
        ):
            raise SettingInvalid(f"{launch.id}: {text!r} has a character that systemd does not take.", "Use another.")
    for name, value in launch.environment.items():
        if any(sign not in "\t\n" and not sign.isprintable() and ord(sign) < 0xA0 for sign in value):
            raise SettingInvalid(f"{launch.id}: environment.{name} has a character that systemd does not take.")
    argv = exec_words(launch.argv)
    unset = [name for name in launch.scrub if _NAME.fullmatch(name) and name not in _said(launch)]
    lines = [
        "[Unit]",
        f"Description={_one_line(launch.title).replace('%', '%%')} (an engine of Engine Room)",
        "",
        "[Service]",
        "Type=exec",
        "WorkingDirectory=/",
        f"Environment={PORT}={launch.port}",
        *(f'Environment="{name}={quoted_in_unit(value)}"' for name, value in _in_unit_environment(launch).items()),
        *(["UnsetEnvironment=" + " ".join(unset)] if unset else []),
        f"EnvironmentFile={'' if _needed(launch) else '-'}%h/{ENVIRONMENT_FILE}/{launch.id}.env",
        "ExecStart=" + " \\\n    ".join(argv),
        "Restart=no",
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    name = f"engine-room-{launch.id}.service"
    notes = (
        f"Put it into ~/.config/systemd/user/ and run: systemctl --user daemon-reload && systemctl --user start {name}",
        f"{PORT}=… in the environment file chooses another port than {launch.port}.",
        *_key_notes(launch),
        *launch.notes,
    )
    if patterns := [name for name in launch.scrub if not _NAME.fullmatch(name)]:
        notes += (
            f"A unit cannot drop variables by pattern: {', '.join(patterns)} in the environment of your user manager"
            " would reach the engine (systemctl --user show-environment).",
        )
    return Export(file_name=name, text="\n".join(lines), notes=notes)


def _in_unit_environment(launch: Launchable) -> dict[str, str]:
    """A unit cannot add to a PATH: it gets the usual one behind the engine's own folders."""
    path = {"PATH": ":".join((*launch.path_folders, *USUAL_PATH))} if launch.path_folders else {}
    return path | launch.environment


def exec_words(argv: Sequence[Argument]) -> list[str]:
    """The words of ExecStart= for a command line."""
    words = [in_unit(argument) for argument in argv]
    if not isinstance(argv[0], str) or not _PLAIN_PROGRAM.fullmatch(argv[0]):
        return ["/bin/sh", "-c", '"exec \\"$$@\\""', "sh", *words]  # systemd reads the program's name by other rules
    return [argv[0], *words[1:]]


def in_unit(argument: Argument) -> str:
    """One quoted word of ExecStart=: C escapes, and % and $ doubled, because both mean something there."""
    if isinstance(argument, Variable):
        return f'"{argument.before}${{{argument.name}}}{argument.after}"'
    return '"' + quoted_in_unit(argument).replace("$", "$$") + '"'


def quoted_in_unit(text: str) -> str:
    """The inside of a quoted word of a unit file; Environment= takes $ as it is."""
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "%": "%%"}
    return "".join(
        named[sign] if sign in named else f"\\x{ord(sign):02x}" if ord(sign) < 0x20 or ord(sign) == 0x7F else sign
        for sign in text
    )


def compose_file(launch: Launchable, container: Container) -> Export:
    """For `docker compose`. Raises SettingInvalid for what no file can say.

    In the words that all of Docker Compose from 1.29 on take: 1.29 refuses a `name`, an `env_file` that may be absent and
    `create_host_path`.
    """
    _check(launch)
    passed = (*container.passed, *([launch.key_name] if launch.key_name else []))
    environment: dict[str, str | None] = dict.fromkeys(passed)
    environment |= {name: _literal(value) for name, value in launch.environment.items()}
    environment |= {name: _required(launch, name) for name in launch.secrets}
    service: dict[str, object] = {
        "image": _literal(container.image),
        "entrypoint": [_literal(word) for word in container.entrypoint],
        "command": [_in_compose(launch, argument) for argument in launch.argv],
        "environment": environment,
        "ports": [f"127.0.0.1:${{{PORT}:-{launch.port}}}:{launch.port}"],
        "volumes": [
            {
                "type": "bind",
                "source": _literal(source),
                "target": _literal(target),
                "read_only": True,
                # As it is by itself; but who says it gets no empty folder in the place of a file that is not there.
                "bind": {"propagation": "rprivate"},
            }
            for source, target in container.mounts.items()
        ],
        "working_dir": "/",
        "init": True,
        "restart": "no",
    }
    if container.ipc:
        service["ipc"] = container.ipc
    if container.devices:
        service["devices"] = list(container.devices)
    if container.cards is not None:
        which = {"device_ids": list(container.cards)} if container.cards else {"count": "all"}
        reserved = {"driver": "nvidia", **which, "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [reserved]}}}
    text = f"# {_one_line(launch.title)}: the engine as Engine Room starts it, in a container.\n" + "\n".join(
        _yaml({"services": {launch.id: service}})  # so named that two files of one folder do not replace each other's
    )
    file_name = f"{launch.id}.compose.yaml"
    file = f"--env-file {launch.id}.env"
    words = ["docker compose", f"-p {_project(launch.id)}", *([file] if _needed(launch) else []), f"-f {file_name}"]
    notes = (
        f"Run it with: {' '.join(words)} up; {PORT}=… in front of it publishes another port than"
        f" {launch.port}, on this machine only.",
        f"It takes the image {container.image} and Docker Compose 1.29 or newer"
        + (", and the NVIDIA container toolkit." if container.cards is not None else "."),
        *_key_notes(launch, f"{launch.id}.env beside it"),
        *launch.notes,
    )
    if _needed(launch):
        notes += (f"A value with a $ in {launch.id}.env stands in single quotes.",)
    elif passed:
        notes += (f"Docker Compose reads {launch.id}.env when it is named: {file} before -f.",)
    return Export(file_name=file_name, text=text + "\n", notes=notes)


def _in_compose(launch: Launchable, argument: Argument) -> str:
    if isinstance(argument, str):
        return _literal(argument)
    if argument.default:
        return argument.before + argument.default + argument.after
    return _required(launch, argument.name)


def _required(launch: Launchable, name: str) -> str:
    """A value that Compose fills in, or without which it says what is missing and starts nothing."""
    return f"${{{name}:?put {name}=... into {launch.id}.env and name the file by --env-file}}"


def _literal(text: str) -> str:
    """Compose fills in $ everywhere; doubled, it is one."""
    return text.replace("$", "$$")


def _project(profile_id: str) -> str:
    return "engine-room-" + re.sub(r"[^a-z0-9_-]", "-", profile_id.lower())


def _yaml(value: Mapping[str, object] | Sequence[object], indent: str = "") -> Iterable[str]:
    """A mapping or list in block style; every text is quoted where it could be taken for something else."""
    rows: Iterable[tuple[str, object]]
    if isinstance(value, Mapping):
        rows = ((f"{indent}{_key(key)}:", item) for key, item in value.items())
    else:
        rows = ((f"{indent}-", item) for item in value)
    for head, item in rows:
        if isinstance(item, Mapping | list):
            if not item:
                yield f"{head} {'{}' if isinstance(item, Mapping) else '[]'}"
                continue
            yield head
            yield from _yaml(item, indent + "  ")
        else:
            yield f"{head} {_text(item) if isinstance(item, str) else json.dumps(item)}"


def _key(key: str) -> str:
    return key if _NAME.fullmatch(key) and key.lower() not in _YAML_WORDS else _text(key)


def _text(text: str) -> str:
    """A double-quoted YAML text: what cannot be printed is escaped, line separators among it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(sign if sign.isprintable() else _escape(ord(sign)) for sign in escaped) + '"'


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# --- what all have in common ------------------------------------------------------------------------------------------


def _check(launch: Launchable) -> None:
    """Raises SettingInvalid for what none of the forms can say, naming it."""
    for name in (*launch.environment, *launch.secrets):
        if not _NAME.fullmatch(name):
            raise SettingInvalid(
                f"{launch.id}: environment.{name} cannot be exported under this name.",
                "Use letters, digits and underscores.",
            )
    for text in (*launch.argv, *launch.environment.values()):
        if isinstance(text, str) and ("\0" in text or not _encodes(text)):
            raise SettingInvalid(
                f"{launch.id}: {text!r} cannot be exported: it is not text in UTF-8.", "Rename the file, or the value."
            )


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _needed(launch: Launchable) -> tuple[str, ...]:
    filled_in = (each.name for each in launch.argv if isinstance(each, Variable) and not each.default)
    return (*launch.secrets, *filled_in)


def _said(launch: Launchable) -> tuple[str, ...]:
    return (*launch.environment, *launch.secrets, launch.key_name)


def _patterns(scrub: Iterable[str]) -> list[str]:
    return [pattern for pattern in scrub if _PLAIN_PATTERN.fullmatch(pattern)]


def _one_line(text: str) -> str:
    """For a comment or a description: a line end or a backslash at the end would reach the next line."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).replace("\\", "/").split())


def _key_notes(launch: Launchable, file: str = "") -> Iterable[str]:
    where = file or f"~/{ENVIRONMENT_FILE}/{launch.id}.env"
    if needed := _needed(launch):
        yield f"Not in it, because it is secret: {', '.join(needed)}. Put NAME=value lines into {where} (mode 0600)."
    if launch.key_name and launch.key_name not in launch.secrets:
        yield (
            f"The engine asks for no key and listens on this machine only; {launch.key_name}=… in {where} makes it ask for one."
        )


def refuse_kind(kind: str) -> BadRequest:
    return BadRequest(f"There is no export as {kind!r}.", f"There are: {', '.join(KINDS)}.")
