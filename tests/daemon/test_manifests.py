"""What made a run is kept with it, and a run can be had again as it was (deliverable 5)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from app.core import lifecycle
from app.core.control import Accepted, Manifest
from app.core.errors import DoesNotFit, EngineNotInstalled, ModelChanged, ModelMissing, SettingInvalid, UnknownProfile
from app.core.profiles import Profile
from app.core.snapshot import RunView, SeatView, from_json
from app.daemon.manifests import PIECE_BYTES, identity, with_secrets
from tests.rig.daemon import Daemon, chat_body
from tests.rig.driver import SimulatedDriver, card, card_uuid
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually

SECRET = "parakeet battery staple"


def manifest_of(daemon: Daemon, run_id: str) -> Manifest:
    return from_json(Manifest, daemon.get(f"/control/runs/{run_id}/manifest").content)


def whole_manifest(daemon: Daemon, run_id: str) -> Manifest:
    """With the fingerprint, which is read beside the load."""
    eventually(lambda: manifest_of(daemon, run_id).model_fingerprint, 60, "the model's fingerprint is known")
    return manifest_of(daemon, run_id)


def loaded(daemon: Daemon, profile: str, **more: object) -> RunView:
    run = daemon.load(profile, **more).run
    assert run is not None
    return run


def again(daemon: Daemon, run_id: str, **more: object) -> SeatView:
    """Loads as in that run and waits for it."""
    before = getattr(daemon.seat().phase, "run_id", "")
    taken = from_json(Accepted, daemon.post("/control/runs/again", {"run": run_id, **more}).content)

    def is_there(view: SeatView) -> bool:
        assert not isinstance(view.phase, lifecycle.Failed), view.phase
        return isinstance(view.phase, lifecycle.Ready) and view.phase.run_id != before

    seat = daemon.wait_seat(is_there, 20, what=f"{taken.profile} is Ready again")
    assert getattr(seat.phase, "profile_id", "") == taken.profile
    return seat


def loaded_anew(daemon: Daemon, profile: str) -> RunView:
    daemon.unload()
    daemon.wait_idle()
    return loaded(daemon, profile)


def without_port(argv: tuple[str, ...]) -> list[str]:
    at = argv.index("--port")
    return [*argv[: at + 1], *argv[at + 2 :]]


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_a_run_is_kept_with_all_that_made_it(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("one", tokens=3, environment={"MY_PASSWORD": SECRET})
    run = loaded(daemon.start(), "one", settings={"context_tokens": 1024})
    found = whole_manifest(daemon, run.id)
    model = fake_engine.model()
    assert found.run.argv == run.argv
    assert found.run.environment["MY_PASSWORD"] == "***"
    assert found.profile.settings["context_tokens"] == 1024, "as it was launched, not as the file says"
    assert found.settings["context_tokens"] == 1024
    assert found.settings["threads"] == int(run.argv[run.argv.index("--threads") + 1]), "what the machine decided too"
    assert (found.model_path, found.model_bytes) == (str(model), model.stat().st_size)
    assert found.model_modified_unix == pytest.approx(model.stat().st_mtime)
    assert found.model_fingerprint == identity(model).fingerprint
    assert found.installation is not None
    assert found.installation.path == str(home.bin / "llama-server")
    assert found.product_version
    assert found.run.plan is not None
    assert found.run.ready_seconds is not None
    assert found.stages["weights"] <= found.stages["first_token"] <= found.run.ready_seconds
    daemon.unload()
    daemon.wait_idle()
    daemon.restart()
    kept = manifest_of(daemon, run.id)
    assert kept.run.outcome == "stopped"
    assert msgspec.structs.replace(kept, run=found.run) == found, "it is known to the next service as well"


def test_cards_and_driver_are_kept(fake_engine: FakeEngine, driver: SimulatedDriver, daemon: Daemon) -> None:
    driver.gpus([card()])
    fake_engine.install("llama-server", accelerator="cuda")
    fake_engine.profile("one", tokens=3)
    daemon.start()
    daemon.wait_slice("gpus", lambda gpus: gpus.gpus)
    found = manifest_of(daemon, loaded(daemon, "one").id)
    assert len(found.gpus) == 1
    assert found.gpus[0].endswith(card_uuid())
    assert found.driver_version
    assert found.installation is not None
    assert found.installation.accelerator == "cuda"


def test_a_manifest_goes_with_its_run(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I16: what is kept is bounded by the setting for runs."""
    home.settings(logs={"runs_kept": 1})
    fake_engine.profile("one", tokens=3)
    fake_engine.profile("two", tokens=3)
    first = loaded(daemon.start(), "one").id
    second = loaded(daemon, "two").id
    daemon.restart()
    with pytest.raises(UnknownProfile, match=first):
        manifest_of(daemon, first)
    assert manifest_of(daemon, second).run.id == second


def test_an_answer_names_the_run_that_made_it(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """Streamed, whole and failed answers alike; the endpoint's own answers name none."""
    fake_engine.profile("one", tokens=3)
    run = loaded(daemon.start(), "one")
    with daemon.gateway() as client:

        def run_of(answer: httpx.Response) -> str | None:
            return answer.headers.get("X-Engine-Room-Run")

        assert run_of(client.post("/chat/completions", json=chat_body())) == run.id
        assert run_of(client.post("/chat/completions", json=chat_body(stream=True))) == run.id
        assert run_of(client.get("/models")) is None
        daemon.unload()
        daemon.wait_idle()
        refused = client.post("/chat/completions", json=chat_body())
        assert (refused.status_code, run_of(refused)) == (503, None)


# --- the same again ----------------------------------------------------------------------------------------------------


def test_a_run_is_had_again_though_its_profile_has_changed(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("one", tokens=3, answer="as it was then", environment={"MY_PASSWORD": SECRET})
    first = loaded(daemon.start(), "one", settings={"slots": 3})
    whole_manifest(daemon, first.id)
    fake_engine.profile(
        "one", answer="as it is now", settings={"context_tokens": 512}, environment={"MY_PASSWORD": "new secret"}
    )
    daemon.wait_slice("library", lambda it: any(c.profile.settings.get("context_tokens") == 512 for c in it.profiles))
    now = loaded_anew(daemon, "one")
    assert "512" in now.argv
    second = again(daemon, first.id).run
    assert second is not None
    assert without_port(second.argv) == without_port(first.argv)
    found = manifest_of(daemon, second.id)
    assert found.as_run == first.id
    assert found.profile.installation, "pinned to the engine of then"
    assert msgspec.structs.replace(found.profile, installation="") == manifest_of(daemon, first.id).profile
    with daemon.gateway() as client:
        words = client.post("/chat/completions", json=chat_body()).json()["choices"][0]["message"]["content"]
    assert words.startswith("as it was")
    journal = fake_engine.journal("start")
    assert len(journal) == 3
    assert again(daemon, second.id).run is not None, "and again from there"


def test_a_run_is_had_again_though_its_profile_is_gone(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("plain", tokens=3)
    fake_engine.profile("keeper", tokens=3, environment={"MY_PASSWORD": SECRET})
    daemon.start()
    plain, keeper = loaded(daemon, "plain"), loaded(daemon, "keeper")
    for name in ("plain", "keeper"):
        (home.paths.profiles / f"{name}.toml").unlink()
    daemon.wait_slice("library", lambda it: not {"plain", "keeper"} & {c.profile.id for c in it.profiles})
    assert again(daemon, plain.id).run is not None
    with pytest.raises(SettingInvalid, match="MY_PASSWORD"):
        again(daemon, keeper.id)


def test_another_file_in_the_models_place_is_noticed(fake_engine: FakeEngine, daemon: Daemon) -> None:
    model = fake_engine.model("mine")
    fake_engine.profile("one", tokens=3, model=model)
    run = loaded(daemon.start(), "one")
    whole_manifest(daemon, run.id)
    with model.open("ab") as file:
        file.write(b"\0" * 4096)
    with pytest.raises(ModelChanged, match=f"{model} held .* bytes then"):
        again(daemon, run.id)
    assert getattr(daemon.seat().phase, "run_id", "") == run.id, "a refusal stops nothing"
    forced = again(daemon, run.id, force=True).run
    assert forced is not None
    model.unlink()
    with pytest.raises(ModelMissing, match="not there any more"):
        again(daemon, run.id, force=True)


def test_an_engine_build_that_is_gone_is_noticed(home: Home, fake_engine: FakeEngine, daemon: Daemon) -> None:
    def unpack(build: str) -> None:
        folder = home.folder / f"llama-{build}"
        folder.mkdir()
        program = shutil.move(fake_engine.install("llama-server"), folder / "llama-server")
        with program.open("a") as opened:
            opened.write(f"# {build}\n")
        (home.bin / "llama-server").symlink_to(program)

    (home.bin / "llama-server").unlink()
    unpack("b5001")
    fake_engine.profile("one", tokens=3)
    run = loaded(daemon.start(), "one")
    then = whole_manifest(daemon, run.id)
    assert again(daemon, run.id).run is not None, "while it is there"
    (home.bin / "llama-server").unlink()
    unpack("b5002")
    with pytest.raises(EngineNotInstalled, match="another build is there now"):
        again(daemon, run.id)
    forced = again(daemon, run.id, force=True).run
    assert forced is not None
    assert whole_manifest(daemon, forced.id).engine_fingerprint != then.engine_fingerprint
    (home.bin / "llama-server").unlink()
    with pytest.raises(EngineNotInstalled):
        again(daemon, run.id)


def test_an_override_is_not_repeated(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """I4: what did not fit then is asked about again."""
    fake_engine.profile("huge", tokens=3, model=fake_engine.model("huge", weights_bytes=900 * 1024**3))
    run = loaded(daemon.start(), "huge", override=True)
    assert run.plan is not None
    assert run.plan.overridden
    whole_manifest(daemon, run.id)
    daemon.unload()
    daemon.wait_idle()
    with pytest.raises(DoesNotFit):
        daemon.post("/control/runs/again", {"run": run.id})


def test_after_a_crash_of_the_service_it_comes_back_as_it_was_again(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("one", tokens=3)
    first = loaded(daemon.start(), "one", settings={"slots": 3})
    whole_manifest(daemon, first.id)
    fake_engine.profile("one", tokens=3, settings={"slots": 2})
    daemon.wait_slice("library", lambda it: any(c.profile.settings.get("slots") == 2 for c in it.profiles))
    second = again(daemon, first.id).run
    assert second is not None
    daemon.expect_warnings("was left behind", "ended")
    daemon.kill()
    daemon.start()
    run = daemon.wait_phase(lifecycle.Ready, "one").run
    assert run is not None
    assert run.id != second.id
    assert without_port(run.argv) == without_port(first.argv)


def test_an_unknown_run_is_a_sentence(daemon: Daemon) -> None:
    daemon.start()
    with pytest.raises(Exception, match="no run nonsense"):
        daemon.post("/control/runs/again", {"run": "nonsense"})
    with pytest.raises(UnknownProfile, match="no run nonsense"):
        manifest_of(daemon, "nonsense")


# --- which model it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES])
def test_a_fingerprint_sees_both_ends_and_the_size(tmp_path: Path, size: int) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(bytes(size))
    plain = identity(file)
    assert plain.bytes == size
    assert identity(file.rename(tmp_path / "renamed.gguf")).fingerprint == plain.fingerprint
    prints = {plain.fingerprint}
    for change in _changes(size):
        file.write_bytes(bytes(size))
        change(file)
        prints.add(identity(file).fingerprint)
    assert len(prints) == 1 + len(_changes(size))


def _changes(size: int) -> list[Callable[[Path], object]]:
    def put(at: int) -> Callable[[Path], object]:
        def change(file: Path) -> None:
            with file.open("r+b") as opened:
                opened.seek(at)
                opened.write(b"!")

        return change

    return [put(size), *(put(at) for at in {0, size - 1} if 0 <= at < size)]


def test_all_parts_of_a_split_model_and_all_files_of_a_folder_count(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"big-{number:05d}-of-00002.gguf").write_bytes(bytes([number]) * 100)
    first = tmp_path / "big-00001-of-00002.gguf"
    before = identity(first)
    assert before.bytes == 200
    (tmp_path / "big-00002-of-00002.gguf").write_bytes(b"other" * 20)
    assert identity(first).fingerprint != before.fingerprint
    assert identity(tmp_path).bytes == 200


# --- what is not kept ----------------------------------------------------------------------------------------------------


def test_secrets_come_from_the_profile_as_it_is_now() -> None:
    def profile(**more: object) -> Profile:
        return Profile(id="p", title="P", engine="llama.cpp", model="m", **more)  # type: ignore[arg-type]

    kept = profile(environment={"A_TOKEN": "***", "PLAIN": "then"}, extra_arguments=("--api-key", "***"))
    now = profile(environment={"A_TOKEN": "fresh one", "PLAIN": "now"}, extra_arguments=("--api-key", "abc"))
    assert with_secrets(kept, now) == profile(
        environment={"A_TOKEN": "fresh one", "PLAIN": "then"}, extra_arguments=("--api-key", "abc")
    )
    with pytest.raises(SettingInvalid, match="A_TOKEN, extra_arguments"):
        with_secrets(kept, None)
    with pytest.raises(SettingInvalid, match="extra_arguments"):
        with_secrets(kept, profile(environment={"A_TOKEN": "x"}, extra_arguments=("--other",)))
