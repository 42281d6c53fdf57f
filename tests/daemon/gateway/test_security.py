"""Who may not be answered: hosts, origins, framing, sizes, bodies, accounts; each row is one request on a raw socket."""

from __future__ import annotations

import asyncio
import ctypes
import gzip
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop

from app.daemon.gateway import peers
from tests.daemon.gateway.conftest import opened, until
from tests.daemon.gateway.upstream_rig import END, SSE, Call, ask, chunk, finish, head, post, read_answer, token, whole

CHAT = "/v1/chat/completions"
BODY = b'{"messages":[]}'
STREAMED = b'{"model":"demo","stream":true,"messages":[]}'
ALLOWED = "http://app.example:3000"


async def answers(call: Call) -> None:
    await call.send(whole(b'{"choices":[]}'))


def request(
    line: str = f"POST {CHAT} HTTP/1.1",
    host: str | None = "127.0.0.1:{port}",
    extra: str = "",
    content_type: str | None = "application/json",
    body: bytes = BODY,
    length: bool = True,
) -> bytes:
    head = line + "\r\n"
    if host is not None:
        head += f"Host: {host}\r\n"
    if content_type is not None:
        head += f"Content-Type: {content_type}\r\n"
    if length:
        head += f"Content-Length: {len(body)}\r\n"
    return (head + extra + "\r\n").encode("latin-1") + body


def get(target: str, extra: str = "") -> bytes:
    return request(f"GET {target} HTTP/1.1", extra=extra, content_type=None, body=b"", length=False)


def origin(value: str) -> str:
    return f"Origin: {value}\r\n"


HOSTS = {
    "127.0.0.1:{port}": 200,
    "localhost:{port}": 200,
    "LocalHost:{port}": 200,
    "[::1]:{port}": 200,
    "127.0.0.1": 403,
    "localhost": 403,
    "127.0.0.1:1": 403,
    "evil.example": 403,
    "evil.example:{port}": 403,
    "localhost.evil.example:{port}": 403,
    "127.0.0.1.nip.io:{port}": 403,
    "localhost.:{port}": 403,
    "0.0.0.0:{port}": 403,
    "127.1:{port}": 403,
    "2130706433:{port}": 403,
    "[::ffff:127.0.0.1]:{port}": 403,
    "user@127.0.0.1:{port}": 403,
    "127.0.0.1:{port}, evil.example": 403,
    "a/b?x#": 403,
    "": 403,
}

# name → (request, allowed answers)
ROWS: dict[str, tuple[bytes, set[int]]] = {
    **{f"host {host or '(empty)'}": (request(host=host), {status}) for host, status in HOSTS.items()},
    "no host": (request(host=None), {400, 403}),
    "two hosts": (request(extra="Host: evil.example\r\n"), {400, 403}),
    "two equal hosts": (request(extra="Host: 127.0.0.1:{port}\r\n"), {400, 403}),
    "absolute target": (request(f"POST http://evil.example{CHAT} HTTP/1.1"), {400, 403}),
    "HTTP/1.0 without a host": (request(f"POST {CHAT} HTTP/1.0", host=None), {400, 403}),
    # origins
    "no origin": (request(), {200}),
    "own origin": (request(extra=origin("http://127.0.0.1:{port}")), {200}),
    "own origin by name": (request(extra=origin("http://localhost:{port}")), {200}),
    "null origin": (request(extra=origin("null")), {403}),
    "foreign origin": (request(extra=origin("https://evil.example")), {403}),
    "another local port": (request(extra=origin("http://127.0.0.1:1")), {403}),
    "own origin over https": (request(extra=origin("https://127.0.0.1:{port}")), {403}),
    "two origins": (request(extra=origin("http://127.0.0.1:{port}") + origin("https://evil.example")), {403}),
    "own origin with a tail": (request(extra=origin("http://127.0.0.1:{port}.evil.example")), {403}),
    "empty origin": (request(extra=origin("")), {403}),
    "allowed origin": (request(extra=origin(ALLOWED)), {200}),
    "allowed origin, cross-site": (request(extra=origin(ALLOWED) + "Sec-Fetch-Site: cross-site\r\n"), {200}),
    "cross-site": (request(extra="Sec-Fetch-Site: cross-site\r\n"), {403}),
    "same-site": (request(extra="Sec-Fetch-Site: same-site\r\n"), {403}),
    "same-origin": (request(extra="Sec-Fetch-Site: same-origin\r\n"), {200}),
    "typed by the user": (get("/v1/models", "Sec-Fetch-Site: none\r\n"), {200}),
    "a link from a page": (get("/v1/models", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n"), {403}),
    "two fetch sites": (request(extra="Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n"), {403}),
    "foreign GET of the health": (get("/health", origin("https://evil.example")), {403}),
    "foreign GET of the figures": (get("/metrics", origin("https://evil.example")), {403}),
    "foreign preflight": (
        request(f"OPTIONS {CHAT} HTTP/1.1", extra=origin("https://evil.example"), content_type=None, body=b""),
        {403},
    ),
    "OPTIONS without an origin": (request(f"OPTIONS {CHAT} HTTP/1.1", content_type=None, body=b""), {405}),
    # content types
    "json with a charset": (request(content_type="application/json; charset=utf-8"), {200}),
    "JSON in capitals": (request(content_type="Application/JSON"), {200}),
    "text/plain": (request(content_type="text/plain"), {415}),
    "a form": (request(content_type="application/x-www-form-urlencoded"), {415}),
    "multipart": (request(content_type="multipart/form-data; boundary=x"), {415}),
    "no content type": (request(content_type=None), {415}),
    "two content types": (request(extra="Content-Type: text/plain\r\n"), {400, 415}),
    "json hidden in a list": (request(content_type="text/plain, application/json"), {415}),
    "json as a parameter": (request(content_type="text/plain; application/json"), {415}),
    # methods and paths
    "GET of an answer": (get(CHAT), {405}),
    "GET of an answer with a query": (get(CHAT + "?messages=[]"), {405}),
    "PUT": (request(f"PUT {CHAT} HTTP/1.1"), {405}),
    "DELETE of a model": (request("DELETE /v1/models/demo HTTP/1.1"), {405}),
    "POST to the list": (request("POST /v1/models HTTP/1.1"), {405}),
    "TRACE": (request(f"TRACE {CHAT} HTTP/1.1", content_type=None, body=b"", length=False), {400, 405}),
    "CONNECT": (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n", {400, 405}),
    "a method that is none": (request(f"BREW {CHAT} HTTP/1.1"), {400, 405}),
    **{
        f"administration: {path}": (request(f"POST {path} HTTP/1.1"), {404})
        for path in (
            "/slots/0?action=save",
            "/v1/slots",
            "/props",
            "/v1/props",
            "/lora-adapters",
            "/v1/lora-adapters",
            "/v1/load_lora_adapter",
            "/sleep",
            "/wake_up",
            "/collective_rpc",
            "/reset_prefix_cache",
            "/models/load",
            "/infill",
            "/control/shutdown",
            "/",
            "/v1",
            "/v1/",
            "//v1/chat/completions",
            "/v1//chat/completions",
            "/v1/chat/completions/",
            "/v1/chat/completions/../../../props",
            "/v1/%63hat/completions",
            "/v1/chat%2Fcompletions",
            "/V1/chat/completions",
            "/v1/chat/completions;x",
            "/v1/chat/completions%00",
        )
    },
    "climbing out of a model's name": (get("/v1/models/../../slots"), {404}),
    "climbing out, encoded": (get("/v1/models/%2e%2e/%2e%2e/slots"), {404}),
    "climbing out by the separator": (get("/v1/models/..%2F..%2Fslots"), {404}),
    "a backslash": (get("/v1/models/..\\..\\slots"), {400, 404}),
    "a fragment": (get("/v1/models#x"), {400, 404}),
    "engine's list of slots": (get("/slots"), {404}),
    "engine's properties": (get("/props"), {404}),
    "engine's documentation": (get("/docs"), {404}),
    # framing
    "two lengths": (request(extra="Content-Length: 3\r\n"), {400}),
    "length and chunked": (request(extra="Transfer-Encoding: chunked\r\n", body=b"0\r\n\r\n"), {400}),
    "gzip, chunked": (
        request(extra="Transfer-Encoding: gzip, chunked\r\n", body=b"f\r\n" + BODY + b"\r\n0\r\n\r\n", length=False),
        {400},
    ),
    "chunked twice": (
        request(extra="Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", body=b"0\r\n\r\n", length=False),
        {400},
    ),
    "chunked with a strange letter": (
        request(extra="Transfer-Encoding: \x0bchunked\r\n", body=b"0\r\n\r\n", length=False),
        {400},
    ),
    "identity": (request(extra="Transfer-Encoding: identity\r\n", length=False), {400}),
    "chunked": (
        request(extra="Transfer-Encoding: chunked\r\n", body=b"f\r\n" + BODY + b"\r\n0\r\n\r\n", length=False),
        {200},
    ),
    "a negative length": (request(extra="Content-Length: -1\r\n", length=False), {400}),
    "a length with a plus": (request(extra="Content-Length: +15\r\n", length=False), {400}),
    "chunks without a size": (
        request(extra="Transfer-Encoding: chunked\r\n", body=b"xyz\r\n", length=False),
        {400},
    ),
    "a huge chunk extension": (
        request(
            extra="Transfer-Encoding: chunked\r\n",
            body=b"f;" + b"x" * 200_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
            length=False,
        ),
        {400, 413},
    ),
    "a space before the colon": (request(extra="X-A : b\r\n"), {400}),
    "a folded header": (request(extra="X-A: b\r\n folded\r\n"), {400}),
    "a header with a NUL": (request(extra="X-A: b\x00c\r\n"), {400}),
    "bare line feeds": (request().replace(b"\r\n", b"\n"), {200, 400}),
    "an endless target": (get("/" + "a" * 20_000), {400, 414}),
    "an endless header": (request(extra="X-A: " + "a" * 20_000 + "\r\n"), {400, 431}),
    "a thousand headers": (request(extra="".join(f"X-{n}: 1\r\n" for n in range(1000))), {400, 431}),
    "not HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400}),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 403, 405}),
    "an expectation that nobody knows": (request(extra="Expect: magic\r\n"), {417}),
    # bodies
    "announced far too large": (request(extra="Content-Length: 10995116277760\r\n", length=False), {413}),
    "a little too large": (request(body=b'{"a":"' + b"x" * 70_000 + b'"}'), {413}),
    "chunked and too large": (
        request(
            extra="Transfer-Encoding: chunked\r\n",
            body=b"".join(b"8000\r\n" + b"x" * 0x8000 + b"\r\n" for _ in range(4)) + b"0\r\n\r\n",
            length=False,
        ),
        {413},
    ),
    "compressed": (request(extra="Content-Encoding: gzip\r\n", body=gzip.compress(BODY)), {415}),
    "said to be compressed twice": (request(extra="Content-Encoding: identity, gzip\r\n"), {415}),
    "a list": (request(body=b"[]"), {400}),
    "a number": (request(body=b"1"), {400}),
    "null": (request(body=b"null"), {400}),
    "a text": (request(body=b'"x"'), {400}),
    "nothing": (request(body=b""), {400}),
    "not JSON": (request(body=b"{"), {400}),
    "two values": (request(body=b"{}{}"), {400}),
    "NaN": (request(body=b'{"a":NaN}'), {400}),
    "not UTF-8": (request(body=b'{"a":"\xff\xfe"}'), {400}),
    "UTF-16": (request(body='{"a":1}'.encode("utf-16")), {400}),
    "a byte order mark": (request(body=b"\xef\xbb\xbf{}"), {400}),
    "a name twice": (request(body=b'{"model":"a","model":"b"}'), {400}),
    "a name twice, deep inside": (request(body=b'{"a":[{"b":1,"b":2}]}'), {400}),
    "nested too deeply": (request(body=b'{"a":' * 10_000 + b"1" + b"}" * 10_000), {400}),
    "lists nested too deeply": (request(body=b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}"), {400}),
    "a number of 5,000 digits": (request(body=b'{"a":' + b"9" * 5000 + b"}"), {400}),
    "stream as a text": (request(body=b'{"stream":"true"}'), {400}),
    "a lone surrogate": (request(body=b'{"a":"\\ud800"}'), {200}),
}


def test_the_table_is_as_long_as_promised() -> None:
    assert len(ROWS) >= 110


@pytest.mark.parametrize("name", ROWS)
async def test_the_table(name: str, open_gateway) -> None:
    """I19, I20: refused rows never reach the engine, and say why in OpenAI's shape; no answer opens itself to pages."""
    raw, allowed = ROWS[name]
    async with open_gateway(answers, max_body_bytes=64 * 1024, allowed_origins=(ALLOWED,)) as desk:
        status, headers, body, _ = await ask(desk.port, raw.replace(b"{port}", str(desk.port).encode()))
        assert status in allowed
        if status >= 400:
            assert desk.engine.calls == []
            assert json.loads(body)["error"]["message"]
        origins = headers.get("access-control-allow-origin")
        assert origins == (ALLOWED if "allowed origin" in name else None)
        assert "aiohttp" not in headers.get("server", "").lower()


async def test_an_allowed_page_gets_proper_answers_to_its_preflight_and_its_errors(open_gateway) -> None:
    async with open_gateway(answers, ready=False, allowed_origins=(ALLOWED, "*", "null")) as desk:
        raw = request(
            f"OPTIONS {CHAT} HTTP/1.1",
            host=f"127.0.0.1:{desk.port}",
            extra=origin(ALLOWED)
            + "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,x-stainless-os,b ad\r\n"
            + "Access-Control-Request-Private-Network: true\r\n",
            content_type=None,
            body=b"",
        )
        status, headers, _, _ = await ask(desk.port, raw)
        assert status == 204
        assert headers["access-control-allow-origin"] == ALLOWED
        assert headers["access-control-allow-headers"] == "authorization, x-stainless-os"
        assert headers["access-control-allow-private-network"] == "true"
        assert headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in headers
        status, headers, _, _ = await ask(desk.port, post(CHAT, BODY, desk.port, origin(ALLOWED)))
        assert status == 503  # nothing is loaded, and the page may read that
        assert headers["access-control-allow-origin"] == ALLOWED
        for bad in ("null", "https://evil.example"):
            assert (await ask(desk.port, post(CHAT, BODY, desk.port, origin(bad))))[0] == 403


async def test_only_the_loopback_address_listens(open_gateway) -> None:
    """I20."""
    async with open_gateway(answers) as desk:
        addresses = [s.getsockname()[0] for s in desk.gateway._listener.sockets]
        assert addresses == ["127.0.0.1"]


async def test_slow_heads_are_ended_and_hold_up_nobody(open_gateway) -> None:
    async with open_gateway(answers, head_seconds=1) as desk:
        slow = [await asyncio.open_connection("127.0.0.1", desk.port) for _ in range(60)]
        for _, writer in slow:
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: ")
        assert (await ask(desk.port, post(CHAT, BODY, desk.port)))[0] == 200
        for reader, writer in slow:
            assert b"408" in await asyncio.wait_for(reader.read(), 60)
            writer.close()


async def test_a_slow_second_head_is_ended_too(open_gateway) -> None:
    async with open_gateway(answers, head_seconds=1) as desk:
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        writer.write(post(CHAT, BODY, desk.port))
        assert (await read_answer(reader))[0] == 200
        writer.write(b"POST /v1/cha")
        assert b"408" in await asyncio.wait_for(reader.read(), 60)
        writer.close()


async def test_a_slow_body_is_no_slow_head(open_gateway) -> None:
    async with open_gateway(answers, head_seconds=0.5) as desk:
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        raw = post(CHAT, BODY, desk.port)
        writer.write(raw[:-5])
        for byte in raw[-5:]:
            due = time.monotonic() + 0.15
            await until(lambda due=due: time.monotonic() > due)
            writer.write(bytes([byte]))
        assert (await read_answer(reader))[0] == 200
        writer.close()


async def test_an_answer_that_takes_longer_than_a_head_may_stays_whole(open_gateway) -> None:
    """I14. Most clients send head and body in two pieces: the second one is no new head, whose deadline would end in a 408
    in the middle of the answer."""

    async def slowly(call: Call) -> None:
        await call.send(head(content_type=SSE))
        for number in range(10):
            due = time.monotonic() + 0.1
            await until(lambda due=due: time.monotonic() > due)
            await call.send(chunk(token(str(number))))
        await call.send(chunk(finish()) + END)

    async with open_gateway(slowly, head_seconds=0.5) as desk:
        for more in (b"", b"POST /v1/cha"):  # nor does the beginning of a next head end it
            reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
            raw = post(CHAT, STREAMED, desk.port)
            writer.write(raw[: -len(STREAMED)])
            await until(lambda: desk.gateway._connections.connections)
            due = time.monotonic() + 0.05
            await until(lambda due=due: time.monotonic() > due)
            writer.write(STREAMED)
            assert b"data" in await asyncio.wait_for(reader.readuntil(b"data"), 60)
            writer.write(more)
            rest = await asyncio.wait_for(reader.readuntil(END), 60)
            assert b"408" not in rest
            assert rest.count(b"content") == 10
            writer.close()


def test_a_client_that_leaves_in_the_middle_is_no_fault_of_ours(caplog) -> None:
    """I15. What is written between its leaving and our hearing of it finds nobody, and that is no error. On the service's own
    loop, where this happens."""

    async def much(call: Call) -> None:
        await call.send(head(content_type=SSE))
        for number in range(400):
            await call.send(chunk(token(str(number))) * 200)

    async def story() -> None:
        async with opened(much) as desk:
            server = desk.gateway._connections
            reader, writer = await asyncio.open_connection("127.0.0.1", desk.port, limit=1024)
            writer.write(post(CHAT, STREAMED, desk.port))
            await until(lambda: any(each.transport.get_write_buffer_size() for each in server.connections))
            writer.write_eof()  # it still takes what was written already, so that our writing wakes up once more
            while await asyncio.wait_for(reader.read(1 << 16), 60):
                pass
            await until(lambda: not server.connections)
            writer.close()

    uvloop.run(story())
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_large_upload_that_asks_first_is_told_to_go_on(open_gateway) -> None:
    """curl sends Expect: 100-continue with large bodies and waits a second for it."""
    async with open_gateway(answers) as desk:
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        raw = post(CHAT, BODY, desk.port, "Expect: 100-continue\r\n")
        writer.write(raw[: -len(BODY)])
        assert b"100 Continue" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        writer.write(BODY)
        assert (await read_answer(reader))[0] == 200
        writer.close()


async def test_bodies_that_wait_together_have_a_limit(open_gateway) -> None:
    """I16: four times the largest body, however many wait."""
    async with open_gateway(answers, ready=False, max_body_bytes=1024) as desk:
        desk.loading()
        body = json.dumps({"a": "x" * 900}).encode()
        waiting = [
            asyncio.get_running_loop().create_task(ask(desk.port, post(CHAT, body, desk.port))) for _ in range(9)
        ]
        await until(lambda: len(desk.finished) == 5)
        desk.ready()
        assert sorted(answer[0] for answer in await asyncio.gather(*waiting)) == [200] * 4 + [503] * 5
        assert (await ask(desk.port, post(CHAT, body, desk.port)))[0] == 200


def as_nobody(port: int, raw: bytes) -> bytes:
    """Asks from a socket that belongs to another account: the file-system uid is a thread's own and names its sockets."""
    ctypes.CDLL(None).setfsuid(65534)
    with socket.socket() as asking:
        asking.settimeout(60)
        asking.connect(("127.0.0.1", port))
        asking.sendall(raw)
        return asking.recv(65536)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another account")
@pytest.mark.parametrize(("allowed", "status"), [(False, b"403"), (True, b"200")])
async def test_other_accounts_are_kept_out_unless_allowed(allowed: bool, status: bytes, open_gateway) -> None:
    """I20: loopback is shared by all accounts of a machine; the endpoint is not."""
    async with open_gateway(answers, allow_other_accounts=allowed) as desk:
        with ThreadPoolExecutor(1) as thread:
            raw = post(CHAT, BODY, desk.port)
            answer = await asyncio.get_running_loop().run_in_executor(thread, as_nobody, desk.port, raw)
        assert answer.split(b" ")[1] == status
        assert (len(desk.engine.calls) == 1) is allowed


@pytest.mark.parametrize("way", [peers._from_kernel, peers._from_tables])
async def test_the_account_at_the_other_end_is_found_in_both_ways(way, open_gateway) -> None:
    async with open_gateway(answers) as desk:
        _, writer = await asyncio.open_connection("127.0.0.1", desk.port)
        own, peer = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        assert way(own, peer) == os.getuid()
        writer.close()


async def test_nothing_that_was_sent_is_logged_or_counted_by_name(open_gateway, caplog) -> None:
    """I18: contents, keys and names that a client chose appear in no log line and no label."""

    async def script(call: Call) -> None:
        call.abort()

    with caplog.at_level("DEBUG"):
        async with open_gateway(script) as desk:
            body = b'{"messages":[{"content":"canary-content"}],"model":"canary-model"}'
            await ask(desk.port, post(CHAT, body, desk.port, "Authorization: Bearer canary-key\r\n"))
            await ask(desk.port, post("/v1/canary-path", body, desk.port))
            await ask(desk.port, b"canary \x00 canary\r\n\r\n")
            _, _, text, _ = await ask(desk.port, get("/metrics").replace(b"{port}", str(desk.port).encode()))
    assert b"canary" not in text
    assert "canary" not in caplog.text
    assert "canary" not in repr(desk.finished)
