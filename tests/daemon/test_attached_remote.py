"""Tells how a model that runs elsewhere is used: its key goes only there, and each of its troubles is one sentence (I5, I6, I18)."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from app.core import lifecycle
from app.core.errors import SettingInvalid
from app.core.memory.plan_types import Verdict
from app.daemon.attachment import Unfit
from app.daemon.remote_attachment import RemoteAttachment
from tests.engines.launches import launch
from tests.rig.attached import Remote, profile
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, chat_body, streamed
from tests.rig.home import Home, contents
from tests.rig.waiting import eventually

KEY = "sk-canary-0123456789abcdef"


@pytest.fixture
def remote(home: Home) -> Iterator[Remote]:
    server = Remote(home)
    yield server
    strangers = server.journal("signal", from_test=False)
    server.stop()
    assert not strangers, "I5: an engine that is not ours is never signalled"


@pytest.fixture
def second(home: Home) -> Iterator[Remote]:
    server = Remote(home, "second")
    yield server
    server.stop()


def keep_key(daemon: Daemon, name: str = "mine", key: str = KEY) -> None:
    daemon.post("/control/keys", {"name": name, "key": key})


def test_a_remote_model_is_attached_answers_and_is_let_go(home: Home, daemon: Daemon, remote: Remote) -> None:
    """I5, I18: nothing of this machine is claimed; the key reaches the remote and no other place at all."""
    remote.knobs(key=KEY, models=["gpt-test", "gpt-other"])
    remote.start()
    profile(home, "far", "remote", "gpt-test", base_url=f"{remote.url}/v1", key_name="mine", context_tokens=128_000)
    daemon.start()
    keep_key(daemon)
    card = next(card for card in daemon.slices()["library"].profiles if card.profile.id == "far")
    assert (card.available, card.engine_available, card.problem) == (True, True, None)
    plan = json.loads(daemon.post("/control/plan", {"profile": "far"}).content)
    assert (plan["verdict"], plan["devices"]) == (Verdict.FITS.value, [])
    seat = daemon.load("far")
    assert seat.run is not None
    assert seat.attached is not None
    assert (seat.attached.state, seat.attached.where, seat.run.pid) == ("ready", remote.address, None)
    assert isinstance(seat.phase, lifecycle.Ready)
    assert seat.phase.endpoint.context_tokens == 128_000
    with daemon.gateway() as client:
        answer = client.post(
            "/chat/completions",
            json=chat_body("far", top_k=3, num_predict=2),
            headers={"Authorization": "Bearer of-the-client"},
        )
        assert answer.json()["model"] == "gpt-test-2026-08-06", "the answer's bytes are its own"
        assert answer.headers["X-Engine-Room-Changed"] == "top_k left out, num_predict as max_tokens, model as gpt-test"
        assert list(streamed(client, model="far"))[-1] == {"done": True}
        assert [row["id"] for row in client.get("/models").json()["data"]] == ["gpt-test"]
    assert {row["authorization"] for row in remote.journal("request")} == {f"Bearer {KEY}"}
    assert "top_k" not in remote.journal("request", path="/v1/chat/completions")[-2]
    daemon.unload()
    daemon.wait_idle()
    assert remote.alive
    assert not processes_of(home, runs_only=True)
    assert daemon.slices_seen is not None
    assert KEY.encode() not in daemon.slices_seen.raw
    assert KEY not in daemon.log_text()
    assert KEY not in daemon.run_log(seat.run.id).decode()
    kept = {file: data for file, data in contents(home.folder).items() if not file.is_relative_to(remote.folder)}
    holders = [file for file, data in kept.items() if KEY.encode() in data]
    assert holders == [home.paths.data / "keys.json"], "without a keyring one file has it"
    assert holders[0].stat().st_mode & 0o777 == 0o600


def test_a_key_that_a_good_answer_repeats_is_kept_nowhere(home: Home, daemon: Daemon, remote: Remote) -> None:
    """I14, I18: the answer's bytes are the remote's own and stay as they are; its head says no key, and nothing that we
    keep or tell of the request has it: slices, request log, metrics, run log, manifest, the service's log, any file."""
    remote.knobs(key=KEY, repeats=True)
    remote.start()
    profile(home, "far", "remote", "gpt-test", base_url=f"{remote.url}/v1", key_name="mine")
    daemon.start()
    keep_key(daemon)
    run = daemon.load("far").run
    assert run is not None
    with daemon.gateway() as client:
        whole = client.post("/chat/completions", json=chat_body("far"))
        assert whole.json()["choices"][0]["message"]["content"].startswith(KEY), "bytes are not ours to change"
        with client.stream("POST", "/chat/completions", json=chat_body("far", stream=True)) as streaming:
            assert KEY in streaming.read().decode()
        remote.knobs(fault="echo", status=503)
        refused = client.post("/chat/completions", json=chat_body("far"))
        assert KEY not in refused.text, "an error is ours to word"
        for answer in (whole, streaming, refused):
            assert answer.headers["X-Region"] == "north"
            assert "X-Seen-Authorization" not in answer.headers
            assert not [value for value in answer.headers.values() if KEY in value]
        metrics = client.get(daemon.gateway_url.removesuffix("/v1") + "/metrics").text
    traffic = daemon.wait_slice("traffic", lambda now: len(now.recent) >= 3, what="the request log has them")
    assert [row.outcome for row in traffic.recent[:3]] == ["failed", "answered", "answered"]
    told = [metrics, daemon.log_text(), daemon.run_log(run.id).decode(), daemon.get("/control/doctor").text]
    told.append(daemon.get(f"/control/runs/{run.id}/manifest").text)
    daemon.unload()
    daemon.wait_idle()
    assert daemon.slices_seen is not None
    assert KEY.encode() not in daemon.slices_seen.raw
    assert not [text for text in told if KEY in text]
    kept = {file: data for file, data in contents(home.folder).items() if not file.is_relative_to(remote.folder)}
    assert [file for file, data in kept.items() if KEY.encode() in data] == [home.paths.data / "keys.json"]


def test_azure_has_its_own_header_version_and_deployment(home: Home, daemon: Daemon, remote: Remote) -> None:
    remote.knobs(azure="my-deployment", key=KEY, models=["my-deployment"])
    remote.start()
    settings: dict[str, Any] = {"base_url": remote.url, "key_name": "mine", "api": "azure", "api_version": "2024-10-21"}
    profile(home, "azure", "remote", "gpt-test", deployment="my-deployment", **settings)
    daemon.start()
    keep_key(daemon)
    daemon.load("azure")
    with daemon.gateway() as client:
        assert client.post("/chat/completions", json=chat_body("azure")).status_code == 200
    rows = remote.journal("request")
    assert {(row["api_key"], row["authorization"]) for row in rows} == {(KEY, "")}
    asked = {row["path"] for row in rows if "messages" in row}
    assert asked == {"/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"}


def test_the_next_address_is_taken_when_one_is_down(home: Home, daemon: Daemon, remote: Remote, second: Remote) -> None:
    """I6: before the first byte the client notices nothing; when all are down, one error names each of them."""
    remote.start()
    second.start()
    profile(home, "far", "remote", "gpt-test", base_url=f"{remote.url}/v1, {second.url}/v1")
    daemon.start().load("far")
    with daemon.gateway() as client:

        def ask() -> Any:
            return client.post("/chat/completions", json=chat_body("far"))

        assert ask().status_code == 200
        assert not second.journal("request"), "the first one is asked as long as it answers"
        remote.knobs(fault="down")
        assert ask().status_code == 200
        remote.stop()
        assert ask().status_code == 200
        second.knobs(half=2)
        events = list(streamed(client, model="far"))
        assert "error" in events[-1] or "error" in events[-2], (
            "half a stream is an error, and no other address continues it"
        )
        assert len([event for event in events if "error" in event]) == 1
        second.stop()
        answer = ask()
        assert answer.status_code == 502
        assert remote.address in answer.json()["error"]["message"]
        assert second.address in answer.json()["error"]["message"]


FAULTS: list[Any] = [
    ({"fault": "html"}, 502, "web page"),
    ({"fault": "redirect", "location": "http://elsewhere.invalid/v1"}, 502, "redirects to elsewhere.invalid"),
    ({"fault": "busy", "retry_after": 7}, 429, "Rate limit reached"),
    ({"fault": "down"}, 503, "upstream is down"),
    ({"key": "another"}, 401, "Incorrect API key"),
]


def test_each_trouble_of_a_remote_is_one_clear_answer(home: Home, daemon: Daemon, remote: Remote) -> None:
    """I6: exactly one outcome; what the remote says passes as it is, what is no answer at all becomes a sentence."""
    remote.start()
    profile(home, "far", "remote", "gpt-test", base_url=f"{remote.url}/v1")
    daemon.start().load("far")
    with daemon.gateway() as client:
        for knobs, status, words in FAULTS:
            remote.knobs(fault="", key="")
            before = len(remote.journal("request", path="/v1/chat/completions"))
            remote.knobs(**knobs)
            answer = client.post("/chat/completions", json=chat_body("far"))
            assert (answer.status_code, words in answer.text) == (status, True), answer.text
            assert len(remote.journal("request", path="/v1/chat/completions")) == before + 1
            if status == 429:
                assert answer.headers["Retry-After"] == "7"
        remote.knobs(fault="", key="")
        assert client.post("/chat/completions", json=chat_body("far")).status_code == 200


REFUSALS: list[Any] = [
    ({"fault": "html"}, "unreachable", "web page"),
    ({"fault": "redirect", "location": "https://elsewhere.invalid/"}, "unreachable", "were not sent there"),
    ({"fault": "busy", "retry_after": 3600}, "rate_limited", "asks to wait 3600 s"),
    ({"key": "another"}, "key_refused", "engine-room keys set"),
    ({"models": ["gpt-tests"]}, "wrong_model", "Did you mean gpt-tests"),
]


def test_what_cannot_be_attached_says_why(home: Home, daemon: Daemon, remote: Remote) -> None:
    """I10, I11: attached is what has given a token under the name that we mean."""
    remote.start()
    profile(home, "far", "remote", "gpt-test", base_url=f"{remote.url}/v1")
    daemon.start()
    for knobs, kind, words in REFUSALS:
        remote.knobs(**{"fault": "", "key": "", "models": ["gpt-test"], **knobs})
        daemon.want("far")
        failure = daemon.wait_failed()
        assert (failure.kind, words in f"{failure.summary} {failure.advice}") == (kind, True), failure


def test_what_is_wrong_is_told_before_anything_is_sent(home: Home, daemon: Daemon, remote: Remote) -> None:
    """I18: no key in the clear over a network, none in an address, none that is not there."""
    remote.start()
    profile(home, "nowhere", "remote", "m")
    profile(home, "clear", "remote", "m", base_url="http://example.org/v1", key_name="mine")
    profile(home, "inside", "remote", "m", base_url="https://me:secret-word@example.org/v1")
    profile(home, "keyless", "remote", "m", base_url=f"{remote.url}/v1", key_name="lacking")
    daemon.start()
    for name, words in (
        ("nowhere", "base_url is missing"),
        ("clear", "in the clear"),
        ("inside", "password"),
        ("keyless", "lacking"),
    ):
        daemon.want(name)
        failure = daemon.wait_failed()
        assert words in failure.summary, failure.summary
        assert "secret-word" not in failure.summary
    assert not remote.journal("request")
    with pytest.raises(SettingInvalid, match="no command line"):
        daemon.post("/control/command", {"profile": "keyless"})


async def test_the_words_of_a_remote_are_shown_without_the_key_that_it_repeats(home: Home, remote: Remote) -> None:
    """I18: a key may look like any word, so it is known by its value. Half a character among the words does no harm."""
    key, words = "canary.0123456789", "No capacity for ***************** ?"
    remote.knobs(fault="echo", status=400)
    remote.start()
    settings: dict[str, Any] = {"base_url": f"{remote.url}/v1", "check": "token"}
    wanted = replace(launch("remote", settings), model_name="gpt-test")
    attachment = RemoteAttachment(wanted, key)
    with pytest.raises(Unfit) as unfit:
        await attachment.greet(lambda _: None)
    said = f"{unfit.value.failure.summary} {unfit.value.failure.advice} {unfit.value}"
    assert words in said
    assert key not in said
    remote.knobs(status=503)
    assert await attachment.look() == ("silent", f"{remote.address} is in trouble (status 503): {words}")
    assert {row["authorization"] for row in remote.journal("request")} == {f"Bearer {key}"}


def test_a_certificate_file_that_cannot_be_used_is_a_sentence(home: Home, tmp_path: Path) -> None:
    """I11: before anything is sent, and with the setting that cures it."""
    (tmp_path / "notes.pem").write_text("no certificate")
    for name, why in (("gone.pem", "cannot be read: No such file"), ("notes.pem", "holds no certificate")):
        settings: dict[str, Any] = {"base_url": "https://127.0.0.1:1/v1", "ca_file": str(tmp_path / name)}
        with pytest.raises(SettingInvalid, match=f"ca_file: .*{name} {why}") as refused:
            RemoteAttachment(launch("remote", settings), "")
        assert "take ca_file out" in refused.value.advice


SLOW_RING = """
import pathlib, time
from keyring.backend import KeyringBackend

class Ring(KeyringBackend):
    priority = 1
    def get_password(self, service, username):
        folder = pathlib.Path(__file__).parent
        (folder / "asked").touch()
        while not (folder / "answer").exists():
            time.sleep(0.01)
        return "sk-slow"
    def set_password(self, service, username, password): ...
    def delete_password(self, service, username): ...
"""


def test_a_load_that_is_called_off_before_it_is_attached_leaves_no_run(
    home: Home, daemon: Daemon, remote: Remote, tmp_path: Path
) -> None:
    """I7: the keyring is still being asked for the key when nobody wants the model any more."""
    (tmp_path / "slow_ring.py").write_text(SLOW_RING)
    home.environment |= {"PYTHONPATH": str(tmp_path), "PYTHON_KEYRING_BACKEND": "slow_ring.Ring"}
    home.paths.data.mkdir(parents=True, exist_ok=True)
    (home.paths.data / "keys.json").write_text('{"in_keyring": ["mine"]}')
    remote.start()
    profile(home, "far", "remote", "gpt-test", base_url=f"{remote.url}/v1", key_name="mine")
    profile(home, "near", "remote", "gpt-test", base_url=f"{remote.url}/v1")
    daemon.start()
    daemon.want("far")
    eventually((tmp_path / "asked").exists, what="the keyring is asked")
    daemon.unload()
    daemon.wait_idle()
    (tmp_path / "answer").touch()
    daemon.load("near")
    daemon.unload()
    daemon.wait_idle()
    runs = daemon.slices()["runs"].runs
    assert [run.profile_id for run in runs if run.ended_at_unix is None] == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate is made with openssl")
def test_certificates_are_verified(home: Home, daemon: Daemon, remote: Remote, tmp_path: Path) -> None:
    """A certificate that nobody signed is refused, and accepted where the person names its authority."""
    file, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(file)]
    subprocess.run([*command, *more], check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_bytes(file.read_bytes() + key.read_bytes())
    remote.knobs(tls=str(both), key=KEY)
    remote.start()
    address = f"https://{remote.address}/v1"
    profile(home, "unknown", "remote", "gpt-test", base_url=address, key_name="mine")
    profile(home, "known", "remote", "gpt-test", base_url=address, key_name="mine", ca_file=str(file))
    daemon.start()
    keep_key(daemon)
    daemon.want("unknown")
    assert "certificate" in daemon.wait_failed().summary
    assert not remote.journal("request")
    daemon.want("known")
    daemon.wait_phase(lifecycle.Ready, "known")
    with daemon.gateway() as client:
        assert client.post("/chat/completions", json=chat_body("known")).status_code == 200


def test_a_model_that_knows_the_limit_by_another_name(home: Home, daemon: Daemon, remote: Remote) -> None:
    remote.knobs(no_max_tokens=True)
    remote.start()
    profile(home, "far", "remote", "gpt-test", base_url=f"{remote.url}/v1")
    profile(home, "listed", "remote", "gpt-test", base_url=f"{remote.url}/v1", check="list")
    daemon.start().load("far")
    before = len(remote.journal("request", path="/v1/chat/completions"))
    daemon.load("listed")
    assert len(remote.journal("request", path="/v1/chat/completions")) == before, "a list costs nothing"
