"""Computes how large llama.cpp's compute buffer becomes: where its graph allocator puts each tensor of a graph.

Source of the rules: ggml's graph allocator (ggml-alloc.c). Inputs come first; a tensor takes its parent's place where the
operation allows it and nobody else reads the parent; else the smallest free gap that is large enough, the open end last;
a tensor's place is free again after its last reader. The highest end ever reached is the buffer's size.
"""

from __future__ import annotations

from collections.abc import Sequence

ALIGNMENT = 128  # of CUDA's buffers; the processor's are 32, which changes nothing that counts
_ENDLESS = 1 << 62


class Graph:
    """A graph as it is written down: every tensor has a number, its size in bytes, its readers' sources in `sources`.

    `node` stands for an operation that needs a place of its own, `same` for one that may take a source's (element-wise
    operations, norms, rotations); a source that is only a view of a tensor is never taken, then `only` names the others.
    `beginning` is a `same` whose source is the beginning of a larger tensor: what lies behind is free from then on.
    Weights and caches lie elsewhere and are no sources.
    """

    __slots__ = ("beginnings", "in_place", "inputs", "readers", "sizes", "sources")

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.sources: list[Sequence[int]] = []
        self.in_place: list[Sequence[int]] = []  # the sources whose place may be taken
        self.readers: list[int] = []
        self.inputs = 0
        self.beginnings: set[int] = set()

    def input(self, size: int) -> int:
        """A tensor that is filled before the graph runs; all inputs must be added before the first node."""
        self.inputs += 1
        return self.node(size)

    def node(self, size: int, *sources: int) -> int:
        self.sizes.append(size)
        self.sources.append(sources)
        self.in_place.append(())
        self.readers.append(0)
        for source in sources:
            self.readers[source] += 1
        return len(self.sizes) - 1

    def same(self, size: int, *sources: int, only: int | None = None) -> int:
        number = self.node(size, *sources)
        self.in_place[number] = sources if only is None else (only,)
        return number

    def beginning(self, size: int, source: int, *others: int) -> int:
        number = self.same(size, source, *others, only=source)
        self.beginnings.add(number)
        return number

    def peak(self, given: Sequence[int] = ()) -> int:
        """Bytes of the buffer that holds the whole graph; `given`: with tensors of these sizes instead."""
        sizes = [-(-size // ALIGNMENT) * ALIGNMENT for size in given or self.sizes]
        readers, sources, in_place, beginnings = list(self.readers), self.sources, self.in_place, self.beginnings
        places = [0] * len(sizes)
        starts, lengths = [0], [_ENDLESS]  # free gaps by place; the last one is the open end
        highest = 0
        for number, size in enumerate(sizes):
            own = sources[number]
            taken = -1
            for source in in_place[number]:
                if readers[source] == 1 and (sizes[source] == size or number in beginnings):
                    taken = source
                    break
            if taken >= 0:
                places[number] = places[taken]
                if sizes[taken] > size:
                    _release(starts, lengths, places[taken] + size, sizes[taken] - size)
            elif size:
                best, best_length = len(starts) - 1, _ENDLESS
                for gap in range(len(starts) - 1):
                    if size <= lengths[gap] <= best_length:
                        best, best_length = gap, lengths[gap]
                place = starts[best]
                places[number] = place
                if lengths[best] == size:
                    del starts[best], lengths[best]
                else:
                    starts[best] += size
                    lengths[best] -= size
                if place + size > highest:
                    highest = place + size
            for source in own:
                readers[source] -= 1
                if readers[source] == 0 and source != taken and sizes[source]:
                    _release(starts, lengths, places[source], sizes[source])
        return highest


def _release(starts: list[int], lengths: list[int], place: int, size: int) -> None:
    at = 0
    while at < len(starts) and starts[at] < place:
        at += 1
    joins_next = at < len(starts) and place + size == starts[at]
    if at and starts[at - 1] + lengths[at - 1] == place:
        lengths[at - 1] += size
        if joins_next:
            lengths[at - 1] += lengths[at]
            del starts[at], lengths[at]
    elif joins_next:
        starts[at] = place
        lengths[at] += size
    else:
        starts.insert(at, place)
        lengths.insert(at, size)
