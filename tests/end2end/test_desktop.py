"""`engine-room desktop`: in the menu of the account, out of it again, and nothing of anybody else's touched."""

from app.core.desktop_entry import places
from tests.end2end.commands import Commands
from tests.rig.home import Home


def test_into_the_menu_and_out_of_it(home: Home, commands: Commands) -> None:
    place = places(home.environment)
    assert home.folder in place.entry.parents, "the test's own"
    assert "not in the menu" in commands.ok("desktop", "status").out
    commands.ok("desktop", "install")
    assert place.icon.read_text().lstrip().startswith("<svg")
    program = next(line for line in place.entry.read_text().splitlines() if line.startswith("Exec="))
    assert program.endswith("/bin/engine-room")
    assert commands.ok("desktop", "status", "--json").json["current"]
    place.entry.write_text(place.entry.read_text().replace("/bin/engine-room", "/gone/engine-room"))
    assert "starts another installation" in commands.ok("desktop", "status").out
    commands.ok("desktop", "install")
    assert "starts this installation" in commands.ok("desktop", "status").out
    commands.ok("desktop", "remove")
    assert not place.entry.exists()
    assert not place.icon.exists()
    assert "was not in the menu" in commands.ok("desktop", "remove").out


def test_another_one_s_entry_stays(home: Home, commands: Commands) -> None:
    entry = places(home.environment).entry
    entry.parent.mkdir(parents=True)
    entry.write_text("[Desktop Entry]\nName=Mine\n")
    for verb in ("install", "remove"):
        assert "not Engine Room's own" in commands.refused(2, "desktop", verb).err
    assert entry.read_text() == "[Desktop Entry]\nName=Mine\n"
    entry.unlink()
    entry.parent.rmdir()
    entry.parent.write_text("a file in the way")
    assert "cannot be written" in commands.refused(10, "desktop", "install").err
