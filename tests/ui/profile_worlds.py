"""What the profile editor is given: the real settings tables, and some profiles as text."""

from __future__ import annotations

from app.core.control import CommandView, Export, OptionsView, ProfileText
from app.engines.registry import FAMILIES
from tests.ui import worlds

OPTIONS = OptionsView(
    families={name: tuple(family.options) for name, family in FAMILIES.items()},
    presets={name: tuple(getattr(family, "presets", ())) for name, family in FAMILIES.items()},
    titles={name: family.title for name, family in FAMILIES.items()},
)
TEXT = """# The one for everyday: do not raise the context, the card is full.
title = "Gemma 3 12B"
engine = "llama.cpp"
model = "/models/gemma-3-12b.gguf"
aliases = ["everyday"]

[settings]
context_tokens = 8192  # 16k is tight
slots = 2

[sampling]
temperature = 0.7
"""
MINE = ProfileText(profile="gemma-3-12b", text=TEXT, own=True)
FOUND = ProfileText(profile="gemma-3-12b", text=TEXT.partition("\n")[2], own=False)
COMMAND = CommandView(
    argv=(
        "/opt/llama.cpp/bin/llama-server",
        *("--model", "/models/gemma-3-12b.gguf"),
        *("--ctx-size", "8192", "--parallel", "2", "--port", "0"),
        *("--api-key-file", "•••", "--speedy"),
    ),
    environment={"CUDA_VISIBLE_DEVICES": "GPU-1111", "HF_TOKEN": "••••••"},
    unknown_flags=("--speedy",),
)
EXPORT = Export(
    file_name="gemma-3-12b.sh", text="#!/bin/sh\nexec llama-server\n", notes=("Put your key into KEY_FILE.",)
)
PRICE = worlds.plan(worlds.Verdict.FITS, 9.8, 24, 22.7)
ANSWERS: dict[str, object] = {
    "/control/engines/options": OPTIONS,
    "/control/profiles/gemma-3-12b": MINE,
    "/control/plan": PRICE,
    "/control/command": COMMAND,
    "/control/export": EXPORT,
}
