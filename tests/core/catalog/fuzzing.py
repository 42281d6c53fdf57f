"""Reads mutated model headers in a process with 64 MB to spend: `python -m tests.core.catalog.fuzzing [CASES [FIRST]]`.

Case `n` is made from its number alone, so that a finding can be made again. The cases are made here and read in a process that
does nothing else and lives through all of them. `most_added_bytes` is what reading one of them made it grow by at its peak, after
memory that was free had been given back to the system; `grown_bytes` is its peak over all cases less what it began with.
Prints one JSON object.
"""

from __future__ import annotations

import ctypes
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
MOST_FAILURES = 20  # that are told
GOOD = ("read", "planned", "refused")
GIB = 1024**3


def fuzz(cases: int, first: int = 0) -> dict[str, Any]:
    """Figures of that many cases; `failures` is empty when every one was read or refused with a sentence."""
    began = time.monotonic()
    kinds: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    failures: list[tuple[int, str, str]] = []
    most: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="er-fuzz-") as name:
        folder = Path(name)
        seeds = gguf_seeds(folder / "seeds")
        model = folder / "m.gguf"
        model.write_bytes(seeds[0])
        os.truncate(model, 2**36)
        checkpoint = write_folder(folder / "m")
        reader = Reader(model, checkpoint)
        for number in range(first, first + cases):
            kind = KINDS[number % len(KINDS)]
            path = model if kind == GGUF else checkpoint
            magic, undo = mutant(kind, random.Random(number), seeds, path)
            found = reader.tried(path, plans=number // 8 % 4 == 0)
            undo()
            outcome = str(found.pop("outcome"))
            kinds[kind]["magic"] += magic
            kinds[kind][outcome if outcome in GOOD else "failed"] += 1
            if outcome not in GOOD:
                failures.append((number, kind, outcome))
            most |= Counter(found)
            if outcome == CRASH:
                reader = Reader(model, checkpoint)
        reader.close()
    if most["read_bytes"] > MOST_READ_BYTES:
        failures.append((-1, "all", f"one case read {most['read_bytes']:,} bytes"))
    if most["added_bytes"] > MOST_BYTES:
        failures.append((-1, "all", f"reading one took {most['added_bytes']:,} bytes of memory"))
    if most["grown_bytes"] > 2 * MOST_BYTES:
        failures.append((-1, "all", f"reading all made the process {most['grown_bytes']:,} bytes larger"))
    counts = sum(kinds.values(), Counter())
    return {
        "cases": cases, "failed": counts["failed"], "failures": failures[:MOST_FAILURES],
        "magic_share": round(counts["magic"] / max(1, cases), 3), **{name: counts[name] for name in GOOD},
        "most_added_bytes": most["added_bytes"], "grown_bytes": most["grown_bytes"], "began_with_bytes": reader.resident_bytes,
        "most_read_bytes": most["read_bytes"], "worst_processor_seconds": round(most["milliseconds"] / 1e3, 2), "kinds": kinds,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


CRASH = "the reader's process ended"


class Reader:
    """A process that reads what it is told to; ends itself with its input."""

    def __init__(self, *warm: Path) -> None:
        """`warm`: whole models, read first: what is imported and cached at the first use is not the reader's."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.core.catalog.fuzzing", "--reader", *map(str, warm)],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.resident_bytes = int(self._line())

    def tried(self, path: Path, plans: bool) -> dict[str, Any]:
        """What became of one case: "outcome" (one of GOOD or what went wrong), and figures."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{int(plans)} {path}\n".encode())
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._line())
        except (OSError, ValueError):
            self.close()
            return {"outcome": CRASH}
        return answer

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


# --- in the reader's process -------------------------------------------------------------------------------------------


class Hang(BaseException):
    """No error of the reader may be taken for it."""


def read_as_told(warm: Sequence[Path]) -> None:
    for path in warm:
        _planned(_facts(path))
    signal.signal(signal.SIGALRM, _hang)
    began_with = highest = _peak_bytes()
    print(began_with, flush=True)
    for line in sys.stdin:
        plans, _, path = line.rstrip("\n").partition(" ")
        before = _fresh_peak()
        outcome, seconds, read = _tried(Path(path), plans == "1")
        peak = _peak_bytes()
        highest = max(highest, peak)
        answer = {"outcome": outcome, "milliseconds": round(seconds * 1e3), "read_bytes": read,
                  "added_bytes": peak - before, "grown_bytes": highest - began_with}  # fmt: skip
        print(json.dumps(answer), flush=True)


_TRIM = ctypes.CDLL(None).malloc_trim


def _fresh_peak() -> int:
    """Gives back what is free, forgets the peak so far and returns the new one: what is resident now."""
    _TRIM(0)
    with open("/proc/self/clear_refs", "wb") as file:  # noqa: PTH123 - in the loop
        file.write(b"5")
    return _peak_bytes()


def _peak_bytes() -> int:
    """The most memory that was resident since the last `_fresh_peak` (what `getrusage` says begins with the parent's)."""
    with open("/proc/self/status", "rb") as file:  # noqa: PTH123 - in the loop
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"VmHWM:"))


def _tried(path: Path, plans: bool) -> tuple[str, float, int]:
    """What became of one case: "read", "planned", "refused" or what went wrong."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    read, began = _read_bytes(), time.process_time()
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
    return outcome, time.process_time() - began, _read_bytes() - read


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
    if arguments[:1] == ["--reader"]:
        read_as_told([Path(each) for each in arguments[1:]])
        return
    numbers = [int(each) for each in arguments]
    print(json.dumps(fuzz(*(numbers or [CASES]))))


if __name__ == "__main__":
    main(sys.argv[1:])
