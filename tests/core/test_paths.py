"""Where files lie: XDG folders, and a socket path that the system can take."""

from __future__ import annotations

from app.core.paths import SOCKET_PATH_LIMIT, paths_from


def test_the_usual_folders() -> None:
    paths = paths_from({"HOME": "/home/lena", "XDG_RUNTIME_DIR": "/run/user/1000"}, 1000, True)
    assert str(paths.settings_file) == "/home/lena/.config/engine-room/settings.toml"
    assert str(paths.socket) == "/run/user/1000/engine-room/control.sock"


def test_without_a_runtime_folder_two_homes_have_two_sockets() -> None:
    one = paths_from({"HOME": "/home/lena"}, 1000, False).socket
    other = paths_from({"HOME": "/home/omar"}, 1000, False).socket
    assert one != other
    assert str(one).startswith("/tmp/engine-room-1000-")


def test_a_socket_path_that_is_too_long_is_moved() -> None:
    deep = "/run/" + "d" * 120
    paths = paths_from({"HOME": "/home/lena", "XDG_RUNTIME_DIR": deep}, 1000, True)
    assert len(bytes(paths.socket)) <= SOCKET_PATH_LIMIT


def test_a_relative_folder_in_the_environment_is_ignored() -> None:
    assert str(paths_from({"HOME": "/h", "XDG_DATA_HOME": "data"}, 1, False).data) == "/h/.local/share/engine-room"
