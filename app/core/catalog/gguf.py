"""Reads the header of a GGUF file: bounded in memory and time, whatever the file holds.

Format: magic, version, two counts, key-value pairs, tensor infos, padding, tensor data (ggml's gguf specification, v2/v3).
Every fault is a `ModelUnreadable` whose sentence a person can act on. Large arrays (vocabularies) are walked, not kept.
"""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from app.core.catalog.block_types import BLOCK_TYPES
from app.core.catalog.plain_file import NotAFile, open_plain
from app.core.errors import ModelMissing, ModelUnreadable

MAX_PAIRS = 16_384
MAX_TENSORS = 32_768  # of one file: ten times those of the largest models
MAX_KEY_BYTES = 65_535
MAX_KEPT_BYTES = 24 * 1024**2  # of memory, for keys, names and values together
MAX_READ_BYTES = 128 * 1024**2  # of one header; what is stepped over is not read
MAX_KEPT_TEXT_BYTES = 1024**2  # longer texts (an embedded tokenizer) are stepped over
MAX_KEPT_NUMBERS = 4_096  # per-layer lists are far shorter, vocabularies far longer
MAX_KEPT_TEXTS = 64
MAX_WALKED_TEXTS = 4_000_000  # over all arrays of a file: the largest known vocabularies have under a million
MAX_DIMENSIONS = 4
MAX_ELEMENTS = 2**48
MAX_ALIGNMENT = 2**20
_CHUNK_BYTES = 1024**2
_FIRST_CHUNK_BYTES = 32 * 1024  # of many files the header is no longer
_NUMBER_BYTES = 40  # that one number of a list takes in memory
_TENSOR_BYTES = 500  # that one tensor takes beside its name

_SCALARS = {
    0: struct.Struct("<B"), 1: struct.Struct("<b"), 2: struct.Struct("<H"), 3: struct.Struct("<h"),
    4: struct.Struct("<I"), 5: struct.Struct("<i"), 6: struct.Struct("<f"), 7: struct.Struct("<?"),
    10: struct.Struct("<Q"), 11: struct.Struct("<q"), 12: struct.Struct("<d"),
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
_U32, _U64 = _SCALARS[4], _SCALARS[10]

_AGAIN = "Download or copy the file again."


class GgufArray(msgspec.Struct, frozen=True):
    """An array value; `values` is empty when the array is too long to be kept."""

    length: int
    values: tuple[str | int | float | bool, ...] = ()


class GgufTensor(msgspec.Struct, frozen=True):
    name: str
    shape: tuple[int, ...]  # fastest dimension first, as in the file
    type: str
    bytes: int

    @property
    def elements(self) -> int:
        count = 1
        for side in self.shape:
            count *= side
        return count


Value = str | int | float | bool | GgufArray | None  # None: a text too long to be kept


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    metadata: dict[str, Value]
    tensors: tuple[GgufTensor, ...]
    data_offset: int
    file_bytes: int


def read_header(path: Path) -> GgufHeader:
    """The header of `path`; raises ModelMissing or ModelUnreadable. A pipe or device is refused, never waited for."""
    try:
        file, status = open_plain(path)
    except NotAFile as error:
        raise ModelUnreadable(f"{path} is not a file.", "Name a GGUF file.") from error
    except FileNotFoundError as error:
        raise ModelMissing(
            f"The model file {path} is not there.", "Put it back, or change the profile's `model`."
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelUnreadable(
            f"The model file {path} cannot be opened: {reason}.", "Check the file's permissions."
        ) from error
    with file:
        try:
            return parse_header(file, status.st_size, str(path))
        except OSError as error:
            raise ModelUnreadable(
                f"The model file {path} cannot be read: {error.strerror}.", "Check the drive that it lies on."
            ) from error


def parse_header(file: BinaryIO | io.RawIOBase, size: int, name: str) -> GgufHeader:
    """The header at the start of `file`, which has `size` bytes; `name` is how messages call it."""
    source = _Source(file, size, name)
    version = _version(source)
    tensor_count, pair_count = source.u64(), source.u64()
    if pair_count > MAX_PAIRS or tensor_count > MAX_TENSORS:
        source.broken(f"it announces {pair_count:,} entries and {tensor_count:,} tensors, which no model has")
    metadata: dict[str, Value] = {}
    for _ in range(pair_count):
        key = source.key("an entry's name")
        if key in metadata:
            source.broken(f"it holds the entry {_shown(key)} twice")
        metadata[key] = _value(source, source.u32(), key)
    raw = [_tensor_info(source) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        source.broken(f"its alignment is {_shown(alignment)}, which is not a power of two")
    data_offset = -(-source.offset // alignment) * alignment
    tensors = _sized(raw, size - data_offset, source)
    return GgufHeader(version=version, metadata=metadata, tensors=tensors, data_offset=data_offset, file_bytes=size)


def _shown(value: object) -> str:
    """A value as a sentence can hold it."""
    text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 100 else text[:99] + "…"


class _Source:
    """A forward-only view of the file that holds about a mebibyte at a time.

    Plain reads, not a mapping: a mapped file that shrinks while it is read would kill the process.
    """

    def __init__(self, file: BinaryIO | io.RawIOBase, size: int, name: str) -> None:
        self._file, self._size, self.name = file, size, name
        self._window, self._at, self._base = b"", 0, 0
        self._walked, self._kept, self._read = 0, 0, 0
        self._chunk = _FIRST_CHUNK_BYTES

    @property
    def offset(self) -> int:
        return self._base + self._at

    def broken(self, why: str) -> NoReturn:
        raise ModelUnreadable(f"{self.name} is not a usable GGUF file: {why}.", _AGAIN)

    def _ensure(self, count: int) -> None:
        if self._at + count <= len(self._window):
            return
        if self.offset + count > self._size:
            self._cut_short()
        rest = self._window[self._at :]
        parts = [rest] if rest else []  # one part alone is not copied
        self._base, self._at = self._base + self._at, 0
        have = len(rest)
        while have < count:
            more = self._file.read(max(count - have, self._chunk)) or b""
            self._chunk = min(4 * self._chunk, _CHUNK_BYTES)
            if not more:
                self._cut_short()  # the file shrank while it was read
            self._read += len(more)
            if self._read > MAX_READ_BYTES:
                self.broken(f"its header is larger than {MAX_READ_BYTES // 1024**2} MiB")
            parts.append(more)
            have += len(more)
        self._window = b"".join(parts)

    def _cut_short(self) -> NoReturn:
        raise ModelUnreadable(
            f"{self.name} is cut short: it ends within its header, after {self._size:,} bytes.",
            "The download or copy did not finish: get the file again.",
        )

    def take(self, count: int) -> bytes:
        self._ensure(count)
        self._at += count
        return self._window[self._at - count : self._at]

    def charge(self, count: int) -> None:
        """Counts bytes of memory that stay in use: the sum is bounded."""
        self._kept += count
        if self._kept > MAX_KEPT_BYTES:
            self.broken(f"its header needs more than {MAX_KEPT_BYTES // 1024**2} MiB, vocabulary not counted")

    def _kept_text(self, count: int) -> str:
        text = self.take(count).decode("utf-8", "replace")
        self.charge(sys.getsizeof(text))
        return text

    def skip(self, count: int) -> None:
        if self.offset + count > self._size:
            self._cut_short()
        if self._at + count <= len(self._window):
            self._at += count
            return
        self._base, self._at, self._window = self.offset + count, 0, b""
        self._file.seek(self._base)

    def skip_texts(self, count: int) -> None:
        """Steps over `count` texts; the hot loop of the reader (a quarter of a million for a large vocabulary)."""
        self._walked += count
        if self._walked > MAX_WALKED_TEXTS or count * 8 > self._size - self.offset:
            self.broken(f"it announces a list of {count:,} texts, which it has no room for")
        unpack = _U64.unpack_from
        window, at, last = self._window, self._at, len(self._window) - 8
        for _ in range(count):
            if at > last:
                self._at = at
                self._ensure(8)
                window, at, last = self._window, self._at, len(self._window) - 8
            at += 8 + unpack(window, at)[0]
            if at > last + 8:
                self._at = last + 8
                self.skip(at - last - 8)
                window, at, last = self._window, self._at, len(self._window) - 8
        self._at = at

    def u32(self) -> int:
        return int(_U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        return int(_U64.unpack(self.take(8))[0])

    def key(self, what: str) -> str:
        length = self.u64()
        if not 0 < length <= MAX_KEY_BYTES:
            self.broken(f"{what} is {length:,} bytes long")
        return self._kept_text(length)

    def text(self) -> str | None:
        length = self.u64()
        if length > MAX_KEPT_TEXT_BYTES:
            self.skip(length)
            return None
        return self._kept_text(length)


def _version(source: _Source) -> int:
    start = source.take(min(8, source._size))
    if start[:4] != b"GGUF":
        raise _stranger(start, source.name)
    if len(start) < 8:
        source._cut_short()
    version = int(_U32.unpack(start[4:])[0])
    if version in (2, 3):
        return version
    if version == 1:
        raise ModelUnreadable(
            f"{source.name} uses GGUF version 1, which today's engines no longer read.", "Get a newer conversion."
        )
    if version and version & 0xFFFF == 0:
        raise ModelUnreadable(
            f"{source.name} was written for a big-endian machine; this machine is little-endian.",
            "Get the little-endian file, or convert it with gguf-py's `gguf-convert-endian`.",
        )
    raise ModelUnreadable(
        f"{source.name} uses GGUF version {version}; versions 2 and 3 are known.",
        "Update Engine Room, or get another conversion of the model.",
    )


def _stranger(start: bytes, name: str) -> ModelUnreadable:
    if not start:
        return ModelUnreadable(f"{name} is empty.", _AGAIN)
    if start[:4] in (b"lmgg", b"tjgg", b"fmgg", b"algg"):
        return ModelUnreadable(f"{name} is in the GGML format from before GGUF.", "Get the model as GGUF.")
    if start[:7] == b"version":
        return ModelUnreadable(
            f"{name} is a Git LFS pointer, not the model itself.", "Run `git lfs pull` in that folder."
        )
    if start.lstrip()[:1] == b"<":
        return ModelUnreadable(f"{name} is a web page, not a model.", "Download the file itself, not its page.")
    if not any(start):
        return ModelUnreadable(f"{name} begins with zeros: its content was never written.", _AGAIN)
    return ModelUnreadable(f"{name} is not a GGUF file: it does not begin with “GGUF”.", "Name a GGUF file.")


def _value(source: _Source, kind: int, key: str) -> Value:
    if kind == _TEXT:
        return source.text()
    if kind == _ARRAY:
        return _array(source, key)
    scalar = _SCALARS.get(kind)
    if scalar is None:
        source.broken(f"the entry {_shown(key)} has the unknown type {kind}")
    value: int | float | bool = scalar.unpack(source.take(scalar.size))[0]
    return value


def _array(source: _Source, key: str) -> GgufArray:
    kind, length = source.u32(), source.u64()
    if kind == _TEXT:
        if length <= MAX_KEPT_TEXTS:
            return GgufArray(length, tuple(source.text() or "" for _ in range(length)))
        source.skip_texts(length)
        return GgufArray(length)
    scalar = _SCALARS.get(kind)
    if scalar is None:
        source.broken(f"the list {_shown(key)} has elements of the unknown type {kind}")
    if length > MAX_KEPT_NUMBERS:
        source.skip(length * scalar.size)
        return GgufArray(length)
    source.charge(length * _NUMBER_BYTES)
    data = source.take(length * scalar.size)
    return GgufArray(length, tuple(item[0] for item in scalar.iter_unpack(data)))


def _tensor_info(source: _Source) -> tuple[str, tuple[int, ...], int, int]:
    name = source.key("a tensor's name")
    source.charge(_TENSOR_BYTES)
    dimensions = source.u32()
    if dimensions > MAX_DIMENSIONS:
        source.broken(f"the tensor {_shown(name)} has {dimensions:,} dimensions")
    shape = tuple(source.u64() for _ in range(dimensions))
    return name, shape, source.u32(), source.u64()


def _sized(
    raw: list[tuple[str, tuple[int, ...], int, int]], data_bytes: int, source: _Source
) -> tuple[GgufTensor, ...]:
    """Each tensor with its bytes; a type that we do not know (a newer engine's) is sized by where the next one begins."""
    starts = sorted({offset for _, _, _, offset in raw})
    following = dict(zip(starts, [*starts[1:], data_bytes], strict=False))
    tensors: list[GgufTensor] = []
    end = 0
    for name, shape, kind, offset in raw:
        elements = 1
        for side in shape:
            elements *= side
            if elements > MAX_ELEMENTS:
                source.broken(f"the tensor {_shown(name)} has impossible dimensions")
        block = BLOCK_TYPES.get(kind)
        if block is None:
            size = max(0, following[offset] - offset)
        elif elements % block.elements or (shape and shape[0] % block.elements):
            source.broken(f"the rows of the tensor {_shown(name)} do not divide into blocks of {block.name}")
        else:
            size = elements // block.elements * block.bytes
        end = max(end, offset + size)
        tensors.append(GgufTensor(name, shape, block.name if block else f"type {kind}", size))
    if len({tensor.name for tensor in tensors}) != len(tensors):
        source.broken("it holds a tensor twice")
    if end > data_bytes:
        whole = end - data_bytes + source._size
        raise ModelUnreadable(
            f"{source.name} is cut short: {source._size:,} of at least {whole:,} bytes are there.",
            "The download or copy did not finish: get the file again.",
        )
    return tuple(tensors)
