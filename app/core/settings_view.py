"""Derives the settings form from the settings table, and applies changes to the TOML file's values; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from app.core.control import SettingField
from app.core.errors import SettingInvalid
from app.core.settings import Settings

# What a running daemon can take over at once; all else is used from its next start.
APPLIED_AT_ONCE = ("memory.", "supervision.", "library.")
NOT_AT_ONCE = ("supervision.seats",)  # of these groups


def fields_of(settings: Settings, environment: Mapping[str, str]) -> tuple[SettingField, ...]:
    """One entry per setting, in the table's order."""
    found = []
    for group in Settings.model_fields:
        for name, info in _group(group).model_fields.items():
            variable = f"ENGINE_ROOM_{group}__{name}".upper()
            value = getattr(getattr(settings, group), name)
            found.append(_field(f"{group}.{name}", info, value, variable in environment))
    return tuple(found)


def _group(name: str) -> type[BaseModel]:
    kind = Settings.model_fields[name].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, BaseModel)
    return kind


def _field(key: str, info: FieldInfo, value: Any, from_environment: bool) -> SettingField:
    minimum = maximum = None
    for rule in info.metadata:
        if isinstance(rule, annotated_types.Ge):
            minimum = float(rule.ge)  # type: ignore[arg-type]
        elif isinstance(rule, annotated_types.Gt):
            minimum = float(rule.gt)  # type: ignore[arg-type]
        elif isinstance(rule, annotated_types.Le):
            maximum = float(rule.le)  # type: ignore[arg-type]
    return SettingField(
        key=key,
        value=list(value) if isinstance(value, tuple) else value,
        default=list(info.default) if isinstance(info.default, tuple) else info.default,
        sentence=info.description or "",
        kind=_kind(info.default),
        minimum=minimum,
        maximum=maximum,
        from_environment=from_environment,
    )


def _kind(default: object) -> str:
    match default:
        case bool():
            return "switch"
        case int():
            return "integer"
        case float():
            return "number"
        case tuple():
            return "list"
    return "text"


def changed(values: Mapping[str, Any], change: Mapping[str, object]) -> dict[str, Any]:
    """The TOML file's `values` with `change` ({"group.name": value}, None = back to the default) applied.

    Raises SettingInvalid with the key and what is allowed; nothing of a bad change is applied.
    """
    after: dict[str, Any] = {group: dict(entries) for group, entries in values.items()}
    for key, value in change.items():
        group, _, name = key.partition(".")
        if group not in Settings.model_fields or name not in _group(group).model_fields:
            raise SettingInvalid(f"There is no setting {key}.", "`engine-room doctor` lists them.")
        entries = after.setdefault(group, {})
        if value is None:
            entries.pop(name, None)
        else:
            entries[name] = value
    try:
        for group, entries in after.items():
            _group(group)(**entries)
    except ValidationError as error:
        first = error.errors()[0]
        key = f"{group}.{'.'.join(str(part) for part in first['loc'])}"
        raise SettingInvalid(f"{key}: {first['msg']}.", "The setting keeps its old value.") from error
    return {group: entries for group, entries in after.items() if entries}


def without(keys: Sequence[str], settings: Settings, kept_from: Settings) -> Settings:
    """`settings` with these keys ("group.name") as they are in `kept_from`."""
    for key in keys:
        group, _, name = key.partition(".")
        values = getattr(settings, group).model_copy(update={name: getattr(getattr(kept_from, group), name)})
        settings = settings.model_copy(update={group: values})
    return settings
