"""Decides from a row's inputs alone whether they say where everything lies, and names the reason where they do not."""

from __future__ import annotations

import re

from tests.corpus.columns import Row, number, size_of, whole
from tests.corpus.llamacpp_facts import bits_of

# Memory of the cards that logs name, in GiB; the longest name that is part of what was printed counts.
CARD_GIB = {
    "3060": 12, "3060 Ti": 8, "3070": 8, "3080": 20, "3080 Ti": 12, "3090": 24, "4060": 8, "4060 Ti": 16, "4070": 12,
    "4070 Ti": 12, "4070 Ti SUPER": 16, "4080": 16, "4090": 24, "4090 D": 48, "5060 Ti": 16, "5070": 12, "5070 Ti": 16,
    "5080": 16, "5090": 32, "A2000": 12, "A4000": 16, "A4500": 20, "A5000": 24, "A6000": 48, "RTX 6000 Ada": 48,
    "RTX PRO 6000": 96, "Tesla T4": 16, "V100": 32, "A100": 80, "H100": 80, "H200": 141, "L4": 24, "L40": 48, "P40": 24,
    "P100": 16, "A10": 24, "MI50": 32, "MI100": 32, "7900 XTX": 24, "7900 XT": 20,
}  # fmt: skip
TYPE_NAME = re.compile(r"(?<![A-Z0-9])(I?Q\d_[A-Z0-9]+|BF16|F16|MXFP4)")
OTHER_LAYERS = "the layers of the load are not the layers of the model: two runs in one row"
SEVERAL_CHUNKS = re.compile(r"llama-(perplexity|imatrix)")  # they read as many texts of -c at once as a batch holds
NUMBERS = (
    (r"(?:\s-c|--ctx-size)[ =]+(\d+)(?![\d*])", "n_ctx", 256),
    (r"(?:\s-ub|--ubatch-size)[ =]+(\d+)(?![\d*])", "n_ubatch", 1),
)


def command_of(row: Row) -> str:
    """The row's command where it is this load's own and whole; else nothing."""
    command = str(row.get("command") or "")
    return "" if not command or foreign_command(row, command) else command


def foreign_command(row: Row, command: str) -> str:
    """Why a command cannot be the one of this very log; empty where nothing speaks against it."""
    if "..." in command or command.rstrip().endswith("\\"):
        return "the command is cut"
    for pattern, name, step in NUMBERS:
        said, printed = re.findall(pattern, command), whole(row, name)
        if name == "n_ctx" and (batch := whole(row, "n_batch")) and SEVERAL_CHUNKS.search(command):
            said = [str(int(each) * max(1, batch // max(1, int(each)))) for each in said]
        if said and printed and all(abs(int(each) - printed) >= step for each in said):
            batch = whole(row, "n_batch")
            if name == "n_ubatch" and printed == batch:
                continue  # a micro-batch is never larger than a batch
            return f"the command asks for another {name}"
    offloaded, total = number(row.get("offloaded_layers")), number(row.get("total_layers"))
    layers = re.search(r"(?:-ngl|--n-gpu-layers|--gpu-layers)[ =]+(\d+)", command)
    if layers and offloaded is not None and total is not None and min(int(layers[1]), total) != offloaded:
        return "the command offloads another number of layers"
    if not layers and offloaded and number(row.get("n_gpu_layers")) is None and "-fit" not in command:
        return "the command offloads nothing"
    named = " ".join(re.findall(r"[^/\\\s]+\.gguf", command, re.IGNORECASE)).upper()
    kind = TYPE_NAME.match(str(row.get("file_type") or "").upper())
    types = [found.rpartition("_")[0] if found.count("_") > 1 else found for found in TYPE_NAME.findall(named)]
    if kind and types and not any(kind[0].startswith(each[:4]) or each.startswith(kind[0][:4]) for each in types):
        return "the command loads a file of another type"
    mode = re.search(r"\s-mla[ =]+(\d)", command)
    printed_mode = number(row.get("mla_attn"))
    if mode and printed_mode is not None and whole(row, "kv_lora_rank") and int(mode[1]) != printed_mode:
        return "the command asks for another attention"
    return ""


def card_gib(row: Row) -> list[float]:
    """Memory of each card that the log names; 0 where the name says nothing."""
    devices = row.get("devices")
    found = []
    for device in devices if isinstance(devices, list) else []:
        names = [name for name in CARD_GIB if re.search(rf"\b{name}\b", str(device))]
        found.append(float(CARD_GIB[max(names, key=len)]) if names else 0.0)
    return found


def fits_on_cards(row: Row) -> bool:
    """Whether the whole file finds room on the cards that the log names; unknown counts as no."""
    size, cards = size_of(row.get("file_size")), card_gib(row)
    return size is not None and bool(cards) and all(cards) and size / 1024**3 <= 0.95 * sum(cards)


def why_untold(row: Row) -> str | None:
    """What keeps these inputs from being priced; None where they say all that the formulas ask for."""
    offloaded, total, given = (number(row.get(name)) for name in ("offloaded_layers", "total_layers", "n_gpu_layers"))
    layers = whole(row, "n_layer")
    for name, words in (("n_embd", "width"), ("n_vocab", "vocabulary")):
        if whole(row, name) is None:
            return f"the model's {words} is not told"
    if size_of(row.get("file_size")) is None and bits_of(row) is None:
        return "neither the file's size nor its type is told"
    if total is not None and layers is not None and int(total) not in (layers, layers + 1):
        return OTHER_LAYERS
    command = str(row.get("command") or "")
    foreign = foreign_command(row, command) if command else ""
    if offloaded is None and given is None:
        if row.get("devices"):
            return "not told how many layers are on a card"
        return f"no card named, and {foreign}" if foreign else None
    if offloaded == 0 and re.search(r"(?:-ngl|--n-gpu-layers|--gpu-layers)[ =]+[1-9]", command):
        return "the command offloads layers, the log none: two runs in one row"
    everything = offloaded is None or total is None or offloaded >= total
    if not whole(row, "n_expert") or offloaded == 0 or (command and not foreign):
        return None
    if everything and fits_on_cards(row):
        return None  # nothing says otherwise, and there is room: experts lie where their layers do
    return f"not told where the experts lie: {foreign or 'no command'}"


def too_large_for(row: Row, card_bytes: list[int]) -> bool:
    """Whether the weights that a command puts on each card exceed what every card named has: then it is another run's."""
    cards = card_gib(row)
    return bool(cards) and all(cards) and max(card_bytes, default=0) > 1.05 * max(cards) * 1024**3
