"""What helps a real vLLM to start: it refuses with the length that we offered, and starts with each remedy as predicted (M4, M6).

The build for the processor is enough (ENGINE_ROOM_VLLM names its Python); each start takes from half a minute to some minutes.
"""

import os
import re
from pathlib import Path

import pytest

from app.core import control, lifecycle
from app.core.memory.learning import HOST
from app.core.memory.plan_types import MemoryPlan, Remedy, Verdict
from app.core.snapshot import RunView, from_json
from app.engines.memory_log import figures_of
from tests.engines.tiny_folder import write_tiny_folder
from tests.rig.daemon import Daemon
from tests.rig.home import Home
from tests.rig.real_engines import write_profile

VARIABLE = "ENGINE_ROOM_VLLM"
LOAD_SECONDS = 900
CONTEXT = 16_384
MIB = 1024**2
POOL = r"CPU KV cache size: ([\d,]+) tokens, Maximum concurrency for ([\d,]+) tokens per request: ([\d.]+)x"

pytestmark = [
    pytest.mark.engines,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"no vLLM here: {VARIABLE} names the Python of one"),
]


def test_each_remedy_is_what_the_engine_itself_says(home: Home, daemon: Daemon, tmp_path: Path) -> None:
    home.environment[VARIABLE] = os.environ[VARIABLE]
    home.settings(supervision={"drain_seconds": 0.5, "stop_grace_seconds": 8})
    folder = write_tiny_folder(tmp_path / "tiny", width=128, layers=4, context_tokens=CONTEXT)
    asked = {"context_tokens": CONTEXT, "kv_cache_mib": 8, "max_sequences": 8, "eager": True}
    write_profile(home, "tiny", "vllm", folder, **asked)
    daemon.start()
    plan = priced(daemon, {})
    assert plan.verdict is Verdict.DOES_NOT_FIT
    offers = {remedy.kind: remedy for remedy in plan.remedies}
    assert plan.remedies[0].kind == "kv_bytes", "nothing but memory is given up for it"
    more, shorter = offers["kv_bytes"], offers["context"]
    assert (set(more.settings), set(shorter.settings)) == ({"kv_cache_mib"}, {"context_tokens"})

    daemon.want("tiny", override=True)
    failure = daemon.wait_failed(LOAD_SECONDS)
    said = re.search(r"maximum model length is (\d+)", f"{failure.summary} {log_of(daemon, newest(daemon))}")
    assert said is not None, failure
    assert shorter.settings["context_tokens"] == int(said[1]) // 256 * 256

    runs = {}
    for remedy in (more, shorter):
        daemon.unload()
        daemon.wait_idle(LOAD_SECONDS)
        promised = priced(daemon, remedy.settings)
        assert promised.verdict is not Verdict.DOES_NOT_FIT
        seat = daemon.load("tiny", LOAD_SECONDS, settings=remedy.settings, override=True)
        assert isinstance(seat.phase, lifecycle.Ready)
        assert seat.run is not None
        runs[remedy.kind] = seat.run
        log = log_of(daemon, seat.run.id)
        printed = re.search(POOL, log)
        assert printed is not None, log[-2_000:]
        tokens, length = (int(printed[place].replace(",", "")) for place in (1, 2))
        assert length == promised.context_tokens
        assert f"{tokens:,} tokens" in promised.notes[0], (promised.notes, printed[0])
        assert f" {float(printed[3]):.1f} conversations of {length:,} tokens" in promised.notes[0]
        learnt = {figure.part: figure.bytes for figure in figures_of("vllm", log, (), {}) if figure.device == HOST}
        cache = sum(part.bytes for part in promised.devices[-1].parts if part.name == "kv_cache")
        assert learnt["kv_cache"] == pytest.approx(cache, abs=6 * MIB), "the log rounds to hundredths of a GiB"
    assert flags(runs["kv_bytes"]) ^ flags(runs["context"]) == {
        "--kv-cache-memory-bytes", str(8 * MIB), str(int(more.settings["kv_cache_mib"]) * MIB),
        "--max-model-len", str(CONTEXT), str(shorter.settings["context_tokens"]),
    } - {"--kv-cache-memory-bytes", "--max-model-len"}  # fmt: skip


def priced(daemon: Daemon, settings: Remedy | dict[str, object]) -> MemoryPlan:
    wish = control.Want(profile="tiny", settings=dict(settings))  # type: ignore[arg-type]
    return from_json(MemoryPlan, daemon.post("/control/plan", wish).text)


def newest(daemon: Daemon) -> str:
    return max(daemon.slices()["runs"].runs, key=lambda run: run.started_at_unix).id


def log_of(daemon: Daemon, run_id: str) -> str:
    return daemon.run_log(run_id, limit=1 << 20).decode("utf-8", "replace")


def flags(run: RunView) -> set[str]:
    place = run.argv.index("--port")
    return {*run.argv[:place], *run.argv[place + 2 :]}
