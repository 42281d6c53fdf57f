"""Draws the plan view in every state: `python -m tests.ui.gallery_plan FOLDER [name-part …]`."""

from __future__ import annotations

from collections.abc import Iterator

from app.core.options import Scalar
from tests.ui import library_worlds, profile_worlds, worlds
from tests.ui.drawing import LARGE, Shot, dark_and_light, draw
from tests.ui.stage import Stage

STATES: dict[str, tuple[str, dict[str, Scalar]]] = {
    "fits": ("qwen3-14b", {}),
    "long": ("qwen3-14b", {"context_tokens": 131_072}),
    "split": ("llama-3.3-70b", {"gpu_layers": 36}),
    "refused": ("llama-3.3-70b", {}),
    "forms": ("gemma-3-27b-q4_k_m", {"slots": 8}),
    "measured": ("qwen3-14b", {}),
    "two": ("llama-3.3-70b", {"kv_type_k": "q8_0", "kv_type_v": "q8_0"}),
    "vllm": ("qwen3-4b-awq", {}),
    "remote": ("gpt-elsewhere", {}),
    "ollama": ("ollama-llama3", {}),
}
WORLDS = {
    "two": library_worlds.world(gpus=worlds.TWO_GPUS),
    "measured": library_worlds.world(seats=library_worlds.loaded()),
    **dict.fromkeys(("vllm", "remote", "ollama"), library_worlds.world(library_worlds.ELSEWHERE)),
}


def shots() -> Iterator[Shot]:
    for state, (profile_id, changes) in STATES.items():

        def act(made: Stage, profile_id: str = profile_id, changes: dict[str, Scalar] = changes) -> None:
            made.presenter.go("plan", profile_id)
            view = made.window.over("models")
            view.turn(dict(changes))  # type: ignore[union-attr]
            view._reprice(solve=True)  # type: ignore[union-attr]

        world = WORLDS.get(state, library_worlds.world())
        yield from dark_and_light(Shot(f"plan-{state}", world, answers=profile_worlds.ANSWERS, act=act))
        if state == "fits":
            yield Shot("plan-fits-light-1920", world, "light", LARGE, answers=profile_worlds.ANSWERS, act=act)


if __name__ == "__main__":
    draw(shots())
