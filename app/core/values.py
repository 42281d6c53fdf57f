"""Owns how values of ours become JSON and back, safely in any thread."""

from __future__ import annotations

import threading
from typing import TypeVar

import msgspec

T = TypeVar("T")


def _encode_hook(value: object) -> object:
    from pathlib import PurePath

    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not travel")


def _decode_hook(kind: type, value: object) -> object:
    from pathlib import Path

    if kind is Path:
        return Path(str(value))
    if kind is object:  # a setting's value: msgspec asks about `object` as if it were a type of ours
        return value
    raise TypeError(f"{kind} does not travel")


_encoder = msgspec.json.Encoder(enc_hook=_encode_hook)
_decoders: dict[object, msgspec.json.Decoder[object]] = {}
_making = threading.Lock()  # two threads that look into the same struct for the first time at once crash msgspec 0.22


def to_json(value: object) -> bytes:
    return _encoder.encode(value)


def from_json(kind: type[T], data: bytes | str) -> T:
    """The value that `data` holds; raises msgspec.DecodeError when it has another form."""
    decoder = _decoders.get(kind)
    if decoder is None:
        with _making:
            decoder = _decoders[kind] = msgspec.json.Decoder(kind, dec_hook=_decode_hook)
    return decoder.decode(data)  # type: ignore[return-value]


def from_values(kind: type[T], values: object, *, strict: bool = True) -> T:
    """The value that plain `values` (of a TOML file, say) describe; raises msgspec.ValidationError when they do not."""
    with _making:
        return msgspec.convert(values, kind, strict=strict, dec_hook=_decode_hook)
