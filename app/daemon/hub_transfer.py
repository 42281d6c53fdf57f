"""Downloads files of the hub into its cache: gone on with where it stopped, checked, and there for others only when whole.

The hub's library finds the files and speaks to the hub; the transfer is ours, because the library (2.4) throws away what a
broken download has brought. Layout of the cache, as every program that uses it knows it:
`models--PUBLISHER--MODEL/{blobs/ETAG, snapshots/COMMIT/FILE → blob, refs/main}`; a part is `blobs/ETAG.incomplete`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from app.core.errors import DiskFull, DownloadDamaged, HubError, HubUnreachable, NotWritable
from app.core.hub import HubFile
from app.daemon.work import Work

if TYPE_CHECKING:
    import httpx2

PIECE_BYTES = 1024**2
RANGE_BYTES = 8 * 1024**3  # in one request: some networks of copies refuse more than 50 GB at once
SILENCE_SECONDS = 60.0
ATTEMPTS = 6  # in a row without a byte
LONGEST_PAUSE_SECONDS = 60.0
ANEW_SECONDS = 0.5
ROOM_LEFT_BYTES = 256 * 1024**2  # a download stops before a disk is full to the last byte
LOOK_AT_DISK_BYTES = 64 * 1024**2
HEX = frozenset("0123456789abcdef")
COMMIT = re.compile(r"[0-9a-f]{40}")


class Pulling(msgspec.Struct, frozen=True, kw_only=True, tag="pull"):
    """An order: these files of this commit into that cache. `of_branch`: the branch that then stands at this commit."""

    name: str
    commit: str
    files: tuple[HubFile, ...]
    cache: str
    of_branch: str = "main"


def repository_folder(cache: Path, name: str) -> Path:
    return cache / f"models--{name.replace('/', '--')}"


def blob_name(file: HubFile) -> str:
    """The name of the file's content in the cache; raises HubError for one that could lead elsewhere."""
    if len(file.etag) in (40, 64) and set(file.etag) <= HEX and _is_inside(file.path):
        return file.etag
    raise HubError(f"The hub names {file.path[:100]!r} in a way that cannot be used.", "Tell its publisher.")


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    return bool(path) and not path.startswith("/") and "\\" not in path and all(p not in ("", ".", "..") for p in parts)


def pull(order: Pulling, work: Work) -> dict[str, object]:
    """Everything of the order, whole and checked. What came before a failure stays for the next try."""
    repository = repository_folder(Path(order.cache), order.name)
    if not COMMIT.fullmatch(order.commit):  # it names a folder of the cache
        raise HubError(f"The hub names no usable revision of {order.name}.", "Try again in a while.")
    files = {blob_name(file): file for file in order.files}  # two files of one content are fetched once
    total, fetcher = sum(file.bytes for file in files.values()), None
    try:
        (repository / "blobs").mkdir(parents=True, exist_ok=True)
        missing = sum(file.bytes - here_bytes(repository, file) for file in files.values())
        _refuse_without_room(repository, missing, order.name)
        done = 0
        for file in sorted(files.values(), key=lambda each: each.bytes):  # a wrong token is seen at the small ones
            blob = repository / "blobs" / file.etag
            if not _is_whole(blob, file):
                fetcher = fetcher or _Fetcher(order, work, total)
                fetcher.fetch(file, blob, done)
            done += file.bytes
        work.reached("pull:whole")
        _link(order, repository)
    except OSError as error:
        raise _of_disk(error, repository) from error
    path = repository / "snapshots" / order.commit
    return {"path": str(path / order.files[0].path), "folder": str(path), "bytes": total}


def here_bytes(repository: Path, file: HubFile) -> int:
    """How much of the file is in the cache already, whole or in part."""
    blob = repository / "blobs" / file.etag
    if _is_whole(blob, file):
        return file.bytes
    try:
        return min(file.bytes, _part_of(blob).stat().st_size)
    except OSError:
        return 0


def _is_whole(blob: Path, file: HubFile) -> bool:
    try:
        return blob.stat().st_size == file.bytes
    except OSError:
        return False


def _part_of(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")


def _link(order: Pulling, repository: Path) -> None:
    """Last of all, so that no program ever meets half a model, and an older revision is used until then."""
    snapshot = repository / "snapshots" / order.commit
    for file in order.files:
        place = snapshot / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (2 + file.path.count("/"))
        fresh = place.with_name(f".{place.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(f"{up}blobs/{file.etag}")
        fresh.replace(place)
    branch = repository / "refs" / order.of_branch
    branch.parent.mkdir(parents=True, exist_ok=True)
    fresh = branch.with_name(f".{branch.name}.{os.getpid()}")
    fresh.write_text(order.commit, "ascii")
    fresh.replace(branch)


# --- room ------------------------------------------------------------------------------------------------------------


def free_bytes(folder: Path) -> int | None:
    """What the account may still write there; of a folder that is not there yet: where it would be."""
    for place in (folder, *folder.parents):
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize
    return None


def _refuse_without_room(folder: Path, needed: int, name: str) -> None:
    free = free_bytes(folder)
    if free is not None and needed + ROOM_LEFT_BYTES > free:
        raise DiskFull(
            f"{name} needs {_gb(needed)} more on {folder.parent}, where {_gb(free)} are free.",
            "Make room there, or set HF_HUB_CACHE to a folder on another disk. What is already here stays.",
        )


def _of_disk(error: OSError, folder: Path) -> Exception:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(
                f"The disk of {folder} is full.", "Make room and resume: what has come stays and is gone on with."
            )
        case errno.EFBIG:
            return DiskFull(
                f"The file system of {folder} takes no file as large as this one.",
                "Set HF_HUB_CACHE to a folder on another disk, with ext4, xfs or btrfs.",
            )
    return NotWritable(
        f"{folder} cannot be written: {error.strerror or error}.", "Check its owner and permissions, then resume."
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


# --- one file --------------------------------------------------------------------------------------------------------


class _Fetcher:
    """Fetches file after file, counting over all of them."""

    def __init__(self, order: Pulling, work: Work, total: int) -> None:
        from huggingface_hub.utils import get_token

        self._order, self._work, self._total = order, work, total
        self._has_token = bool(get_token())
        self._begun, self._came, self._looked = time.monotonic(), 0, 0

    def fetch(self, file: HubFile, blob: Path, before: int) -> None:
        """The file as `blob`. Raises HubUnreachable (what came stays), DownloadDamaged (nothing stays), DiskFull, …"""
        part = _part_of(blob)
        with _alone(blob), part.open("ab+") as opened:
            if _is_whole(blob, file):  # another program has brought it while we waited for its lock
                part.unlink()
                return
            digest, size = self._known_part(file, opened)
            attempts = 0
            while size < file.bytes:
                came = 0
                try:
                    for piece in self._pieces(file, opened, size):
                        opened.write(piece)
                        opened.flush()
                        digest.update(piece)
                        size, came = size + len(piece), came + len(piece)
                        self._tell(file, before + size, len(piece), blob.parent)
                        self._work.reached("pull:piece")
                except _Again as again:  # the server has other ideas of where to go on
                    attempts += 1
                    digest, size = _digest_of(file), 0
                    opened.truncate(0)
                    if attempts > 1:
                        self._wait(file, _Interrupted(str(again), ANEW_SECONDS), attempts, before)
                except SystemExit:  # paused or cancelled
                    self._say("Stopped", before + size)
                    raise
                except _Interrupted as cut:
                    attempts = 1 if came else attempts + 1
                    self._wait(file, cut, attempts, before + size)
            if size > file.bytes or digest.hexdigest() != file.etag:
                part.unlink(missing_ok=True)
                raise DownloadDamaged(
                    f"{file.path} of {self._order.name} is not what its publisher put there: its checksum differs.",
                    "Nothing of it was kept. Try again; when it happens twice, the hub or the network between is at fault.",
                    f"expected {file.etag}, found {digest.hexdigest()}",
                )
            os.fsync(opened.fileno())
            part.replace(blob)  # before the lock is given up: nobody may begin to write into it

    def _known_part(self, file: HubFile, opened: BinaryIO) -> tuple[hashlib._Hash, int]:
        """The checksum and size of what an earlier try has left; a part that is too large was another file's."""
        digest, size = _digest_of(file), 0
        if os.fstat(opened.fileno()).st_size > file.bytes:
            opened.truncate(0)
        opened.seek(0)
        while piece := opened.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
            self._work.say(f"Checking what is here of {file.path}")
        return digest, size

    def _pieces(self, file: HubFile, opened: BinaryIO, start: int) -> Iterator[bytes]:
        """From `start` on. Raises _Interrupted for what may pass, _Again when it has to be begun anew."""
        import httpx2
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session

        url = hf_hub_url(self._order.name, file.path, revision=self._order.commit)
        end = min(file.bytes, start + RANGE_BYTES)
        headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}
        timeout = httpx2.Timeout(SILENCE_SECONDS, connect=20.0)
        try:
            # Through the hub each time: the address of a copy is signed and does not live long. The token stays with the hub.
            with get_session().stream("GET", url, headers=headers, timeout=timeout) as answer:
                self._refuse(answer, file)
                if answer.status_code == 200 and start:
                    raise _Again("it can only be sent whole")
                left = end - start if answer.status_code == 206 else file.bytes
                for piece in answer.iter_bytes():
                    if len(piece) > left:
                        raise DownloadDamaged(
                            f"{file.path} of {self._order.name} is longer than its publisher says.",
                            "Look at its list of files again: it may have just changed.",
                        )
                    left -= len(piece)
                    yield piece
                if left:
                    raise _Interrupted("the connection was cut")
        except httpx2.HTTPError as error:
            raise _Interrupted(str(error).strip() or type(error).__name__) from error

    def _refuse(self, answer: httpx2.Response, file: HubFile) -> None:
        from huggingface_hub.utils import hf_raise_for_status

        from app.daemon import hub_words

        status = answer.status_code
        if status == 416:
            raise _Again("the part that is missing is refused")
        if status == 429 or status == 408 or status >= 500:
            raise _Interrupted(
                hub_words.of_status(status, self._order.name, self._has_token).summary, _pause_of(answer)
            )
        if status in (200, 206):
            started = answer.headers.get("Content-Range", "")
            wanted = answer.request.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
            if status == 206 and not started.removeprefix("bytes ").startswith(f"{wanted}-"):
                raise _Again("another part was sent than the one that was asked for")
            return
        try:
            hf_raise_for_status(answer)
        except Exception as error:
            raise hub_words.said(error, self._order.name, self._has_token) from error
        raise HubError(f"The hub answers {status} for {file.path}, which it should not.", "Try again in a while.")

    def _wait(self, file: HubFile, cut: _Interrupted, attempts: int, done: int) -> None:
        if attempts >= ATTEMPTS:
            raise HubUnreachable(
                f"{self._order.name} could not be downloaded further: {cut}.".replace("..", "."),
                f"{_gb(done)} of {_gb(self._total)} are here and stay: resume goes on there.",
            )
        pause = cut.pause_seconds or min(LONGEST_PAUSE_SECONDS, 0.5 * 2 ** (attempts - 1))
        self._say(f"{cut}; going on in {max(1, round(pause))} s".replace(".;", ";"), done)
        time.sleep(pause)

    def _say(self, detail: str, done: int, eta_seconds: float | None = None) -> None:
        share = done / max(1, self._total)
        self._work.say(detail, progress=share, bytes_done=done, bytes_total=self._total, eta_seconds=eta_seconds)

    def _tell(self, file: HubFile, done: int, came: int, folder: Path) -> None:
        self._came += came
        if self._came - self._looked >= LOOK_AT_DISK_BYTES:
            self._looked = self._came
            free = free_bytes(folder)
            if free is not None and free < ROOM_LEFT_BYTES:
                raise OSError(errno.ENOSPC, "the disk is almost full")
        speed = self._came / max(1e-3, time.monotonic() - self._begun)
        self._say(f"Downloading {file.path}", done, eta_seconds=(self._total - done) / speed if speed else None)


class _Again(Exception):
    """The file has to be begun anew; the argument is why, as a clause."""


class _Interrupted(Exception):
    """It may go on after a pause."""

    def __init__(self, why: str, pause_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.pause_seconds = pause_seconds


def _pause_of(answer: httpx2.Response) -> float:
    told = answer.headers.get("Retry-After", "")
    return min(LONGEST_PAUSE_SECONDS, float(told)) if told.replace(".", "", 1).isdigit() else 0.0


def _digest_of(file: HubFile) -> hashlib._Hash:
    """Large files are named by their SHA-256, small ones as git names them."""
    if len(file.etag) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.bytes, usedforsecurity=False)


@contextmanager
def _alone(blob: Path) -> Iterator[None]:
    """The lock by which the programs that use the cache keep out of each other's way."""
    from huggingface_hub.utils import WeakFileLock

    repository = blob.parent.parent
    lock = repository.parent / ".locks" / repository.name / f"{blob.name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(str(lock)):
        yield
