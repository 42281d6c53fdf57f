"""Stands in for an account's systemd: a `systemctl` that does what a unit says, with readiness and stop as the real one."""

import sys
from pathlib import Path

from tests.rig.home import Home

PROGRAM = '''#!{python} -I
"""systemctl --user WORD … for one home; its state is a folder."""
import json, os, signal, socket, subprocess, sys, time
sys.path.insert(0, {repository!r})
from tests.rig.written import unit

words = [word for word in sys.argv[1:] if word not in ("--user", "--quiet")]
state = {state!r}
file = {file!r}
with open(state + "/asked.jsonl", "a") as asked:
    asked.write(json.dumps(words) + "\\n")
if os.path.exists(state + "/broken"):
    sys.exit("Failed to connect to bus: No medium found")

def pid():
    try:
        number = int(open(state + "/pid").read())
        running = open("/proc/%d/stat" % number).read().rpartition(")")[2].split()[0] != "Z"
    except (OSError, ValueError):
        return 0
    return number if running else 0

def start():
    if pid():
        return
    made = unit(open(file).read())
    address = state + "/notify"
    if os.path.exists(address):
        os.unlink(address)
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(address)
    ready.settimeout(0.1)
    environment = {{"HOME": {home!r}, "XDG_RUNTIME_DIR": {runtime!r}, "NOTIFY_SOCKET": address, **made.environment}}
    output = open(made.raw["StandardOutput"].removeprefix("append:"), "ab")
    process = subprocess.Popen(
        made.argv, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )
    open(state + "/pid", "w").write(str(process.pid))
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if process.poll() is not None:
            sys.exit("Job for engine-room.service failed because the control process exited with error code.")
        try:
            if ready.recv(100) == b"READY=1":
                return
        except TimeoutError:
            pass
    sys.exit("Job for engine-room.service failed because a timeout was exceeded.")

def stop():
    number = pid()
    if number:
        os.kill(number, signal.SIGTERM)
        until = time.monotonic() + 60
        while pid() and time.monotonic() < until:
            time.sleep(0.02)

match words[0]:
    case "enable":
        open(state + "/enabled", "w").close()
    case "disable":
        if os.path.exists(state + "/enabled"):
            os.unlink(state + "/enabled")
        stop()
    case "start":
        start()
    case "restart":
        stop()
        start()
    case "is-enabled":
        sys.exit(0 if os.path.exists(state + "/enabled") else 1)
    case "is-active":
        sys.exit(0 if pid() else 3)
'''


class UserSystemd:
    """`asked()` tells what was asked of it. It runs for this home only; `broken()` makes it refuse everything."""

    def __init__(self, home: Home) -> None:
        self.unit = Path(home.environment["XDG_CONFIG_HOME"]) / "systemd" / "user" / "engine-room.service"
        self._state = home.folder / "systemd"
        self._state.mkdir()
        socket = home.runtime_home / "systemd" / "private"
        socket.parent.mkdir()
        socket.touch()
        program = home.bin / "systemctl"
        program.write_text(
            PROGRAM.format(
                python=sys.executable,
                repository=str(Path(__file__).resolve().parents[2]),
                state=str(self._state),
                file=str(self.unit),
                home=str(home.folder),
                runtime=str(home.runtime_home),
            )
        )
        program.chmod(0o755)

    def asked(self) -> list[str]:
        file = self._state / "asked.jsonl"
        return file.read_text().splitlines() if file.exists() else []

    def broken(self) -> None:
        (self._state / "broken").touch()

    @property
    def pid(self) -> int:
        return int((self._state / "pid").read_text())
