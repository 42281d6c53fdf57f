"""Puts the hub's models, their forms and downloads into words for a person."""

from __future__ import annotations

import time

from app.core.hub import DRAFT, VISION, Downloaded, HubForm, HubListing, HubModel
from app.core.memory.plan_types import Verdict
from app.ui import wording
from app.ui.wording import Words

_FORMATS = {"gguf": "GGUF", "safetensors": "Safetensors"}


def count(number: int) -> str:
    for size, mark in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}".rstrip("0").rstrip(".") + mark
    return str(number)


def publisher(name: str) -> str:
    return name.partition("/")[0]


def own_name(name: str) -> str:
    return name.rpartition("/")[2]


def about(model: HubModel) -> str:
    """ "bartowski · 1.2M downloads · GGUF · updated 3 days ago"."""
    parts = [publisher(model.name)]
    if model.downloads is not None:
        parts.append(f"{count(model.downloads)} downloads")
    parts += [_FORMATS[name] for name in model.formats]
    if model.updated_unix:
        parts.append(f"updated {ago(model.updated_unix)}")
    return " · ".join(parts)


def ago(moment_unix: float, now_unix: float | None = None) -> str:
    days = int(((time.time() if now_unix is None else now_unix) - moment_unix) // 86400)
    if days < 1:
        return "today"
    for length, name in ((365, "year"), (30, "month"), (7, "week"), (1, "day")):
        if days >= length:
            number = days // length
            return f"{number} {name}{'s' if number > 1 else ''} ago"
    return "today"


def verdict(form: HubForm, reading: bool) -> Words:
    """The pill of a form. `reading`: its header has not come yet."""
    if form.role == DRAFT:
        return Words("Draft model", "muted")
    if form.plan is None:
        return Words("Reading …", "muted", True) if reading else Words("Not known", "muted")
    match form.plan.verdict:
        case Verdict.FITS:
            return Words("Fits", "good")
        case Verdict.TIGHT:
            return Words("Tight", "warning")
        case Verdict.DOES_NOT_FIT:
            return Words("Does not fit", "danger")
    return Words("Not known", "muted")


def why(form: HubForm) -> str:
    """The sentence behind the pill."""
    if form.role == DRAFT:
        return "It guesses ahead for a larger model and is loaded beside one."
    if form.plan is not None:
        about_ = "" if form.exact else " Estimated from another quantisation of the same model."
        return form.plan.summary + about_
    return form.problem


def need(form: HubForm) -> str:
    """What loading it would take of the cards together, or of main memory where there is none."""
    devices = wording.main_devices(form.plan) if form.plan is not None else ()
    return wording.size(sum(device.likely_bytes for device in devices)) if devices else ""


def contents(form: HubForm) -> str:
    """ "3 parts, with its projector"."""
    parts = sum(1 for file in form.files if file.role == "model")
    told = [f"{parts} parts"] if parts > 1 else []
    told += ["with its projector"] if any(file.role == VISION for file in form.files) else []
    if form.format == "safetensors":
        told.insert(0, "for vLLM")
    return ", ".join(told)


def deed(form: HubForm) -> str:
    """What the button does; "" when it is here already."""
    if form.bytes and form.missing_bytes == 0:
        return ""
    return "Resume" if form.here_bytes else "Download"


def listing_line(listing: HubListing) -> str:
    parts = [f"Licence {listing.licence}"] if listing.licence else []
    if listing.free_bytes is not None:
        parts.append(f"{wording.size(listing.free_bytes)} free in {wording_path(listing.folder)}")
    return " · ".join(parts)


def wording_path(path: str) -> str:
    from pathlib import Path

    home = str(Path.home())
    return "~" + path[len(home) :] if path.startswith(home + "/") else path


def of_disk(model: Downloaded) -> str:
    """ "bartowski · Q4_K_M.gguf"."""
    return " · ".join(part for part in (publisher(model.name), model.file or "safetensors folder") if part)
