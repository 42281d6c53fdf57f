"""Installs the stand-in engine in a home and writes profiles that choose how it behaves."""

import json
import sys
from pathlib import Path

import tomli_w

from tests.rig.gguf_file import write_model
from tests.rig.home import Home

PROGRAM = Path(__file__).with_name("fake_engine.py")


def _interpreter() -> str:
    return str(Path(sys.executable).resolve())  # the base interpreter starts faster than the environment's


class FakeEngine:
    """The engine `llama-server` of this home: found on its PATH like any other."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.journal_file = home.folder / "engine-journal.jsonl"
        self.install("llama-server")

    def install(self, name: str, face: str = "llama-server", accelerator: str = "cpu") -> Path:
        """Puts an executable of that name into the home's bin folder. What a build computes on is told by the driver
        library that its file names."""
        program = self.home.bin / name
        names = "# libcuda.so.1\n" if accelerator == "cuda" else ""
        program.write_text(f'#!/bin/sh\n{names}exec "{_interpreter()}" -S -I "{PROGRAM}" --face {face} "$@"\n')
        program.chmod(0o755)
        return program

    def install_vllm(self, version: str = "0.32.0+cpu") -> Path:
        """An environment that has a vLLM, as files tell it (what it computes on is in the version); its Python is the
        stand-in."""
        place = self.home.folder / "vllm-environment"
        metadata = place / "lib" / "python3.11" / "site-packages" / f"vllm-{version}.dist-info" / "METADATA"
        python = place / "bin" / "python"
        for file in (metadata, python):
            file.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
        said = "-I -m vllm.entrypoints.cli.main serve"
        python.write_text(
            f'#!/bin/sh\n[ "$1 $2 $3 $4" = "{said}" ] || exit 9\nshift 3\n'
            f'exec "{_interpreter()}" -S -I "{PROGRAM}" --face vllm "$@"\n'
        )
        python.chmod(0o755)
        self.home.environment["ENGINE_ROOM_VLLM"] = str(python)
        return python

    def model(self, name: str = "tiny", **facts: object) -> Path:
        path = self.home.models / f"{name}.gguf"
        return path if path.exists() and not facts else write_model(path, **facts)  # type: ignore[arg-type]

    def environment(self, **knobs: object) -> dict[str, str]:
        def said(value: object) -> str:
            if isinstance(value, bool):
                return "1" if value else "0"
            return json.dumps(value) if isinstance(value, dict) else str(value)

        return {
            "FAKE_ENGINE_JOURNAL": str(self.journal_file),
            **{f"FAKE_ENGINE_{name.upper()}": said(value) for name, value in knobs.items()},
        }

    def profile(
        self,
        profile_id: str,
        *,
        model: Path | None = None,
        settings: dict[str, object] | None = None,
        environment: dict[str, str] | None = None,
        table: dict[str, object] | None = None,
        **knobs: object,
    ) -> str:
        """Writes `<profile_id>.toml`; knobs are the stand-in's, in lower case. Returns the id."""
        knobs.setdefault("answer", f"{profile_id} " * 16)
        whole: dict[str, object] = {
            "title": f"The {profile_id} model",
            "engine": "llama-server",
            "model": str(model or self.model()),
            **(table or {}),
            "settings": {"context_tokens": 2048, **(settings or {})},
            "environment": {**self.environment(**knobs), **(environment or {})},
        }
        self.home.paths.profiles.mkdir(parents=True, exist_ok=True)
        (self.home.paths.profiles / f"{profile_id}.toml").write_text(tomli_w.dumps(whole), "utf-8")
        return profile_id

    def journal(self, event: str | None = None, **fields: object) -> list[dict[str, object]]:
        """What the stand-ins did, oldest first; optionally only events with these fields."""
        if not self.journal_file.exists():
            return []
        lines = [json.loads(line) for line in self.journal_file.read_text().splitlines() if line.endswith("}")]
        return [
            line
            for line in lines
            if (event is None or line["event"] == event) and all(line.get(k) == v for k, v in fields.items())
        ]
