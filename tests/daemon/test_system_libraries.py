"""What Qt misses is named as packages of this distribution, before Qt ends the process over it (D1)."""

from app.daemon.system_libraries import ALWAYS, WAYLAND, X11, install_line, missing_packages, wanted

DEBIAN_12 = 'ID=debian\nVERSION_ID="12"\n'
UBUNTU_24 = 'VERSION_ID="24.04"\nID=ubuntu\n'


def test_a_session_asks_for_what_it_draws_on() -> None:
    assert wanted({}, display=False) == ALWAYS
    assert wanted({"QT_QPA_PLATFORM": "offscreen"}, display=True) == ALWAYS
    assert wanted({"DISPLAY": ":0"}, display=True) == {**ALWAYS, **X11}
    assert wanted({"WAYLAND_DISPLAY": "wayland-0"}, display=True) == {**ALWAYS, **X11, **WAYLAND}


def test_only_what_cannot_be_loaded_is_named_once_and_in_order() -> None:
    absent = {"libGL.so.1", "libEGL.so.1", "libglib-2.0.so.0"}
    names = missing_packages(ALWAYS, DEBIAN_12, load=lambda library: library not in absent)
    assert names == ("libegl1", "libgl1", "libglib2.0-0")
    assert install_line(names) == "sudo apt-get install libegl1 libgl1 libglib2.0-0"
    assert missing_packages(ALWAYS, DEBIAN_12, load=lambda library: True) == ()


def test_newer_systems_call_glib_by_its_new_name() -> None:
    def all_but_glib(library: str) -> bool:
        return "glib" not in library

    assert missing_packages(ALWAYS, UBUNTU_24, load=all_but_glib) == ("libglib2.0-0t64",)
    assert missing_packages(ALWAYS, "ID=debian\nVERSION_ID=13\n", load=all_but_glib) == ("libglib2.0-0t64",)
    assert missing_packages(ALWAYS, "ID=debian\n", load=all_but_glib) == ("libglib2.0-0",)
    assert missing_packages(ALWAYS, "", load=all_but_glib) == ("libglib2.0-0",)
