"""Nothing typed or received is ever lost (H3): kills, full disks, deletions."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from app.core.conversation import Conversation, MadeBy, Message
from app.core.errors import NotWritable
from app.ui.chat.store import ChatFile, ChatWriter

ONE = Conversation(id="c1", title="About VRAM", changed_at_unix=1.0)
TWO = Conversation(id="c2", title="Poems", changed_at_unix=2.0)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[ChatFile]:
    found = ChatFile(tmp_path / "data" / "chats.sqlite3")
    yield found
    found.close()


def say(number: int, text: str, parent: str | None = None) -> Message:
    return Message(id=f"m{number}", parent=parent, role="user", text=text)


def test_conversations_come_latest_first_and_messages_in_order(file: ChatFile) -> None:
    file.keep_conversation(ONE)
    file.keep_conversation(TWO)
    for number in range(3):
        file.keep_message("c1", say(number, f"text {number}"))
    file.keep_message("c1", say(1, "changed"))
    assert [found.id for found in file.conversations()] == ["c2", "c1"]
    assert [found.text for found in file.messages("c1")] == ["text 0", "changed", "text 2"]


def test_an_answer_keeps_what_made_it_and_older_answers_have_nothing(file: ChatFile) -> None:
    """A chat of an earlier version holds no maker; what a later version adds to one is passed over."""
    made = MadeBy(title="Demo", engine="llama.cpp", engine_build="1.2", settings={"context_tokens": 1024, "x": 0.5})
    file.keep_conversation(ONE)
    file.keep_message("c1", msgspec.structs.replace(say(1, "new"), run_id="run-1", made_by=made))
    file.keep_message("c1", say(2, "old"))
    for number, change in ((2, "$.made_by"), (1, "$.made_by.of_a_later_version")):
        edit = "json_remove(value, ?)" if number == 2 else "json_set(value, ?, 1)"
        file._execute(f"UPDATE messages SET value = {edit} WHERE id = ?", (change, f"m{number}"))
    new, old = file.messages("c1")
    assert (new.run_id, new.made_by) == ("run-1", made)
    assert (old.run_id, old.made_by) == ("", None)


def test_a_deleted_chat_lies_in_the_trash_until_it_is_removed_for_good(file: ChatFile) -> None:
    file.keep_conversation(ONE)
    file.keep_message("c1", say(1, "kept"))
    from msgspec.structs import replace

    file.keep_conversation(replace(ONE, deleted_at_unix=5.0))
    assert file.conversations() == []
    assert [found.id for found in file.conversations(trashed=True)] == ["c1"]
    file.keep_conversation(ONE)
    assert [found.text for found in file.messages("c1")] == ["kept"]
    file.remove_for_good("c1")
    assert [found.id for found in file.conversations()] == ["c1"], "what is not in the trash is not removed"


def test_search_finds_titles_and_texts_and_takes_signs_literally(file: ChatFile) -> None:
    file.keep_conversation(ONE)
    file.keep_conversation(TWO)
    file.keep_message("c2", say(1, "The card is 100% full"))
    assert file.search("vram") == ["c1"]
    assert file.search("100%") == ["c2"]
    assert file.search("1_0%") == []


def test_a_kill_in_the_middle_of_an_answer_keeps_what_was_written(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from app.core.conversation import Conversation, Message
        from app.ui.chat.store import ChatFile, ChatWriter
        writer = ChatWriter(ChatFile(Path(sys.argv[1])), lambda trouble: None)
        writer.conversation(Conversation(id="c1"))
        text = ""
        for number in range(50):
            text += f"token{number} "
            writer.message("c1", Message(id="a", parent=None, role="assistant", text=text))
        writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    file = tmp_path / "chats.sqlite3"
    top = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", script, str(file)], cwd=top, check=False)
    assert done.returncode == -signal.SIGKILL
    kept = ChatFile(file)
    (message,) = kept.messages("c1")
    assert message.text.endswith("token49 ")
    assert message.finish is None, "it was never finished, and says so"
    kept.close()


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    """A file-size limit stands for the full disk: the system refuses the write in the same way."""
    script = textwrap.dedent(
        """
        import resource, signal, sys, threading
        from pathlib import Path
        from app.core.conversation import Conversation, Message
        from app.ui.chat.store import ChatFile, ChatWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        told, full, clear = [], threading.Event(), threading.Event()
        def trouble(sentence):
            told.append(sentence)
            (full if sentence else clear).set()
        writer = ChatWriter(ChatFile(Path(sys.argv[1])), trouble, retry_seconds=0.05)
        writer.conversation(Conversation(id="c1"))
        assert writer.flush()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        writer.message("c1", Message(id="a", parent=None, role="user", text="x" * 2_000_000))
        assert full.wait(20), "the trouble was not told"
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert clear.wait(20), "it was not written when there was room again"
        assert writer.close()
        print(told[0])
        """
    )
    file = tmp_path / "chats.sqlite3"
    top = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], cwd=top, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "the disk is full" in done.stdout
    kept = ChatFile(file)
    assert len(kept.messages("c1")[0].text) == 2_000_000
    kept.close()


def test_a_damaged_file_gives_a_sentence_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "chats.sqlite3"
    file.write_bytes(b"not a database at all" * 50)
    with pytest.raises(NotWritable, match="cannot be used"):
        ChatFile(file)
    assert file.read_bytes().startswith(b"not a database")


def test_the_latest_value_wins_when_writes_pile_up(tmp_path: Path) -> None:
    writer = ChatWriter(ChatFile(tmp_path / "chats.sqlite3"), lambda trouble: None)
    writer.conversation(ONE)
    for number in range(500):
        writer.message("c1", say(1, "x" * number))
    (message,) = writer.read(lambda file: file.messages("c1")).result(20)
    assert len(message.text) == 499
    assert writer.close()


def test_a_window_and_commands_that_make_the_file_at_the_same_moment_all_succeed(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from app.core.conversation import Conversation
        from app.ui.chat.store import ChatFile
        print("here", flush=True)
        sys.stdin.readline()
        file = ChatFile(Path(sys.argv[1]))
        file.keep_conversation(Conversation(id=sys.argv[2]))
        """
    )
    file = tmp_path / "chats.sqlite3"
    top = Path(__file__).resolve().parents[3]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(file), f"c{number}"],
            cwd=top,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    kept = ChatFile(file)
    assert {conversation.id for conversation in kept.conversations()} == {f"c{number}" for number in range(6)}
    kept.close()
