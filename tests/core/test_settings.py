"""Settings: environment before file before default, and a wrong value named with file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import SettingInvalid
from app.core.settings import Settings, SupervisionSettings, load_settings
from app.core.settings_view import changed, fields_of


def test_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[gateway]\nport = 7100\nconcurrency = 4\n")
    monkeypatch.setenv("ENGINE_ROOM_GATEWAY__PORT", "7200")
    settings = load_settings(file)
    assert (settings.gateway.port, settings.gateway.concurrency, settings.gateway.queue_length) == (7200, 4, 512)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[gateway]\nport = 'seven'\n", "gateway.port"),
        ("[gateway]\nport = 70000\n", "gateway.port"),
        ("[gateway]\nprot = 7000\n", "gateway.prot"),
        ("[gatway]\nport = 7000\n", "gatway"),
        ("[gateway\n", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_told_with_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(SettingInvalid) as error:
        load_settings(file)
    assert told in error.value.summary
    assert str(file) in error.value.summary


def test_the_form_knows_each_setting_from_the_table() -> None:
    fields = {field.key: field for field in fields_of(Settings(), {"ENGINE_ROOM_GATEWAY__PORT": "1"})}
    port = fields["gateway.port"]
    assert (port.kind, port.default, port.minimum, port.maximum, port.from_environment) == (
        "integer",
        7000,
        0,
        65535,
        True,
    )
    assert all(field.sentence for field in fields.values())


def test_a_change_is_whole_or_not_at_all() -> None:
    values = {"gateway": {"port": 7100}}
    assert changed(values, {"gateway.port": None}) == {}
    assert changed(values, {"memory.threshold": 0.9}) == {"gateway": {"port": 7100}, "memory": {"threshold": 0.9}}
    for change in ({"gateway.port": -1}, {"gateway.nothing": 1}, {"nowhere.x": 1}):
        with pytest.raises(SettingInvalid):
            changed(values, change)
    assert values == {"gateway": {"port": 7100}}


@pytest.mark.parametrize("seats", [(), ("side",), ("main", "main"), ("main", "a b"), ("main", "x" * 30)], ids=str)
def test_seats_have_names_of_their_own_and_the_first_is_main(seats: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="seats"):
        SupervisionSettings(seats=seats)
    assert SupervisionSettings(seats=("main", "side")).seats == ("main", "side")
