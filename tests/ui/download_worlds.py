"""Hand-made hubs: a search, a model's forms, downloads under way and over, a full disk; what the Download page shows."""

from __future__ import annotations

import msgspec

from app.core.control import HubFound
from app.core.errors import HubUnreachable, ModelGated
from app.core.hub import (
    DRAFT,
    VISION,
    Downloaded,
    Downloads,
    HubFile,
    HubForm,
    HubListing,
    HubModel,
    Partial,
    Trashed,
    with_recommended,
)
from app.core.memory.plan_types import DevicePlan, MemoryPlan, Part, Verdict
from app.core.snapshot import Engines, EngineView, InstallationView, Job, Jobs
from tests.ui import worlds

GIB = 1024**3
NAME = "bartowski/Qwen2.5-VL-7B-Instruct-GGUF"
FOUND = HubFound(
    models=(
        HubModel(name=NAME, downloads=1_240_000, likes=412, updated_unix=1.758e9, formats=("gguf",)),
        HubModel(
            name="Qwen/Qwen2.5-VL-7B-Instruct", downloads=3_900_000, updated_unix=1.74e9, formats=("safetensors",)
        ),
        HubModel(
            name="Qwen/Qwen2.5-VL-7B-Instruct-AWQ", downloads=310_400, updated_unix=1.74e9, formats=("safetensors",)
        ),
        HubModel(name="acme/Qwen2.5-VL-7B-private", downloads=210, gated=True, updated_unix=1.76e9, formats=("gguf",)),
    )
)


def _plan(needs: float, verdict: Verdict, summary: str) -> MemoryPlan:
    size = int(needs * GIB)
    device = DevicePlan(
        device="GPU-1", name="RTX 4090", parts=(Part(name="weights", bytes=size, source="headers"),), low_bytes=size,
        high_bytes=size, total_bytes=24 * GIB, free_bytes=11 * GIB, available_bytes=int(9.5 * GIB),
    )  # fmt: skip
    return MemoryPlan(verdict=verdict, devices=(device,), summary=summary)


def _form(title: str, size: float, needs: float | None, verdict: Verdict | None, **more: object) -> HubForm:
    files = [HubFile(path=f"Qwen2.5-VL-7B-Instruct-{title}.gguf", bytes=int(size * GIB), etag="a" * 64)]
    if not more.get("role"):
        files.append(HubFile(path="mmproj-f16.gguf", bytes=int(1.26 * GIB), etag="b" * 64, role=VISION))
    plan = _plan(needs, verdict, f"Needs {needs:.1f} GiB of 9.5 GiB that may be used.") if needs and verdict else None
    values: dict[str, object] = {
        "name": files[0].path,
        "title": title,
        "format": "gguf",
        "files": tuple(files),
        "plan": plan,
    }
    return HubForm(**(values | more))  # type: ignore[arg-type]


FORMS = with_recommended(
    (
        _form("Q2_K", 2.81, 5.6, Verdict.FITS),
        _form("Q4_K_M", 4.36, 7.2, Verdict.FITS),
        _form("Q5_K_M", 5.07, 7.9, Verdict.FITS),
        _form("Q6_K", 5.82, 8.8, Verdict.TIGHT, exact=False),
        _form("Q8_0", 7.54, 10.6, Verdict.DOES_NOT_FIT),
        _form("mtp-Q8_0", 0.4, None, None, role=DRAFT),
    )
)
LISTING = HubListing(
    name=NAME,
    commit="c" * 40,
    licence="apache-2.0",
    forms=FORMS,
    free_bytes=212 * GIB,
    folder="/home/me/.cache/huggingface/hub",
)
PART_HERE = msgspec.structs.replace(
    LISTING,
    forms=tuple(
        msgspec.structs.replace(
            form, files=tuple(msgspec.structs.replace(f, here_bytes=f.bytes if at == 0 else 0) for f in form.files)
        )
        if at < 2
        else form
        for at, form in enumerate(FORMS)
    ),
    free_bytes=3 * GIB,
    outdated=True,
)
NOTHING = Downloads(folder="/home/me/.cache/huggingface/hub", free_bytes=212 * GIB)
SHELF = Downloads(
    folder="/home/me/.cache/huggingface/hub",
    models=(
        Downloaded(name=NAME, commit="c" * 40, file="Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf", title="Qwen2.5-VL-7B-Instruct-GGUF Q4_K_M", path="/x/a", disk_bytes=int(5.6 * GIB), in_use="Qwen2.5 VL 7B"),
        Downloaded(name="Qwen/Qwen3-4B-Instruct-2507-AWQ", commit="d" * 40, file="", title="Qwen3-4B-Instruct-2507-AWQ", path="/x/b", disk_bytes=int(2.7 * GIB), newest="e" * 40),
        Downloaded(name="bartowski/Llama-3.2-3B-Instruct-GGUF", commit="f" * 40, file="Llama-3.2-3B-Instruct-Q8_0.gguf", title="Llama-3.2-3B-Instruct-GGUF Q8_0", path="/x/c", disk_bytes=int(3.2 * GIB), older=True),
    ),
    partial=(Partial(name="unsloth/gemma-3-27b-it-GGUF", disk_bytes=int(7.1 * GIB)),),
    trash=(Trashed(id="1790000000-abcdef", title="Mistral-7B-Instruct-v0.3-GGUF Q5_K_M", deleted_at_unix=1.7e9, disk_bytes=int(4.8 * GIB)),),
    disk_bytes=int(18.6 * GIB),
    free_bytes=31 * GIB,
)  # fmt: skip


def _job(state: str, **more: object) -> Job:
    values: dict[str, object] = {
        "id": f"pull-{state}", "title": "Qwen2.5-VL-7B-Instruct-GGUF Q5_K_M", "kind": "pull", "subject": NAME, "state": state,
        "progress": 0.42, "bytes_done": int(2.66 * GIB), "bytes_total": int(6.33 * GIB),
    }  # fmt: skip
    return Job(**(values | more))  # type: ignore[arg-type]


RUNNING = _job("running", detail="Downloading Qwen2.5-VL-7B-Instruct-Q5_K_M.gguf", eta_seconds=214.0)
PAUSED = _job("paused", title="gemma-3-27b-it-GGUF Q4_K_M", subject="unsloth/gemma-3-27b-it-GGUF")
FAILED = _job(
    "failed", title="Phi-4-mini-GGUF Q8_0", subject="acme/Phi-4-mini-GGUF",
    error="acme/Phi-4-mini-GGUF could not be downloaded further: the connection was cut.",
    advice="1.2 GB of 4.1 GB are here and stay: resume goes on there.",
)  # fmt: skip
FETCHING = Job(
    id="ollama-1", title="Fetching llama3.2:3b with Ollama", kind="ollama", subject="llama3.2:3b", state="running",
    progress=0.3, detail="Fetching llama3.2:3b", bytes_done=600 * 1024**2, bytes_total=2 * GIB, eta_seconds=41.0,
)  # fmt: skip
OLLAMA = EngineView(
    family="ollama",
    title="Ollama",
    available=True,
    installations=(
        InstallationView(
            id="ollama-1",
            family="ollama",
            version="0.12.3",
            source="ollama",
            path="http://127.0.0.1:11434",
            chosen=True,
        ),
    ),
)
DONE = _job("done", title="Llama-3.2-3B-Instruct-GGUF Q8_0", subject="bartowski/Llama-3.2-3B-Instruct-GGUF")

UNREACHABLE = HubUnreachable(
    "The hub cannot be reached: Name or service not known.", "Check the network, then try again."
)
GATED = ModelGated(
    "acme/Qwen2.5-VL-7B-private is given only to people who agreed to its terms.",
    "Agree on the model's page, then make an access token there.",
)


def with_jobs(*jobs: Job) -> worlds.World:
    return msgspec.structs.replace(worlds.WORLDS["ready"], jobs=Jobs(jobs=jobs))


# name → (slices, what the service answers, what is typed, the model to unfold)
STATES: dict[str, tuple[worlds.World, dict[str, object], str, str]] = {
    "empty": (with_jobs(), {"/control/hub/downloads": NOTHING}, "", ""),
    "shelf": (with_jobs(), {"/control/hub/downloads": SHELF}, "", ""),
    "found": (with_jobs(), {"/control/hub/downloads": SHELF, "/control/hub/search": FOUND}, "qwen vl 7b", ""),
    "forms": (
        with_jobs(),
        {"/control/hub/downloads": SHELF, "/control/hub/search": FOUND, "/control/hub/files": LISTING},
        "qwen vl 7b",
        NAME,
    ),
    "reading": (
        with_jobs(),
        {
            "/control/hub/downloads": SHELF,
            "/control/hub/search": FOUND,
            "/control/hub/files": msgspec.structs.replace(
                LISTING, forms=tuple(msgspec.structs.replace(f, plan=None, recommended=False) for f in FORMS)
            ),
        },
        "qwen vl 7b",
        NAME,
    ),
    "full": (
        with_jobs(),
        {"/control/hub/downloads": SHELF, "/control/hub/search": FOUND, "/control/hub/files": PART_HERE},
        "qwen vl 7b",
        NAME,
    ),
    "gated": (
        with_jobs(),
        {"/control/hub/downloads": SHELF, "/control/hub/search": FOUND, "/control/hub/files": GATED},
        "qwen vl 7b",
        "acme/Qwen2.5-VL-7B-private",
    ),
    "failing": (with_jobs(), {"/control/hub/downloads": SHELF, "/control/hub/search": UNREACHABLE}, "qwen vl 7b", ""),
    "ollama": (
        msgspec.structs.replace(with_jobs(FETCHING), engines=Engines(families=(OLLAMA,))),
        {"/control/hub/downloads": NOTHING},
        "",
        "",
    ),
    "token": (with_jobs(), {"/control/hub/downloads": NOTHING}, "", ""),
    "downloading": (with_jobs(RUNNING, PAUSED, FAILED, DONE), {"/control/hub/downloads": SHELF}, "", ""),
}
