"""What a person does to engines through the daemon's control API, for the tests of jobs, canary and caches."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.core import control, snapshot
from app.core.snapshot import Engines, Job, Jobs
from tests.rig.daemon import Daemon
from tests.rig.home import Home
from tests.rig.installables import archive_source, pip_finds, put_tools, write_archive, write_table

JOB_SECONDS = 60.0


class Desk:
    """What a person does to engines, through the daemon's control API."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    def begin(self, path: str, wish: object) -> str:
        return snapshot.from_json(control.JobStarted, self.daemon.post(path, wish).content).job

    def install(self, family: str = "llama.cpp", **more: object) -> str:
        return self.begin("/control/engines/install", control.Install(family=family, **more))  # type: ignore[arg-type]

    def remove(self, installation: str) -> str:
        return self.begin("/control/engines/remove", control.EngineOf(installation=installation))

    def cancel(self, job: str) -> None:
        self.daemon.post("/control/jobs/cancel", control.JobOf(job=job))

    def log(self, job: str) -> str:
        return self.daemon.get(f"/control/jobs/{job}/log").text

    def wait(self, job_id: str, condition: Callable[[Job], object], what: str = "") -> Job:
        def found(jobs: Jobs) -> Job | None:
            return next((job for job in jobs.jobs if job.id == job_id and condition(job)), None)

        found_in = self.daemon.wait_slice("jobs", found, JOB_SECONDS, what or f"job {job_id}")
        job = found(found_in)
        assert job is not None
        return job

    def over(self, job_id: str) -> Job:
        return self.wait(job_id, lambda job: job.state != "running", "the job's end")

    def done(self, job_id: str) -> Job:
        job = self.over(job_id)
        assert job.state == "done", (job.error, job.advice, self.log(job_id)[-2000:])
        return job

    def rows(self, family: str = "llama.cpp") -> list[str]:
        engines: Engines = self.daemon.slices()["engines"]
        return [row.id for view in engines.families if view.family == family for row in view.installations]


@pytest.fixture
def slow_build(home: Home, tmp_path: Path) -> Path:
    """An engine that is compiled until a file appears."""
    go_on = tmp_path / "go-on"
    put_tools(home, "c++", "cmake", "ninja")
    archive = write_archive(tmp_path / "archives", "compile one", f"wait {go_on}", "link")
    write_table(home, archive_source(archive))
    pip_finds(home, tmp_path / "archives")
    return go_on
