"""The command line as a person uses it: real processes, the real daemon, the stand-in engine."""

import os
import signal
import subprocess
import sys

import pytest

from app.core import control, lifecycle
from app.core.conversation import thread
from app.core.memory.plan_types import MemoryPlan
from app.core.snapshot import Library, SeatView, from_json
from app.ui.chat.store import ChatFile
from tests.end2end.commands import REPOSITORY, Commands, line_of
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.waiting import eventually

# --- from nothing to a loaded model ----------------------------------------------------------------------------------


def test_the_first_command_starts_the_service_and_the_last_one_ends_it(
    home: Home, fake_engine: FakeEngine, commands: Commands
) -> None:
    fake_engine.profile("one", tokens=3)
    loaded = commands.ok("load", "one")
    commands.adopt()
    assert loaded.out.startswith("one is ready after ")
    assert "waiting for a first token" in loaded.err
    assert home.paths.daemon_output.stat().st_mode & 0o777 == 0o600
    ended = commands.ok("quit")
    assert "has ended" in ended.out
    assert not processes_of(home), "the service and its engine are gone when `quit` says so (I1)"
    assert "not running" in commands.refused(3, "status").err


def test_a_day_with_two_models(fake_engine: FakeEngine, commands: Commands, daemon: Daemon) -> None:
    """S1, S2: ls, plan, load, status, switch, restart, unload: text for people, JSON for programs."""
    fake_engine.profile("one", tokens=3)
    fake_engine.profile("two", tokens=3)
    daemon.start()
    assert {"one", "two"} <= {line.split()[0] for line in commands.ok("ls").out.splitlines()}
    library = from_json(Library, commands.ok("ls", "--json").out)
    assert {"one", "two"} <= {card.profile.id for card in library.profiles}
    assert "GiB" in commands.ok("plan", "one").out
    assert from_json(MemoryPlan, commands.ok("plan", "one", "--json").out).verdict.value == "fits"
    assert "nothing is loaded" in commands.ok("status").out

    seat = from_json(SeatView, commands.ok("load", "one", "--json").out)
    assert isinstance(seat.phase, lifecycle.Ready)
    assert seat.phase.profile_id == "one"
    assert "one ready" in commands.ok("status").out
    assert commands.ok("status", "--json").json["seats"]["seats"][0]["wanted"] == "one"

    switched = commands.ok("switch", "two")
    assert switched.out.startswith("two is ready")
    assert "stopping the engine that leaves" in switched.err
    before = daemon.seat().run
    assert commands.ok("restart").out.startswith("two is ready")
    after = daemon.seat().run
    assert before is not None
    assert after is not None
    assert (after.profile_id, after.id != before.id) == ("two", True)

    assert commands.ok("unload").out == "Nothing is loaded.\n"
    assert isinstance(daemon.seat().phase, lifecycle.Idle)
    assert "nothing to restart" in commands.refused(4, "restart").err


def test_a_detached_load_returns_at_once_and_a_setting_counts_for_one_launch(
    fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("slow", load_seconds=60)
    fake_engine.profile("one", tokens=3)
    daemon.start()
    assert "is loading" in commands.ok("load", "slow", "--detach").out
    assert isinstance(daemon.seat().phase, lifecycle.Spawning | lifecycle.Loading | lifecycle.Reserving)
    seat = from_json(SeatView, commands.ok("load", "one", "--set", "context_tokens=1024", "--json").out)
    assert seat.run is not None
    assert "1024" in seat.run.argv
    assert "2048" in from_json(control.CommandView, commands.ok("command", "one", "--json").out).argv


def test_ctrl_c_cancels_a_load_and_leaves_nothing(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """S3: what was begun is ended before the command returns."""
    fake_engine.profile("slow", load_seconds=60)
    daemon.start()
    loading = commands.begin("load", "slow")
    line_of(loading, "loading the weights")
    loading.send_signal(signal.SIGINT)
    done = commands.finish(loading)
    assert done.code == 130
    assert "cancelled" in done.err
    assert not processes_of(home, runs_only=True)
    assert daemon.seat().wanted is None


# --- what a command prints where -------------------------------------------------------------------------------------


def test_a_command_line_is_alone_on_stdout(fake_engine: FakeEngine, commands: Commands, daemon: Daemon) -> None:
    """E9: stdout can be given to a shell; the environment, with its secrets masked, is on stderr."""
    fake_engine.profile("one", environment={"MY_API_KEY": "sk-very-secret-value"})
    daemon.start()
    done = commands.ok("command", "one")
    (line,) = done.out.splitlines()
    assert line.startswith(str(fake_engine.home.bin / "llama-server"))
    assert "MY_API_KEY=" in done.err
    assert "very-secret" not in done.out + done.err
    assert daemon.phases() == [], "nothing was started"


def test_a_log_is_followed_while_the_engine_writes_until_the_run_is_over(
    fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=3)
    daemon.start()
    commands.refused(4, "logs")
    run = daemon.load("one").run
    assert run is not None
    eventually(lambda: b"server is listening" in daemon.run_log(run.id), what="its last words for now")
    whole = commands.ok("logs").out
    assert whole == commands.ok("logs", run.id).out
    assert whole.encode() == daemon.run_log(run.id)
    following = commands.begin("logs", "-f")
    assert following.stdout is not None
    seen = following.stdout.readline()
    assert whole.startswith(seen)
    with daemon.gateway() as client:
        client.post("/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    assert following.poll() is None, "it goes on while the run does"
    daemon.unload()
    rest = following.stdout.read()  # ends by itself, because the run is over
    assert commands.finish(following).code == 0
    daemon.wait_idle()
    assert (seen + rest).encode() == daemon.run_log(run.id)
    assert "no run" in commands.refused(4, "logs", "no/such run").err


def test_a_pipe_that_closes_early_is_no_error(fake_engine: FakeEngine, commands: Commands, daemon: Daemon) -> None:
    fake_engine.profile("chatty", tokens=3, noise_bytes=3_000_000)
    daemon.start().load("chatty")
    words = f"{sys.executable} -m app logs | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", words], cwd=REPOSITORY, env=commands.home.environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("0", "")


def test_a_terminal_without_unicode_gets_its_answer(commands: Commands, daemon: Daemon) -> None:
    daemon.start()
    assert "? control socket" in commands.run("doctor", PYTHONIOENCODING="ascii").out


def test_the_doctor_looks_at_everything(fake_engine: FakeEngine, commands: Commands, daemon: Daemon) -> None:
    daemon.start()
    report = from_json(control.Report, commands.ok("doctor", "--json").out)
    names = {check.name for check in report.checks}
    assert {"state folder", "disk", "control socket", "settings", "endpoint", "graphics cards"} <= names
    assert {"engine llama-server", "engine llama.cpp"} <= names
    assert all(check.summary for check in report.checks)


# --- exit codes ------------------------------------------------------------------------------------------------------


def test_each_refusal_has_its_exit_code_and_its_sentence(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """0 well · 2 usage · 4 no such model · 5 does not fit · 6 engine failed · 7 engine not installed."""
    fake_engine.profile("one", tokens=3)
    fake_engine.profile("gone", model=home.models / "gone.gguf")
    fake_engine.profile("huge", model=fake_engine.model("huge", weights_bytes=900 * 1024**3))
    fake_engine.profile("fragile", crash_at=0.5)
    fake_engine.profile("absent", table={"engine": "llama-cpp-python"})
    daemon.start()
    for words, code, told in (
        (("load", "nonsense"), 4, "one"),
        (("plan", "nonsense"), 4, "one"),
        (("command", "nonsense"), 4, "one"),
        (("load", "gone"), 4, "gone.gguf"),
        (("load", "huge"), 5, "GiB"),
        (("load", "fragile"), 6, "check of its own"),
        (("load", "absent"), 7, "engines install"),
        (("load", "one", "--set", "context_tokens=lots"), 8, "context_tokens"),
        (("load", "one", "--set", "contxt=5"), 8, "contxt"),
    ):
        done = commands.refused(code, *words, "--json")
        assert told in done.err, (words, done.err)
        report = done.json
        assert report["kind"]
        assert report["summary"].endswith(".")
    assert daemon.phases().count("Failed") == 1, "only the fragile one was ever started"


@pytest.mark.parametrize(
    "words", [("lod",), ("load",), ("load", "a", "b"), ("load", "--nope", "a"), ("load", "a", "--set", "b")]
)
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...], commands: Commands, daemon: Daemon) -> None:
    if "--set" in words:
        daemon.start()
    done = commands.run(*words)
    assert done.code == 2
    assert done.err


@pytest.mark.parametrize("verb", ["status", "unload", "restart", "logs", "chat", "quit"])
def test_what_needs_a_running_service_says_that_there_is_none(verb: str, home: Home, commands: Commands) -> None:
    """These start nothing: there is nothing to see, to stop or to talk to."""
    done = commands.refused(3, verb)
    assert "engine-room serve" in done.err
    assert not home.paths.socket.exists()


def test_a_crash_after_the_load_began_tells_the_line_that_proves_it(
    fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """S6: and a failed switch says that the previous model is back."""
    fake_engine.profile("good", tokens=3)
    fake_engine.profile("bad", oom_text="cuda")
    daemon.start().load("good")
    done = commands.refused(6, "switch", "bad")
    assert "memory" in done.err
    assert "Log: " in done.err
    assert "good" in done.err
    daemon.wait_phase(lifecycle.Ready, "good")


def test_the_daemon_dying_in_the_middle_of_a_load_is_told(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("slow", load_seconds=60)
    daemon.start()
    loading = commands.begin("load", "slow")
    line_of(loading, "loading the weights")
    daemon.kill()
    assert commands.finish(loading).code in (3, 6)
    eventually(lambda: not processes_of(home, runs_only=True))


def test_a_service_that_hangs_does_not_hold_the_command_for_ever(
    commands: Commands, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command's patience ends with a sentence; the test shortens it by the same variable that a person may use."""
    daemon.start()
    daemon.signal(signal.SIGSTOP)
    try:
        done = commands.refused(3, "status", ENGINE_ROOM_PATIENCE_SECONDS="1")
    finally:
        daemon.signal(signal.SIGCONT)
    assert "does not answer" in done.err


# --- talking ---------------------------------------------------------------------------------------------------------


def conversations(home: Home) -> list[tuple[str, list[tuple[str, str, str | None]]]]:
    """(title, [(role, text, finish)…]) of each conversation, the latest first."""
    chats = ChatFile(home.paths.chats)
    try:
        found = []
        for conversation in chats.conversations():
            messages = chats.messages(conversation.id)
            turns = thread(messages, chats.leaf(conversation.id) or (messages[-1].id if messages else None))
            found.append((conversation.title, [(turn.role, turn.text, turn.finish) for turn in turns]))
        return found
    finally:
        chats.close()


def test_a_message_is_answered_and_kept_where_the_window_keeps_its_chats(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=3)
    daemon.start().load("one")
    assert commands.ok("chat", "What", "is", "VRAM?").out == "one one one\n"
    assert conversations(home) == [
        ("What is VRAM?", [("user", "What is VRAM?", ""), ("assistant", "one one one", "stop")])
    ]
    answer = commands.ok("chat", "--json", "--continue", "And RAM?").json
    assert (answer["content"], answer["finish"]) == ("one one one", "stop")
    ((title, turns),) = conversations(home)
    assert (title, [turn[1] for turn in turns]) == (
        "What is VRAM?",
        ["What is VRAM?", "one one one", "And RAM?", "one one one"],
    )
    asked = fake_engine.journal("request", path="/v1/chat/completions")[-1]
    assert asked, "the engine was asked"
    commands.ok("chat", "Something else")
    assert [title for title, _ in conversations(home)] == ["Something else", "What is VRAM?"]


def test_piped_lines_are_one_conversation(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=2)
    daemon.start().load("one")
    done = commands.ok("chat", "--continue", typed="first\n\nsecond\n")
    assert done.out == "one one\none one\n"
    assert "no conversation to continue" in done.err
    assert [(title, len(turns)) for title, turns in conversations(home)] == [("first", 4)]


def test_an_answer_is_kept_as_it_arrives_and_a_kill_loses_none_of_it(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """H3: half an answer is there after SIGKILL, and says that it was never finished."""
    fake_engine.profile("one", tokens=500, tokens_per_second=20)
    daemon.start().load("one")
    talking = commands.begin("chat", "tell me everything")

    def kept_tokens() -> int:
        turns = [turn for _, turns in conversations(home) for turn in turns if turn[0] == "assistant"]
        return turns[0][1].count("one") if turns else 0

    eventually(lambda: home.paths.chats.exists() and kept_tokens() >= 5)
    talking.kill()
    talking.communicate()
    ((_, (_, (role, text, finish))),) = conversations(home)
    assert (role, text.count("one") >= 5, finish) == ("assistant", True, None)


def test_ctrl_c_stops_the_answer_at_the_engine_too(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=500, tokens_per_second=20)
    daemon.start().load("one")
    talking = commands.begin("chat", "tell me everything")
    assert talking.stdout is not None
    assert talking.stdout.read(3) == "one"
    talking.send_signal(signal.SIGINT)
    assert commands.finish(talking).code == 130
    daemon.wait_slice("traffic", lambda traffic: traffic.in_flight == 0)
    assert conversations(home)[0][1][1][2] == "stopped"


def test_talking_with_nothing_loaded_is_a_sentence_and_keeps_what_was_typed(
    home: Home, commands: Commands, daemon: Daemon
) -> None:
    daemon.start()
    done = commands.refused(6, "chat", "hello?")
    assert "load" in done.err.lower()
    assert conversations(home)[0][1][0][:2] == ("user", "hello?")


def test_a_dialogue_in_a_terminal_survives_that_nothing_is_loaded(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    """In a real terminal: a refusal, then a load elsewhere, then an answer in the same dialogue."""
    fake_engine.profile("one", tokens=2)
    daemon.start()
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "chat"],
        cwd=REPOSITORY,
        env={**home.environment, "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""

    def reads(words: str, from_byte: int) -> None:
        nonlocal said
        os.set_blocking(ours, False)

        def there() -> bool:
            nonlocal said
            try:
                said += os.read(ours, 65536)
            except BlockingIOError:
                pass
            return words.encode() in said[from_byte:]

        eventually(there, 60, f"the terminal shows {words!r}")

    try:
        reads("you  ", 0)
        os.write(ours, b"hello?\n")
        reads("engine-room: ", 0)
        at = len(said)
        daemon.load("one")
        os.write(ours, b"again\n")
        reads("one one", at)
        reads("you  ", said.index(b"one one", at))  # an end of file that comes while nobody reads is nobody's
        os.write(ours, b"\x04")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"Traceback" not in said
    assert [turn[1] for turn in conversations(home)[0][1] if turn[0] == "user"] == ["hello?", "again"]


def test_chats_that_cannot_be_kept_are_told_and_talking_goes_on(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=2)
    daemon.start().load("one")
    home.paths.chats.write_bytes(b"this is no database" * 100)
    done = commands.ok("chat", "hello")
    assert done.out == "one one\n"
    assert "not kept" in done.err
    assert home.paths.chats.read_bytes().startswith(b"this is no database"), "nobody's file is overwritten"


def test_a_broken_answer_says_so_and_keeps_its_part(
    home: Home, fake_engine: FakeEngine, commands: Commands, daemon: Daemon
) -> None:
    fake_engine.profile("one", tokens=20, truncate_stream=3, only_while=str(home.folder / "misbehave"))
    daemon.start().load("one")
    (home.folder / "misbehave").touch()
    done = commands.refused(6, "chat", "hello")
    assert done.out.startswith("one")
    assert conversations(home)[0][1][1][1].startswith("one")
