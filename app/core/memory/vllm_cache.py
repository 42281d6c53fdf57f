"""Knows how vLLM lays out its KV cache: blocks, pages and groups of layers, and how many tokens a pool of bytes holds.

All layers draw blocks of one size from one pool. Layers that keep different things (everything, a window, a state) form
groups with as many layers each; a block of the pool holds one page of each layer of a group. So a hybrid's pages are made
equally large: by more tokens in a block, or by padding (vram.md 2.5). Rules read in the engine up to 0.32, cross-checked
against its logs in tests/corpus and against the running CPU build.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from app.core.catalog.facts import LayerState, ModelFacts
from app.core.memory.remembered import once_per_model
from app.core.memory.vllm_load import VllmLoad

BLOCK_TOKENS, CPU_BLOCK_TOKENS, LATENT_BLOCK_TOKENS = 16, 128, 64
INDEX_BYTES_PER_SCALE, INDEX_NUMBERS_PER_SCALE = 4, 128
# Bytes of one cached number; packed types carry their scales along.
KV_NUMBER_BYTES = {
    "float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "half": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0,
    "fp8_inc": 1.0, "nvfp4": 0.5 + 1 / 16,
}  # fmt: skip
PER_HEAD_SCALE_BYTES = {"int8_per_token_head": 4, "fp8_per_token_head": 4}  # for each key and each value of a token
BY_REQUESTS: tuple[int, ...] = (0, 20)  # since then the printed tokens are requests x their length
RESERVES_A_BLOCK: tuple[int, ...] = (0, 22)
TWO_BATCHES: tuple[int, ...] = (0, 14)  # since then the next step is planned while one runs


class Kind(msgspec.Struct, frozen=True, order=True):
    """What a layer keeps: "full", "window", "chunk" or "state", and its bytes on one rank."""

    keeps: str
    bytes: int  # per token; of a state per sequence


class Group(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind
    layers: int
    block_tokens: int


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's cache: every group draws blocks of `block_bytes` from the pool."""

    groups: tuple[Group, ...]
    block_bytes: int
    window_tokens: int = 0

    @property
    def block_tokens(self) -> int:
        return min((group.block_tokens for group in self.groups if group.kind.keeps != "state"), default=1)


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A KV cache as the engine prints it: `requests` of full length, and the tokens that this means."""

    bytes: int
    tokens: int
    requests: float
    bytes_per_token: float
    block_tokens: int


def layout_of(facts: ModelFacts, load: VllmLoad) -> Layout | None:
    """The layout on the rank with the most layers; None when the facts do not say what the layers keep."""
    counts = _counts(facts, load)
    if not counts:
        return None
    block = _block_tokens(facts, load)
    attending = {kind: count for kind, count in counts.items() if kind.keeps != "state"}
    states = {kind: count for kind, count in counts.items() if kind.keeps == "state"}
    if not attending:
        group = tuple(Group(kind=kind, layers=count, block_tokens=1) for kind, count in states.items())
        return Layout(groups=group, block_bytes=sum(kind.bytes * count for kind, count in states.items()))
    window = facts.sliding_window or 0
    if len({kind.keeps for kind in counts}) == 1:  # one kind, perhaps of several sizes: one block table for all
        largest = max(attending, key=lambda kind: kind.bytes)
        group = (Group(kind=largest, layers=sum(attending.values()), block_tokens=block),)
        total = sum(kind.bytes * count for kind, count in attending.items())
        return Layout(groups=group, block_bytes=block * total, window_tokens=window)
    if states:
        per_token = max(1, *(kind.bytes for kind in attending))  # a config may say heads of no size
        block *= max(1, -(-max(kind.bytes for kind in states) // (block * per_token)))
    page = max(kind.bytes * block for kind in attending)
    least, most = min(counts.values()), max(counts.values())
    size = most if most < 1.5 * least else least
    groups = []
    for kind, count in counts.items():
        own = max(1, kind.bytes * block)
        tokens = 1 if kind.keeps == "state" else max(1, block * (page // own))
        if kind.keeps != "state" and page % own:
            tokens = block  # no whole number of its pages: padded instead
        groups += [Group(kind=kind, layers=size, block_tokens=tokens)] * -(-count // size)
    return Layout(groups=tuple(groups), block_bytes=size * page, window_tokens=window)


def layer_kinds(facts: ModelFacts, load: VllmLoad) -> tuple[Kind, ...]:
    """What each layer keeps on one rank; layers that keep nothing are left out."""
    made = {built: tuple(_kinds_of_layer(facts, load, *built)) for built, _ in alike(facts)}
    return tuple(kind for built in layers_as_built(facts) for kind in made[built])


def _counts(facts: ModelFacts, load: VllmLoad) -> Counter[Kind]:
    """How many layers of one rank keep what: on one stage from the numbers of layers that are alike."""
    if load.pipeline_parallel > 1:
        return Counter(_of_largest_stage(layer_kinds(facts, load), load.pipeline_parallel))
    found: Counter[Kind] = Counter()
    for built, count in alike(facts):
        for kind in _kinds_of_layer(facts, load, *built):
            found[kind] += count
    return found


Built = tuple[int, bool, bool]  # a layer: its KV heads, whether it sees a window, whether it keeps a state


def layers_as_built(facts: ModelFacts) -> Iterator[Built]:
    if not facts.layers or (not facts.key_length and not facts.layer_state):
        return iter(())
    windowed = facts.windowed_layers or (False,) * facts.layers
    stateful = facts.state_layers or (False,) * facts.layers
    return zip(facts.kv_heads, windowed, stateful, strict=False)


@once_per_model
def alike(facts: ModelFacts) -> tuple[tuple[Built, int], ...]:
    """Layers that are built alike, in the order of the first of them, and how many they are."""
    return tuple(Counter(layers_as_built(facts)).items())


def _kinds_of_layer(facts: ModelFacts, load: VllmLoad, heads: int, windowed: bool, stateful: bool) -> Iterator[Kind]:
    if heads:
        keeps = "full" if not windowed else "chunk" if facts.window_is_chunk else "window"
        yield Kind(keeps, _token_bytes(facts, load, heads, windowed))
    if stateful and facts.layer_state is not None:
        yield Kind("state", state_bytes(facts.layer_state, load))


def _token_bytes(facts: ModelFacts, load: VllmLoad, heads: int, windowed: bool) -> int:
    key = (facts.window_key_length if windowed else None) or facts.key_length or 0
    value = (facts.window_value_length if windowed else None) or facts.value_length or key
    if facts.latent_kv:  # one vector for all heads, on every rank; the value is a part of the key
        latent = int(key * KV_NUMBER_BYTES.get(load.kv_type, 2.0))
        index = facts.index_key_length or 0
        return latent + index + -(-index // INDEX_NUMBERS_PER_SCALE) * INDEX_BYTES_PER_SCALE
    own = max(1, heads // load.tensor_parallel)
    if load.kv_type in PER_HEAD_SCALE_BYTES:
        return own * (key + value + 2 * PER_HEAD_SCALE_BYTES[load.kv_type])
    return int(own * (key + value) * KV_NUMBER_BYTES.get(load.kv_type, 2.0))


def state_bytes(state: LayerState, load: VllmLoad) -> int:
    """Bytes of one sequence's state in one layer on one rank: the convolution in the model's type, the state in its own."""
    own = {"float32": 4, "bfloat16": 2, "float16": 2}.get(state.state_type or "", load.number_bytes)
    return (state.convolution * load.number_bytes + state.state * own) // load.tensor_parallel


def _block_tokens(facts: ModelFacts, load: VllmLoad) -> int:
    if load.on_cpu:
        return 16 if facts.latent_kv else load.block_tokens or CPU_BLOCK_TOKENS
    return load.block_tokens or (LATENT_BLOCK_TOKENS if facts.latent_kv else BLOCK_TOKENS)


def _of_largest_stage(kinds: tuple[Kind, ...], stages: int) -> tuple[Kind, ...]:
    """A stage's layers: the worst one in bytes of a full context."""
    if stages == 1:
        return kinds
    each = [kinds[start:end] for start, end in stage_bounds(len(kinds), stages)]
    return max(each, key=lambda part: sum(kind.bytes for kind in part if kind.keeps != "state"))


def stage_bounds(layers: int, stages: int) -> list[tuple[int, int]]:
    """First and behind-the-last layer of each stage; what does not divide goes to the stages before the last one."""
    sizes = [layers // stages] * stages
    for n in range(layers % stages):
        sizes[-(n + 2) if stages > n + 1 else -1] += 1
    ends = [sum(sizes[: n + 1]) for n in range(stages)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def blocks_of_request(layout: Layout, load: VllmLoad, context_tokens: int | None = None) -> int:
    """Blocks that one request of full length takes from the pool."""
    length = context_tokens or load.context_tokens
    ahead = 0 if load.on_cpu or load.version < TWO_BATCHES else 1
    batches = load.pipeline_parallel + ahead
    in_flight = batches * load.batch_tokens
    total = 0
    for group in layout.groups:
        match group.kind.keeps:
            case "full":
                total += -(-length // group.block_tokens)
            case "window":
                kept = min(layout.window_tokens - 1 + in_flight, length)
                total += -(-kept // group.block_tokens) + 1
            case "chunk":
                total += -(-min(layout.window_tokens + in_flight, length) // group.block_tokens)
            case _:  # with reused prompts also the state before the present one is kept
                total += 2 if load.prefix_caching and load.version >= BY_REQUESTS else 1
    return total


def request_bytes(layout: Layout, load: VllmLoad, context_tokens: int | None = None) -> int:
    """Bytes without which the engine refuses to start: one request of full length, and the block that it never gives out."""
    reserved = 1 if load.version >= RESERVES_A_BLOCK else 0
    return (blocks_of_request(layout, load, context_tokens) + reserved) * layout.block_bytes


def pool_of(layout: Layout, load: VllmLoad, pool_bytes: int) -> Pool:
    """What the engine prints of a pool of this size."""
    blocks = max(0, pool_bytes) // max(1, layout.block_bytes)
    each = blocks_of_request(layout, load)
    requests = blocks / each if each else 0.0
    if load.version >= BY_REQUESTS:
        tokens = int(requests * load.context_tokens)
        per_token = each * layout.block_bytes / load.context_tokens
    else:
        tokens = blocks // len(layout.groups) * layout.block_tokens
        per_token = layout.block_bytes * len(layout.groups) / layout.block_tokens
    return Pool(
        bytes=blocks * layout.block_bytes,
        tokens=tokens,
        requests=requests,
        bytes_per_token=per_token,
        block_tokens=layout.block_tokens,
    )


def longest_context(layout: Layout, load: VllmLoad, pool_bytes: int, most: int) -> int:
    """The largest number of tokens, up to `most`, of which one request fits a pool; 0 when none does."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        if request_bytes(layout, load, middle) <= pool_bytes:
            least = middle
        else:
            most = middle - 1
    return least
