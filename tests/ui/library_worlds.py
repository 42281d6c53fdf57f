"""Libraries as a window meets them: models with several forms, stores of other programs, downloads that are not whole, many."""

from __future__ import annotations

from pathlib import Path

import msgspec

from app.core.catalog.facts import ModelFacts, TensorFacts
from app.core.memory.elsewhere import NOTHING_NEEDED
from app.core.memory.plan_types import MemoryPlan
from app.core.memory.planner import plan
from app.core.profiles import Profile
from app.core.snapshot import Library, ModelFile, ModelGroup, ModelVariant, ProfileCard
from tests.ui import worlds

GIB, MIB = 1024**3, 1024**2
LIMITS = {
    "headroom_bytes": int(1.5 * GIB),
    "host_headroom_bytes": GIB,
    "threshold": 0.95,
    "context_limit_tokens": 32_768,
}
SERVICE = msgspec.structs.replace(worlds.SERVICE, settings={"memory": LIMITS})
ONE_GPU = msgspec.structs.replace(worlds.TWO_GPUS, gpus=worlds.TWO_GPUS.gpus[:1])


def facts(
    name: str, billions: float, quantisation: str, bits: float, layers: int, capabilities: tuple[str, ...] = ("chat",)
) -> ModelFacts:
    """A dense model of about this size whose every figure for planning is there."""
    weights = int(billions * 1e9 * bits / 8)
    return ModelFacts(
        path=Path(f"/models/{name}-{quantisation}.gguf"),
        format="gguf",
        name=name,
        architecture="llama",
        file_bytes=weights + 6 * MIB,
        weights_bytes=weights,
        tensors=(
            TensorFacts(role="embedding", layer=None, type="Q4_K", bytes=weights // 20),
            TensorFacts(role="output", layer=None, type="Q6_K", bytes=weights // 20),
            *(
                TensorFacts(role="layer", layer=n, type="Q5_K", bytes=int(weights * 0.9 / layers), largest_bytes=MIB)
                for n in range(layers)
            ),
        ),
        parameters=int(billions * 1e9),
        quantisation=quantisation,
        layers=layers,
        embedding_length=4096,
        feed_forward_length=14336,
        heads=32,
        kv_heads=(8,) * layers,
        key_length=128,
        value_length=128,
        vocabulary=128_256,
        context_max=131_072,
        capabilities=capabilities,
    )


def card(
    profile_id: str, title: str, known: ModelFacts, gpus: object = ONE_GPU, context: int = 8192, **more: object
) -> ProfileCard:
    """Priced as the service would."""
    profile = Profile(
        id=profile_id,
        title=title,
        engine=str(more.pop("engine", "llama.cpp")),
        model=str(known.path),
        settings={"context_tokens": context},
        source=str(more.pop("source", "found")),
    )
    priced = more.pop("plan", None) or plan(
        known,
        profile.settings,
        family=profile.engine,
        accelerator="cuda",
        gpus=gpus,  # type: ignore[arg-type]
        headroom_bytes=int(1.5 * GIB),
        host_headroom_bytes=GIB,
        threshold=0.95,
        solve=True,
    )
    made = {"available": True, "engine_available": True, "plan": priced, **more}
    return ProfileCard(profile=profile, facts=known, model_path=str(known.path), **made)  # type: ignore[arg-type]


def variant(one: ProfileCard, source: str = "folder") -> ModelVariant:
    assert one.facts is not None
    return ModelVariant(
        title=one.profile.title,
        format="gguf",
        quantisation=one.facts.quantisation or "",
        paths=(one.model_path,),
        sources=(source,),
        profile_ids=(one.profile.id,),
        disk_bytes=one.facts.file_bytes,
    )


def group(
    name: str, cards: tuple[ProfileCard, ...], source: str = "folder", beside: tuple[ModelFile, ...] = ()
) -> ModelGroup:
    variants = tuple(variant(one, source) for one in cards)
    files = {path: each.disk_bytes for each in variants for path in each.paths}  # two profiles may share one
    disk = sum(files.values()) + sum(each.disk_bytes for each in beside)
    return ModelGroup(name=name, variants=variants, companions=beside, disk_bytes=disk)


GEMMA = tuple(
    card(f"gemma-3-27b-{form.lower()}", "Gemma 3 27B", facts("gemma-3-27b", 27.0, form, bits, 62, ("chat", "vision")))
    for form, bits in (("Q8_0", 8.5), ("Q6_K", 6.6), ("Q5_K_M", 5.7), ("Q4_K_M", 4.8), ("IQ3_XS", 3.4))
)
LLAMA = tuple(
    card(
        f"llama-3.1-8b-{form.lower()}",
        "Llama 3.1 8B Instruct",
        facts("llama-3.1-8b", 8.0, form, bits, 32, ("chat", "tools")),
    )
    for form, bits in (("Q8_0", 8.5), ("Q4_K_M", 4.8))
)
LARGE = card(
    "llama-3.3-70b", "Llama 3.3 70B Instruct", facts("llama-3.3-70b", 70.6, "Q4_K_M", 4.8, 80, ("chat", "tools"))
)
EMBED = card(
    "nomic-embed", "Nomic Embed Text", facts("nomic-embed", 0.14, "F16", 16, 12, ("embeddings",)), store="Ollama"
)
QWEN = card(
    "qwen3-14b",
    "Qwen3 14B",
    facts("qwen3-14b", 14.8, "Q5_K_M", 5.7, 40, ("chat", "tools", "reasoning")),
    context=65_536,
)
SHIPPED = tuple(
    msgspec.structs.replace(
        card(name, title, facts(name, size, "Q4_K_M", 4.8, 32), source="shipped", available=False),
        plan=None,
        facts=None,
    )
    for name, title, size in (("qwen2.5-vl-7b", "Qwen2.5 VL 7B", 7.6), ("mixtral-8x7b", "Mixtral 8x7B", 46.7))
)
MODELS = Library(
    profiles=(*GEMMA, *LLAMA, LARGE, EMBED, QWEN, worlds.DEMO, *SHIPPED),
    models=(
        group(
            "Gemma 3 27B",
            GEMMA,
            "huggingface",
            (ModelFile(role="vision", path="/models/mmproj.gguf", disk_bytes=858 * MIB),),
        ),
        group("Llama 3.1 8B Instruct", LLAMA, "lmstudio"),
        group("Llama 3.3 70B Instruct", (LARGE,)),
        group("Nomic Embed Text", (EMBED,), "ollama"),
        group("Qwen3 14B", (QWEN,), "huggingface"),
        ModelGroup(
            name="DeepSeek R1 Distill 32B",
            variants=(
                ModelVariant(
                    title="unsloth/DeepSeek-R1-Distill-Qwen-32B-GGUF",
                    paths=("/hub/blobs/x.incomplete",),
                    sources=("huggingface",),
                    disk_bytes=7 * GIB,
                    incomplete="A download of it was broken off: 7.0 GiB are here.",
                ),
            ),
            disk_bytes=7 * GIB,
        ),
    ),
    folders=("~/models",),
)
AWQ = msgspec.structs.replace(
    facts("qwen3-4b", 4.0, "AWQ", 5.3, 36, ("chat", "tools")), format="safetensors", architecture="Qwen3ForCausalLM"
)


def attached(profile_id: str, title: str, engine: str, **settings: str | int) -> ProfileCard:
    """What is computed by an engine that is not ours."""
    profile = Profile(id=profile_id, title=title, engine=engine, model=profile_id, settings=settings, source="user")
    priced = NOTHING_NEEDED if engine == "remote" else None
    return ProfileCard(profile=profile, facts=None, model_path="", available=True, engine_available=True, plan=priced)


ELSEWHERE = Library(
    profiles=(
        card("qwen3-4b-awq", "Qwen3 4B Instruct AWQ", AWQ, engine="vllm", context=16_384),
        attached("gpt-elsewhere", "GPT at work", "remote", base_url="https://llm.example.com/v1", key_name="work"),
        attached("azure", "Azure, Sweden", "remote", base_url="https://x.example.com", key_name="azure-eu"),
        attached("ollama-llama3", "Llama 3.2 by Ollama", "ollama", context_tokens=8192),
        worlds.DEMO,
    ),
    folders=("~/models",),
)
BROKEN = msgspec.structs.replace(
    MODELS,
    problems=(
        worlds.Problem(
            where="~/models/half-a-model.gguf",
            summary="The file ends within its header: 12,288 bytes of at least 4 MiB are there.",
            advice="Copy or download it again.",
        ),
    ),
)


def many(count: int) -> Library:
    """So many models, each with one to four forms."""
    forms = (("Q8_0", 8.5), ("Q6_K", 6.6), ("Q4_K_M", 4.8), ("IQ3_XS", 3.4))
    cards: list[ProfileCard] = []
    groups = []
    priced: dict[tuple[float, str], MemoryPlan | None] = {}  # thousands are made, a few differ
    for number in range(count):
        size = (1.5, 3.2, 8.0, 14.8, 27.0, 70.6)[number % 6]
        own = tuple(
            card(
                f"model-{number}-{form.lower()}",
                f"Model {number}",
                facts(f"model-{number}", size, form, bits, 32),
                **({"plan": priced[size, form]} if (size, form) in priced else {}),
            )
            for form, bits in forms[: 1 + number % 4]
        )
        priced.update({((size, each.facts.quantisation or "") if each.facts else (0, "")): each.plan for each in own})
        cards += own
        groups.append(group(f"Model {number}", own))
    return Library(profiles=tuple(cards), models=tuple(groups), folders=("~/models",))


def world(library: Library = MODELS, **more: object) -> worlds.World:
    made = {"gpus": ONE_GPU, "service": SERVICE, "engines": worlds.ENGINES, **more}
    return worlds.World(library=library, **made)  # type: ignore[arg-type]


def loaded(profile: ProfileCard = QWEN) -> worlds.Seats:
    """The profile is ready, and what it took was measured."""
    assert profile.plan is not None
    seats = worlds.ready(profile)
    measured = {device.device: int(device.likely_bytes * 1.012) for device in profile.plan.devices}
    run = msgspec.structs.replace(worlds.run(profile), plan=profile.plan, measured_bytes=measured)
    return worlds.Seats(seats=(msgspec.structs.replace(seats.seats[0], run=run),))
