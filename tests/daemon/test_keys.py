"""Keys of remote endpoints lie in a keyring that keeps them, else in a file of ours; a keyring that hangs stops nobody (I7, I18)."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend

from app.core.errors import BadRequest, NotWritable, SettingInvalid
from app.daemon.keys import Keys


class Desktop(KeyringBackend):
    """A keyring as a desktop has one; it can be shut, and it can ask and wait for ever."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.open = threading.Event()
        self.open.set()
        self.broken = False

    def _wait(self) -> None:
        if self.broken:
            raise RuntimeError("no secret service")
        self.open.wait(60)

    def get_password(self, service: str, username: str) -> str | None:
        self._wait()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._wait()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._wait()
        del self.kept[service, username]


@pytest.fixture
def desktop() -> Iterator[Desktop]:
    before, ring = keyring.get_keyring(), Desktop()
    keyring.set_keyring(ring)
    yield ring
    ring.open.set()
    keyring.set_keyring(before)


async def test_a_keyring_that_keeps_is_used_and_no_file_has_the_key(tmp_path: Path, desktop: Desktop) -> None:
    told: list[dict[str, str]] = []
    keys = Keys(tmp_path / "keys.json", changed=told.append)
    assert (await keys.set("mine", "sk-1")).where == "keyring"
    assert await keys.get("mine") == "sk-1"
    assert await keys.names() == {"mine": "keyring"} == told[-1]
    assert b"sk-1" not in (tmp_path / "keys.json").read_bytes()
    assert await keys.remove("mine")
    assert (desktop.kept, await keys.names(), await keys.get("mine")) == ({}, {}, None)
    assert not await keys.remove("mine")
    assert len(told) == 2, "the names are told when they change, not when they are asked for"


async def test_without_a_keyring_to_trust_a_private_file_has_it(tmp_path: Path, desktop: Desktop) -> None:
    desktop.broken = True
    keys = Keys(tmp_path / "folder" / "keys.json")
    assert (await keys.set("mine", "sk-1")).where == "file"
    assert (tmp_path / "folder" / "keys.json").stat().st_mode & 0o777 == 0o600
    assert await Keys(tmp_path / "folder" / "keys.json").get("mine") == "sk-1"
    assert "only this account can read: the desktop's keyring refused it." in (await keys.set("mine", "sk-1")).told(
        "It"
    )
    desktop.broken = False
    assert (await keys.set("mine", "sk-2")).where == "keyring"
    assert b"sk-" not in (tmp_path / "folder" / "keys.json").read_bytes(), "what moved to the keyring leaves the file"


async def test_a_keyring_that_asks_and_waits_is_not_waited_for(tmp_path: Path, desktop: Desktop) -> None:
    assert (await Keys(tmp_path / "keys.json", seconds=60).set("mine", "sk-1")).where == "keyring"
    keys = Keys(tmp_path / "keys.json", seconds=0.1)
    desktop.open.clear()
    assert await keys.get("mine") is None
    said = (await keys.set("other", "sk-2")).told("The key other")
    assert said.startswith("The key other is kept in a file that only this account can read")
    assert "did not answer within 0.1 s; it may be locked." in said
    assert await keys.remove("other")
    with pytest.raises(SettingInvalid, match="cannot be opened now"):
        await keys.need("mine", "Profile far")
    with pytest.raises(SettingInvalid, match="no key called 'other'"):
        await keys.need("other", "Profile far")


async def test_a_key_in_a_shut_keyring_is_not_called_forgotten(tmp_path: Path, desktop: Desktop) -> None:
    """I18: who removes a key trusts that it is nowhere any more; while the keyring is shut the name stays, and says where."""
    patient, keys = (Keys(tmp_path / "keys.json", seconds=seconds) for seconds in (60, 0.1))
    for name in ("mine", "lost"):
        assert (await patient.set(name, "sk-1")).where == "keyring"
    for shut in ("silent", "broken"):
        desktop.open.clear() if shut == "silent" else desktop.open.set()
        desktop.broken = shut == "broken"
        with pytest.raises(SettingInvalid, match="was not removed"):
            await keys.remove("mine")
        assert (await keys.names())["mine"] == "keyring"
    for asking in threading.enumerate():
        if asking.name == "keyring":
            await asyncio.to_thread(asking.join, 60)
    assert ("engine-room", "mine") in desktop.kept, "an answer that comes late removes nothing"
    desktop.broken = False
    assert await patient.remove("mine")
    del desktop.kept["engine-room", "lost"]  # by the keyring's own program
    assert await patient.remove("lost")
    assert (desktop.kept, await keys.names()) == ({}, {})


async def test_keys_that_are_given_at_once_are_all_kept(tmp_path: Path, desktop: Desktop) -> None:
    desktop.broken = True
    keys = Keys(tmp_path / "keys.json")
    names = [f"key-{number}" for number in range(20)]
    await asyncio.gather(*(keys.set(name, f"sk-{name}") for name in names))
    assert sorted(await keys.names()) == sorted(names)
    assert await keys.get("key-7") == "sk-key-7"


async def test_a_damaged_file_of_keys_is_not_written_over(tmp_path: Path, desktop: Desktop) -> None:
    desktop.broken = True
    file = tmp_path / "keys.json"
    file.write_text('{"values": {"mine": "sk-1"},')
    for change in (Keys(file).set("other", "sk-2"), Keys(file).set("mine", "sk-3")):
        with pytest.raises(NotWritable, match="nothing was changed"):
            await change
    assert "sk-1" in file.read_text()


@pytest.mark.parametrize(
    ("name", "key"), [("../x", "k"), ("", "k"), ("a", ""), ("a", "two\nlines"), ("a", "ümlaut"), ("a", " k")]
)
async def test_what_is_no_key_is_refused(tmp_path: Path, desktop: Desktop, name: str, key: str) -> None:
    with pytest.raises(BadRequest):
        await Keys(tmp_path / "keys.json").set(name, key)
    assert not (tmp_path / "keys.json").exists()
