"""Scores the memory plans against measured logs, llama.cpp's and vLLM's: `python -m tests.corpus.memory FILE.jsonl [FILE…]`.

Rows are told apart by their columns, whatever file they come from. A table for people comes first, one JSON object last.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
SCORED_BY = {
    "llamacpp": "tests.corpus.llamacpp_rows",
    "vllm": "tests.corpus.vllm_rows",
}  # each has `score(rows) -> dict`


def family_of(row: Row) -> str | None:
    """Whose row this is, by the columns that only one engine's log has; None: nobody's."""
    if "vllm_version" in row or "gpu_memory_utilization" in row or "available_kv_cache_gib" in row:
        return "vllm"
    if "model_buffers_mib" in row or "compute_buffers_mib" in row or "kv_buffers_mib" in row:
        return "llamacpp"
    engine = str(row.get("engine") or "").lower()
    return "vllm" if "vllm" in engine else "llamacpp" if "llama" in engine else None


def read_rows(files: Iterable[Path]) -> Iterator[Row]:
    """Every row of every file; a line that is no JSON object is told on stderr and left out."""
    for file in files:
        for number, line in enumerate(file.read_text("utf-8", errors="replace").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                yield row
            else:
                print(f"{file}: line {number} is no JSON object and is left out.", file=sys.stderr)


def score(rows: Sequence[Row]) -> dict[str, Any]:
    """What each family's score says of its rows; families without a row are left out."""
    found: dict[str, Any] = {"rows": len(rows), "unknown_rows": sum(1 for row in rows if family_of(row) is None)}
    for family, module in SCORED_BY.items():
        own = [row for row in rows if family_of(row) == family]
        if own:
            found[family] = importlib.import_module(module).score(own)
    return found


def lines_of(result: Mapping[str, Any], indent: int = 0) -> Iterator[str]:
    """A nested result as lines for people; long lists are left to the JSON."""
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield " " * indent + f"{key}:"
            yield from lines_of(value, indent + 2)
        elif not isinstance(value, list):
            yield " " * indent + f"{key}: {value}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, nargs="+")
    options = parser.parse_args()
    result = score(list(read_rows(options.file)))
    print("\n".join(lines_of(result)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
