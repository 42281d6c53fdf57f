"""Reads what an export wrote as systemd and Docker Compose would: a small interpreter of the rules of each.

systemd's rules are those of systemd.service(5) and systemd.syntax(7): continued lines, quoted words with C escapes,
specifiers, then variables of the command line. Compose's are those of its file reference: YAML, then $ in every value.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " ", "\\": "\\", '"': '"', "'": "'",
}  # fmt: skip
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:-|:\?)([^}]*))?\})")


class Started(NamedTuple):
    """What would be executed: the words, what the unit or the file adds to the environment, what it takes away."""

    argv: list[str]
    environment: dict[str, str]
    unset: list[str]
    raw: dict[str, Any]


# --- systemd ---------------------------------------------------------------------------------------------------------


def unit(text: str, home: str = "/home/me") -> Started:
    values = dict(_assignments(text))
    environment: dict[str, str] = {}
    for key, value in _assignments(text):
        if key == "Environment":
            for word in _words(value):
                name, _, said = _specified(word, home).partition("=")
                environment[name] = said
    argv = [_filled(word, environment) for word in unit_words(text, home)]
    return Started(argv, environment, values.get("UnsetEnvironment", "").split(), values)


def unit_words(text: str, home: str = "/home/me") -> list[str]:
    """The words of ExecStart= before variables are filled in."""
    return [_specified(word, home) for word in _words(dict(_assignments(text))["ExecStart"])]


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    whole = ""
    for line in text.split("\n"):
        if whole and line.lstrip()[:1] in ("#", ";"):
            continue  # a comment between continued lines
        whole += line
        if whole.endswith("\\"):
            whole = whole[:-1] + " "
            continue
        if whole and whole.lstrip()[:1] not in ("#", ";", "["):
            key, _, value = whole.partition("=")
            yield key.strip(), value.strip(" \t")
        whole = ""


def _words(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        if text[at] in " \t\n\r":
            at += 1
            continue
        word, quote = b"", ""
        while at < len(text) and (quote or text[at] not in " \t\n\r"):
            sign = text[at]
            if sign == "\\":
                found = _ESCAPE.match(text, at)
                assert found, f"an escape without an end: {text[at:]}"
                word += _unescaped(found)
                at = found.end()
                continue
            if quote and sign == quote:
                quote = ""
            elif not quote and sign in "\"'":
                quote = sign
            else:
                word += sign.encode()
            at += 1
        assert not quote, f"a quote without an end: {text}"
        yield word.decode()


def _unescaped(found: re.Match[str]) -> bytes:
    byte, octal, short, long, sign = found.groups()
    if byte or octal:
        return bytes([int(byte, 16) if byte else int(octal, 8)])
    if short or long:
        return chr(int(short or long, 16)).encode()
    assert sign in _ESCAPES, f"systemd knows no escape \\{sign}"
    return _ESCAPES[sign].encode()


def _specified(word: str, home: str) -> str:
    def one(found: re.Match[str]) -> str:
        assert found[1] in ("%", "h"), f"a specifier: %{found[1]}"
        return "%" if found[1] == "%" else home

    return re.sub(r"%(.)", one, word, flags=re.DOTALL)


def _filled(word: str, environment: Mapping[str, str]) -> str:
    assert not re.match(r"\$(?![{$])", word), f"a variable that splits: {word}"
    return re.sub(r"\$\$|\$\{(\w+)\}", lambda found: environment.get(found[1], "") if found[1] else "$", word)


# --- Docker Compose --------------------------------------------------------------------------------------------------


def compose(text: str, environment: Mapping[str, str] | None = None) -> Started:
    """The one service of the file; `raw` is the service as Compose sees it."""
    project = _interpolated(yaml.safe_load(text), environment or {})
    (service,) = project["services"].values()
    said = {name: (environment or {}).get(name) if it is None else it for name, it in service["environment"].items()}
    seen = {name: value for name, value in said.items() if value is not None}
    return Started([*service["entrypoint"], *service["command"]], seen, [], service)


def _interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def one(found: re.Match[str]) -> str:
        dollar, name, rule, word = found.groups()
        if dollar:
            return "$"
        if environment.get(name):
            return environment[name]
        assert rule != ":?", f"{name}: {word}"
        return word if rule == ":-" else ""

    assert not re.search(r"\$(?![{$])", _VARIABLE.sub("", value)), f"a bare dollar: {value}"
    return _VARIABLE.sub(one, value)
