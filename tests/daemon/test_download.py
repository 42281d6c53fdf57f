"""Source archives come from where pip is configured to look: resumed, counted, checked; a broken index is named (E7, I18)."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.core.errors import EngineFailed
from app.daemon.download import Link, archive_among, fetch, find_archive, links_of_page
from app.daemon.package_index import PipSettings, pip_settings
from app.daemon.work import News, Work

CONTENT = bytes(range(256)) * 8192
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "llama_cpp_python-0.1.tar.gz"


class Index(ThreadingHTTPServer):
    """An index with one project; `breaks_after` bytes of the archive it closes the connection."""

    status = 200
    breaks_after = 0
    silent = False  # takes the connection and never answers
    page = f'<!doctype html><a href="../../files/{NAME}#sha256={SHA256}">{NAME}</a>'

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[tuple[str, str]] = []
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"

    @property
    def settings(self) -> PipSettings:
        return PipSettings(index_url=self.url)


class _Answers(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        span = self.headers.get("Range", "")
        self.server.asked.append((self.path, span))
        if self.server.silent:
            self.server.over.wait()
            return
        if self.path.startswith("/simple/"):
            self._send(self.server.status, self.server.page.encode())
            return
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        body = CONTENT[start:]
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.breaks_after] if self.server.breaks_after else body)
        self.close_connection = True

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[Index]:
    index = Index()
    yield index
    index.over.set()
    index.shutdown()
    index.server_close()


@pytest.fixture
def news() -> list[News]:
    return []


@pytest.fixture
def work(news: list[News]) -> Work:
    return Work({}, news.append)


def test_the_archive_is_found_fetched_counted_and_checked(
    index: Index, tmp_path: Path, work: Work, news: list[News]
) -> None:
    link = find_archive(index.settings, "llama-cpp-python", "0.1")
    assert (link.name, link.sha256) == (NAME, SHA256)
    fetch(index.settings, link, tmp_path / NAME, "", work)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert {one.bytes_total for one in news} == {len(CONTENT)}
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_download_that_broke_off_goes_on_where_it_stopped(index: Index, tmp_path: Path, work: Work) -> None:
    index.breaks_after = 700_000
    link = find_archive(index.settings, "llama-cpp-python", "0.1")
    with pytest.raises(EngineFailed, match="goes on where it stopped"):
        fetch(index.settings, link, tmp_path / NAME, SHA256, work)
    part = (tmp_path / f"{NAME}.part").stat().st_size
    assert part > 0
    index.breaks_after = 0
    fetch(index.settings, link, tmp_path / NAME, SHA256, work)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert index.asked[-1] == (f"/files/{NAME}", f"bytes={part}-")


def test_another_file_than_the_published_one_is_refused_and_not_kept(index: Index, tmp_path: Path, work: Work) -> None:
    link = find_archive(index.settings, "llama-cpp-python", "0.1")
    with pytest.raises(EngineFailed, match="SHA-256 differs"):
        fetch(index.settings, link, tmp_path / NAME, "0" * 64, work)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "page", "words"),
    [
        (500, "", "answers 500"),
        (404, "", "answers 404"),
        (200, "<html>\x00 no links at all", "does not have it"),
        (200, '<a href="llama_cpp_python-0.2.tar.gz">', "does not have it"),
    ],
)
def test_a_broken_index_is_named_with_what_it_did(index: Index, status: int, page: str, words: str) -> None:
    index.status, index.page = status, page
    with pytest.raises(EngineFailed, match=words) as refusal:
        find_archive(index.settings, "llama-cpp-python", "0.1")
    assert "127.0.0.1" in str(refusal.value)
    assert "pip" in refusal.value.advice


def test_an_index_that_never_answers_is_given_up(index: Index, tmp_path: Path, work: Work) -> None:
    """After as long a silence as pip was told to bear, for the page as for the file."""
    patience = pip_settings({"PIP_TIMEOUT": "0.5", "PIP_INDEX_URL": index.url}, [])
    link = find_archive(index.settings, "llama-cpp-python", "0.1")
    index.silent = True
    with pytest.raises(EngineFailed, match=r"127\.0\.0\.1 does not answer"):
        find_archive(patience, "llama-cpp-python", "0.1")
    with pytest.raises(EngineFailed, match=r"127\.0\.0\.1 does not answer"):
        fetch(patience, link, tmp_path / NAME, SHA256, work)
    assert not (tmp_path / NAME).exists()


def test_without_a_network_it_says_who_could_not_be_reached_and_tells_no_password(index: Index) -> None:
    index.shutdown()
    index.server_close()
    secret = index.url.replace("http://", "http://me:hunter2@")
    with pytest.raises(EngineFailed, match=r"127\.0\.0\.1 cannot be reached") as refusal:
        find_archive(PipSettings(index_url=secret), "llama-cpp-python", "0.1")
    assert "hunter2" not in str(refusal.value)


def test_an_index_on_the_disk_and_a_folder_of_files_are_read_too(tmp_path: Path, work: Work) -> None:
    project = tmp_path / "simple" / "llama-cpp-python"
    project.mkdir(parents=True)
    (tmp_path / "simple" / NAME).write_bytes(CONTENT)
    (project / "index.html").write_text(f'<a href="../{NAME}">x</a>')
    settings = PipSettings(index_url=(tmp_path / "simple").as_uri(), find_links=(str(tmp_path / "nothing-here"),))
    link = find_archive(settings, "llama_cpp.Python", "0.1")
    fetch(settings, link, tmp_path / "got", SHA256, work)
    assert (tmp_path / "got").read_bytes() == CONTENT
    in_folder = PipSettings(no_index=True, find_links=(str(tmp_path / "simple"),))
    assert find_archive(in_folder, "llama-cpp-python", "0.1").name == NAME


def test_names_and_versions_are_compared_as_the_indexes_do() -> None:
    names = ["llama-cpp-python-0.1.tar.gz", "llama_cpp_python-0.1.1.tar.gz", "llama_cpp_python-0.1-py3-none-any.whl"]
    links = links_of_page("".join(f'<a href="{name}">' for name in names), "https://x.invalid/simple/llama/")
    assert archive_among(links, "llama_cpp_python", "0.1") == Link(
        url="https://x.invalid/simple/llama/llama-cpp-python-0.1.tar.gz", name=names[0]
    )
    assert archive_among(links, "llama-cpp-python", "0.2") is None
