"""Hand-made slices: what the service could say, for looking at the window and for testing its pages without a service."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from app.core import lifecycle as phases
from app.core.bench import Bench, Benches, Round
from app.core.catalog.facts import ModelFacts
from app.core.conversation import MadeBy
from app.core.memory.plan_types import DevicePlan, MemoryPlan, Part, Remedy, Verdict
from app.core.profiles import Profile
from app.core.resources import builtin_model
from app.core.snapshot import (
    DriverState,
    Engines,
    EngineView,
    GpuProcess,
    Gpus,
    GpuSample,
    History,
    HostSample,
    Jobs,
    Library,
    Problem,
    ProfileCard,
    RequestView,
    RunView,
    Seats,
    SeatView,
    Service,
    Traffic,
)

GIB = 1024**3
NOW = 1_000.0  # the service's clock in these worlds
A, B = "GPU-1111", "GPU-2222"


class World(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a store can hold."""

    seats: Seats = Seats(seats=(SeatView(name="main"),))
    gpus: Gpus = Gpus()
    traffic: Traffic = Traffic()
    library: Library = Library()
    service: Service = Service()
    engines: Engines = Engines()
    jobs: Jobs = Jobs()


def host(used: float = 9.4, total: float = 62.6, engine: float = 0.0) -> HostSample:
    return HostSample(
        total_bytes=int(total * GIB),
        available_bytes=int((total - used) * GIB),
        cpu_utilisation=0.18,
        engine_bytes=int(engine * GIB),
    )


def gpu(index: int, uuid: str, name: str, total: float, own: float, others: float, busy: float = 0.84) -> GpuSample:
    processes = [GpuProcess(pid=2210, name="gnome-shell", bytes=int(others * 0.6 * GIB))]
    processes.append(GpuProcess(pid=3127, name="firefox", bytes=int(others * 0.4 * GIB)))
    if own:
        processes.append(GpuProcess(pid=48211, name="VLLM::Worker", bytes=int(own * GIB), run_id="r-1"))
    return GpuSample(
        uuid=uuid,
        index=index,
        name=name,
        total_bytes=int(total * GIB),
        used_bytes=int((own + others) * GIB),
        free_bytes=int((total - own - others) * GIB),
        processes=tuple(processes),
        utilisation=busy,
        power_watts=271.0,
        power_limit_watts=350.0,
        temperature_celsius=61.0 + index,
        sm_clock_mhz=2520,
        memory_clock_mhz=10501,
        throttle_reasons=("power limit",) if index else (),
    )


def plan(
    verdict: Verdict, need: float, total: float, free: float, devices: tuple[str, ...] = (A,), summary: str = ""
) -> MemoryPlan:
    made = tuple(
        DevicePlan(
            device=device,
            name="main memory" if device == "host" else "RTX 4090",
            parts=(
                Part(name="weights", bytes=int(need * 0.8 * GIB), source="file"),
                Part(name="kv_cache", bytes=int(need * 0.2 * GIB), source="formula"),
            ),
            low_bytes=int(need * 0.95 * GIB),
            high_bytes=int(need * 1.05 * GIB),
            total_bytes=int(total * GIB),
            free_bytes=int(free * GIB),
            others_bytes=int(1.3 * GIB),
            headroom_bytes=int(1.5 * GIB),
            available_bytes=int((free - 1.5) * GIB),
        )
        for device in devices
    )
    return MemoryPlan(verdict=verdict, devices=made, summary=summary)


BITS = {"Q8_0": 8.5, "FP8": 8.0, "Q6_K": 6.6, "Q5_K_M": 5.7, "Q4_K_M": 4.8, "AWQ int4": 4.6, "MXFP4": 4.3}  # a weight


def card(
    id: str,
    title: str,
    engine: str,
    quantisation: str,
    parameters: float,
    context: int,
    priced: MemoryPlan | None,
    **more: object,
) -> ProfileCard:
    path = f"/models/{more.pop('file', id)}.gguf"
    weights = int(more.pop("weights", parameters * 1e9 * BITS[quantisation] / 8))  # type: ignore[call-overload]
    return ProfileCard(
        profile=Profile(id=id, title=title, engine=engine, model=path, settings={"context": context}, source="found"),
        facts=ModelFacts(
            path=Path(path),
            format="gguf",
            name=title,
            architecture="qwen3",
            file_bytes=weights,
            weights_bytes=weights,
            parameters=int(parameters * 1e9),
            quantisation=quantisation,
            context_max=context * 4,
        ),
        model_path=path,
        available=bool(more.pop("available", True)),
        engine_available=bool(more.pop("engine_available", True)),
        plan=priced,
        **more,  # type: ignore[arg-type]
    )


SERVICE = Service(
    version="0.1.0",
    gateway_url="http://127.0.0.1:7000/v1",
)

ENGINES = Engines(
    families=(
        EngineView(
            family="llama.cpp",
            title="llama.cpp (embedded)",
            available=True,
            build="xllamacpp 2026.11",
            path="~/.local/share/engine-room/engines/llama.cpp",
        ),
        EngineView(
            family="llama-server",
            title="llama-server",
            available=False,
            how_to_get="Put llama-server on PATH or name it in the settings.",
        ),
        EngineView(family="vllm", title="vLLM", available=True, build="0.11.2", path="/opt/vllm/bin/python"),
    ),
)

DEMO_FILE = builtin_model("builtin:demo")
assert DEMO_FILE is not None
SHIPPED = {"file": "engine-room-demo", "weights": DEMO_FILE.stat().st_size}  # one file, two profiles
DEMO = card(
    "demo", "Demo", "llama.cpp", "Q8_0", 0.003, 2048, plan(Verdict.FITS, 0.03, 62.6, 53.2, ("host",)), **SHIPPED
)
DEMO_LONG = card(
    "demo-long", "Demo, long context", "llama.cpp", "Q8_0", 0.003, 8192,
    plan(Verdict.FITS, 0.05, 62.6, 53.2, ("host",)), **SHIPPED,
)  # fmt: skip
MISSING = card("mistral-small", "Mistral Small 24B", "llama.cpp", "Q4_K_M", 23.6, 32768, None, available=False)
NO_ENGINE = card("phi-4", "Phi-4", "llama-cpp-python", "Q6_K", 14.7, 16384, None, engine_available=False)

NO_GPU = Gpus(driver=DriverState.ABSENT, message="No NVIDIA driver on this machine.", host=host(), taken_at=NOW)
TWO_GPUS = Gpus(
    driver=DriverState.OK,
    driver_version="580.95",
    gpus=(
        gpu(0, A, "NVIDIA GeForce RTX 4090", 24, 0, 1.3, 0.02),
        gpu(1, B, "NVIDIA GeForce RTX 4090", 24, 0, 0.4, 0.0),
    ),
    host=host(),
    taken_at=NOW,
)
TWO_GPUS_FULL = msgspec.structs.replace(
    TWO_GPUS,
    gpus=(
        gpu(0, A, "NVIDIA GeForce RTX 4090", 24, 19.6, 1.3),
        gpu(1, B, "NVIDIA GeForce RTX 4090", 24, 19.1, 0.4, 0.82),
    ),
)
QWEN = card("qwen3-32b", "Qwen3 32B", "vllm", "FP8", 32.8, 32768, plan(Verdict.FITS, 19.2, 24, 22.7, (A, B)))
GPU_LIBRARY = Library(
    profiles=(
        QWEN,
        card(
            "llama-3.3-70b",
            "Llama 3.3 70B Instruct",
            "vllm",
            "AWQ int4",
            70.6,
            16384,
            plan(
                Verdict.TIGHT,
                21.4,
                24,
                22.7,
                (A, B),
                "Needs 42.8 GiB; 44.0 GiB are free on both cards, 41.0 GiB after the headroom.",
            ),
        ),
        card("gemma-3-12b", "Gemma 3 12B", "llama.cpp", "Q5_K_M", 12.2, 8192, plan(Verdict.FITS, 9.8, 24, 22.7)),
        msgspec.structs.replace(
            card("gpt-oss-120b", "gpt-oss 120B", "llama.cpp", "MXFP4", 117, 32768, None),
            plan=msgspec.structs.replace(
                plan(Verdict.DOES_NOT_FIT, 63.0, 24, 22.7, (A,), "Needs 63.0 GiB of GPU memory; 21.2 GiB may be used."),
                remedies=(Remedy(title="Put 24 layers on the CPU", settings={"gpu_layers": 12}),),
            ),
        ),
        MISSING,
        NO_ENGINE,
        msgspec.structs.replace(DEMO, plan=plan(Verdict.FITS, 0.1, 24, 22.7)),
    ),
    problems=(
        Problem(
            where="~/.config/engine-room/profiles/coder.toml: settings.context",
            summary="must be a whole number, not '32k'.",
            advice="Write 32768 without quotes.",
        ),
    ),
    folders=("~/models",),
)
CPU_LIBRARY = Library(profiles=(DEMO, DEMO_LONG, MISSING), folders=("~/models",))

RECENT = tuple(
    RequestView(
        id=f"q{i}",
        path="/v1/chat/completions",
        status=200 if i != 3 else 499,
        model="qwen3-32b",
        started_at_unix=1_795_000_000.0 - 7 * i,
        first_token_seconds=0.086 + 0.01 * i,
        duration_seconds=3.2 + i,
        prompt_tokens=412 + 30 * i,
        completion_tokens=318 + 11 * i,
        tokens_per_second=96.4 - i,
        outcome="answered" if i != 3 else "cancelled",
    )
    for i in range(6)
)
BUSY = Traffic(
    in_flight=12,
    queued=3,
    generation_tokens_per_second=1284.0,
    first_token_seconds=0.086,
    kv_cache_usage=0.41,
    requests_total=4127,
    failed_total=2,
    cancelled_total=31,
    completion_tokens_total=1_482_113,
    prompt_tokens_total=5_912_004,
    recent=RECENT,
)


def run(profile: ProfileCard, **more: object) -> RunView:
    return RunView(
        id="r-1",
        profile_id=profile.profile.id,
        title=profile.profile.title,
        engine=profile.profile.engine,
        engine_build="0.11.2" if profile.profile.engine == "vllm" else "b6890",
        argv=("vllm", "serve"),
        environment={},
        log_path="/tmp/r-1.log",
        started_at_unix=1_795_000_000.0,
        pid=48211,
        **more,  # type: ignore[arg-type]
    )


def seat(phase: phases.Phase, profile: ProfileCard | None = None, **more: object) -> Seats:
    about = profile or QWEN
    return Seats(
        seats=(SeatView(name="main", phase=phase, wanted=about.profile.id, run=run(about), **more),)  # type: ignore[arg-type]
    )


def loading(
    profile: ProfileCard = QWEN, stage: str = "weights", progress: float | None = 0.42, eta: float | None = 31
) -> Seats:
    return seat(
        phases.Loading(
            profile_id=profile.profile.id, run_id="r-1", stage=stage, progress=progress, eta_seconds=eta, since=NOW - 23
        ),
        profile,
    )


def ready(profile: ProfileCard = QWEN, **more: object) -> Seats:
    endpoint = phases.Endpoint(
        base_url="http://127.0.0.1:41233", model_name=profile.profile.id, engine=profile.profile.engine
    )
    return seat(
        phases.Ready(profile_id=profile.profile.id, run_id="r-1", endpoint=endpoint, since=NOW - 8040), profile, **more
    )


FAILURE = phases.Failure(
    kind="out_of_memory",
    summary="Qwen3 32B ran out of GPU memory while it loaded the weights: 512 MiB more were asked for on GPU 1, 211 MiB were free.",
    advice="firefox (pid 3127) holds 1.1 GiB there. Close it, or load with a shorter context.",
    profile_id="qwen3-32b",
    phase="loading",
    exit_code=1,
    evidence=phases.Evidence(
        run_id="r-1",
        log_offset=18_245,
        line="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 512.00 MiB. GPU 1 has a total capacity of 23.64 GiB of which 211.00 MiB is free.",
    ),
    remedies=(Remedy(title="Load with 16k context", settings={"context": 16384}),),
)


def _walk(seed: int, level: float, swing: float, top: float) -> tuple[float, ...]:
    chance, value, values = random.Random(seed), level, []
    for _ in range(600):
        value += chance.uniform(-swing, swing) + 0.05 * (level - value)
        values.append(min(max(value, 0.0), top))
    return tuple(values)


HISTORY = History(
    times=tuple(NOW - 600 + second for second in range(600)),
    series={
        "tokens_per_second": _walk(1, 1240, 70, 5000),
        "first_token_seconds": _walk(2, 0.09, 0.012, 3),
        "kv_cache_usage": _walk(3, 0.4, 0.02, 1),
        "in_flight": _walk(4, 11, 1.4, 40),
        "host:cpu_utilisation": _walk(5, 0.2, 0.04, 1),
        f"gpu:{A}:utilisation": _walk(6, 0.84, 0.06, 1),
        f"gpu:{B}:utilisation": _walk(7, 0.8, 0.06, 1),
    },
)

WORLDS: dict[str, World] = {
    "empty": World(gpus=NO_GPU, library=Library(folders=("~/models",)), service=SERVICE, engines=ENGINES),
    "first_scan": World(
        gpus=NO_GPU, library=Library(folders=("~/models",), unread=1_204), service=SERVICE, engines=ENGINES
    ),
    "no_gpu": World(gpus=NO_GPU, library=CPU_LIBRARY, service=SERVICE, engines=ENGINES),
    "two_gpus": World(gpus=TWO_GPUS, library=GPU_LIBRARY, service=SERVICE, engines=ENGINES),
    "loading": World(
        gpus=msgspec.structs.replace(
            TWO_GPUS,
            gpus=(
                gpu(0, A, "NVIDIA GeForce RTX 4090", 24, 8.1, 1.3),
                gpu(1, B, "NVIDIA GeForce RTX 4090", 24, 8.0, 0.4),
            ),
        ),
        library=GPU_LIBRARY,
        service=SERVICE,
        engines=ENGINES,
        seats=loading(),
    ),
    "ready": World(
        gpus=TWO_GPUS_FULL, library=GPU_LIBRARY, service=SERVICE, engines=ENGINES, seats=ready(), traffic=BUSY
    ),
    "failing": World(
        gpus=TWO_GPUS, library=GPU_LIBRARY, service=SERVICE, engines=ENGINES, seats=seat(phases.Failed(failure=FAILURE))
    ),
    "rolled_back": World(
        gpus=NO_GPU,
        library=CPU_LIBRARY,
        service=msgspec.structs.replace(
            SERVICE,
            gateway_url="http://127.0.0.1:7001/v1",
            gateway_notice="Port 7000 is held by AirPlay (pid 812); the endpoint is on 7001.",
        ),
        seats=ready(
            DEMO,
            notice="Demo, long context did not start; Demo is back with its settings.",
            last_failure=msgspec.structs.replace(
                FAILURE,
                profile_id="demo-long",
                kind="does_not_fit",
                summary="Demo, long context needs 71.2 GiB of main memory; 52.2 GiB may be used.",
                advice="Choose a shorter context.",
                evidence=None,
            ),
        ),
    ),
}


def bench(
    number: int, title: str, engine: str, reading: float | None, writing: float, first: float, shared: bool = False
) -> Bench:
    rounds = tuple(Round(first_token_seconds=first, tokens_per_second=writing) for _ in range(3))
    return Bench(
        id=f"bench-{number}",
        at_unix=1_795_000_000.0 - 90_000 * number,
        run_id=f"r-{number}",
        profile_id=title.lower(),
        title=title,
        engine=engine,
        engine_build="b1",
        prompt_tokens=508,
        answer_tokens=128,
        first_token_seconds=first,
        prompt_tokens_per_second=reading,
        tokens_per_second=writing,
        rounds=rounds,
        shared=shared,
        made_by=MadeBy(title=title, engine=engine, model_path="/models/x", settings={"context_tokens": 32768}),
    )


BENCHES = Benches(
    benches=(
        bench(1, "Qwen3 32B", "vllm", 3_412.0, 41.7, 0.149),
        bench(2, "Qwen3 32B", "vllm", 2_980.0, 33.1, 0.171, shared=True),
        bench(3, "Mistral 7B, long context", "llama-server", 1_184.4, 74.2, 0.429),
        bench(4, "A remote one", "remote", None, 51.0, 0.62),
    )
)
