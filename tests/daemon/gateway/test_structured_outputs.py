"""A request by vLLM's old `guided_*` names reaches it by the current ones, and the answer says so; others pass untouched."""

import json

from app.engines.base import Traits
from app.engines.registry import FAMILIES
from tests.daemon.gateway.test_proxy import ask, post, says, whole

CHAT = "/v1/chat/completions"
OLD = b'{ "model":"demo", "messages":[], "guided_choice":["ja","nein"], "guided_decoding_backend":"auto" }'


async def test_old_names_are_translated_for_vllm_and_the_answer_says_what(open_gateway) -> None:
    async with open_gateway(says(whole(b'{"choices":[]}'))) as desk:
        desk.ready("r2", FAMILIES["vllm"].traits)
        answer = await ask(desk.port, post(CHAT, OLD, desk.port))
        assert json.loads(desk.engine.calls[0].body) == {
            "model": "demo",
            "messages": [],
            "structured_outputs": {"choice": ["ja", "nein"]},
        }
        assert answer[1]["x-engine-room-changed"] == (
            "guided_choice as structured_outputs.choice, guided_decoding_backend left out"
        )


async def test_what_needs_no_translation_passes_byte_for_byte(open_gateway) -> None:
    async with open_gateway(says(whole(b'{"choices":[]}'))) as desk:
        desk.ready("r2", FAMILIES["vllm"].traits)
        plain = b'{ "model":"demo",  "messages":[], "structured_outputs":{"choice":["a"]} }'
        answer = await ask(desk.port, post(CHAT, plain, desk.port))
        assert desk.engine.calls[0].body == plain
        assert "x-engine-room-changed" not in answer[1]
        desk.ready("r3", Traits())
        await ask(desk.port, post(CHAT, OLD, desk.port))
        assert desk.engine.calls[1].body == OLD, "another engine has its own names"
