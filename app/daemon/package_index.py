"""Decides where packages are looked for: pip's index settings, said in uv's flags, because uv does not read them.

A person whose company mirrors packages has told pip once; an installer that ignored it would go to the open network or
fail. Sources in pip's own order, later ones win: the site's file, the account's file, the file of PIP_CONFIG_FILE, PIP_*.
"""

from __future__ import annotations

import configparser
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec


class PipSettings(msgspec.Struct, frozen=True, kw_only=True):
    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    no_index: bool = False
    certificates: str = ""
    timeout_seconds: float = 0.0  # of silence; 0: pip was not told


def config_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """pip's configuration files in the order in which it reads them; those that do not exist included."""
    override = environment.get("PIP_CONFIG_FILE", "")
    if override == "/dev/null":
        return ()
    home = Path(environment.get("HOME") or "/")
    user = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    sites = [Path(folder) / "pip" for folder in environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":") if folder]
    named = [Path(override)] if override else []
    return (
        *(folder / "pip.conf" for folder in sites),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        user / "pip" / "pip.conf",
        *named,
    )


def pip_settings(environment: Mapping[str, str], files: Iterable[Path]) -> PipSettings:
    """What pip would use; an unreadable or malformed file is passed over, as its owner will hear from pip itself."""
    values: dict[str, str] = {}
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                values |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            values[name[4:].lower().replace("_", "-")] = value
    return PipSettings(
        index_url=values.get("index-url", "").strip(),
        extra_index_urls=tuple(values.get("extra-index-url", "").split()),
        find_links=tuple(values.get("find-links", "").split()),
        trusted_hosts=tuple(values.get("trusted-host", "").split()),
        no_index=values.get("no-index", "").strip().lower() in ("1", "true", "yes", "on"),
        certificates=values.get("cert", "").strip(),
        timeout_seconds=_seconds(values.get("timeout") or values.get("default-timeout", "")),
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if 0 < seconds < math.inf else 0.0


def uv_flags(settings: PipSettings) -> list[str]:
    """The same for uv. All indexes count alike, as they do for pip, so the best version wins wherever it lies.

    An address with a password is left out: everybody could read it in the process list. See `uv_secret_places`.
    """
    flags: list[str] = []
    if settings.no_index:
        flags.append("--no-index")
    else:
        if settings.index_url and not _has_password(settings.index_url):
            flags += ["--default-index", settings.index_url]
        for url in settings.extra_index_urls:
            flags += [] if any(map(_has_password, settings.extra_index_urls)) else ["--index", url]
        if settings.extra_index_urls:
            flags += ["--index-strategy", "unsafe-best-match"]
    for place in settings.find_links:
        flags += [] if any(map(_has_password, settings.find_links)) else ["--find-links", place]
    for host in settings.trusted_hosts:
        flags += ["--allow-insecure-host", host]
    return flags


def uv_environment(settings: PipSettings) -> dict[str, str]:
    return {"SSL_CERT_FILE": settings.certificates} if settings.certificates else {}


def uv_secret_places(settings: PipSettings) -> dict[str, str]:
    """Addresses with a password, for uv's environment. uv takes a variable only where its flag is not given: beside one
    such address all of its kind stand here."""
    places = {}
    if any(map(_has_password, settings.find_links)):
        places["UV_FIND_LINKS"] = ",".join(settings.find_links)
    if not settings.no_index and _has_password(settings.index_url):
        places["UV_DEFAULT_INDEX"] = settings.index_url
    if not settings.no_index and any(map(_has_password, settings.extra_index_urls)):
        places["UV_INDEX"] = " ".join(settings.extra_index_urls)
    return places


def _has_password(url: str) -> bool:
    return "@" in urlsplit(url).netloc
