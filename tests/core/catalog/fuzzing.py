"""Reads mutated model headers in a child process with 64 MB to spend: `python -m tests.core.catalog.fuzzing [CASES [FIRST]]`.

Case `n` is made from its number alone, so that a finding can be made again. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from app.core.catalog.facts import ModelFacts
from app.core.catalog.read import read_facts
from app.core.errors import ModelMissing, ModelUnreadable
from app.core.memory import plan
from app.core.snapshot import DriverState, Gpus, GpuSample, HostSample, to_json
from tests.core.catalog.mutants import GGUF, KINDS, gguf_seeds, mutant, write_folder

CASES = 200_000
MOST_BYTES = 64 * 10**6
MOST_READ_BYTES = 130 * 2**20  # of one file or folder
MOST_SECONDS = 60.0  # of one case, on a machine that does other things too
MOST_TEXT = 500
EACH_CHILD = 25_000
GIB = 1024**3


class Hang(BaseException):
    """No error of the reader may be taken for it."""


def fuzz(cases: int, first: int = 0) -> dict[str, Any]:
    """Figures of that many cases; `failures` is empty when every one was read or refused with a sentence."""
    began = time.monotonic()
    total: dict[str, Any] = {"cases": 0, "failures": [], "kinds": {}, "worst_seconds": 0.0, "most_read_bytes": 0,
                             "peak_bytes": 0}  # fmt: skip
    at, end = first, first + cases
    while at < end:
        found = _child(at, min(end, at + EACH_CHILD))
        total["cases"] += found["cases"]
        total["failures"] += found["failures"]
        for name in ("worst_seconds", "most_read_bytes", "peak_bytes"):
            total[name] = max(total[name], found[name])
        for kind, counts in found["kinds"].items():
            total["kinds"][kind] = dict(Counter(total["kinds"].get(kind, {})) + Counter(counts))
        at = found["next"]
    counts = sum((Counter(each) for each in total["kinds"].values()), Counter())
    passed = counts["magic"] / max(1, total["cases"])
    return {**total, "magic_share": round(passed, 3), "refused": counts["refused"], "read": counts["read"],
            "planned": counts["planned"], "seconds": round(time.monotonic() - began, 1)}  # fmt: skip


def _child(first: int, end: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="er-fuzz-") as folder:
        command = [sys.executable, "-m", "tests.core.catalog.fuzzing", "--child", str(first), str(end), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
        if done.returncode == 0:
            return {**json.loads(done.stdout.splitlines()[-1]), "next": end}
        progress = Path(folder) / "at"
        if not progress.exists():
            raise RuntimeError(f"the child did not begin: {done.stderr[-2_000:]}")
        at = int(progress.read_text())
    failure = [at, "crash", f"exit {done.returncode}: {done.stderr[-400:]}"]
    return {"cases": at - first + 1, "failures": [failure], "kinds": {}, "worst_seconds": 0.0, "most_read_bytes": 0,
            "peak_bytes": 0, "next": at + 1}  # fmt: skip


# --- in the child ------------------------------------------------------------------------------------------------------


def run(first: int, end: int, folder: Path) -> dict[str, Any]:
    seeds = gguf_seeds(folder / "seeds")
    model = folder / "m.gguf"
    model.write_bytes(seeds[0])
    os.truncate(model, 2**36)
    checkpoint = write_folder(folder / "m")
    for path in (model, checkpoint):  # what is imported and cached at the first use is not the reader's
        _planned(_facts(path))
    kinds: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    failures: list[tuple[int, str, str]] = []
    worst, most_read = 0.0, 0
    progress = os.open(folder / "at", os.O_RDWR | os.O_CREAT, 0o600)
    signal.signal(signal.SIGALRM, _hang)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for number in range(first, end):
        os.pwrite(progress, f"{number:<12}".encode(), 0)
        chance = random.Random(number)
        kind = KINDS[number % len(KINDS)]
        path = model if kind == GGUF else checkpoint
        magic, undo = mutant(kind, chance, seeds, path)
        kinds[kind]["magic"] += magic
        outcome, seconds, read = _tried(path, number // 8 % 4 == 0)
        undo()
        kinds[kind][outcome if outcome in ("read", "refused", "planned") else "failed"] += 1
        if outcome not in ("read", "refused", "planned") and len(failures) < 20:
            failures.append((number, kind, outcome))
        if read > MOST_READ_BYTES and len(failures) < 20:
            failures.append((number, kind, f"read {read:,} bytes"))
        worst, most_read = max(worst, seconds), max(most_read, read)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {"cases": end - first, "kinds": kinds, "failures": failures, "worst_seconds": round(worst, 2),
            "most_read_bytes": most_read, "peak_bytes": peak}  # fmt: skip


def _tried(path: Path, plans: bool) -> tuple[str, float, int]:
    """What became of one case: "read", "planned", "refused" or what went wrong."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    read, began = _read_bytes(), time.monotonic()
    resource.setrlimit(resource.RLIMIT_AS, (_mapped_bytes() + MOST_BYTES, hard))
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        facts = _facts(path)
        outcome = _wrong_facts(facts) or "read"
        if plans and outcome == "read":
            _planned(facts)
            outcome = "planned"
    except (ModelUnreadable, ModelMissing) as refusal:
        outcome = _wrong_words(refusal, path) or "refused"
    except MemoryError:
        outcome = "more than 64 MB"
    except Hang:
        outcome = f"longer than {MOST_SECONDS:g} s"
    except Exception as error:
        trace, where = error.__traceback__, []
        while trace is not None:
            where.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
            trace = trace.tb_next
        outcome = f"{type(error).__name__}: {str(error)[:200]} at {' '.join(where[-3:])}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return outcome, time.monotonic() - began, _read_bytes() - read


def _facts(path: Path) -> ModelFacts:
    facts = read_facts(path)
    to_json(facts)  # facts travel to the window
    return facts


def _planned(facts: ModelFacts) -> None:
    family = "llama.cpp" if facts.format == "gguf" else "vllm"
    plan(
        facts, {}, family=family, accelerator="cuda", gpus=_GPUS, headroom_bytes=GIB, host_headroom_bytes=GIB,
        threshold=0.95, solve=False,
    )  # fmt: skip


_HOST = HostSample(total_bytes=64 * GIB, available_bytes=60 * GIB)
_CARD = GpuSample(
    uuid="GPU-a", index=0, name="card", total_bytes=24 * GIB, used_bytes=GIB, free_bytes=23 * GIB, processes=()
)
_GPUS = Gpus(driver=DriverState.OK, gpus=(_CARD,), host=_HOST)


def _wrong_facts(facts: ModelFacts) -> str:
    for name in ("name", "architecture", "quantisation", "number_type"):
        text = getattr(facts, name)
        if text is not None and (len(text) > MOST_TEXT or not text.isprintable()):
            return f"the facts' {name} is {text[:60]!r}, {len(text)} long"
    return ""


def _wrong_words(refusal: ModelUnreadable | ModelMissing, path: Path) -> str:
    said = refusal.summary.replace(str(path), "")
    if type(refusal) not in (ModelUnreadable, ModelMissing) or not refusal.advice:
        return f"a refusal without advice: {said[:200]}"
    if not said.endswith(".") or not said.isprintable() or len(said) > MOST_TEXT:
        return f"a refusal that is no sentence: {said[:200]!r}, {len(said)} long"
    return ""


def _read_bytes() -> int:
    with open("/proc/self/io", "rb") as file:  # noqa: PTH123 - in the loop
        return int(file.readline().split()[1])


def _mapped_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - in the loop
        return int(file.read().split()[0]) * resource.getpagesize()


def _hang(_signal: int, _frame: FrameType | None) -> None:
    raise Hang


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--child"]:
        print(json.dumps(run(int(arguments[1]), int(arguments[2]), Path(arguments[3]))))
        return
    numbers = [int(each) for each in arguments]
    print(json.dumps(fuzz(*(numbers or [CASES]))))


if __name__ == "__main__":
    main(sys.argv[1:])
