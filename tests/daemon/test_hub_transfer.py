"""Downloads against a hub that speaks the real protocol: resumed, checked, refused; real job processes, real sockets."""

import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.core.errors import ErrorReport
from app.core.hub import HubFile
from app.core.snapshot import to_json
from app.daemon.hub_transfer import Pulling
from app.daemon.job_program import Told
from tests.rig.home import Home
from tests.rig.hub import TOKEN, HubStandIn, Repository, etag_of

REPOSITORY = Path(__file__).resolve().parents[2]
WEIGHTS = random.Random(5).randbytes(600_000)
BIG = "nested/model-Q8_0.gguf"


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as hub:
        yield hub


@pytest.fixture
def model(hub: HubStandIn) -> Repository:
    return hub.add("acme/model-GGUF", {BIG: WEIGHTS, "config.json": b'{"model_type": "x"}'})


class Puller:
    """Carries out orders as the daemon has it done: by a program of its own."""

    def __init__(self, home: Home, hub: HubStandIn) -> None:
        self.home = home
        self.cache = home.folder / "hub"
        self.environment = home.environment | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"}

    @property
    def blobs(self) -> Path:
        return self.cache / "models--acme--model-GGUF" / "blobs"

    def order(self, model: Repository, only: str = "", **more: object) -> Pulling:
        files = tuple(
            HubFile(path=path, bytes=len(data), etag=etag_of(data))
            for path, data in model.files.items()
            if only in ("", path)
        )
        values = {"name": model.name, "commit": model.commit, "files": files, "cache": str(self.cache), **more}
        return Pulling(**values)  # type: ignore[arg-type]

    def pull(self, order: Pulling, file_limit: int | None = None, **environment: str) -> "Ended":
        file = self.home.folder / "pull.order"
        file.write_bytes(to_json(order))
        command = [sys.executable, "-m", "app.daemon.job_program", str(file)]
        if file_limit is not None:  # a file system that takes no larger file
            command = [sys.executable, "-c", LIMITED, str(file_limit), *command]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=self.environment | environment, capture_output=True, timeout=100, check=False
        )
        lines = [msgspec.json.decode(line, type=Told) for line in done.stdout.splitlines() if line.startswith(b"{")]
        return Ended(done.returncode, lines)


LIMITED = "import os, resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)); os.execv(sys.argv[2], sys.argv[2:])"


class Ended:
    def __init__(self, code: int, told: list[Told]) -> None:
        self.code, self.told = code, told

    @property
    def done(self) -> dict[str, object]:
        assert self.told[-1].done is not None, self.told[-1]
        return self.told[-1].done

    @property
    def failed(self) -> ErrorReport:
        assert self.told[-1].failed is not None, self.told[-1]
        return self.told[-1].failed


@pytest.fixture
def puller(home: Home, hub: HubStandIn) -> Puller:
    return Puller(home, hub)


def test_what_comes_lies_where_every_program_of_the_hub_finds_it(
    puller: Puller, model: Repository, hub: HubStandIn
) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    ended = puller.pull(puller.order(model))
    assert Path(str(ended.done["path"])).read_bytes() == WEIGHTS
    found = try_to_load_from_cache(model.name, BIG, cache_dir=puller.cache, revision="main")
    assert Path(str(found)).read_bytes() == WEIGHTS
    (known,) = scan_cache_dir(puller.cache).repos
    assert (known.repo_id, known.nb_files, known.size_on_disk) == (model.name, 2, len(WEIGHTS) + 19)
    figures = [told.news for told in ended.told if told.news is not None and told.news.bytes_total]
    assert all(news.bytes_total == len(WEIGHTS) + 19 for news in figures)
    assert not [seen for seen in hub.seen if "harness" in seen.path or "telemetry" in seen.path], (
        "it tells nobody of us"
    )

    hub.seen.clear()
    puller.pull(puller.order(model))
    assert hub.seen == [], "what is here whole is not asked for again"


def test_a_cut_connection_goes_on_where_it_was(puller: Puller, model: Repository, hub: HubStandIn) -> None:
    model.of(BIG).cut_after = [200_000, 100_000]
    model.of(BIG).statuses = [503, 429]
    ended = puller.pull(puller.order(model))
    assert Path(str(ended.done["path"])).read_bytes() == WEIGHTS
    starts = [int(asked.partition("-")[0]) for asked in hub.ranges(BIG)]
    assert starts == [0, 0, 0, 200_000, 300_000]
    assert any("going on in" in told.news.detail for told in ended.told if told.news)


def test_a_killed_download_loses_nothing_that_has_come(puller: Puller, model: Repository, hub: HubStandIn) -> None:
    killed = puller.pull(puller.order(model, BIG), **{DIE: "pull:piece"})
    assert killed.code == -signal.SIGKILL
    (part,) = puller.blobs.glob("*.incomplete")
    here = part.stat().st_size
    assert 0 < here < len(WEIGHTS)
    hub.seen.clear()
    assert Path(str(puller.pull(puller.order(model, BIG)).done["path"])).read_bytes() == WEIGHTS
    assert hub.ranges(BIG) == [f"{here}-{len(WEIGHTS) - 1}"]
    assert not list(puller.blobs.glob("*.incomplete"))


def test_a_model_appears_only_when_all_of_it_is_here(puller: Puller, model: Repository) -> None:
    model.of(BIG).statuses = [503] * 6
    failed = puller.pull(puller.order(model)).failed
    assert failed.kind == "hub_unreachable"
    assert "stay: resume goes on there" in failed.advice
    assert (puller.blobs / etag_of(model.files["config.json"])).exists(), "the small file has come"
    assert not (puller.cache / "models--acme--model-GGUF" / "snapshots").exists()
    assert not (puller.cache / "models--acme--model-GGUF" / "refs").exists()


def test_other_bytes_than_published_are_refused_and_not_kept(puller: Puller, model: Repository) -> None:
    model.of(BIG).wrong = True
    failed = puller.pull(puller.order(model)).failed
    assert failed.kind == "download_damaged"
    assert "checksum differs" in failed.summary
    assert hashlib.sha256(WEIGHTS).hexdigest() in failed.evidence
    assert not list(puller.blobs.glob("*.incomplete"))
    assert not (puller.blobs / etag_of(WEIGHTS)).exists()


def test_a_part_of_another_making_is_found_out(puller: Puller, model: Repository, hub: HubStandIn) -> None:
    """Some other program's part, or a damaged disk's: the checksum is over what was here too."""
    puller.blobs.mkdir(parents=True)
    (puller.blobs / f"{etag_of(WEIGHTS)}.incomplete").write_bytes(bytes(1000))
    assert puller.pull(puller.order(model)).failed.kind == "download_damaged"
    assert Path(str(puller.pull(puller.order(model)).done["path"])).read_bytes() == WEIGHTS


def test_a_server_that_knows_no_ranges_begins_anew(puller: Puller, model: Repository) -> None:
    puller.blobs.mkdir(parents=True)
    (puller.blobs / f"{etag_of(WEIGHTS)}.incomplete").write_bytes(WEIGHTS[:1000])
    model.of(BIG).no_ranges = True
    assert Path(str(puller.pull(puller.order(model)).done["path"])).read_bytes() == WEIGHTS


def test_a_server_that_refuses_every_range_is_given_up(puller: Puller, model: Repository, hub: HubStandIn) -> None:
    """I7: to begin anew is a try as well, and tries are counted."""
    model.of(BIG).statuses = [416] * 100
    failed = puller.pull(puller.order(model, BIG)).failed
    assert (failed.kind, "is refused" in failed.summary) == ("hub_unreachable", True), failed
    assert len(hub.ranges(BIG)) < 10


def test_a_revision_without_a_name_links_nothing(puller: Puller, model: Repository, hub: HubStandIn) -> None:
    for commit in ("", "../../elsewhere"):
        assert "no usable revision" in puller.pull(puller.order(model, commit=commit)).failed.summary
    assert not puller.cache.exists()


def test_a_gated_model_needs_the_token_and_the_copies_never_see_it(
    puller: Puller, model: Repository, hub: HubStandIn
) -> None:
    model.gated = True
    failed = puller.pull(puller.order(model)).failed
    assert failed.kind == "model_gated"
    assert "agreed to its terms" in failed.summary
    assert "not open to the account" in puller.pull(puller.order(model), HF_TOKEN="hf_other").failed.summary
    ended = puller.pull(puller.order(model), HF_TOKEN=TOKEN)
    assert ended.done
    assert {seen.authorization for seen in hub.seen if seen.where == "copies"} == {""}, "I18"


def test_a_disk_without_room_is_told_before_a_byte_and_a_part_stays(
    puller: Puller, model: Repository, hub: HubStandIn
) -> None:
    huge = HubFile(path="huge.gguf", bytes=10**15, etag="c" * 64)
    failed = puller.pull(puller.order(model, files=(huge,))).failed
    assert failed.kind == "disk_full"
    assert "needs 1000000.0 GB more" in failed.summary
    assert hub.seen == []

    failed = puller.pull(puller.order(model), file_limit=300_000).failed
    assert failed.kind == "disk_full"
    assert "no file as large" in failed.summary
    (part,) = puller.blobs.glob("*.incomplete")
    assert part.stat().st_size == 300_000
    assert puller.pull(puller.order(model)).done
    assert hub.ranges(BIG)[-1].startswith("300000-")


@pytest.mark.parametrize(
    ("path", "etag"),
    [("../../out.gguf", "a" * 64), ("/etc/out", "a" * 64), ("x.gguf", "../../../out"), ("a/../b", "a" * 64), ("x", "")],
)
def test_names_that_lead_elsewhere_are_refused(puller: Puller, model: Repository, path: str, etag: str) -> None:
    failed = puller.pull(puller.order(model, files=(HubFile(path=path, bytes=3, etag=etag),))).failed
    assert failed.kind == "hub_error"
    assert not list(puller.home.folder.rglob("out*"))


DIE = "ENGINE_ROOM_INSTALL_DIE_AT"
