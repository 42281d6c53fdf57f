"""Puts values into words and figures for a person: sizes, times, phases, verdicts. Unknown is always a dash."""

from __future__ import annotations

import math
import time

import msgspec

from app.core import lifecycle as phases
from app.core.memory.plan_types import DevicePlan, MemoryPlan, Verdict
from app.core.memory.words import spare_words
from app.core.snapshot import ProfileCard, SeatView

DASH = "—"
GIB, MIB = 1024**3, 1024**2
NARROW_SPACE = "\u202f"

ENGINE_TITLES = {
    "llama.cpp": "llama.cpp",
    "llama-server": "llama-server",
    "llama-cpp-python": "llama-cpp-python",
    "vllm": "vLLM",
    "vllm-docker": "vLLM in Docker",
    "ollama": "Ollama",
    "remote": "Remote",
}
STAGE_TITLES = {
    "starting": "Start",
    "download": "Download",
    "reading": "Read",
    "config": "Config",
    "imports": "Imports",
    "weights": "Weights",
    "kv_cache": "KV cache",
    "compile": "Compile",
    "graphs": "Graphs",
    "warm_up": "Warm-up",
    "first_token": "First token",
}
_LLAMA_STAGES = ("starting", "weights", "kv_cache", "warm_up", "first_token")
_VLLM_STAGES = ("starting", "config", "imports", "weights", "compile", "kv_cache", "graphs", "warm_up", "first_token")
_ALL_STAGES = tuple(STAGE_TITLES)


class Words(msgspec.Struct, frozen=True):
    """What a pill or line says and in which tone: muted · accent · good · warning · danger."""

    text: str
    tone: str
    busy: bool = False


def size(bytes_: float | None) -> str:
    if bytes_ is None:
        return DASH
    if abs(bytes_) >= 0.95 * GIB:
        return f"{bytes_ / GIB:.1f} GiB"
    return f"{bytes_ / MIB:.0f} MiB" if abs(bytes_) >= 10 * MIB else f"{bytes_ / MIB:.1f} MiB"


def size_of(part: float | None, whole: float | None) -> str:
    """ "18.2 of 24.0 GiB", both in the unit of the larger one."""
    if part is None or whole is None:
        return f"{size(part)} of {size(whole)}"
    unit, name = (GIB, "GiB") if whole >= 0.95 * GIB else (MIB, "MiB")
    return f"{part / unit:.1f} of {whole / unit:.1f} {name}"


def count(number: float | None) -> str:
    return DASH if number is None else f"{number:,.0f}"


def tokens_per_second(rate: float | None) -> str:
    if rate is None:
        return DASH
    return f"{rate:.1f}" if rate < 100 else count(rate)


def percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.0f}{NARROW_SPACE}%"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return DASH
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def uptime(seconds: float) -> str:
    """Coarse on purpose: it changes once a minute."""
    if seconds < 60:
        return "less than a minute"
    return duration(seconds) if seconds >= 3600 else f"{int(seconds // 60)} min"


def context(tokens: int | None) -> str:
    if tokens is None:
        return DASH
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else count(tokens)


def parameters(number: int | None) -> str:
    if number is None:
        return ""
    return f"{number / 1e9:.1f} B" if number >= 1e9 else f"{number / 1e6:.1f} M"


def engine(family: str) -> str:
    return ENGINE_TITLES.get(family, family)


def engine_build(family: str, build: str) -> str:
    """ "llama.cpp 2026.10.11549": the engine's name once, however much of it the build says again."""
    title = engine(family)
    first, _, rest = build.partition(" ")
    again = _letters(title) in _letters(first) and bool(rest)
    return f"{title} {rest if again else build}".strip()


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def seat_words(seat: SeatView) -> Words:
    """The state pill of a seat."""
    if (said := _of_attached(seat)) is not None:
        return said
    match seat.phase:
        case phases.Idle():
            resting = {
                "lent": ("Lent", "accent"),
                "idle": ("Resting", "muted"),
                "parked": ("Resting", "muted"),
                "memory": ("Waits for room", "warning"),
            }
            away = "lent" if seat.lent_until_unix else seat.resting
            return Words(*resting.get(away, ("Idle", "muted")))
        case phases.Reserving():
            return Words("Checking memory", "accent", True)
        case phases.Spawning():
            return Words("Starting", "accent", True)
        case phases.Loading(progress=progress):
            return Words(
                "Loading" if progress is None else f"Loading {100 * progress:.0f}{NARROW_SPACE}%", "accent", True
            )
        case phases.Ready():
            return Words("Ready", "good")
        case phases.Stalled():
            return Words("Stalled", "warning")
        case phases.Draining():
            return Words("Finishing answers", "warning", True)
        case phases.Parking():
            return Words("Going to sleep", "accent", True)
        case phases.Sleeping():
            return Words("Asleep", "muted")
        case phases.Waking():
            return Words("Waking", "accent", True)
        case phases.Stopping():
            return Words("Stopping", "warning", True)
        case phases.Killing():
            return Words("Ending processes", "warning", True)
        case phases.ReleasingVram():
            return Words("Freeing memory", "warning", True)
        case phases.Backoff(attempt=attempt):
            return Words(f"Restarting, try {attempt}", "warning", True)
        case phases.Failed():
            return Words("Failed", "danger")
        case phases.StopFailed():
            return Words("Could not be stopped", "danger")


def _of_attached(seat: SeatView) -> Words | None:
    """Where the engine is not ours nothing is started and nothing ended; None where a phase says it as well."""
    if seat.attached is None:
        return None
    match seat.phase:
        case phases.Ready() | phases.Stalled() if seat.attached.state == "unreachable":
            return Words("Unreachable", "warning")
        case phases.Ready() if seat.attached.state == "probing":
            return Words("Looking again", "warning", True)
        case phases.Ready():
            return Words("Attached", "good")
        case phases.Stopping() | phases.Killing():
            return Words("Letting go", "warning", True)
    return None


def attached_hint(seat: SeatView) -> str:
    """Where an engine is that is not ours, and why it cannot be reached; "" for one of ours."""
    if seat.attached is None:
        return ""
    return seat.attached.reason or f"attached to {seat.attached.where}"


def minutes_until(moment_unix: float, now_unix: float | None = None) -> str:
    """ "12 min", rounded up, so that the last minute is a minute."""
    left = moment_unix - (time.time() if now_unix is None else now_unix)
    return "a moment" if left <= 0 else f"{math.ceil(left / 60)} min"


def rest_words(seat: SeatView, title: str) -> str:
    """Why the wanted model is away, and when it comes back; "" when it is not away."""
    if seat.lent_until_unix:
        return f"The GPU is lent. {title or 'The model'} comes back in {minutes_until(seat.lent_until_unix)}."
    if isinstance(seat.phase, phases.Sleeping):
        return "The next request wakes it in seconds."
    match seat.resting:
        case "parked":
            return f"{title} is unloaded. The next request brings it back."
        case "idle":
            return f"{title} was unloaded because nobody asked. The next request brings it back."
        case "memory":
            return f"{title} comes back as soon as there is room for it."
    return ""


def idle_hint(seat: SeatView) -> str:
    if seat.idle_unload_at_unix is None:
        return ""
    return f"idle, unloads in {minutes_until(seat.idle_unload_at_unix)}"


def can_stop(seat: SeatView) -> bool:
    """Whether there is something to stop or a load to cancel, a switch under way included."""
    return is_switching(seat) or isinstance(
        seat.phase,
        phases.Reserving
        | phases.Spawning
        | phases.Loading
        | phases.Ready
        | phases.Stalled
        | phases.Backoff
        | phases.Parking
        | phases.Sleeping
        | phases.Waking,
    )


def is_switching(seat: SeatView) -> bool:
    """One model is leaving so that another can come."""
    return is_leaving(seat) and seat.wanted is not None and seat.wanted != getattr(seat.phase, "profile_id", None)


def is_loading(seat: SeatView) -> bool:
    return isinstance(seat.phase, phases.Reserving | phases.Spawning | phases.Loading | phases.Waking | phases.Backoff)


def is_leaving(seat: SeatView) -> bool:
    return isinstance(seat.phase, phases.Draining | phases.Stopping | phases.Killing | phases.ReleasingVram)


def stages(family: str, current: str) -> tuple[str, ...]:
    """The stages that a load of this engine goes through, in order; a stage never heard of comes last."""
    known = _LLAMA_STAGES if family.startswith("llama") else _VLLM_STAGES if family.startswith("vllm") else _ALL_STAGES
    if current in known:
        return known
    return _ALL_STAGES if current in _ALL_STAGES else (*known, current)


def stage_title(stage: str) -> str:
    return STAGE_TITLES.get(stage, stage.replace("_", " ").capitalize())


def fit(plan: MemoryPlan) -> Words:
    """The pill of a plan."""
    match plan.verdict:
        case Verdict.FITS:
            spare = plan.spare_bytes
            return Words("Fits" if spare is None else f"Fits · {spare_words(spare)}", "good")
        case Verdict.TIGHT:
            return Words("Tight", "warning")
        case Verdict.DOES_NOT_FIT:
            return Words("Does not fit", "danger")
    return Words("Size not known", "muted")


def verdict(card: ProfileCard) -> Words:
    """The pill of a profile's card."""
    if not card.available and card.profile.source == "shipped":
        return Words("Not on this machine", "muted")
    if not card.available:
        return Words("Model file missing", "danger")
    if not card.engine_available:
        return Words("Engine not installed", "muted")
    if card.problem is not None:
        return Words("Not on this machine", "danger")
    if card.plan is None:
        return Words("Size not known", "muted")
    if not card.plan.devices and card.plan.verdict is Verdict.FITS:
        return Words("Runs elsewhere", "good")
    return fit(card.plan)


def need(plan: MemoryPlan | None) -> str:
    """How much a load needs and where, as one line."""
    if plan is None or not plan.devices:
        return plan.summary if plan is not None and plan.summary else "What it needs is not known."
    cards = [device for device in plan.devices if device.device != "host"]
    host = sum(device.likely_bytes for device in plan.devices if device.device == "host")
    if not cards:
        return f"Needs {size(host)} of main memory"
    where = "GPU memory" if len(cards) == 1 else f"memory on {len(cards)} GPUs"
    beside = f" and {size(host)} of main memory" if host >= 0.5 * GIB else ""
    return f"Needs {size(sum(device.likely_bytes for device in cards))} of {where}{beside}"


def main_devices(plan: MemoryPlan) -> tuple[DevicePlan, ...]:
    """The devices that one bar can stand for: the graphics cards together, or main memory where none is used."""
    cards = tuple(device for device in plan.devices if device.device != "host")
    return cards or plan.devices


def facts(card: ProfileCard) -> str:
    """Engine, quantisation, parameters, context, size on the disk, whose store it is, as one line."""
    known = card.facts
    ctx = card.profile.settings.get("context") or card.profile.settings.get("context_tokens")
    parts = [engine(card.profile.engine)]
    if known is not None:
        parts += [known.quantisation or "", parameters(known.parameters)]
    if isinstance(ctx, int):
        parts.append(f"{context(ctx)} context")
    elif known is not None and known.context_max:
        parts.append(f"up to {context(known.context_max)} context")
    parts += [size(known.file_bytes) if known is not None and known.file_bytes else "", card.store]
    return " · ".join(part for part in parts if part)


def model_facts(card: ProfileCard) -> str:
    """Parameters, quantisation and context as one line: what the model is, whatever runs it."""
    known = card.facts
    ctx = card.profile.settings.get("context") or card.profile.settings.get("context_tokens")
    parts = [parameters(known.parameters), known.quantisation or ""] if known is not None else []
    if isinstance(ctx, int):
        parts.append(f"{context(ctx)} context")
    elif known is not None and known.context_max:
        parts.append(f"up to {context(known.context_max)} context")
    return " · ".join(part for part in parts if part)
