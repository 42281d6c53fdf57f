"""What launches teach: exact repeats, one offset for the inexact rest, bounded, and never under what formulas know (M7)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.memory.learning import (
    HOST,
    INEXACT,
    MOST_OFFSET_BYTES,
    NOTHING_KNOWN,
    PUBLISHED,
    WHOLE,
    Figure,
    Knowledge,
    Observed,
    Opinion,
    learn,
)
from app.core.memory.plan_types import DevicePlan, MemoryPlan, Part
from app.core.memory.words import learnt_words, source_words
from app.core.options import Scalar
from tests.core.memory.loads import GIB, MIB, card, machine, model, planned

ENGINE, CARD = "llama.cpp b1", "GPU-a"
GPUS = machine(card(40 * GIB))


def told(
    knowledge: Knowledge = NOTHING_KNOWN, *, engine: str = ENGINE, gpus: object = GPUS, **settings: Scalar
) -> MemoryPlan:
    return planned(model(), {"context_tokens": 8_192, **settings}, gpus, engine=engine, knowledge=knowledge)  # type: ignore[arg-type]


def on_card(plan: MemoryPlan) -> DevicePlan:
    return plan.devices[0]


def launch(off: int, engine: str = ENGINE, **settings: Scalar) -> Observed:
    """A launch that held so much more of the card than its formulas had said."""
    plan = told(**settings)
    predicted = tuple(
        Figure(device=device.device, part=part.name, bytes=part.bytes)
        for device in plan.devices
        for part in device.parts
    )
    whole = Figure(device=CARD, part=WHOLE, bytes=on_card(plan).likely_bytes + off)
    return Observed(subject=plan.subject, engine=engine, at_unix=1.0, predicted=predicted, measured=(whole,))


def exact(device: DevicePlan) -> dict[str, int]:
    return {part.name: part.bytes for part in device.parts if part.name not in INEXACT}


def part(device: DevicePlan, name: str) -> Part:
    return next(part for part in device.parts if part.name == name)


def test_an_exact_repeat_takes_what_was_measured_and_another_load_does_not() -> None:
    knowledge = learn([launch(300 * MIB)])
    formula, again, other = told(), told(knowledge), told(knowledge, context_tokens=4_096)
    assert on_card(again).likely_bytes == on_card(formula).likely_bytes + 300 * MIB
    assert exact(on_card(again)) == exact(on_card(formula))
    assert part(on_card(again), "context").source == "measured in 1 launch like this one"
    assert part(on_card(again), "context").formula_bytes == part(on_card(formula), "context").bytes
    assert (
        on_card(again).high_bytes - on_card(again).likely_bytes
        < on_card(formula).high_bytes - on_card(formula).likely_bytes
    )
    assert on_card(other) == on_card(told(context_tokens=4_096)), "one launch is no habit"
    assert on_card(told(knowledge, engine="llama.cpp b2")) == on_card(formula), "another build"


def test_a_setting_that_weighs_nothing_is_the_same_load_and_the_default_said_aloud_too() -> None:
    assert told(threads=3).subject == told().subject == told(flash_attention="on").subject
    assert told(kv_type_k="q8_0").subject != told().subject
    assert planned(model(modified_ns=5), {"context_tokens": 8_192}, GPUS, engine=ENGINE).subject != told().subject
    assert told(engine="").subject == ""


def test_an_offset_moves_the_likely_value_and_its_band_and_says_from_how_many_launches() -> None:
    launches = [launch(off * MIB, context_tokens=tokens) for off, tokens in ((200, 1_024), (260, 2_048), (230, 4_096))]
    formula, found = told(), told(learn(launches))
    device = on_card(found)
    assert device.likely_bytes == on_card(formula).likely_bytes + 230 * MIB
    assert device.launches == 3
    assert exact(device) == exact(on_card(formula))
    assert device.low_bytes < device.likely_bytes < device.high_bytes
    assert learnt_words(device).endswith(" GiB, from 3 launches")
    assert "±" in learnt_words(device)
    assert source_words(part(device, "context")).startswith("learnt from 3 launches of this engine; the formula says ")
    assert told(learn(launches[:1])).devices == formula.devices, "at least two"


def test_one_disturbed_launch_moves_nothing() -> None:
    quiet = [launch(100 * MIB, context_tokens=tokens) for tokens in (1_024, 2_048, 4_096)]
    wild = launch(1_900 * MIB, context_tokens=512)
    absurd = launch(MOST_OFFSET_BYTES + 1, context_tokens=256)
    assert learn([wild, *quiet]).offsets[0].bytes == 100 * MIB
    assert learn([absurd, *quiet]).offsets[0].launches == 3


@given(st.lists(st.integers(-30 * GIB, 30 * GIB), min_size=2, max_size=6), st.booleans())
def test_nothing_learnt_goes_under_what_formulas_know(offs: Sequence[int], repeats: bool) -> None:
    """The weights, caches and states of a plan are the same or more, and the low bound holds them."""
    tokens = [8_192 if repeats else 1_024 * (number + 1) for number in range(len(offs))]
    knowledge = learn([launch(off, context_tokens=count) for off, count in zip(offs, tokens, strict=True)])
    device, formula = on_card(told(knowledge)), exact(on_card(told()))
    assert exact(device) == formula
    assert sum(formula.values()) <= device.low_bytes <= device.likely_bytes <= device.high_bytes


def test_what_is_kept_and_told_is_bounded() -> None:
    base = launch(50 * MIB)
    many = [Observed(subject=f"{n}", engine=f"e{n % 2}", at_unix=n, predicted=base.predicted, measured=base.measured) for n in range(300)]  # fmt: skip
    knowledge = learn(many, [Opinion(subject=f"{n}", engine="e", parts=base.measured) for n in range(300)])
    assert len(knowledge.repeats) == len(knowledge.opinions) == PUBLISHED
    assert [offset.launches for offset in knowledge.offsets] == [20, 20]


def test_the_dry_run_stands_beside_the_formula_and_a_measurement_goes_before_it() -> None:
    gpus = machine()
    formula = told(gpus=gpus)
    [host] = formula.devices
    compute = part(host, "compute").bytes + 40 * MIB
    opinion = Opinion(
        subject=formula.subject,
        engine=ENGINE,
        parts=(Figure(device=HOST, part="compute", bytes=compute), Figure(device=HOST, part="kv_cache", bytes=1)),
    )
    [seen] = told(Knowledge(opinions=(opinion,)), gpus=gpus).devices
    assert part(seen, "compute").bytes == compute
    assert part(seen, "compute").source == "dry run by llama.cpp b1"
    assert part(seen, "compute").formula_bytes == part(host, "compute").bytes
    assert "the formula says" in source_words(part(seen, "compute"))
    assert part(seen, "kv_cache").bytes == part(host, "kv_cache").bytes, "what is known exactly is never lowered"
    assert seen.high_bytes < host.high_bytes, "what the engine computed itself has no margin for the formula"

    measured = Figure(device=HOST, part="compute", bytes=compute + MIB)
    predicted = tuple(Figure(device=HOST, part=each.name, bytes=each.bytes) for each in host.parts)
    run = Observed(
        subject=formula.subject, engine=ENGINE, at_unix=1.0, predicted=predicted,
        measured=(measured, Figure(device=HOST, part=WHOLE, bytes=5)),
    )  # fmt: skip
    [both] = told(learn([run], [opinion]), gpus=gpus).devices
    assert part(both, "compute").bytes == compute + MIB
    assert part(both, "compute").source == "measured in 1 launch like this one"
    [moved] = told(learn([run, run]), gpus=gpus, context_tokens=4_096).devices
    [other] = told(gpus=gpus, context_tokens=4_096).devices
    assert part(moved, "compute").bytes == part(other, "compute").bytes + 41 * MIB, "not from the processes' own pages"


@pytest.mark.parametrize("solve", [True, False])
def test_remedies_and_the_longest_context_are_priced_with_the_offset_too(solve: bool) -> None:
    tight = machine(card(9 * GIB))
    launches = [launch(1_000 * MIB, context_tokens=tokens) for tokens in (1_024, 2_048)]
    facts, asked = model(), {"context_tokens": 8_192}
    plain = planned(facts, asked, tight, engine=ENGINE, solve=solve)
    taught = planned(facts, asked, tight, engine=ENGINE, solve=solve, knowledge=learn(launches))
    assert taught.devices[0].high_bytes > plain.devices[0].high_bytes
    if solve:
        assert (taught.longest_context_tokens or 0) < (plain.longest_context_tokens or 0)
