"""Owns the way from nothing to `engine-room-demo.gguf`: generate the text, train in rounds, write the file."""

from __future__ import annotations

import argparse
from pathlib import Path

from export import export
from plan import ROUNDS
from train import Shape, prepare, train

TARGET = Path(__file__).resolve().parents[2] / "resources" / "models" / "engine-room-demo.gguf"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo_model"), help="folder for weights and tokenizer")
    parser.add_argument("--target", type=Path, default=TARGET, help="the GGUF to write")
    parser.add_argument("--from-round", type=int, default=0, help="go on with weights that are in --work already")
    options = parser.parse_args()
    if options.from_round == 0:
        prepare(options.work, Shape(), ROUNDS[0].seed)
    for number, plan in enumerate(ROUNDS[options.from_round :], options.from_round):
        print(f"round {number}: {plan}", flush=True)
        train(options.work, plan)
    options.target.parent.mkdir(parents=True, exist_ok=True)
    export(options.work, options.target)
    print(f"{options.target}: {options.target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
