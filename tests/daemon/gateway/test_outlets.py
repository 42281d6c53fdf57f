"""What a model elsewhere says of our own key stays here, and what is wrong with a route is a sentence to each who asks (I6, I18)."""

from __future__ import annotations

import json
from pathlib import Path

from app.core.lifecycle import Endpoint
from app.daemon.gateway import Route
from app.daemon.gateway.answers import Refused
from app.engines.base import Outlet
from tests.daemon.gateway.upstream_rig import Call, ask, post, whole

CHAT = "/v1/chat/completions"
KEY = "canary/0123456789"
BODY = json.dumps({"model": "far", "messages": []}).encode()


def route(url: str, **outlet: str) -> Route:
    headers = {"Authorization": f"Bearer {KEY}"}
    return Route(
        state="ready",
        profile_id="far",
        run_id="r2",
        endpoint=Endpoint(base_url=url, model_name="far", engine="remote"),
        outlets=(Outlet(base_url=f"{url}/v1", strip="/v1", headers=headers, **outlet),),
    )


async def test_a_remote_that_repeats_the_key_tells_it_to_nobody(open_gateway) -> None:
    async def refuses(call: Call) -> None:
        assert dict(call.headers)["Authorization"] == f"Bearer {KEY}"
        words = {"error": {"message": f"The key {KEY} may not use this model."}, "sent": BODY.decode()}
        await call.send(whole(json.dumps(words).encode(), 403))

    async with open_gateway(refuses) as desk:
        desk.gateway.set_route(route(desk.engine.url))
        status, _, body, _ = await ask(desk.port, post(CHAT, BODY, desk.port))
        assert status == 403
        said = json.loads(body)
        assert said["error"]["message"] == f"The key {'*' * len(KEY)} may not use this model."
        assert said["sent"] == BODY.decode(), "all else is as it was said"


async def test_a_route_with_a_certificate_file_that_is_gone_answers_with_a_sentence(
    open_gateway, tmp_path: Path
) -> None:
    async def never(call: Call) -> None:
        raise AssertionError("nothing may be sent")

    async with open_gateway(never) as desk:
        desk.gateway.set_route(route(desk.engine.url, ca_file=str(tmp_path / "gone.pem")))
        status, _, body, _ = await ask(desk.port, post(CHAT, BODY, desk.port))
        assert status == 502
        assert "gone.pem cannot be read: No such file" in json.loads(body)["error"]["message"]
        desk.ready("r3")
        assert not desk.engine.calls


def test_half_a_character_in_an_engines_words_is_no_second_failure() -> None:
    """I6."""
    assert b"No room for ?." in Refused(502, "No room for \ud83d.", code="engine_error").event("/v1/chat/completions")
