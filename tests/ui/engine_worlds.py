"""Hand-made engines, offers and jobs: what a person meets on the Engines page, from a bare machine to a busy one."""

from __future__ import annotations

import msgspec

from app.core.control import Cache, Caches
from app.core.snapshot import Engines, EngineView, InstallationView, Job, Jobs, Offer
from tests.ui import worlds

MIB = 1024**2
HOME = "~/.local/share/engine-room/engines"


def installed(version: str, accelerator: str = "cuda", **more: object) -> InstallationView:
    name = f"llama.cpp-{version}-{accelerator}"
    values: dict[str, object] = {
        "id": name,
        "family": "llama.cpp",
        "version": version,
        "build": f"xllamacpp {version}",
        "accelerator": accelerator,
        "devices": ("RTX 4090", "RTX 4090") if accelerator == "cuda" else (),
        "features": ("metrics", "lora", "mmproj", "draft", "grammar"),
        "source": "ours",
        "path": f"{HOME}/{name}",
        "disk_bytes": 642 * MIB if accelerator == "cuda" else 118 * MIB,
        **more,
    }
    return InstallationView(**values)  # type: ignore[arg-type]


CUDA_OFFERS = (
    Offer(
        family="llama.cpp",
        version="2026.11.12010",
        accelerator="cuda",
        needs="an NVIDIA driver of the 570 series or newer and glibc 2.35",
    ),
    Offer(family="llama.cpp", version="2026.11.12010", accelerator="cpu", needs="nothing"),
    Offer(family="llama.cpp", version="2026.11.12010", accelerator="rocm", suits=False, needs="ROCm 7 and glibc 2.35"),
    Offer(family="llama.cpp", version="2026.11.12010", accelerator="vulkan", suits=False, needs="a Vulkan driver"),
)
BARE = EngineView(
    family="llama.cpp",
    title="llama.cpp",
    available=False,
    how_to_get="Install it here.",
    offers=CUDA_OFFERS,
)
OLD = installed("2026.10.11549", chosen=True)
OLD_CPU = installed("2026.10.11549", "cpu")
NEW = installed("2026.11.12010")
MINE = installed(
    "b6890",
    "cuda",
    id="file-1",
    source="file",
    path="/home/me/src/llama.cpp/build/bin/llama-server",
    place="/home/me/src/llama.cpp/build",
    build="b6890 (d00cbea6)",
    disk_bytes=None,
    note="newer than any that was tried here",
)
BROKEN = installed(
    "b5121",
    "cpu",
    id="path-1",
    source="path",
    path="/usr/local/bin/llama-server",
    build="",
    disk_bytes=None,
    features=(),
    problem="it needs CPU instructions that this processor lacks (AVX-512)",
)
PYTHON = EngineView(
    family="llama-cpp-python",
    title="llama-cpp-python",
    available=False,
    offers=(
        Offer(
            family="llama-cpp-python",
            version="0.3.16",
            accelerator="cuda",
            how="build",
            needs="a C++ compiler, CMake and the CUDA toolkit",
        ),
        Offer(
            family="llama-cpp-python",
            version="0.3.16",
            accelerator="cpu",
            how="build",
            needs="a C++ compiler and CMake",
        ),
    ),
)
SERVER = EngineView(
    family="llama-server",
    title="llama-server",
    available=True,
    build="b6890",
    installations=(msgspec.structs.replace(MINE, family="llama-server", chosen=True), BROKEN),
)
VLLM = EngineView(
    family="vllm",
    title="vLLM",
    available=False,
    how_to_get="Install it into an environment of its own with `engine-room engines install vllm`, or add one that you have.",
)


def llama(*installations: InstallationView, pinned: str = "", offers: tuple[Offer, ...] = CUDA_OFFERS) -> EngineView:
    return EngineView(
        family="llama.cpp",
        title="llama.cpp",
        available=True,
        build="2026.10.11549",
        installations=installations,
        pinned=pinned,
        offers=offers,
    )


def engines(first: EngineView, *others: EngineView) -> Engines:
    return Engines(families=(first, *(others or (SERVER, PYTHON, VLLM))), accelerators=("cuda", "cpu"))


DOWNLOADING = Job(
    id="j-1",
    title="Installing llama.cpp 2026.11.12010 for NVIDIA CUDA",
    state="running",
    kind="install",
    subject="llama.cpp",
    progress=0.48,
    detail="Downloading xllamacpp",
    bytes_done=312 * MIB,
    bytes_total=642 * MIB,
    eta_seconds=41,
)
BUILDING = Job(
    id="j-2",
    title="Installing llama-cpp-python 0.3.16",
    state="running",
    kind="install",
    subject="llama-cpp-python",
    progress=0.31,
    detail="Compiling ggml-cuda/fattn.cu",
    steps_done=103,
    steps_total=334,
    eta_seconds=540,
)
NO_COMPILER = msgspec.structs.replace(
    BUILDING,
    id="j-3",
    state="failed",
    progress=None,
    error="llama-cpp-python could not be built: no C++ compiler was found.",
    advice="Install one, for example with: sudo apt install g++ cmake",
    log_path="~/.local/state/engine-room/jobs/j-3.log",
)
TRIED = Job(
    id="j-4",
    title="Comparing llama.cpp 2026.11.12010 with 2026.10.11549 on Gemma 3 12B",
    state="done",
    kind="canary",
    subject=NEW.id,
    result={
        "installation": NEW.id,
        "against": OLD.id,
        "profile": "gemma-3-12b",
        "first_token_seconds": [0.081, 0.094],
        "tokens_per_second": [71.4, 63.0],
        "same_answer": True,
        "verdict": "The new one works and is 13 % faster on this model.",
    },
)
DONE = msgspec.structs.replace(
    DOWNLOADING, id="j-5", state="done", progress=1.0, detail="Installed, and its first answer came.", eta_seconds=None
)
CANCELLED = msgspec.structs.replace(DOWNLOADING, id="j-6", state="cancelled")
CACHES = Caches(
    caches=(
        Cache(
            id="packages",
            title="Downloaded packages",
            path="~/.cache/engine-room/uv",
            disk_bytes=1_900 * MIB,
            sentence="The next installation downloads again.",
        ),
        Cache(
            id="vllm",
            title="vLLM’s compiled kernels",
            path="~/.cache/vllm",
            disk_bytes=410 * MIB,
            sentence="The next load of each vLLM model takes some minutes longer.",
        ),
        Cache(id="builds", title="Build folders", path="~/.cache/engine-room/build", disk_bytes=0, sentence="Nothing."),
    )
)


def world(slice_: Engines, *jobs: Job, base: str = "two_gpus") -> worlds.World:
    return msgspec.structs.replace(worlds.WORLDS[base], engines=slice_, jobs=Jobs(jobs=jobs))


ENGINE_WORLDS: dict[str, worlds.World] = {
    "nothing": world(engines(BARE, PYTHON, VLLM)),
    "cpu_only": msgspec.structs.replace(
        world(
            Engines(
                families=(
                    llama(
                        installed("2026.10.11549", "cpu", chosen=True, devices=()),
                        offers=(Offer(family="llama.cpp", version="2026.10.11549", accelerator="cpu", installed="x"),),
                    ),
                ),
                accelerators=("cpu",),
            ),
            base="no_gpu",
        )
    ),
    "update": world(engines(llama(msgspec.structs.replace(OLD, in_use=True), OLD_CPU))),
    "updated": world(
        engines(llama(msgspec.structs.replace(NEW, chosen=True), msgspec.structs.replace(OLD, chosen=False)))
    ),
    "pinned": world(engines(llama(OLD, NEW, pinned=OLD.id)), TRIED),
    "busy": world(engines(llama(OLD), SERVER, PYTHON, VLLM), DOWNLOADING),
    "building": world(engines(llama(OLD), PYTHON, SERVER), BUILDING),
    "failed": world(engines(PYTHON, llama(OLD)), NO_COMPILER, CANCELLED),
    "done": world(
        engines(llama(msgspec.structs.replace(NEW, chosen=True), msgspec.structs.replace(OLD, chosen=False))), DONE
    ),
}
