"""Decides what of a text is secret, and masks it at equal length, so that byte offsets stay those of the original."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from app.core.profiles import Profile

MASK = b"*"
HIDDEN = "***"
LEAST_LENGTH = 4  # a value that is shorter stands in any text
CONTEXT_BYTES = 4096  # a secret that begins before a piece must still be seen: read this much more on both sides

_PATTERNS = (
    re.compile(rb"\bhf_[A-Za-z0-9]{16,}"),
    re.compile(rb"\bsk-[A-Za-z0-9_\-]{16,}"),
    re.compile(rb"(?i)(?<=bearer )[A-Za-z0-9._~+/\-]{8,}=*"),
    re.compile(rb"(?i)(?<=api[_-]key=)[^\s\"',;&]{4,}"),
    re.compile(rb"(?i)(?<=api[_-]key\": \")[^\"]{4,}"),
    re.compile(rb"(?i)(?<=api[_-]key': ')[^']{4,}"),
    re.compile(rb"(?i)(?<=token=)[^\s\"',;&]{8,}"),
    re.compile(rb"(?i)(?<=password=)[^\s\"',;&]{4,}"),
)
_SECRET_FLAG = re.compile(r"^(--?[\w-]*(?:key|token|password|secret))(?:=.*)?$", re.IGNORECASE | re.DOTALL)
_HARMLESS = re.compile(r"(?i)true|false|none|null|[\d.]+")  # TOKENIZERS_PARALLELISM=false is no secret
_SWITCH = re.compile(r"(?i)true|false|none|null")
_SECRET_NAME = re.compile(r"(?i)(key|token|secret|password|credential)")


def masked_values(data: bytes, secrets: Iterable[str]) -> bytes:
    """`data` with every known secret value replaced by asterisks, byte for byte; all else stays, whatever it looks like."""
    for secret in secrets:
        if len(secret) >= LEAST_LENGTH:
            value = secret.encode()
            data = data.replace(value, MASK * len(value))
    return data


def tells_secret(text: str, secrets: Iterable[str]) -> bool:
    """Whether one of the known secret values stands in `text`."""
    return any(len(secret) >= LEAST_LENGTH and secret in text for secret in secrets)


def masked(data: bytes, secrets: Iterable[str] = ()) -> bytes:
    """`data` with every known secret value and everything that looks like one replaced by asterisks, byte for byte."""
    data = masked_values(data, secrets)
    for pattern in _PATTERNS:
        data = pattern.sub(lambda found: MASK * len(found.group()), data)
    return data


def masked_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Values whose names speak of a secret are shown as asterisks, unless they are a switch or a count of tokens."""
    return {name: HIDDEN if _speaks_of_secret(name, value) else value for name, value in environment.items()}


def _speaks_of_secret(name: str, value: str) -> bool:
    if not value or not _SECRET_NAME.search(name) or _SWITCH.fullmatch(value):
        return False
    return not ("tokens" in name.lower() and _HARMLESS.fullmatch(value))


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values in an environment that must never be shown."""
    return tuple(
        value
        for name, value in environment.items()
        if _SECRET_NAME.search(name) and len(value) >= 4 and not _HARMLESS.fullmatch(value)
    )


def shown_profile(profile: Profile) -> Profile:
    """The profile as it travels and is kept: no value of its environment or extra arguments that speaks of a secret."""
    hidden = secrets_of(profile.environment)
    return msgspec.structs.replace(
        profile,
        environment=masked_environment(profile.environment),
        extra_arguments=tuple(masked_arguments(profile.extra_arguments, hidden)),
    )


def masked_arguments(argv: Iterable[str], secrets: Iterable[str] = ()) -> list[str]:
    """The command line without the given values and without what follows a flag that names a secret (I18)."""
    hidden = [secret for secret in secrets if secret]
    shown: list[str] = []
    hide_next = False
    for argument in argv:
        flag = _SECRET_FLAG.match(argument)
        if hide_next and not argument.startswith("--"):
            argument = HIDDEN
        elif flag is not None and "=" in argument:
            argument = f"{flag[1]}={HIDDEN}"
        for secret in hidden:
            argument = argument.replace(secret, HIDDEN)
        shown.append(masked(argument.encode()).decode("utf-8", "replace"))
        hide_next = flag is not None and "=" not in argument
    return shown
