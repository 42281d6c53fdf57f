"""Owns the memory figures: how much a model of a given size needs, and what a given card can hold."""

from __future__ import annotations

import random

from grammar import lines

# Gigabytes of weights by billions of parameters: Q4_K_M, Q8_0 and 16 bits.
SIZES: dict[str, tuple[str, str, str]] = {
    "1": ("0.7", "1.1", "2"),
    "3": ("1.9", "3.2", "6"),
    "4": ("2.4", "4.3", "8"),
    "7": ("4.2", "7.5", "14"),
    "8": ("4.9", "8.5", "16"),
    "13": ("7.9", "13.8", "26"),
    "14": ("8.5", "14.9", "28"),
    "32": ("19.5", "34", "64"),
    "70": ("42", "74", "140"),
}
QUANTS = (
    ("Q4_K_M", "[q4|q4|q4_k_m|4 bit|4-bit|q4 k m|q4km|4bit]"),
    ("Q8_0", "[q8|q8|q8_0|8 bit|8-bit|8bit]"),
    ("F16", "[f16|fp16|16 bit|16-bit|bf16|half precision|full precision]"),
)
CARDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "8": ("models up to about **8B** at `Q4_K_M`", ("4060", "3070", "4070 laptop", "2080", "3050")),
    "12": ("models up to about **13B** at `Q4_K_M`", ("3060", "4070", "3080 ti", "5070")),
    "16": ("models up to about **14B** at `Q4_K_M` with a good context", ("4080", "4060 ti 16 gb", "5080", "a4000")),
    "24": ("models up to about **32B** at `Q4_K_M`", ("4090", "3090", "rtx 3090 ti", "a5000")),
    "32": ("models up to about **32B** at `Q4_K_M` with a long context", ("5090", "v100 32 gb")),
    "48": ("models up to about **70B** at `Q4_K_M`", ("a6000", "l40s", "6000 ada", "two 3090s")),
    "80": ("a **70B** model at `Q4_K_M` with a long context", ("a100", "h100", "a100 80 gb")),
}
RULE = "As a rule, `Q4_K_M` needs about 0.6 GB per billion parameters, `Q8_0` about 1.1 GB and `F16` 2 GB. The KV cache comes on top."

_SIZE = "[{n}b|{n}b|{n}b|{n} b|{n}b llama|{n}b qwen|llama {n}b|qwen {n}b|mistral {n}b|{n} billion parameter|{n} billion|{n}-billion|{n}b parameter]"
_MEMORY = "[vram|vram|memory|memory|gpu memory|ram|video memory|gb|gigabytes|space|video ram|graphics memory]"
_NEED = "[need|need|take|use|require|want|occupy|eat|consume|fill]"
_ASKS = lines(
    f"""
how much {_MEMORY} [does|will|would] [a|the|my|] {_SIZE} [model|llm|] {_NEED} {{q}}
how much {_MEMORY} [for|do i need for|do i need to run|is needed for|does it take to run|must i have for|should i have for|is required by] [a|] {_SIZE} [model|] {{q}}
how [big|large|heavy] is [a|the|] {_SIZE} [model|llm|] {{q}}
{_MEMORY} [for|of|needed for|required for|requirements of|use of] [a|] {_SIZE} [model|llm|] {{q}}
what [does|would] [a|] {_SIZE} [model|] {{q}} {_NEED}
what {_MEMORY} does [a|] {_SIZE} [model|] {_NEED} {{q}}
{_SIZE} [model|] {{q}} [vram|memory|size|memory use|how much|requirements]
{_SIZE} {{q}}
[will|does|would|can|could] [a|the|my] {_SIZE} [model|] {{q}} [fit|run|fit on my card|fit in memory|fit on my gpu|work on my gpu|run on my gpu]
[what is|what's|tell me] the [size|memory|memory need|vram need|memory footprint|footprint|weight] of [a|] {_SIZE} [model|] {{q}}
[can i|i want to|i would like to|is it possible to] [run|load] [a|] {_SIZE} [model|] {{q}}[, how much memory is that|, what do i need|]
[how many|] [gb|gigabytes|gigs|gigs of vram] [does|for|is] [a|] {_SIZE} [model|] {{q}} [need|]
how much does [a|] {_SIZE} [model|] {_NEED} {{q}}
[memory|vram] [a|] {_SIZE} {{q}} [needs|takes|uses]
the [{{n}}b|{{n}}b one|{{n}}b version] {{q}}[, how much memory|]
"""
)
_RULE_ASKS = lines(
    f"""
how much {_MEMORY} [does|do] [a|an|the|] [model|models|llm|llms|bigger model|small model|large model] {_NEED}
how much {_MEMORY} [do i need|should i have|is enough|is needed|must i have|is recommended]
how [is the|do i estimate the|do i calculate the|can i guess the|to estimate] [memory|vram|size] of a model
[rule of thumb|rule|formula] for [memory|vram|model size|the memory of a model]
how much {_MEMORY} per [billion parameters|parameter|billion]
how [big|large] are [models|llms]
how much {_MEMORY} for an llm
"""
)
_CARD_ASKS = lines(
    """
what [can|could|models can|model can] i [run|load|use|fit] [on|with|in] {c}
[which|what] [model|models|llm|model size] [can|should|could|do] [i|] [run|load|use|fit|fits] [on|with|in|into] {c}
i have {c}[, what can i run|, which model fits|. what can i load|. which models can i use|, what should i load|, what fits|]
[how big|how large] [a model|of a model] [can i|fits|can|could i] [run|load|fit|] [on|in|with] {c}
what [fits|runs] [on|in|into] {c}
[is|are] {c} [enough|good|good enough|sufficient] [for a model|for llms|to run models|for local models|]
[largest|biggest|best] model [for|on] {c}
models for {c}
my [gpu|card] [has|is] {c}[, what can i run|, which model fits|, what fits]
"""
)


_WITH_QUANT = ("at {f}", "at {f}", "in {f}", "with {f}", "{f}", "quantised to {f}", "as {f}", "when it is {f}")
_OTHER_QUANT = ("and at {f}", "what about {f}", "and in {f}", "and with {f}", "how about {f}", "at {f}", "same at {f}")
_OTHER_SIZE = lines(
    """
and [a|] {n}b
what about [a|] {n}b
and for [a|] {n}b
and {n}b [model|]
how about [a|] {n}b [model|]
{n}b
and [a|] {n}b model
same for {n}b
"""
)
# Sizes without figures of their own get the rule of thumb.
_UNLISTED = tuple(
    str(n)
    for n in (0.5, 1.5, 2, 5, 6, 9, 10, 11, 12, 15, 20, 22, 24, 27, 30, 34, 40, 65, 72, 100, 120, 180, 235, 405, 671)
)


def _quant_words(rng: random.Random, form: str) -> str:
    return rng.choice(_WITH_QUANT).replace("{f}", form)


def answer(n: str, quant: int) -> str:
    extra = ", plus the KV cache" if quant < 2 else ", so it is usually quantised"
    return f"A **{n}B** model at `{QUANTS[quant][0]}` needs about **{SIZES[n][quant]} GB** for the weights{extra}."


def size_question(rng: random.Random) -> tuple[str, str, tuple[str, int]]:
    n = rng.choice((*SIZES, "7", "13", "70", "8"))
    named = rng.random() < 0.6
    quant = rng.choices((0, 1, 2), (5, 3, 2))[0] if named else 0
    words = _quant_words(rng, QUANTS[quant][1]) if named else ""
    return rng.choice(_ASKS).replace("{q}", words).replace("{n}", n), answer(n, quant), (n, quant)


def size_follow_up(rng: random.Random, last: tuple[str, int]) -> tuple[str, str, tuple[str, int]]:
    n, quant = last
    if rng.random() < 0.6:
        n = rng.choice([x for x in SIZES if x != n])
        ask = rng.choice(_OTHER_SIZE)
    else:
        quant = rng.choice([x for x in range(3) if x != quant])
        ask = rng.choice(_OTHER_QUANT).replace("{f}", QUANTS[quant][1])
    return ask.replace("{n}", n), answer(n, quant), (n, quant)


def rule_question(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.5:
        return rng.choice(_RULE_ASKS), RULE
    other = rng.choice(
        (
            "0.5",
            "1.5",
            "2",
            "5",
            "6",
            "9",
            "10",
            "11",
            "12",
            "15",
            "20",
            "22",
            "24",
            "27",
            "30",
            "34",
            "40",
            "65",
            "72",
            "100",
            "120",
            "180",
            "235",
            "405",
            "671",
        )
    )
    words = _quant_words(rng, rng.choice(QUANTS)[1]) if rng.random() < 0.4 else ""
    return rng.choice(_ASKS).replace("{q}", words).replace("{n}", other), RULE


def card_question(rng: random.Random) -> tuple[str, str]:
    n = rng.choice(tuple(CARDS))
    what, names = CARDS[n]
    if rng.random() < 0.65:
        card = f"[a|an|my|] {n}[ gb| gb|gb| gig| gigs| gigabyte] [card|gpu|of vram|of memory|graphics card|vram|]"
    else:
        card = f"[a|an|my|the|] [rtx |geforce |nvidia |]{rng.choice(names)}"
    return rng.choice(_CARD_ASKS).replace("{c}", card), f"With **{n} GB** of VRAM you can run {what}."
