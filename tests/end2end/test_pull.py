"""A model from the hub as a person gets it: found, judged before a byte comes, downloaded, loaded, deleted, and back."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core import control
from app.core.hub import Downloads
from app.core.snapshot import Job, Jobs, from_json
from tests.end2end.commands import Commands, line_of
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon
from tests.rig.home import Home, contents, entries_below
from tests.rig.hub import TOKEN, HubStandIn
from tests.rig.waiting import eventually

DEMO = Path(__file__).resolve().parents[2] / "resources" / "models" / "engine-room-demo.gguf"
NAME, FILE = "acme/tiny-chat-GGUF", "tiny-chat-Q8_0.gguf"


@pytest.fixture
def hub(home: Home) -> Iterator[HubStandIn]:
    with HubStandIn() as hub:
        home.environment["HF_ENDPOINT"] = hub.url
        hub.add(NAME, {FILE: DEMO.read_bytes(), "README.md": b"A chat model."})
        yield hub


def pulled(daemon: Daemon, condition: object) -> Job:
    """The newest download once `condition` holds for it."""
    assert callable(condition)

    def newest(jobs: Jobs) -> Job | None:
        return next((job for job in jobs.jobs if job.kind == "pull" and condition(job)), None)

    found = newest(daemon.wait_slice("jobs", newest))
    assert found is not None
    return found


def part_bytes(home: Home) -> int:
    """How much of an unfinished download lies on the disk."""
    parts = entries_below(home.folder / "cache")
    return sum(part.stat().st_size for part in parts if part.suffix == ".incomplete" and part.exists())


def test_from_a_search_to_an_answer_and_into_the_trash(
    home: Home, daemon: Daemon, commands: Commands, hub: HubStandIn, embedded_python: Path
) -> None:
    home.environment["ENGINE_ROOM_EMBEDDED_PYTHON"] = str(embedded_python)
    daemon.start()
    assert NAME in commands.ok("search", "tiny", "chat").out
    assert "Nothing is called so" in commands.ok("search", "no-such-thing").out

    listed = commands.ok("pull", NAME, "--list").out
    (line,) = [line for line in listed.splitlines() if "Q8_0" in line]
    assert line.startswith("→ Q8_0"), "the best that fits is marked"
    assert "fits" in line
    asked = [seen for seen in hub.seen if seen.path.endswith(FILE)]
    assert all(seen.range for seen in asked), "headers by ranges, never the file"

    hub.repositories[NAME].of(FILE).cut_after = [1_500_000]
    hub.seen.clear()
    done = commands.ok("pull", NAME, "Q8_0", "--json").json
    assert done["state"] == "done"
    assert Path(done["result"]["path"]).read_bytes() == DEMO.read_bytes()
    assert [asked.partition("-")[0] for asked in hub.ranges(FILE)] == ["0", "1500000"], "it went on where it was"

    daemon.wait_slice("library", lambda library: any(c.profile.id == "tiny-chat-q8_0" for c in library.profiles))
    assert "Hugging Face cache" in commands.ok("ls").out
    assert commands.ok("load", "tiny-chat-q8_0").out.startswith("tiny-chat-q8_0 is ready")
    assert "is loaded" in commands.refused(6, "rm", NAME).err, "what an engine reads is not deleted under it"
    commands.ok("unload")

    assert "in the trash" in commands.ok("rm", NAME).out
    daemon.wait_slice("library", lambda library: all(c.profile.id != "tiny-chat-q8_0" for c in library.profiles))
    assert NAME not in {model.name for model in from_json(Downloads, commands.ok("downloads", "--json").out).models}
    assert "tiny-chat-GGUF Q8_0" in commands.ok("trash").out
    assert "is back" in commands.ok("trash", "undo").out
    daemon.wait_slice("library", lambda library: any(c.profile.id == "tiny-chat-q8_0" for c in library.profiles))


def test_paused_resumed_killed_and_gone_on_with(
    home: Home, daemon: Daemon, commands: Commands, hub: HubStandIn
) -> None:
    trouble = hub.repositories[NAME].of(FILE)
    trouble.hold_after = 1_000_000
    daemon.start()
    pulling = commands.begin("pull", NAME, FILE)
    line_of(pulling, "Downloading")
    eventually(lambda: part_bytes(home) == 1_000_000)
    pulling.send_signal(signal.SIGINT)
    paused = commands.finish(pulling)
    assert "Paused: the same command goes on with it." in paused.err
    job = pulled(daemon, lambda job: job.state == "paused")
    assert (job.bytes_done, job.bytes_total) == (1_000_000, DEMO.stat().st_size)

    daemon.restart()
    assert pulled(daemon, lambda _: True).state == "paused", "what a person paused stays paused"
    trouble.hold_after = 500_000  # of the rest
    assert job.id in commands.ok("pull", NAME, FILE, "--detach").out, "the same command goes on with the same job"
    eventually(lambda: part_bytes(home) == 1_500_000)

    daemon.kill()
    eventually(
        lambda: not processes_of(home), what="the download goes with its service, before the hub sends more (I1)"
    )
    assert part_bytes(home) == 1_500_000
    trouble.go_on.set()
    daemon.start()
    ended = pulled(daemon, lambda job: job.state == "done")
    assert ended.id == job.id
    assert Path(str(ended.result["path"])).read_bytes() == DEMO.read_bytes()
    starts = [int(asked.partition("-")[0]) for asked in hub.ranges(FILE)]
    assert starts == [0, 1_000_000, 1_500_000], "not a byte came twice, over a pause and a crash"
    daemon.expect_warnings(r"was left behind")


def test_cancelled_it_leaves_what_may_be_resumed_and_says_so(
    home: Home, daemon: Daemon, commands: Commands, hub: HubStandIn
) -> None:
    trouble = hub.repositories[NAME].of(FILE)
    trouble.hold_after = 1_000_000
    daemon.start()
    commands.ok("pull", NAME, FILE, "--detach")
    eventually(lambda: part_bytes(home) == 1_000_000)
    job = pulled(daemon, lambda job: job.state == "running")
    assert "is being downloaded" in commands.refused(6, "rm", NAME, "--unfinished").err
    daemon.post("/control/jobs/cancel", control.JobOf(job=job.id))
    ended = pulled(daemon, lambda job: job.state == "cancelled")
    assert ended.detail == "Cancelled; 0.00 GB of it stay, so that another try goes on there."
    found = from_json(Downloads, commands.ok("downloads", "--json").out)
    assert [(part.name, part.disk_bytes) for part in found.partial] == [(NAME, 1_000_000)]
    commands.ok("rm", NAME, "--unfinished")
    assert from_json(Downloads, commands.ok("downloads", "--json").out).partial == ()


def test_what_the_hub_refuses_is_a_sentence(home: Home, daemon: Daemon, commands: Commands, hub: HubStandIn) -> None:
    daemon.start()
    assert "has no model" in commands.refused(11, "pull", "acme/none").err
    assert "publisher/model" in commands.refused(11, "pull", "none").err
    assert "It has: Q8_0" in commands.refused(11, "pull", NAME, "Q2_K").err

    closed = hub.add("acme/closed-GGUF", {FILE: DEMO.read_bytes()}, gated=True)
    refused = commands.refused(11, "pull", closed.name, FILE)
    assert "given only to people who agreed to its terms" in refused.err
    note = from_json(control.Accepted, daemon.post("/control/hub/token", control.HubToken(token=TOKEN)).content).note
    assert "only this account can read" in note, "this home has no keyring"
    assert commands.ok("pull", closed.name, FILE)
    assert TOKEN not in daemon.log_text(), "I18"
    holding = [file for file, data in contents(home.folder).items() if TOKEN.encode() in data]
    assert [(file.name, file.stat().st_mode & 0o777) for file in holding] == [("keys.json", 0o600)], "I18"

    hub.down = True
    assert "has trouble of its own" in commands.refused(11, "search", "tiny").err


def test_a_newer_revision_is_told_and_taken(daemon: Daemon, commands: Commands, hub: HubStandIn) -> None:
    daemon.start()
    commands.ok("pull", NAME, FILE)
    assert "a newer revision" not in commands.ok("downloads", "--updates").out
    repository = hub.repositories[NAME]
    repository.files[FILE] = DEMO.read_bytes() + bytes(32)
    assert "a newer revision is there" in commands.ok("downloads", "--updates").out
    commands.ok("pull", NAME, FILE)
    found = from_json(Downloads, commands.ok("downloads", "--json").out)
    assert [(m.commit == repository.commit, m.older) for m in found.models] == [(True, False), (False, True)]
