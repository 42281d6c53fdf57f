"""Jobs do their work in programs of their own: told as they go, cancelled without a trace, ended with the daemon (E7, I1, I3)."""

import asyncio
import os
from pathlib import Path

import pytest

from app.core.errors import BadRequest, EngineBusy, EngineNotInstalled, EngineRoomError, SettingInvalid
from app.core.snapshot import Engines, Jobs, Offer
from app.daemon.job_program import PullingByOllama
from app.daemon.jobs import Jobs as JobsOfService
from tests.daemon.desk import Desk, slow_build
from tests.rig.custody import processes_of
from tests.rig.daemon import Daemon, kill_verified
from tests.rig.descriptors import descriptors_left
from tests.rig.engines import FakeEngine
from tests.rig.home import Home
from tests.rig.installables import (
    LACKS_A_LIBRARY,
    wheel_source,
    write_standin_wheel,
    write_table,
)
from tests.rig.waiting import eventually

__all__ = ["slow_build"]  # a fixture


@pytest.fixture
def wheels(home: Home, tmp_path: Path) -> Path:
    """A folder that has the processor build; the table names it."""
    write_standin_wheel(tmp_path / "cpu")
    write_table(home, wheel_source(tmp_path / "cuda", tmp_path / "cpu"))
    return tmp_path / "cpu"


def sizes(engines: object) -> dict[str, int | None]:
    assert isinstance(engines, Engines)
    return {row.id: row.disk_bytes for view in engines.families for row in view.installations}


@pytest.fixture
def desk(daemon: Daemon, home: Home) -> Desk:
    return Desk(daemon)


def test_an_installation_says_what_it_takes_and_is_there_when_it_is_done(desk: Desk, home: Home, wheels: Path) -> None:
    desk.daemon.start()
    job = desk.done(desk.install(accelerator="cpu"))
    assert job.result == {"installation": "llama.cpp-1.0-cpu"}
    assert job.notes[0].startswith("This machine computes on: "), "the accelerator is said first"
    assert job.notes[-1] == "Installed standin 1.0 for CPU."
    assert (job.progress, job.log_path) == (1.0, "")
    name = "llama.cpp-1.0-cpu"
    told = desk.daemon.wait_slice(
        "engines", lambda engines: sizes(engines).get(name), 60, "the new engine in the list, measured"
    )
    # a file of several blocks counts as what it takes, a link as itself; every file is one of its own here
    files = [Path(at) / file for at, _, names in os.walk(home.paths.engines / name) for file in names]
    assert sizes(told)[name] == sum(file.lstat().st_blocks * 512 for file in files) > 0
    assert sorted(path.name for path in (home.paths.state / "jobs").iterdir()) == [], (
        "nothing is kept of what went well"
    )


def test_what_failed_keeps_its_log_and_names_the_cause(desk: Desk, home: Home, wheels: Path) -> None:
    write_standin_wheel(wheels, LACKS_A_LIBRARY)
    desk.daemon.start()
    job = desk.over(desk.install(accelerator="cpu"))
    assert job.state == "failed"
    assert "libnowhere.so.9" in job.error
    assert Path(job.log_path).read_text().count("libnowhere.so.9")
    assert "libnowhere.so.9" in desk.log(job.id)
    assert Path(job.log_path).stat().st_mode & 0o077 == 0


def test_two_installations_of_one_engine_are_one_too_many(
    desk: Desk, home: Home, slow_build: Path, tmp_path: Path
) -> None:
    """Bad input: the second is refused with a sentence; a job of another engine waits its turn and both are done."""
    desk.daemon.start()
    first = desk.install("llama-server")
    with pytest.raises(EngineBusy, match=r"Installing llama-cpp-python 0\.1 is under way"):
        desk.install("llama-cpp-python")
    slow_build.touch()
    assert desk.done(first).result == {"installation": "llama-cpp-python-0.1-cpu"}
    again = desk.done(desk.install("llama-server"))
    assert "is installed" in again.notes[-1]


def test_a_cancelled_build_leaves_no_process_and_no_folder(desk: Desk, home: Home, slow_build: Path) -> None:
    desk.daemon.start()
    job = desk.install("llama-server")
    desk.wait(job, lambda job: job.steps_total, "build steps with their number")
    eventually(Path(f"{slow_build}.begun").exists, 60, "the compiler at work")
    desk.cancel(job)
    ended = desk.over(job)
    assert ended.state == "cancelled"
    assert [path.name for path in home.paths.engines.iterdir()] == [".lock"]
    jobs = [process for process in processes_of(home) if "job_program" in process.command or "ninja" in process.command]
    assert jobs == []
    desk.cancel(job)  # a job that is over stays as it is
    assert desk.over(job).state == "cancelled"


def test_a_daemon_that_is_killed_takes_the_job_with_it_and_the_next_one_goes_on(
    desk: Desk, home: Home, slow_build: Path
) -> None:
    desk.daemon.start()
    desk.install("llama-server")
    eventually(Path(f"{slow_build}.begun").exists, 60, "the compiler at work")
    desk.daemon.kill()
    eventually(lambda: not processes_of(home), 60, "nothing of the job is left (I1)")
    desk.daemon.start()
    [job] = desk.daemon.wait_slice("jobs", lambda jobs: jobs.jobs).jobs
    assert (job.state, job.title) == ("failed", "Installing llama-cpp-python 0.1")
    assert "goes on from there" in job.advice
    slow_build.touch()
    assert desk.done(desk.install("llama-server")).result == {"installation": "llama-cpp-python-0.1-cpu"}
    assert "Unpacking" not in desk.log(job.id)


def test_a_daemon_that_is_asked_to_go_ends_its_jobs_first(desk: Desk, home: Home, slow_build: Path) -> None:
    desk.daemon.start()
    desk.install("llama-server")
    eventually(Path(f"{slow_build}.begun").exists, 60, "the compiler at work")
    desk.daemon.terminate()
    assert not processes_of(home)
    assert [path.name for path in home.paths.engines.iterdir()] == [".lock"]
    desk.daemon.start()
    assert desk.daemon.slices()["jobs"].jobs == (), "it was cancelled in order: there is nothing to tell"


def test_a_job_whose_program_is_killed_is_told_and_cleaned(desk: Desk, home: Home, slow_build: Path) -> None:
    desk.daemon.start()
    job = desk.install("llama-server")
    eventually(Path(f"{slow_build}.begun").exists, 60, "the compiler at work")
    [program] = [process for process in processes_of(home) if "app.daemon.job_program" in process.command]
    kill_verified(program.pid, home)
    ended = desk.over(job)
    assert ended.state == "failed"
    assert "ended from outside" in ended.error
    assert [path.name for path in home.paths.engines.iterdir()] == [".lock"]


def test_a_program_that_dies_with_a_half_made_engine_leaves_none(desk: Desk, home: Home, wheels: Path) -> None:
    """E7: it is killed at its last step but one; the daemon cleans up for it, at once."""
    desk.daemon.start(ENGINE_ROOM_INSTALL_DIE_AT="place")
    assert desk.over(desk.install(accelerator="cpu")).state == "failed"
    assert [path.name for path in home.paths.engines.iterdir()] == [".lock"]


def test_what_a_dead_installer_left_is_gone_when_the_daemon_has_started(desk: Desk, home: Home, wheels: Path) -> None:
    half = home.paths.engines / ".installing-abc" / "bin"
    half.mkdir(parents=True)
    replaced = home.paths.engines / ".removing-def" / "llama.cpp-1.0-cpu"  # put aside when its successor came
    replaced.mkdir(parents=True)
    desk.daemon.start()
    assert sorted(path.name for path in home.paths.engines.iterdir()) == [".lock", "llama.cpp-1.0-cpu"]


def test_what_cannot_be_installed_is_refused_at_once(desk: Desk, wheels: Path) -> None:
    desk.daemon.start()
    with pytest.raises(SettingInvalid, match="cannot install 'nonsense'"):
        desk.install("nonsense")
    with pytest.raises(SettingInvalid, match="no build of standin for 'tpu'"):
        desk.install(accelerator="tpu")
    with pytest.raises(SettingInvalid, match="no version"):
        desk.install(version="1.0; rm")
    with pytest.raises(EngineRoomError, match="no job"):
        desk.cancel("nonsense")


def test_an_engine_is_removed_only_when_it_is_ours_and_at_rest(
    desk: Desk, home: Home, wheels: Path, fake_engine: FakeEngine
) -> None:
    (home.paths.profiles / "mine.toml").write_text(
        f'engine = "llama.cpp"\ntitle = "Mine"\nmodel = "{fake_engine.model()}"\n', "utf-8"
    )
    desk.daemon.start()
    desk.done(desk.install(accelerator="cpu"))
    desk.daemon.wait_slice("engines", lambda _: "llama.cpp-1.0-cpu" in desk.rows())
    desk.daemon.load("mine")
    with pytest.raises(EngineBusy, match="Mine"):
        desk.remove("llama.cpp-1.0-cpu")
    desk.daemon.unload()
    desk.daemon.wait_idle()
    foreign = next(row for row in desk.rows("llama-server"))
    with pytest.raises(BadRequest, match="was not installed by Engine Room"):
        desk.remove(foreign)
    with pytest.raises(EngineNotInstalled, match="no installation"):
        desk.remove("../../etc")
    desk.done(desk.remove("llama.cpp-1.0-cpu"))
    desk.daemon.wait_slice("engines", lambda _: "llama.cpp-1.0-cpu" not in desk.rows())
    assert [path.name for path in home.paths.engines.iterdir()] == [".lock"]


def test_offers_say_what_suits_and_what_is_there(desk: Desk, wheels: Path) -> None:
    desk.daemon.start()
    desk.done(desk.install(accelerator="cpu"))

    def offers(engines: Engines) -> dict[str, Offer]:
        return {o.accelerator: o for view in engines.families if view.family == "llama.cpp" for o in view.offers}

    installed = "llama.cpp-1.0-cpu"
    there = desk.daemon.wait_slice("engines", lambda now: offers(now)["cpu"].installed, 60, "the offer is installed")
    cpu, cuda = offers(there)["cpu"], offers(there)["cuda"]
    assert (cpu.version, cpu.suits, cpu.installed) == ("1.0", True, installed)
    assert (cuda.version, cuda.needs, cuda.installed) == ("1.0", "a card", ""), "another build is another offer"
    desk.done(desk.remove(installed))
    gone = desk.daemon.wait_slice("engines", lambda now: not offers(now)["cpu"].installed, 60, "it can be had again")
    assert [offer.installed for offer in offers(gone).values()] == ["", ""]
    assert installed not in desk.rows()


def test_a_job_that_fails_says_so_as_its_callers_error(desk: Desk, home: Home, wheels: Path) -> None:
    """No stack trace, no exit code: the sentence and what to do. Asked for by name, no other build is taken instead."""
    desk.daemon.start()
    job = desk.over(desk.install(accelerator="cuda"))
    assert (job.state, job.kind, job.subject) == ("failed", "install", "llama.cpp")
    assert "standin 1.0 for CUDA cannot be had" in job.error
    assert "install again" in job.advice


async def test_a_job_whose_process_cannot_be_started_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    """I1, I11: the service has no descriptor left for a file, or for the pipes of a program."""
    shown: list[Jobs] = []
    folder = tmp_path / "jobs"
    jobs = JobsOfService(folder, tmp_path / "engines", dict(os.environ), shown.append, lambda: None)
    order = PullingByOllama(url="http://127.0.0.1:1", model="none")
    said = set[str]()
    for free in range(6):  # a file takes one, the pipes of a program six
        with descriptors_left(free), pytest.raises(EngineRoomError) as refused:
            await jobs.begin("ollama", "Fetching none", "none", order, frozenset(("none",)))
        said.add(type(refused.value).__name__)
        assert "Too many open files" in refused.value.summary
        assert [file.name for file in folder.glob("*")] == [], f"with {free} left"
    assert said == {"NotWritable", "EngineFailed"}
    job = await jobs.begin("ollama", "Fetching none", "none", order, frozenset(("none",)))
    async with asyncio.timeout(60):
        while shown[-1].jobs[0].state == "running":  # noqa: ASYNC110 - what is shown is the condition
            await asyncio.sleep(0.01)
    assert [(each.id, each.state) for each in shown[-1].jobs] == [(job, "failed")], "nothing else was ever there"
    await jobs.close()
