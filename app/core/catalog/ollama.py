"""Reads how Ollama describes a model: a manifest that names blobs by their checksum, and its parameters."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from app.core.errors import ModelUnreadable
from app.core.options import Scalar, problem_with
from app.core.profiles import SAMPLING_OPTIONS, Sampling
from app.core.values import from_json, from_values

MAX_MANIFEST_BYTES = 1024**2
LAID_OVER = "engine-room-"  # begins the name of a model that has another one's weights and a profile's options
MAX_TEXT_BYTES = 256 * 1024  # of parameters and system prompts

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_KIND = "application/vnd.ollama.image."
_OFFICIAL, _LIBRARY, _LATEST = "registry.ollama.ai", "library", "latest"
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repeat_penalty",
    "num_predict": "max_tokens",
}


class Layer(msgspec.Struct, frozen=True, rename={"media_type": "mediaType"}):
    media_type: str
    digest: str
    size: int = 0

    @property
    def kind(self) -> str:
        """`model`, `projector`, `adapter`, `template`, `system`, `params`, `license`, …"""
        return self.media_type.removeprefix(_KIND)


class Manifest(msgspec.Struct, frozen=True):
    layers: tuple[Layer, ...] = ()

    def of(self, kind: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.kind == kind)


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Raises ModelUnreadable; a digest that is none is refused, for it becomes a file's name."""
    try:
        manifest = from_json(Manifest, data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnreadable(f"{where} is not a manifest of Ollama: {error}.", _AGAIN) from error
    for layer in manifest.layers:
        if not _DIGEST.fullmatch(layer.digest):
            raise ModelUnreadable(f"{where} names a blob by {layer.digest[:80]!r}, which is no checksum.", _AGAIN)
    return manifest


_AGAIN = "Get the model again with `ollama pull`."


def blob_name(digest: str) -> str:
    """The file's name in the folder of blobs."""
    return digest.replace(":", "-")


def tag_of(parts: tuple[str, str, str, str]) -> str:
    """What Ollama calls the model whose manifest lies at host/namespace/model/tag: `llama3.2:3b`."""
    host, namespace, model, tag = parts
    name = f"{model}:{tag}"
    if (host, namespace) == (_OFFICIAL, _LIBRARY):
        return name
    return f"{namespace}/{name}" if host == _OFFICIAL else f"{host}/{namespace}/{name}"


def names_of(tag: str) -> tuple[str, ...]:
    """The names by which clients of Ollama ask for it: `llama3.2:latest` is `llama3.2` too."""
    return (tag, tag.removesuffix(f":{_LATEST}")) if tag.endswith(f":{_LATEST}") else (tag,)


def parse_parameters(data: bytes) -> tuple[dict[str, Scalar], Sampling]:
    """Settings and sampling that the model was published with; whatever is not understood is left out."""
    try:
        values = from_json(dict[str, object], data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}, Sampling()
    options = {option.name: option for option in SAMPLING_OPTIONS}
    sampling = {
        ours: values[theirs]
        for theirs, ours in _SAMPLING.items()
        if theirs in values and problem_with(options[ours], values[theirs]) is None
    }
    context = values.get("num_ctx")
    settings: dict[str, Scalar] = {}
    if isinstance(context, int) and not isinstance(context, bool) and 0 < context <= 10_000_000:
        settings["context_tokens"] = context
    return settings, from_values(Sampling, sampling)


class OllamaModel(msgspec.Struct, frozen=True, kw_only=True):
    """One tag and the files that belong to it."""

    tag: str
    model: Path
    model_bytes: int
    projectors: tuple[Path, ...] = ()
    adapters: tuple[Path, ...] = ()
    system: Path | None = None
    parameters: Path | None = None
    template: Path | None = None


def model_of(manifest: Manifest, tag: str, blobs: Path) -> OllamaModel | None:
    """The model in files; None for one that has none here (it runs in a cloud, or has another form than GGUF)."""
    models = manifest.of("model")
    if not models:
        return None

    def files(kind: str) -> tuple[Path, ...]:
        return tuple(blobs / blob_name(layer.digest) for layer in manifest.of(kind))

    def one(kind: str) -> Path | None:
        return next(iter(files(kind)), None)

    return OllamaModel(
        tag=tag,
        model=blobs / blob_name(models[0].digest),
        model_bytes=models[0].size,
        projectors=files("projector"),
        adapters=files("adapter"),
        system=one("system"),
        parameters=one("params"),
        template=one("template"),
    )
