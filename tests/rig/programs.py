"""Writes small programs that act as engines: real executables on disk, each good or bad in a way of its own."""

import sys
import textwrap
from pathlib import Path

HELP = """\
----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-t,    --threads N                      number of CPU threads to use during generation (default: -1)
                                        --not-a-flag stands in a text that goes on
-kvo,  --kv-offload, -nkvo, --no-kv-offload
                                        whether to enable KV cache offloading (default: enabled)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto')
-m,    --model FNAME                    model path to load
--lora FNAME                            path to LoRA adapter
--port PORT                             port to listen
--metrics                               enable prometheus compatible metrics endpoint (default: disabled)
--list-devices                          print list of available devices and exit
"""
VERSION = "version: 0.5.0 (build 9001, commit 0c1e57098)\nbuilt with GNU 12.2.0 for Linux x86_64"


def write_script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(body)}\n", "utf-8")
    path.chmod(0o755)
    return path


def write_llama_server(
    path: Path,
    *,
    version: str = f"echo '{VERSION}' >&2",
    help_text: str = "",
    devices: str = "echo 'Available devices:'; echo '  CUDA0: NVIDIA GeForce RTX 4090 (24080 MiB, 23000 MiB free)'",
) -> Path:
    """A `llama-server` whose answers are lines of shell; the good ones when left alone. It counts how often it is asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    help_file = path.parent / f".{path.name}.help"
    help_file.write_text(HELP, "utf-8")
    return write_script(
        path,
        f"""\
        echo "$1" >> "{path.parent}/.{path.name}.asked"
        case "$1" in
        --version) {version} ;;
        --help) {help_text or f'cat "{help_file}"'} ;;
        --list-devices) {devices} ;;
        *) exit 1 ;;
        esac""",
    )


def asked(path: Path) -> list[str]:
    """What a program of `write_llama_server` was asked, oldest first."""
    file = path.parent / f".{path.name}.asked"
    return file.read_text("utf-8").split() if file.exists() else []


def write_environment(folder: Path, *, conda: bool = False, python: str = "", **packages: str) -> Path:
    """An environment with the metadata of `packages` (xllamacpp="1.0"); its interpreter is a script. Returns the interpreter.

    `python` is what the interpreter does when it is started; by default it leaves a trace.
    """
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    if conda:
        (folder / "conda-meta").mkdir(exist_ok=True)
    else:
        (folder / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n", "utf-8")
    interpreter = write_script(folder / "bin" / "python", python or f'touch "{folder}/was-run"')
    site = folder / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True, exist_ok=True)
    for package, version in packages.items():
        info = site / f"{package}-{version}.dist-info"
        info.mkdir()
        name = package.replace("_", "-")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
        (info / "RECORD").write_text("", "utf-8")
    return interpreter
