"""Profiles read, changed, copied and removed through the daemon: whole or not at all, every problem told, nothing lost."""

from pathlib import Path

import pytest

from app.core import lifecycle
from app.core.control import CommandView, OptionsView, ProfileText
from app.core.errors import BadRequest, EngineRoomError, ProfileChanged, ProfileInvalid, SettingInvalid, UnknownProfile
from app.core.snapshot import from_json
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home


def text_of(daemon: Daemon, profile: str) -> ProfileText:
    return from_json(ProfileText, daemon.get(f"/control/profiles/{profile}").content)


def save(daemon: Daemon, profile: str, text: str, based_on: str | None = None) -> ProfileText:
    wish = ProfileText(profile=profile, text=text, based_on=based_on)
    return from_json(ProfileText, daemon.post("/control/profiles", wish).content)


def profiles_of(daemon: Daemon) -> dict[str, object]:
    library = daemon.slices()["library"]
    return {card.profile.id: card.profile for card in library.profiles}


def test_a_text_is_given_as_it_is_and_taken_back_changed(fake_engine: FakeEngine, daemon: Daemon) -> None:
    fake_engine.profile("mine")
    daemon.start()
    before = text_of(daemon, "mine")
    assert before.own
    file = fake_engine.home.paths.profiles / "mine.toml"
    assert before.text == file.read_text("utf-8")
    after = before.text.replace("context_tokens = 2048", "context_tokens = 1024  # less is enough")
    assert save(daemon, "mine", after, before.text).text == after
    assert file.read_text("utf-8") == after, "comments and all"
    assert file.stat().st_mode & 0o777 == 0o600, "it may hold keys"
    assert profiles_of(daemon)["mine"].settings["context_tokens"] == 1024, "known before the call has answered"
    assert [path.name for path in file.parent.iterdir()] == ["mine.toml"]


def test_all_problems_of_a_text_are_told_with_their_keys_and_nothing_is_written(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    fake_engine.profile("mine")
    daemon.start()
    before = text_of(daemon, "mine").text
    bad = 'engine = "llama-server"\nmodel = 7\ntitel = "x"\npreset = "fast"\n[settings]\nslots = 0\nkv_type_k = "q9"\n'
    with pytest.raises(ProfileInvalid) as refused:
        save(daemon, "mine", bad)
    details = {detail.key: detail for detail in refused.value.details}
    assert set(details) == {"model", "titel", "preset", "settings.slots", "settings.kv_type_k"}
    assert "must be at least 1" in details["settings.slots"].summary
    assert details["titel"].advice == "Did you mean title?"
    assert "low-latency, high-throughput" in details["preset"].advice
    with pytest.raises(ProfileInvalid):
        save(daemon, "mine", "this is = = no TOML")
    assert text_of(daemon, "mine").text == before


def test_a_change_made_from_an_old_text_is_refused(fake_engine: FakeEngine, daemon: Daemon) -> None:
    """Somebody edits the file by hand while the form is open: neither change is lost."""
    fake_engine.profile("mine")
    daemon.start()
    seen = text_of(daemon, "mine").text
    file = fake_engine.home.paths.profiles / "mine.toml"
    file.write_text(seen + "# by hand\n", "utf-8")
    with pytest.raises(ProfileChanged):
        save(daemon, "mine", seen.replace("2048", "512"), seen)
    assert file.read_text("utf-8").endswith("# by hand\n")
    save(daemon, "mine", seen.replace("2048", "512"), file.read_text("utf-8"))
    assert "512" in file.read_text("utf-8")


def test_a_shipped_profile_becomes_an_own_copy(daemon: Daemon) -> None:
    daemon.start()
    shipped = text_of(daemon, "demo")
    assert not shipped.own
    save(daemon, "demo", shipped.text.replace('title = "Demo"', 'title = "My demo"'))
    assert profiles_of(daemon)["demo"].title == "My demo"
    assert text_of(daemon, "demo").own
    assert not daemon.slices()["library"].problems, "it takes the shipped one's place, as was meant"
    note = daemon.post("/control/profiles/remove", {"profile": "demo"}).json()["note"]
    assert profiles_of(daemon)["demo"].title == "Demo", "the shipped one is back"
    assert 'title = "My demo"' in Path(note.split("kept at ")[1].rstrip(".")).read_text("utf-8")


def test_a_found_model_gets_a_file_of_its_own(fake_engine: FakeEngine, daemon: Daemon) -> None:
    model = fake_engine.model("found-one")
    daemon.start(ENGINE_ROOM_LIBRARY__FOLDERS=f'["{model.parent}"]')
    given = text_of(daemon, "found-one")
    assert not given.own
    save(daemon, "found-one", given.text + "slots = 3\n")
    profile = profiles_of(daemon)["found-one"]
    assert (profile.settings["slots"], profile.model) == (3, str(model))


@pytest.mark.parametrize("content", [b"# large\n" * 200_000, b'title = "\xff"\n'], ids=["too large", "no text"])
def test_what_is_removed_is_kept_whole_also_what_is_no_profile(home: Home, daemon: Daemon, content: bytes) -> None:
    home.paths.profiles.mkdir(parents=True, exist_ok=True)
    (home.paths.profiles / "odd.toml").write_bytes(content)
    daemon.start()
    note = daemon.post("/control/profiles/remove", {"profile": "odd"}).json()["note"]
    kept = Path(note.split("kept at ")[1].rstrip("."))
    assert kept.read_bytes() == content
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("profile", "refusal"), [("demo", BadRequest), ("nobody", UnknownProfile), ("../../etc/x", ProfileInvalid)]
)
def test_what_is_no_file_of_the_person_s_cannot_be_removed(
    daemon: Daemon, profile: str, refusal: type[EngineRoomError]
) -> None:
    daemon.start()
    with pytest.raises(refusal):
        daemon.post("/control/profiles/remove", {"profile": profile})
    with pytest.raises(ProfileInvalid):
        save(daemon, "../outside", 'engine = "llama.cpp"\nmodel = "builtin:demo"\n')


def test_a_profile_edited_while_it_is_loaded_says_so_until_it_is_loaded_again(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    fake_engine.profile("mine")
    daemon.start().load("mine")
    text = text_of(daemon, "mine").text
    save(daemon, "mine", text.replace("The mine model", "A new title"))
    assert not daemon.seat().outdated, "a title starts nothing otherwise"
    save(daemon, "mine", text.replace("2048", "512"))
    seat = daemon.wait_seat(lambda view: view.outdated)
    assert isinstance(seat.phase, lifecycle.Ready)
    assert seat.run is not None
    assert "2048" in seat.run.argv, "the run keeps what it was started with"
    save(daemon, "mine", text)
    daemon.wait_seat(lambda view: not view.outdated)
    save(daemon, "mine", text.replace("2048", "512"))
    daemon.restart_engine()
    seat = daemon.wait_seat(
        lambda view: isinstance(view.phase, lifecycle.Ready) and "512" in (view.run or seat.run).argv
    )
    assert not seat.outdated


def test_a_preset_lies_over_the_profile_for_one_launch_and_under_its_settings_in_the_file(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    fake_engine.profile("mine", settings={"slots": 2})
    fake_engine.profile("quick", table={"preset": "low-latency"}, settings={"batch_tokens": 64})
    daemon.start()

    def argv(profile: str, **more: object) -> list[str]:
        view = from_json(CommandView, daemon.post("/control/command", {"profile": profile, **more}).content)
        return list(view.argv)

    def said(words: list[str], flag: str) -> str:
        return words[words.index(flag) + 1]

    assert said(argv("mine"), "--parallel") == "2"
    assert said(argv("mine", preset="high-throughput"), "--parallel") == "16"
    assert said(argv("mine", preset="high-throughput", settings={"slots": 5}), "--parallel") == "5"
    quick = argv("quick")
    assert (said(quick, "--parallel"), said(quick, "--batch-size")) == ("1", "64")
    with pytest.raises(SettingInvalid, match="no preset 'fast'"):
        daemon.want("mine", preset="fast")
    seat = daemon.load("mine", preset="low-latency")
    assert seat.run is not None
    assert said(list(seat.run.argv), "--parallel") == "1"


def test_files_in_settings_count_from_the_profile_and_are_missed_before_a_launch(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """One engine starts without an adapter that it cannot open, and says it only in its log."""
    fake_engine.profile("mine", settings={"lora": "parts/a.gguf:0.5, parts/b.gguf", "mmproj": "parts/missing.gguf"})
    parts = fake_engine.home.paths.profiles / "parts"
    parts.mkdir()
    for name in ("a.gguf", "b.gguf"):
        (parts / name).touch()
    daemon.start()
    with pytest.raises(
        SettingInvalid, match=r"settings\.mmproj names .*/parts/missing\.gguf, which is not there"
    ) as refused:
        daemon.post("/control/command", {"profile": "mine"})
    assert str(fake_engine.home.paths.profiles) in refused.value.advice
    with pytest.raises(SettingInvalid):
        daemon.want("mine")
    (parts / "missing.gguf").touch()
    argv = from_json(CommandView, daemon.post("/control/command", {"profile": "mine"}).content).argv
    assert argv[argv.index("--lora-scaled") + 1] == f"{parts}/a.gguf:0.5"
    assert argv[argv.index("--lora") + 1] == f"{parts}/b.gguf"
    assert argv[argv.index("--mmproj") + 1] == f"{parts}/missing.gguf"


def test_the_form_s_data_has_every_engine_s_table(daemon: Daemon) -> None:
    daemon.start()
    view = from_json(OptionsView, daemon.get("/control/engines/options").content)
    slots = next(option for option in view.families["llama.cpp"] if option.name == "slots")
    assert (slots.label, slots.group, slots.minimum, slots.default) == ("Answers at once", "Context and memory", 1, 4)
    assert {preset.name for preset in view.presets["llama-server"]} == {"low-latency", "high-throughput"}


def test_flags_that_the_engine_s_own_help_does_not_know_are_told_before_a_launch(
    fake_engine: FakeEngine, daemon: Daemon
) -> None:
    """Told, not refused: a person may know an engine better than its help does."""
    fake_engine.profile("odd", table={"extra_arguments": ["--metrics", "--no-such-flag", "-1", "--other=3"]})
    fake_engine.profile("plain", table={"extra_arguments": ["--metrics"]})
    daemon.start()
    library = daemon.wait_slice(
        "library", lambda value: any(card.profile.id == "odd" and card.warning for card in value.profiles)
    )
    warnings = {card.profile.id: card.warning for card in library.profiles}
    assert "does not name --no-such-flag, --other in its help" in warnings["odd"]
    assert warnings["plain"] == ""
    view = from_json(CommandView, daemon.post("/control/command", {"profile": "odd"}).content)
    assert view.unknown_flags == ("--no-such-flag", "--other")
    assert view.argv[-4:] == ("--metrics", "--no-such-flag", "-1", "--other=3"), "said word for word all the same"
    assert "--no-such-flag" in daemon.want("odd").warnings[0]
    assert daemon.want("plain").warnings == ()
