"""Owns the chats' file: conversations and messages in SQLite, written as tokens arrive; nothing typed or received is lost.

Free of Qt: the command line's `chat` uses it too.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from app.core.conversation import Conversation, Message
from app.core.errors import DiskFull, NotWritable, StorageError

T = TypeVar("T")
VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, changed_at REAL NOT NULL, deleted_at REAL, leaf TEXT, value BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    position INTEGER NOT NULL, text TEXT NOT NULL, value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_by_conversation ON messages (conversation, position);
"""
_DISK_IS_FULL = ("disk is full", "disk i/o error", "file too large")


class ChatFile:
    """Plain synchronous access. Each write is one transaction: a kill at any moment leaves what was written before."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        connection = None
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = sqlite3.connect(self._file, timeout=5, check_same_thread=False)
            self._file.chmod(0o600)
            _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                script = f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"
                _patiently(lambda: connection.executescript(script))
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise told(error, self._file) from error
        if version > VERSION:
            connection.close()
            raise NotWritable(
                f"The chats in {self._file} were written by a newer Engine Room.", "Update Engine Room to open them."
            )
        return connection

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        try:
            with self._connection:
                return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise told(error, self._file) from error

    def close(self) -> None:
        self._connection.close()

    # --- conversations ---

    def keep_conversation(self, conversation: Conversation) -> None:
        self._execute(
            "INSERT INTO conversations (id, changed_at, deleted_at, value) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET changed_at = excluded.changed_at, deleted_at = excluded.deleted_at,"
            " value = excluded.value",
            (
                conversation.id,
                conversation.changed_at_unix,
                conversation.deleted_at_unix,
                msgspec.json.encode(conversation),
            ),
        )

    def conversations(self, *, trashed: bool = False) -> list[Conversation]:
        """The latest changed first."""
        which = "NOT NULL" if trashed else "NULL"
        rows = self._execute(f"SELECT value FROM conversations WHERE deleted_at IS {which} ORDER BY changed_at DESC")
        return [msgspec.json.decode(row[0], type=Conversation) for row in rows]  # type: ignore[arg-type]

    def search(self, words: str) -> list[str]:
        """Ids of conversations whose title or messages contain the words, the latest changed first."""
        pattern = "%" + words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        rows = self._execute(
            "SELECT id FROM conversations c WHERE deleted_at IS NULL AND (json_extract(value, '$.title') LIKE ?1 ESCAPE '\\'"
            " OR EXISTS (SELECT 1 FROM messages m WHERE m.conversation = c.id AND m.text LIKE ?1 ESCAPE '\\'))"
            " ORDER BY changed_at DESC",
            (pattern,),
        )
        return [str(row[0]) for row in rows]

    def remove_for_good(self, conversation_id: str) -> None:
        """Only from the trash, and only when asked for."""
        self._execute("DELETE FROM conversations WHERE id = ? AND deleted_at IS NOT NULL", (conversation_id,))

    # --- messages ---

    def keep_message(self, conversation_id: str, message: Message) -> None:
        self._execute(
            "INSERT INTO messages (id, conversation, position, text, value) VALUES (?1, ?2,"
            " (SELECT COALESCE(MAX(position), 0) + 1 FROM messages WHERE conversation = ?2), ?3, ?4)"
            " ON CONFLICT (id) DO UPDATE SET text = excluded.text, value = excluded.value",
            (message.id, conversation_id, message.text, msgspec.json.encode(message)),
        )

    def messages(self, conversation_id: str) -> list[Message]:
        rows = self._execute("SELECT value FROM messages WHERE conversation = ? ORDER BY position", (conversation_id,))
        return [msgspec.json.decode(row[0], type=Message) for row in rows]  # type: ignore[arg-type]

    def keep_leaf(self, conversation_id: str, leaf: str | None) -> None:
        self._execute("UPDATE conversations SET leaf = ? WHERE id = ?", (leaf, conversation_id))

    def leaf(self, conversation_id: str) -> str | None:
        """The message at which the conversation was last seen; None = its newest one."""
        rows = self._execute("SELECT leaf FROM conversations WHERE id = ?", (conversation_id,))
        return str(rows[0][0]) if rows and rows[0][0] is not None else None


class ChatWriter:
    """Writes in a thread of its own, in order, the latest value of each thing only.

    What could not be written (a full disk) stays in memory and is tried again every `retry_seconds`; `on_trouble` is told
    the sentence, and "" when all is written again. Called from the writer's thread.
    """

    def __init__(self, file: ChatFile, on_trouble: Callable[[str], None], retry_seconds: float = 2.0) -> None:
        self._file = file
        self._on_trouble = on_trouble
        self._retry_seconds = retry_seconds
        self._waiting: dict[tuple[str, str], Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        self._trouble = ""
        self._thread = threading.Thread(target=self._work, name="chat writer", daemon=True)
        self._thread.start()
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="chat reader")

    def conversation(self, value: Conversation) -> None:
        self._put(("conversation", value.id), lambda: self._file.keep_conversation(value))

    def message(self, conversation_id: str, value: Message) -> None:
        self._put(("message", value.id), lambda: self._file.keep_message(conversation_id, value))

    def leaf(self, conversation_id: str, leaf: str | None) -> None:
        self._put(("leaf", conversation_id), lambda: self._file.keep_leaf(conversation_id, leaf))

    def read(self, work: Callable[[ChatFile], T]) -> Future[T]:
        """Runs `work` off the caller's thread, after what was put before is written or has failed to be."""

        def reading() -> T:
            self.flush(timeout_seconds=1.0)
            return work(self._file)

        return self._readers.submit(reading)

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Waits until all is written; False when that did not succeed in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_seconds)

    def close(self, timeout_seconds: float = 5.0) -> bool:
        """Writes what waits, then ends; False when something could not be written."""
        done = self.flush(timeout_seconds)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        self._readers.shutdown()
        self._file.close()
        return done

    def _put(self, key: tuple[str, str], write: Callable[[], None]) -> None:
        with self._changed:
            self._waiting[key] = write  # keeps its place: a message never comes before its conversation
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                batch, self._waiting, self._busy = self._waiting, {}, True
            failed = self._write(batch)
            with self._changed:
                self._waiting = {**failed, **self._waiting}
                self._busy = False
                self._changed.notify_all()
                if failed and not self._closed:
                    self._changed.wait(self._retry_seconds)

    def _write(self, batch: dict[tuple[str, str], Callable[[], None]]) -> dict[tuple[str, str], Callable[[], None]]:
        trouble = ""
        for key, write in list(batch.items()):
            try:
                write()
            except StorageError as error:
                trouble = str(error)
                break
            del batch[key]
        if trouble != self._trouble:
            self._trouble = trouble
            self._on_trouble(trouble)
        return batch


def _patiently(work: Callable[[], object], tries: int = 100, pause_seconds: float = 0.05) -> None:
    """SQLite's own patience does not cover the change to WAL, nor two processes that make the file at one moment."""
    for last in (*[False] * (tries - 1), True):
        try:
            work()
            return
        except sqlite3.OperationalError as error:
            if last or "locked" not in str(error):
                raise
            time.sleep(pause_seconds)


def told(error: BaseException, file: Path) -> StorageError:
    """SQLite's and the system's words as a sentence with what to do."""
    words = str(error)
    if getattr(error, "errno", None) == 28 or any(mark in words.lower() for mark in _DISK_IS_FULL):
        return DiskFull(
            f"The chat could not be written to {file}: the disk is full.",
            "Free some space; it is kept in memory and written as soon as there is room.",
        )
    return NotWritable(
        f"The chats in {file} cannot be used: {words}.",
        "Check the file's permissions; if it is damaged, move it away: Engine Room makes a new one.",
    )
