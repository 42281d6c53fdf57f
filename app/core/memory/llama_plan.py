"""Decides what a llama.cpp load puts where: the needs of each card and of main memory, and what a token reads there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.core.catalog.facts import Companion, ModelFacts
from app.core.memory.case import Placed, Reads, Room, Row
from app.core.memory.companions import needs_beside, together
from app.core.memory.llama_remedies import ROWS
from app.core.memory.load import Load, load_of
from app.core.memory.needs import needs_on_gpus, needs_on_host
from app.core.memory.parts import kv_cache, placement, weights_of
from app.core.options import Scalar


class LlamaPlan:
    """One model on one family of llama.cpp."""

    rows: tuple[Row, ...] = ROWS

    def __init__(
        self,
        facts: ModelFacts,
        family: str,
        accelerator: str,
        companions: Sequence[Companion] = (),
        build: int | None = None,
    ) -> None:
        self.facts = facts
        self.family = family
        self.accelerator = accelerator
        self.companions = companions
        self.build = build
        self.weights = weights_of(facts)
        self.context_max = facts.context_max

    def load(self, settings: Mapping[str, Scalar], rooms: Sequence[Room]) -> Load:
        on_gpu = self.accelerator != "cpu" and bool(rooms)
        return load_of(self.facts, settings, family=self.family, on_gpu=on_gpu, build=self.build)

    def placed(self, settings: Mapping[str, Scalar], rooms: Sequence[Room]) -> Placed:
        load = self.load(settings, rooms)
        units = len(self.weights.layers) + 1
        if load.gpu_layers == 0 and settings.get("cards_stay_visible") is not True:  # our engines are shown none then
            _, beside = needs_beside(self.companions, settings, load, (), units, self.accelerator)
            host = together(needs_on_host(self.facts, load, self.weights), beside)
            return Placed(cards=(None,) * len(rooms), host=host, context_tokens=load.context_tokens)
        shares = shares_of(load, rooms)
        needs, on_host = needs_on_gpus(self.facts, load, shares, self.accelerator, self.weights)
        more, beside = needs_beside(self.companions, settings, load, shares, units, self.accelerator)
        return Placed(
            cards=tuple(together(need, added) for need, added in zip(needs, more, strict=True)),
            host=together(on_host, beside),
            context_tokens=load.context_tokens,
        )

    def with_context(self, tokens: int) -> dict[str, Scalar]:
        return {"context_tokens": tokens}

    def reads(self, settings: Mapping[str, Scalar], rooms: Sequence[Room]) -> Reads:
        """Of experts only those that a token uses; of the cache half of its cells, or the window where that is smaller; the
        embedding is looked up, the output is read whole (vram.md 1.3, 2.2)."""
        facts, load, weights = self.facts, self.load(settings, rooms), self.weights
        shares = shares_of(load, rooms) if load.gpu_layers else ()
        where = placement(len(weights.layers) + 1, load.gpu_layers, shares)
        used = min(1.0, facts.experts_used / facts.experts) if facts.experts and facts.experts_used else 1.0
        caches = kv_cache(facts, load)
        cards, host, all_weights = [0] * len(rooms), 0, 0
        read_of = _share_read(facts, load, windowed=False), _share_read(facts, load, windowed=True)
        for layer, card in enumerate(where[:-1]):
            dense, experts = weights.layers[layer] - weights.experts[layer], int(weights.experts[layer] * used)
            is_windowed = layer < len(facts.windowed_layers) and facts.windowed_layers[layer]
            cache = int((caches[layer] if layer < len(caches) else 0) * read_of[is_windowed])
            all_weights += dense + experts
            if card is None:
                host += dense + experts + cache
                continue
            in_ram = (experts if layer < load.cpu_expert_layers else 0) + (0 if load.kv_on_gpu else cache)
            cards[card] += dense + experts + cache - in_ram
            host += in_ram
        all_weights += weights.output
        if (card := where[-1]) is None:
            host += weights.output
        else:
            cards[card] += weights.output
        return Reads(cards=tuple(cards), host=host, weights_bytes=all_weights)


def shares_of(load: Load, rooms: Sequence[Room]) -> tuple[float, ...]:
    """How layers are spread: as said, else by free memory as llama.cpp does, the leaving model's counted in."""
    if len(load.tensor_split) == len(rooms):
        return load.tensor_split
    free = tuple(float(max(0, (room.card.free_bytes or 0) + room.credit_bytes)) for room in rooms)
    return free if any(free) else (1.0,) * len(rooms)


def _share_read(facts: ModelFacts, load: Load, *, windowed: bool) -> float:
    """How much of a layer's cache a token reads when half of the context is written."""
    if not windowed or facts.sliding_window is None or load.full_window_cache:
        return 0.5
    cells = min(load.context_tokens, facts.sliding_window * load.slots + load.ubatch_tokens)
    return min(1.0, min(facts.sliding_window, load.context_tokens / 2) / max(1, cells))
