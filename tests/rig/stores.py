"""Lays models into the folders of other programs as those programs do: the hub's cache, Ollama's store."""

import hashlib
import json
import shutil
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def into_hub(cache: Path, name: str, files: dict[str, Path], commit: str = COMMIT, main: bool = True) -> Path:
    """A repository in the hub's cache: blobs by checksum, links in a snapshot. Returns the snapshot."""
    top = cache / f"models--{name.replace('/', '--')}"
    snapshot = top / "snapshots" / commit
    for inside, file in files.items():
        blob = top / "blobs" / checksum(file)
        blob.parent.mkdir(parents=True, exist_ok=True)
        if not blob.exists():
            shutil.copy(file, blob)
        link = snapshot / inside
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(*[".."] * (2 + inside.count("/"))) / "blobs" / blob.name)
    if main:
        (top / "refs").mkdir(exist_ok=True)
        (top / "refs" / "main").write_text(commit)
    return snapshot


def into_ollama(
    store: Path,
    tag: str,
    model: Path,
    *,
    projector: Path | None = None,
    adapter: Path | None = None,
    parameters: dict[str, object] | None = None,
    system: str = "",
    place: str = "registry.ollama.ai/library",
) -> Path:
    """A model as `ollama pull` leaves it. Returns the manifest."""
    layers = [layer(store, "model", model.read_bytes())]
    layers += [layer(store, "projector", projector.read_bytes())] if projector else []
    layers += [layer(store, "adapter", adapter.read_bytes())] if adapter else []
    layers += [layer(store, "params", json.dumps(parameters).encode())] if parameters else []
    layers += [layer(store, "system", system.encode())] if system else []
    layers += [layer(store, "template", b"{{ .Prompt }}")]
    name, _, version = tag.partition(":")
    manifest = store / "manifests" / place / name / (version or "latest")
    manifest.parent.mkdir(parents=True, exist_ok=True)
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": f"sha256:{'0' * 64}", "size": 2}
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": layers}))
    return manifest


def layer(store: Path, kind: str, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    blob = store / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    if not blob.exists():
        blob.write_bytes(data)
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
