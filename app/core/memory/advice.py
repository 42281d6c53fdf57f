"""Decides which engine suits a model: for one chat and for many users, with the reason, the predicted fit and speed of each; pure."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.catalog.facts import ModelFacts
from app.core.memory.plan_types import EngineAdvice, MemoryPlan, Speed, Verdict

ONE_CHAT, MANY_USERS = "one chat", "many users"
USERS = 16  # "many" is priced as so many conversations at once
LLAMA, VLLM = "llama.cpp", "vllm"
_SHORT = (Verdict.DOES_NOT_FIT, Verdict.TIGHT)


def advice_for(
    facts: ModelFacts, plans: Mapping[str, MemoryPlan], many: Mapping[str, Speed | None], *, has_card: bool
) -> tuple[EngineAdvice, ...]:
    """For each use the engines in the order in which they suit; the first is the recommendation.

    `plans` and `many` (the speed of USERS conversations together) hold what is known of each engine, by its id. What a format
    rules out goes before everything: a folder of safetensors is vLLM's, a GGUF file llama.cpp's.
    """

    def row(use: str, engine: str, *reasons: str) -> EngineAdvice:
        plan = plans.get(engine)
        speed = many.get(engine) if use == MANY_USERS else plan.speed if plan is not None else None
        verdict = plan.verdict if plan is not None else Verdict.UNKNOWN
        return EngineAdvice(
            use=use, engine=engine, reason=" ".join(filter(None, reasons)), verdict=verdict, speed=speed
        )

    own = VLLM if facts.format != "gguf" else LLAMA
    is_short = own in plans and plans[own].verdict in _SHORT
    if own == LLAMA:
        rows = [
            row(ONE_CHAT, LLAMA, ITS_OWN[LLAMA], SPILLS if is_short and has_card else ""),
            row(MANY_USERS, LLAMA, SLOTS),
        ]
        return tuple(rows + [row(use, VLLM, EXPERIMENT) for use in (ONE_CHAT, MANY_USERS) if VLLM in plans])
    about = "" if has_card else NO_CARD
    rows = [
        row(ONE_CHAT, VLLM, ITS_OWN[VLLM], about, SMALLER if is_short else ""),
        row(MANY_USERS, VLLM, ITS_OWN[VLLM], about or (SMALLER if is_short else TOGETHER)),
    ]
    return (*rows, row(ONE_CHAT, LLAMA, NEEDS_GGUF))


ITS_OWN = {
    LLAMA: "It is a GGUF file, which llama.cpp is made for: it loads in seconds and takes no more of the card than it needs.",
    VLLM: "It is a folder of safetensors, which only vLLM reads.",
}
SPILLS = "What does not fit on the card it can keep in main memory."
SLOTS = (
    "It answers as many at once as it has slots, which share its context. For many users the same model as a folder of "
    "safetensors on vLLM gives more tokens per second in all."
)
EXPERIMENT = (
    "vLLM reads GGUF files only as an experiment: some models it cannot, the others more slowly than its own formats."
)
NO_CARD = "There is no graphics card here, so expect it to be slow."
SMALLER = (
    "It does not fit as it is. The same model as a GGUF file of 4 bits needs about a third of the memory, and llama.cpp can "
    "keep a part of it in main memory."
)
TOGETHER = (
    "It computes many answers in one step, from one pool of cache: the more users, the more tokens per second in all."
)
NEEDS_GGUF = "For one chat alone a GGUF file of the same model loads in seconds instead of minutes, and leaves more of the card free."
