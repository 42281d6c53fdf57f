"""Puts engines, builds and jobs into words for a person who has never installed one."""

from __future__ import annotations

import msgspec

from app.core.control import CanaryResult
from app.core.options import version_key
from app.core.snapshot import EngineView, InstallationView, Job, Jobs, Offer
from app.ui import wording

KINDS = ("install", "remove", "canary", "clear")  # of work on engines
_ACCELERATORS = {
    "cuda": "NVIDIA CUDA",
    "rocm": "AMD ROCm",
    "vulkan": "Vulkan",
    "sycl": "Intel SYCL",
    "cpu": "CPU",
}
_SOURCES = {
    "ours": "installed by Engine Room",
    "path": "found on PATH",
    "own": "comes with Engine Room’s environment",
    "venv": "in a virtual environment",
    "conda": "in a conda environment",
    "file": "added by you",
    "variable": "named by an environment variable",
    "docker": "Docker image",
    "ollama": "running Ollama",
}
_FEATURES = {  # those that a person would ask for; the others are of use to Engine Room alone
    "lora": "LoRA adapters",
    "mmproj": "images",
    "draft": "draft models",
    "grammar": "grammars",
    "embeddings": "embeddings",
    "rerank": "reranking",
}
_PURPOSES = {
    "llama.cpp": "Runs GGUF models on graphics card or processor. The right start for one person on one computer.",
    "llama-server": "llama.cpp’s own server program, as a release or your own build.",
    "llama-cpp-python": "llama.cpp’s Python server, built here from source.",
    "vllm": "Serves many requests at once from Hugging Face models on NVIDIA cards.",
    "vllm-docker": "The same in a container: needs Docker, and nothing of Python on this machine.",
    "ollama": "Models of an Ollama that runs on this computer.",
}


def accelerator(name: str) -> str:
    """ "cuda" → "NVIDIA CUDA"; a variant such as "cuda12" keeps what tells it apart."""
    for known, title in _ACCELERATORS.items():
        if name.startswith(known):
            return f"{title} {name.removeprefix(known).strip('-_ ')}".strip()
    return name or "CPU"


def is_gpu(name: str) -> bool:
    return not name.startswith("cpu") and bool(name)


def purpose(family: str) -> str:
    return _PURPOSES.get(family, "")


def source(installation: InstallationView) -> str:
    return _SOURCES.get(installation.source, installation.source)


def version(installation: InstallationView) -> str:
    return installation.version or installation.build or "version not known"


def full_name(family: EngineView, one: InstallationView) -> str:
    """ "llama.cpp 2026.10.11549 (NVIDIA CUDA)", with where it is from where another one is called the same."""
    same = [
        other for other in family.installations if (other.version, other.accelerator) == (one.version, one.accelerator)
    ]
    kind = accelerator(one.accelerator)
    return f"{family.title} {version(one)} ({kind if len(same) < 2 else f'{kind}, {source(one)}'})"


def abilities(installation: InstallationView) -> str:
    """ "RTX 4090, RTX 4090 · LoRA adapters, images": what it computes on and what it can do."""
    devices = ", ".join(installation.devices)
    features = ", ".join(_FEATURES[feature] for feature in installation.features if feature in _FEATURES)
    build = installation.build if installation.build != installation.version else ""
    return " · ".join(part for part in (build, devices, features) if part)


def place(installation: InstallationView) -> str:
    size = wording.size(installation.disk_bytes) if installation.disk_bytes is not None else ""
    words = source(installation)
    return " · ".join(part for part in (words[:1].upper() + words[1:], size) if part)


def is_older(one: InstallationView, other: InstallationView | None) -> bool:
    return other is not None and version_key(one.version) < version_key(other.version)


def chosen(family: EngineView) -> InstallationView | None:
    return next((one for one in family.installations if one.chosen), None)


def update_of(family: EngineView) -> Offer | None:
    """The best build that suits this computer, when it is newer than what is used, or uses a device that that one does not."""
    best = next((offer for offer in family.offers if offer.suits), None)
    used = chosen(family)
    if best is None or best.installed or used is None or _is_there(family, best):
        return None
    newer = version_key(best.version) > version_key(used.version)
    faster = is_gpu(best.accelerator) and not is_gpu(used.accelerator) and best.version == used.version
    return best if newer or faster else None


def _is_there(family: EngineView, offer: Offer) -> bool:
    wanted = (offer.version, offer.accelerator)
    return any((one.version, one.accelerator) == wanted for one in family.installations)


def first_offer(family: EngineView) -> Offer | None:
    return next((offer for offer in family.offers if offer.suits and not offer.installed), None)


def how(offer: Offer) -> str:
    return "Built here from source; takes a while" if offer.how == "build" else "Ready-made"


def needs(offer: Offer) -> str:
    text = offer.needs.strip().rstrip(".")
    return "" if text in ("", "nothing") else f"Needs {text}."


def family_of(job: Job, families: tuple[EngineView, ...]) -> str:
    """The family that a job is about; "" when it is about something else."""
    for family in families:
        if job.subject == family.family or any(job.subject == one.id for one in family.installations):
            return family.family
    if job.kind in ("install", "remove", "canary"):  # what is being removed may be gone from the list already
        longest = sorted((family.family for family in families), key=len, reverse=True)
        return next((name for name in longest if job.subject.startswith(name) or name in job.title), "")
    return ""


def busy_installing(jobs: Jobs) -> bool:
    return any(job.state == "running" and job.kind in ("install", "remove") for job in jobs.jobs)


def canary_result(job: Job) -> CanaryResult | None:
    if job.kind != "canary" or not job.result:
        return None
    try:
        return msgspec.convert(job.result, CanaryResult)
    except msgspec.ValidationError:
        return None


def canary_sentence(result: CanaryResult) -> str:
    """The outcome for who decides by a button, and not on a command line."""
    new, old = result.tokens_per_second
    if not new or not old:
        return result.verdict
    share = new / old - 1
    if abs(share) < 0.05:
        speed = "as fast as the one in use"
    elif share > 1:
        speed = f"{new / old:.1f} times as fast as the one in use"
    else:
        speed = (
            f"{100 * abs(share):.0f}{wording.NARROW_SPACE}% {'faster' if share > 0 else 'slower'} than the one in use"
        )
    answers = {True: " and gives the same answers", False: ", and its answers differ", None: ""}[result.same_answer]
    return f"The new one is {speed}{answers}."
