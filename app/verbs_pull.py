"""Holds the verbs about the hub of models: search, pull, downloads, rm, trash. Each is one control call; a pull is followed."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from app.client import Client
from app.core import control
from app.core.errors import EngineFailed, NotOnHub
from app.core.hub import DRAFT, Downloaded, Downloads, HubForm, HubListing
from app.core.memory.plan_types import Verdict
from app.core.snapshot import Job, Jobs, Library
from app.following import follow
from app.speaking import Json, show, spoken
from app.wiring import real_paths

VERDICTS = {
    Verdict.FITS: "fits",
    Verdict.TIGHT: "fits only without the headroom",
    Verdict.DOES_NOT_FIT: "does not fit",
    Verdict.UNKNOWN: "not known",
}

trash = typer.Typer(name="trash", invoke_without_command=True, help="Deleted models: list, undo, empty.")


def add_hub(app: typer.Typer) -> None:
    for verb in (search, pull, downloads, rm):
        app.command()(verb)
    app.add_typer(trash)


@spoken
def search(
    words: Annotated[list[str], typer.Argument(help="What the model is called.")],
    gguf: Annotated[bool, typer.Option("--gguf", help="Only models as GGUF files.")] = False,
    safetensors: Annotated[bool, typer.Option("--safetensors", help="Only models as safetensors.")] = False,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=100)] = 20,
    as_json: Json = False,
) -> None:
    """Search the hub for models. `engine-room pull NAME --list` shows what there is of one, and whether it fits."""
    kind = "gguf" if gguf else "safetensors" if safetensors else ""
    wish = control.HubSearch(words=" ".join(words), kind=kind, limit=limit)
    with Client(real_paths()) as client:
        client.ensure()
        found = client.post("/control/hub/search", wish, control.HubFound)
    rows = [
        f"{model.name:<60} {_count(model.downloads):>8} downloads  {', '.join(model.formats):<18} {'gated' if model.gated else ''}".rstrip()
        for model in found.models
    ]
    show(found, "\n".join(rows) or "Nothing is called so.", as_json)


@spoken
def pull(
    repo: Annotated[str, typer.Argument(metavar="REPO", help="publisher/model")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A file or a quantisation; the best that fits when left out.")
    ] = "",
    list_only: Annotated[
        bool, typer.Option("--list", help="Show what there is and whether it fits; no download.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait until it is done.")] = False,
    as_json: Json = False,
) -> None:
    """Download a model into the hub's cache, where other programs find it too. Ctrl+C pauses: what has come stays."""
    with Client(real_paths()) as client:
        client.ensure()
        if list_only:
            listing = client.post("/control/hub/files", control.HubOf(name=repo), HubListing)
            show(listing, "\n".join(_forms(listing)), as_json)
            return
        started = client.post("/control/hub/pull", control.Pull(name=repo, file=file), control.JobStarted)
        if detach:
            show(started, f"Under way as job {started.job}.", as_json)
            return
        job = follow(client, started.job, quiet=as_json, pausing=True)
        path = str(job.result.get("path", ""))
        profile = _profile_of(client, job)
    how = f" `engine-room load {profile}` loads it." if profile else ""
    show(job, f"{path} is here, checked.{how}", as_json)


def _profile_of(client: Client, job: Job) -> str:
    """The profile under which the library lists what has come; "" when it does not within a moment."""
    places = (str(job.result.get("path", "")), str(job.result.get("folder", "")))
    end = time.monotonic() + 10
    for name, value in client.stream():
        if name == "library" and isinstance(value, Library):
            found = next((card.profile.id for card in value.profiles if card.model_path in places), "")
            if found:
                return found
        if time.monotonic() > end:
            break
    return ""


def _forms(listing: HubListing) -> list[str]:
    rows = [f"{listing.name}{'  (gated)' if listing.gated else ''}  {listing.licence}".rstrip()]
    for form in listing.forms:
        rows.append(
            f"{'→' if form.recommended else ' '} {form.title:<18} {form.bytes / 1e9:>8.2f} GB  {_verdict(form):<34} {form.name}".rstrip()
        )
    rows.append(f"They go to {listing.folder}, where {(listing.free_bytes or 0) / 1e9:.1f} GB are free.")
    return rows


def _verdict(form: HubForm) -> str:
    if form.bytes and form.missing_bytes == 0:
        return "is here"
    if form.role == DRAFT:
        return "guesses ahead for a larger model"
    if form.plan is None:
        return form.problem or "not known"
    return VERDICTS[form.plan.verdict] + ("" if form.exact else " (about)")


@spoken
def downloads(
    updates: Annotated[bool, typer.Option("--updates", help="Ask the hub which have a newer revision.")] = False,
    as_json: Json = False,
) -> None:
    """List the models in the hub's cache with what each takes, unfinished downloads, and the trash."""
    with Client(real_paths()) as client:
        client.ensure()
        found = (
            client.post("/control/hub/updates", control.Refresh(), Downloads)
            if updates
            else client.get("/control/hub/downloads", Downloads)
        )
        jobs = client.slices()["jobs"]
    assert isinstance(jobs, Jobs)
    rows = [
        f"{model.disk_bytes / 1e9:>8.2f} GB  {model.name:<50} {model.file}{_notes(model)}".rstrip()
        for model in found.models
    ]
    rows += [f"{part.disk_bytes / 1e9:>8.2f} GB  {part.name:<50} not whole yet" for part in found.partial]
    rows += [f"{each.disk_bytes / 1e9:>8.2f} GB  {each.title:<50} in the trash as {each.id}" for each in found.trash]
    rows += [
        f"… {job.title}: {job.state}, job {job.id}" for job in jobs.jobs if job.kind == "pull" and job.state == "paused"
    ]
    rows.append(f"{found.folder}: {found.disk_bytes / 1e9:.2f} GB, {(found.free_bytes or 0) / 1e9:.1f} GB free")
    show(found, "\n".join(rows), as_json)


def _notes(model: Downloaded) -> str:
    notes = [f"loaded as {model.in_use}"] if model.in_use else []
    notes += ["an older revision"] if model.older else []
    notes += ["a newer revision is there: pull it again"] if model.newest else []
    return f"  ({'; '.join(notes)})" if notes else ""


@spoken
def rm(
    repo: Annotated[str, typer.Argument(metavar="REPO", help="publisher/model")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Of several files, which.")] = "",
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="What unfinished downloads of it left, for good.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Move a downloaded model to the trash; `engine-room trash undo` brings it back."""
    with Client(real_paths()) as client:
        client.ensure()
        if unfinished:
            done = client.post("/control/hub/delete", control.DeleteModel(name=repo, partial=True), control.Accepted)
        else:
            found = client.get("/control/hub/downloads", Downloads)
            wish = control.DeleteModel(path=_one_of(found, repo, file).path)
            done = client.post("/control/hub/delete", wish, control.Accepted)
    show(done, done.note, as_json)


def _one_of(found: Downloads, repo: str, file: str) -> Downloaded:
    mine = [model for model in found.models if model.name.lower() == repo.lower()]
    if file:
        mine = [m for m in mine if file.lower() in (m.file.lower(), m.file.lower().rpartition("/")[2])]
    if len(mine) == 1:
        return mine[0]
    if not mine:
        names = ", ".join(sorted({model.name for model in found.models})) or "nothing yet"
        raise NotOnHub(f"{repo} {file}".strip() + " is not in the hub's cache.", f"There is: {names}.")
    raise NotOnHub(f"There are several of {repo}.", f"Name one: {', '.join(m.file or 'the folder' for m in mine)}.")


@trash.callback()
@spoken
def list_trash(context: typer.Context, as_json: Json = False) -> None:
    """List what is in the trash."""
    if context.invoked_subcommand is not None:
        return
    with Client(real_paths()) as client:
        client.ensure()
        found = client.get("/control/hub/downloads", Downloads)
    rows = [f"{each.disk_bytes / 1e9:>8.2f} GB  {each.title:<50} {each.id}" for each in found.trash]
    show({"trash": found.trash}, "\n".join(rows) or "The trash is empty.", as_json)


@trash.command()
@spoken
def undo(
    which: Annotated[str, typer.Argument(help="Its id; what was deleted last when left out.")] = "",
    as_json: Json = False,
) -> None:
    """Put a deleted model back where it was."""
    with Client(real_paths()) as client:
        client.ensure()
        found = client.get("/control/hub/downloads", Downloads)
        chosen = which or next((each.id for each in found.trash), "")
        if not chosen:
            raise EngineFailed("The trash is empty.")
        done = client.post("/control/hub/restore", control.TrashOf(trash=chosen), control.Accepted)
    show(done, done.note, as_json)


@trash.command("empty")
@spoken
def empty_trash(
    which: Annotated[str, typer.Argument(help="One id; everything when left out.")] = "", as_json: Json = False
) -> None:
    """Delete what is in the trash for good."""
    with Client(real_paths()) as client:
        client.ensure()
        done = client.post("/control/hub/empty", control.TrashOf(trash=which), control.Accepted)
    show(done, done.note, as_json)


def _count(number: int | None) -> str:
    if number is None:
        return "—"
    for size, mark in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{mark}"
    return str(number)
