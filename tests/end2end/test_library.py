"""The list of models in a real service: it grows while it is read, follows every store, and no bad file takes another away (M1)."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

from app.core.snapshot import Library, from_json
from app.daemon.tiny_folder import write_tiny_folder
from tests.end2end.commands import Commands
from tests.rig.daemon import Daemon
from tests.rig.gguf_file import write_model, write_slow_to_read
from tests.rig.home import Home
from tests.rig.stores import into_hub, into_ollama


def lists_seen(daemon: Daemon) -> Iterator[Library]:
    """Every list that came over the stream, oldest first."""
    assert daemon.slices_seen is not None
    name = b""
    for line in daemon.slices_seen.raw.splitlines():
        field, _, value = line.partition(b": ")
        if field == b"event":
            name = value
        elif field == b"data" and name == b"library":
            yield from_json(Library, value)


def found(library: Library) -> set[str]:
    return {card.profile.id for card in library.profiles if card.profile.source == "found" and card.available}


def test_cards_appear_while_the_first_scan_reads_and_bad_files_are_told(
    home: Home, daemon: Daemon, commands: Commands
) -> None:
    """A model can be loaded before the others have been read; each file that is none is one sentence."""
    write_model(home.models / "a-quick.gguf")
    slow = [write_slow_to_read(home.models / f"slow-{number}.gguf") for number in range(3)]
    bad = bad_files(home.models / "bad")
    daemon.expect_warnings("the model folders take long to read")
    daemon.start()
    whole = daemon.wait_slice("library", lambda library: len(found(library)) == 1 + len(slow), what="all are listed")
    early = [library for library in lists_seen(daemon) if library.unread and found(library)]
    assert early, "the quick one was shown while the slow ones were read"
    assert found(early[0]) == {"a-quick"}
    assert "still being read" in early[0].being_read
    assert [library.unread for library in early] == sorted((library.unread for library in early), reverse=True)
    assert whole.unread == 0
    told = {Path(problem.where).relative_to(home.models / "bad").as_posix(): problem for problem in whole.problems}
    assert sorted(told) == sorted(bad)
    for name, words in bad.items():
        assert words in told[name].summary, told[name]
        assert told[name].summary.endswith(".")
        assert told[name].summary.count(". ") == 0, "one sentence"
        assert told[name].advice
    said = commands.ok("models", "--json").json
    titles = {variant["title"] for found in said["models"] for variant in found["model"]["variants"]}
    assert titles == {"engine-room-demo", "a-quick", *(path.stem for path in slow)}
    assert said["unread"] == 0
    shutil.rmtree(home.models / "bad")
    daemon.wait_slice("library", lambda library: not library.problems and len(found(library)) == 4, what="all is well")


def bad_files(folder: Path) -> dict[str, str]:
    """Everything that a models folder should not hold → what is said of it. Loops and pipes are passed over in silence."""
    start = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    key = struct.pack("<Q", 4) + b"name"
    whole = write_model(folder / "cut-short.gguf")
    os.truncate(whole, whole.stat().st_size // 2)
    files = {
        "absurd-key.gguf": start + struct.pack("<Q", 2**62),
        "absurd-count.gguf": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60),
        "absurd-list.gguf": start + key + struct.pack("<IIQ", 9, 8, 2**61),
        "beyond.gguf": start + key + struct.pack("<II", 4, 1) + key + struct.pack("<IQQIQ", 2, 32, 32, 0, 2**62),
        "empty.gguf": b"",
        "page.gguf": b"<!DOCTYPE html><html></html>",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "gone.gguf").symlink_to(folder / "nowhere.gguf")
    (folder / "itself.gguf").symlink_to(folder / "itself.gguf")
    (folder / "up").symlink_to(folder)
    os.mkfifo(folder / "pipe.gguf")
    piped = write_tiny_folder(folder / "piped", shards=1)
    (piped / "config.json").unlink()
    os.mkfifo(piped / "config.json")
    absurd = write_tiny_folder(folder / "absurd", shards=1)
    (absurd / "model-00001-of-00001.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    text = write_tiny_folder(folder / "text", shards=1)
    (text / "config.json").write_text(json.dumps([[]]))
    return {
        "cut-short.gguf": "cut short",
        "absurd-key.gguf": "bytes long",
        "absurd-count.gguf": "which no model has",
        "absurd-list.gguf": "no room for",
        "beyond.gguf": "cut short",
        "empty.gguf": "is empty",
        "page.gguf": "web page",
        "gone.gguf": "cannot be opened",
        "itself.gguf": "cannot be opened",
        "piped": "not a file",
        "absurd": "",
        "text": "",
    }


def test_what_comes_and_goes_in_any_store_is_followed(home: Home, daemon: Daemon, tmp_path: Path) -> None:
    """The person's folder, the hub's cache, llama.cpp's, Ollama's store and LM Studio's folder, while the service runs."""
    daemon.start()
    before = daemon.wait_slice("library", lambda library: not library.unread)
    assert not found(before)
    made = {name: write_model(tmp_path / "made" / f"{name}.gguf", name=f"{name} 1B") for name in ("hub", "ollama")}
    cache, ollama = home.folder / "cache", home.folder / ".ollama" / "models"
    into_hub(cache / "huggingface" / "hub", "org/One-GGUF", {"one-1b-Q8_0.gguf": made["hub"]})
    folder = write_tiny_folder(tmp_path / "made" / "safetensors", shards=1)
    into_hub(cache / "huggingface" / "hub", "org/Two-1B", {file.name: file for file in folder.iterdir()})
    manifest = into_ollama(ollama, "three:1b", made["ollama"])
    places = {
        "four": write_model(cache / "llama.cpp" / "four.gguf"),
        "five": write_model(home.folder / ".lmstudio" / "models" / "pub" / "Five-GGUF" / "five.gguf"),
        "six": write_model(home.models / "deep" / "six.gguf"),
    }
    everything = {"one-1b-q8_0", "two-1b", "three-1b", *places}
    here = daemon.wait_slice("library", lambda library: found(library) == everything, what="all are listed")
    assert {card.profile.id: card.store for card in here.profiles if card.profile.source == "found"} == {
        "one-1b-q8_0": "Hugging Face cache",
        "two-1b": "Hugging Face cache",
        "three-1b": "Ollama",
        "four": "llama.cpp cache",
        "five": "LM Studio",
        "six": "",
    }
    manifest.unlink()  # as `ollama rm` does
    for repository in (cache / "huggingface" / "hub").iterdir():
        shutil.rmtree(repository)
    for name in ("four", "five"):
        places[name].unlink()
    home.models.rename(tmp_path / "away")  # a drive that is pulled out
    gone = daemon.wait_slice("library", lambda library: not found(library), what="none is listed")
    assert (gone.models, gone.problems) == (before.models, ())
    (tmp_path / "away").rename(home.models)
    daemon.wait_slice("library", lambda library: found(library) == {"six"}, what="it is back")
