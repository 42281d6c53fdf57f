"""Defines the engine family `remote`: any OpenAI-compatible address, Azure's among them, that is asked and can never be ended.

An address is checked before a key is sent to it: plain HTTP only on this machine and in its own network, no password in it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import partial
from urllib.parse import quote, urlsplit

from app.core.errors import SettingInvalid
from app.core.ollama_options import OPENAI
from app.core.options import Option, OptionKind, Preset, Scalar
from app.engines.arguments import checked_settings
from app.engines.base import Command, FailurePattern, Launch, Outlet, Readiness, Stage, Traits, Trial
from app.engines.native_options import group
from app.engines.ollama import no_command

ANYWHERE = "https://"  # stands for an installation: there is nothing to install

text = partial(Option, kind=OptionKind.TEXT)

# fmt: off
ADDRESS = group(
    "Address",
    text(name="base_url", title="Address", several=True, suggestions=("https://api.openai.com/v1", "http://127.0.0.1:8000/v1"),
        sentence="Where the model is asked, with its version (https://…/v1). Of several, with commas, the next one is tried when one is down."),
    text(name="key_name", title="Key",
        sentence="The name of a key that `engine-room keys set NAME` keeps; the key itself never stands in a profile."),
    Option(name="api", kind=OptionKind.CHOICE, title="Kind", choices=("openai", "azure"), default="openai",
        sentence="azure: the key goes in its own header, and a model is a deployment with an API version."),
    text(name="api_version", title="API version", suggestions=("2024-10-21",),
        sentence="Azure's API version. Left empty, the address is Azure's new one (…/openai/v1), which needs none."),
    text(name="deployment", title="Deployment", sentence="Azure's name for the deployed model; the profile's model when left empty."),
    advanced=(
        Option(name="ca_file", kind=OptionKind.PATH, title="Certificate authority",
            sentence="A PEM file with the authority that signed the address's certificate, when the system does not know it."),
        Option(name="check", kind=OptionKind.CHOICE, title="Check", choices=("token", "list"), default="token",
            sentence="How it is seen to work when it is attached: by one generated token, or by its list of models alone (costs nothing)."),
    ),
)
LIMITS = group(
    "Limits",
    Option(name="context_tokens", kind=OptionKind.INTEGER, title="Context", minimum=64, maximum=100_000_000, unit="tokens",
        sentence="How many tokens it can see, as its provider says; for the chat's context meter only."),
)
# fmt: on
OPTIONS: tuple[Option, ...] = (*ADDRESS, *LIMITS)


class Remote:
    id = "remote"
    title = "Remote endpoint"
    presets: tuple[Preset, ...] = ()
    readiness = Readiness(health_path="/models", models_path="/models")
    traits = Traits(model_by_name=True, ollama_options=OPENAI)
    failures: tuple[FailurePattern, ...] = ()

    def __init__(self, options: tuple[Option, ...] = OPTIONS) -> None:
        self.options = options

    def effective_settings(self, launch: Launch) -> dict[str, Scalar]:
        """Raises SettingInvalid naming the setting; an address is refused here before a key could be sent to it."""
        values = checked_settings(launch.profile, self.options, self.title)
        where = f"Profile {launch.profile.id}: settings."
        addresses = addresses_of(values)
        if not addresses:
            raise SettingInvalid(
                f"{where}base_url is missing.", "Name the address, for example https://api.openai.com/v1."
            )
        for address in addresses:
            if (problem := problem_with_address(address, bool(values.get("key_name")))) is not None:
                raise SettingInvalid(f"{where}base_url: {_shown(address)} {problem}.", "Correct the address.")
        for name in ("api_version", "deployment"):
            if values.get(name) and values.get("api") != "azure":
                raise SettingInvalid(f"{where}{name} is only of Azure.", 'Set api = "azure", or take it out.')
        return values

    def command(self, launch: Launch) -> Command:
        self.effective_settings(launch)
        raise no_command(launch)

    def trial(self, launch: Launch) -> Trial:
        return Trial()

    def kv_cache_usage(self, slots: object) -> float | None:
        return None

    def stage_of(self, line: str) -> Stage | None:
        return None

    def served_context(self, health: Mapping[str, object], models: Mapping[str, object]) -> int | None:
        return None

    def how_to_get(self) -> str:
        return 'Nothing is installed for it: a profile with `engine = "remote"` names the address and the model.'


def addresses_of(values: Mapping[str, Scalar]) -> tuple[str, ...]:
    parts = (part.strip().rstrip("/") for part in str(values.get("base_url", "")).split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def problem_with_address(address: str, with_key: bool) -> str | None:
    """Why nothing should be sent there, as the end of a sentence; None when it may be."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not an address"
    if parts.scheme not in ("http", "https") or not host:
        return "must begin with https:// or http:// and name a host"
    if parts.username is not None or parts.password is not None:
        return "holds a name or a password, which would stand in every log; keep the key with `engine-room keys set`"
    if parts.query or parts.fragment:
        return "must end with its path; Azure's version is the setting api_version"
    if parts.scheme == "http" and with_key and not _is_near(host):
        return "would get the key in the clear; use https"
    return None


def _shown(address: str) -> str:
    """The address without a password that somebody wrote into it."""
    return address.rpartition("@")[2] if "@" in address else address


def _is_near(host: str) -> bool:
    """Whether a host is this machine or lies in a private network, where plain HTTP is usual."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        in_words = host[:1].isalpha()  # a number without dots is an address too: 134744072 is 8.8.8.8
        return in_words and ("." not in host or host.endswith((".localhost", ".local", ".lan", ".internal")))
    return address.is_private or address.is_loopback or address.is_link_local


def outlets(values: Mapping[str, Scalar], model: str, key: str) -> tuple[Outlet, ...]:
    """The addresses in the order in which they are tried. `values` are effective settings."""
    azure = values.get("api") == "azure"
    headers = {} if not key else {"api-key": key} if azure else {"Authorization": f"Bearer {key}"}
    version = str(values.get("api_version", ""))
    path = ""
    if azure and version:
        path = "/openai/deployments/" + quote(str(values.get("deployment") or model), safe="")
    elif azure:
        path = "/openai/v1"
    found = []
    for address in addresses_of(values):
        base = address.removesuffix("/v1").removesuffix("/openai") if azure else address
        found.append(
            Outlet(
                base_url=base + path,
                strip="/v1",
                query=f"api-version={quote(version, safe='')}" if azure and version else "",
                headers=headers,
                ca_file=str(values.get("ca_file", "")),
            )
        )
    return tuple(found)


def lists_models(outlet: Outlet) -> bool:
    """Whether an address has a list of models: a deployment of Azure's has none."""
    return "/openai/deployments/" not in outlet.base_url


def name_at_remote(values: Mapping[str, Scalar], model: str) -> str:
    return str(values.get("deployment") or model)


def host_of(address: str) -> str:
    """Where it is, for a sentence: host and port, nothing else of the address."""
    return urlsplit(address).netloc.rpartition("@")[2] or address
