"""The unit that keeps Engine Room's own service: what it starts arrives as it was, and no secret is written (I18)."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.daemon_command import daemon_command, own_command
from app.core.service_unit import UNIT, start_through_systemd, unit_file, unit_text
from tests.rig.written import unit

OUTPUT = Path("/state/a folder 100%/output.log")
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc", "Cn"]), min_size=1)


@settings(max_examples=80, deadline=None)
@given(program=TEXT, words=st.lists(TEXT, max_size=4), path=TEXT)
def test_the_command_and_its_environment_go_through_the_unit_unchanged(
    program: str, words: list[str], path: str
) -> None:
    made = unit(unit_text((f"/{program}", *words), {"PATH": path, "ENGINE_ROOM_GATEWAY__PORT": "7001"}, OUTPUT))
    argv = made.argv[4:] if made.argv[:2] == ["/bin/sh", "-c"] else made.argv
    assert argv == [f"/{program}", *words]
    assert made.environment == {"PATH": path, "ENGINE_ROOM_GATEWAY__PORT": "7001"}


def test_only_what_the_service_needs_is_written_and_no_secret() -> None:
    """I18."""
    environment = {
        "HOME": "/home/me",
        "PATH": "/bin",
        "HF_TOKEN": "hf_abcdefghijklmnop",
        "ENGINE_ROOM_API_KEY": "sk-abcdefghijklmnop",
        "ENGINE_ROOM_SUPERVISION__RESTARTS": "2",
        "TERM": "xterm",
    }
    text = unit_text(("/usr/bin/python3", "-m", "app", "serve"), environment, OUTPUT)
    assert "abcdefghijklmnop" not in text
    assert unit(text).environment == {"PATH": "/bin", "ENGINE_ROOM_SUPERVISION__RESTARTS": "2"}


def test_a_stop_reaches_the_service_first_and_it_starts_again_only_after_a_failure() -> None:
    """I1: systemd must not signal the engines beside the service, whose keepers end them in order."""
    made = unit(unit_text(("/bin/x",), {}, OUTPUT)).raw
    assert made["KillMode"] == "mixed"
    assert made["Type"] == "notify"
    assert made["Restart"] == "on-failure"
    assert "3" in made["RestartPreventExitStatus"].split(), "another daemon runs: it is not fought for the lock (I5)"


def test_an_installed_service_is_started_through_systemd_and_only_where_systemd_runs(tmp_path: Path) -> None:
    """I5."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    here = {"HOME": str(tmp_path), "PATH": str(program.parent), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    assert start_through_systemd(here) is None, "it is not installed"
    unit_file(here).parent.mkdir(parents=True)
    unit_file(here).write_text("[Service]\n")
    assert daemon_command(here).argv == own_command(here).argv, "no systemd runs: a container, or WSL without it"
    (tmp_path / "run" / "systemd").mkdir(parents=True)
    (tmp_path / "run" / "systemd" / "private").touch()
    assert daemon_command(here).argv == (str(program), "--user", "start", UNIT)
