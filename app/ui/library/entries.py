"""Decides how the library is shown: one entry per model with every way to load it, and which entries a filter leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from app.core.memory.plan_types import Verdict
from app.core.snapshot import Library, ModelGroup, ProfileCard
from app.ui import wording

GIB = 1024**3
SIZES: tuple[tuple[str, str, float], ...] = (  # key, words, bytes of the file below which it counts
    ("4", "Up to 4 GiB", 4 * GIB),
    ("8", "4 to 8 GiB", 8 * GIB),
    ("16", "8 to 16 GiB", 16 * GIB),
    ("32", "16 to 32 GiB", 32 * GIB),
    ("more", "More than 32 GiB", float("inf")),
)
CAPABILITIES = {
    "vision": "Vision",
    "tools": "Tools",
    "reasoning": "Reasoning",
    "embeddings": "Embeddings",
}  # in the order in which they are offered; that a model chats is nothing to choose by
STORES = {"huggingface": "Hugging Face", "llama.cpp": "llama.cpp", "ollama": "Ollama", "lmstudio": "LM Studio"}


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for; "" asks for nothing."""

    text: str = ""
    fits_now: bool = False
    engine: str = ""
    capability: str = ""
    quantisation: str = ""
    size: str = ""

    @property
    def is_set(self) -> bool:
        return self != Filter()

    @property
    def asks_only_text(self) -> bool:
        return self == Filter(text=self.text)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One card of the page. `cards` are the ways to load the model; none while it cannot be loaded yet."""

    key: str
    title: str
    cards: tuple[ProfileCard, ...]
    group: ModelGroup | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Comes with Engine Room as a suggestion, and no file of it is here."""
        return bool(self.cards) and all(card.profile.source == "shipped" and not card.available for card in self.cards)

    @property
    def disk_bytes(self) -> int:
        """Each file once, companions included."""
        if self.group is not None:
            return self.group.disk_bytes
        return max((card.facts.file_bytes for card in self.cards if card.facts is not None), default=0)

    @property
    def forms(self) -> int:
        """How many formats and quantisations of it are here."""
        return len(self.group.variants) if self.group is not None else 1

    @property
    def capabilities(self) -> tuple[str, ...]:
        found = {each for card in self.cards if card.facts is not None for each in card.facts.capabilities}
        return tuple(each for each in CAPABILITIES if each in found)

    @property
    def store(self) -> str:
        """In whose stores it lies; "" = the person's own folders."""
        sources = [source for variant in self.group.variants for source in variant.sources] if self.group else []
        named = [STORES[source] for source in dict.fromkeys(sources) if source in STORES]
        return ", ".join(named) or next((card.store for card in self.cards if card.store), "")

    @property
    def incomplete(self) -> str:
        return next((v.incomplete for v in self.group.variants if v.incomplete), "") if self.group else ""

    @property
    def rest_from(self) -> str:
        """The hub's name of a download that is not whole; "" where nobody knows from where it came."""
        found = (v for v in self.group.variants if v.incomplete and "huggingface" in v.sources) if self.group else ()
        return next((v.title for v in found if v.title.count("/") == 1), "")


def entries_of(library: Library) -> tuple[Entry, ...]:
    """Every profile is in exactly one entry. The order is the profiles'; what no profile loads comes last."""
    owner = {
        profile_id: number
        for number, group in enumerate(library.models)
        for variant in group.variants
        for profile_id in variant.profile_ids
    }
    cards: dict[int | str, list[ProfileCard]] = {}
    for card in library.profiles:
        cards.setdefault(owner.get(card.profile.id, card.profile.id), []).append(card)
    found = [
        _entry(tuple(ways), library.models[place] if isinstance(place, int) else None) for place, ways in cards.items()
    ]
    alone = [group for number, group in enumerate(library.models) if number not in cards]
    return (*found, *(Entry(key=f"model:{group.name}", title=group.name, cards=(), group=group) for group in alone))


def _entry(cards: tuple[ProfileCard, ...], group: ModelGroup | None) -> Entry:
    """With one way to load it, it is called as its profile is: that name the person may have chosen."""
    titles = {card.profile.title or card.profile.id for card in cards}
    title = titles.pop() if len(titles) == 1 or group is None else group.name
    best_first = sorted(cards, key=lambda card: (not card.available, -_file_bytes(card)))  # stable among equals
    return Entry(key=cards[0].profile.id, title=title, cards=tuple(best_first), group=group)


def _file_bytes(card: ProfileCard) -> int:
    return card.facts.file_bytes if card.facts is not None else 0


# --- filtering -------------------------------------------------------------------------------------------------------


def filtered(entries: Iterable[Entry], wish: Filter) -> tuple[Entry, ...]:
    """The entries with at least one way to load that is asked for, and of each only those ways."""
    if not wish.is_set:
        return tuple(entries)
    words = wish.text.casefold().split()
    found = []
    for entry in entries:
        of_model = f"{entry.title} {entry.group.name if entry.group else ''} {entry.store}".casefold()
        if not entry.cards:
            if wish.asks_only_text and all(word in of_model for word in words):
                found.append(entry)
            continue
        ways = tuple(card for card in entry.cards if _asked_for(card, wish) and _said(card, of_model, words))
        if ways:
            found.append(entry if len(ways) == len(entry.cards) else msgspec.structs.replace(entry, cards=ways))
    return tuple(found)


def _said(card: ProfileCard, of_model: str, words: Sequence[str]) -> bool:
    if not words:
        return True
    capabilities = " ".join(card.facts.capabilities) if card.facts is not None else ""
    profile = card.profile
    own = f"{profile.title} {profile.id} {profile.description} {wording.facts(card)} {capabilities}".casefold()
    return all(word in own or word in of_model for word in words)


def _asked_for(card: ProfileCard, wish: Filter) -> bool:
    facts = card.facts
    return (
        (not wish.fits_now or fits_now(card))
        and wish.engine in ("", card.profile.engine)
        and (not wish.capability or (facts is not None and wish.capability in facts.capabilities))
        and (not wish.quantisation or (facts is not None and wish.quantisation == facts.quantisation))
        and (not wish.size or (facts is not None and wish.size == size_of(facts.file_bytes)))
    )


def fits_now(card: ProfileCard) -> bool:
    ready = card.available and card.engine_available
    return ready and card.plan is not None and card.plan.verdict is Verdict.FITS


def size_of(file_bytes: int) -> str:
    return next(key for key, _, below in SIZES if file_bytes < below)


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What can be filtered by: only what tells some of the models that are here from others."""

    engines: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    quantisations: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()


def choices_of(library: Library) -> Choices:
    engines = {card.profile.engine for card in library.profiles}
    facts = [card.facts for card in library.profiles if card.facts is not None]
    capabilities = {each for one in facts for each in one.capabilities}
    quantisations = {one.quantisation for one in facts if one.quantisation}
    sizes = {size_of(one.file_bytes) for one in facts}
    return Choices(
        engines=tuple(sorted(engines)) if len(engines) > 1 else (),
        capabilities=tuple(each for each in CAPABILITIES if each in capabilities),
        quantisations=tuple(sorted(quantisations)) if len(quantisations) > 1 else (),
        sizes=tuple(key for key, _, _ in SIZES if key in sizes) if len(sizes) > 1 else (),
    )
