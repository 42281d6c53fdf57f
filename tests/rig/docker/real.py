"""Owns a real Docker service for one test home, where one may be started: ENGINE_ROOM_DOCKERD names its program.

It takes a root account, and a network namespace of its own keeps the machine's network as it was:

    ENGINE_ROOM_DOCKERD=/usr/sbin/dockerd unshare --net --mount sh -c 'ip link set lo up; exec ./packaging/test -m engines …'

Its images hold this interpreter and the stand-in engine as the program `vllm`: only the container engine is real here.
"""

import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.rig.docker import CARD_IMAGE, IMAGE
from tests.rig.home import Home
from tests.rig.waiting import eventually

VARIABLE = "ENGINE_ROOM_DOCKERD"
RIG = Path(__file__).parents[1]
NETWORK = "10.213.0.1/24"


class RealDocker:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.folder = Path(tempfile.mkdtemp(prefix="erd-"))  # short: it holds sockets
        self.socket = self.folder / "docker.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None  # as on a workstation a service of its own
        program = shutil.which("docker")
        assert program is not None, "the client is on the PATH"
        (home.bin / "docker").symlink_to(program)
        home.environment["DOCKER_HOST"] = f"unix://{self.socket}"

    # --- its life

    def start(self) -> "RealDocker":
        service = Path(os.environ[VARIABLE])
        arguments = {
            "--data-root": self.folder / "data",
            "--exec-root": self.folder / "exec",
            "--containerd": self._runtime(),
            "--pidfile": self.folder / "pid",
            "--host": f"unix://{self.socket}",
            "--bip": NETWORK,
            "--userland-proxy-path": shutil.which("docker-proxy") or service.with_name("docker-proxy"),
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(service),
                    *(str(word) for pair in arguments.items() for word in pair),
                    *("--iptables=false", "--ip6tables=false", "--ip-forward=false"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, 60, "Docker answers")
        if IMAGE not in self.said("image", "ls", "--format", "{{.Repository}}:{{.Tag}}"):
            for image in (IMAGE, CARD_IMAGE):
                subprocess.run(
                    [self.client, "import", "-", image], input=_image(), env=self._environment, check=True, timeout=300
                )
        return self

    def _runtime(self) -> Path:
        """The socket of containerd, which keeps the containers and goes on when Docker is killed."""
        socket = self.folder / "containerd.sock"
        if self._containerd is None:
            program = shutil.which("containerd")
            assert program is not None, "containerd is on the PATH"
            places = ("--root", self.folder / "containerd", "--state", self.folder / "state", "--address", socket)
            with (self.folder / "containerd.log").open("ab") as log:
                self._containerd = subprocess.Popen(
                    [program, *map(str, places)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            eventually(socket.exists, 60, "containerd answers")
        return socket

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2_000:]
        return subprocess.run([self.client, "version"], env=self._environment, capture_output=True).returncode == 0

    def kill(self) -> None:
        """The service crashes; its containers go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            for name in self.running():
                self.said("kill", name)
            self.process.terminate()
            self.process.wait(60)
        if self._containerd is not None:
            self._containerd.terminate()
            self._containerd.wait(60)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            place = line.split()[1]
            if place.startswith(str(self.folder)):
                subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- as a person uses it

    @property
    def client(self) -> str:
        return str(self.home.bin / "docker")

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "DOCKER_HOST": f"unix://{self.socket}"}

    def said(self, *words: str) -> str:
        done = subprocess.run([self.client, *words], env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def running(self) -> dict[str, str]:
        return self._names()

    def there(self) -> dict[str, str]:
        return self._names("--all")

    def _names(self, *words: str) -> dict[str, str]:
        rows = (line.split("\t") for line in self.said("ps", *words, "--format", "{{.Names}}\t{{.ID}}").splitlines())
        return dict(rows)

    def container_pid(self, name: str) -> int:
        return int(self._inspected(name)["State"]["Pid"])

    def _inspected(self, name: str) -> dict[str, dict[str, object]]:
        return json.loads(self.said("container", "inspect", name))[0]  # type: ignore[no-any-return]

    def created(self) -> list[dict[str, object]]:
        """The containers that are there, as they were asked for; oldest first. In the words of the stand-in."""
        return [_told(self._inspected(name)) for name in reversed(list(self.there()))]

    def foreign(self, name: str = "theirs", **labels: str) -> subprocess.Popen[bytes]:
        """A container of the person's own: its client, which stays attached."""
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        argv = [self.client, "run", "--name", name, *words, "--entrypoint", "sleep", IMAGE, "600"]
        client = subprocess.Popen(argv, env=self._environment, stdout=subprocess.DEVNULL)
        eventually(lambda: name in self.running(), 60, "the container runs")
        return client


def _told(about: dict[str, dict[str, object]]) -> dict[str, object]:
    config, host = about["Config"], about["HostConfig"]
    mounted = [mount["Source"] for mount in host.get("Mounts") or () if mount["Type"] == "bind"]  # type: ignore[attr-defined]
    command = [*config["Entrypoint"], *config["Cmd"]]  # type: ignore[misc]
    paths = [word for word in command if word.startswith("/") and Path(word).exists()]
    environment = dict(entry.split("=", 1) for entry in config["Env"] or ())  # type: ignore[attr-defined]
    published = [
        (address["HostIp"], address["HostPort"], inner.partition("/")[0])
        for inner, addresses in host["PortBindings"].items()  # type: ignore[attr-defined]
        for address in addresses
    ]
    return {
        "outside": [path for path in paths if not any(path.startswith(place) for place in mounted)],
        "ipc": host["IpcMode"],
        "publish": published,
        "environment": environment,
        "command": command,
        "label": config["Labels"],
    }


# --- an image


@functools.cache
def _image() -> bytes:
    """A root file system: this interpreter with its library, what both are linked against, and the stand-in engine."""
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    sleep = Path(shutil.which("sleep") or "/bin/sleep")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        compiled = sorted(library.glob("lib-dynload/*.so"))
        linked = {path for program in (interpreter, sleep, *compiled) for path in _linked(program)}
        for path in sorted({interpreter, *linked}):
            tar.add(path.resolve(), str(path))
        tar.add(sleep, "/bin/sleep")
        for path in (library, RIG / "standin"):
            tar.add(path, filter=_is_needed)
        tar.add(RIG / "fake_engine.py")
        program = f"#!{interpreter} -SI\nimport os, sys\n"
        program += (
            f"os.execv({str(interpreter)!r}, [{str(interpreter)!r}, '-S', '-I', {str(RIG / 'fake_engine.py')!r}, "
        )
        program += "'--face', 'vllm', *sys.argv[1:]])\n"
        about = tarfile.TarInfo("/usr/bin/vllm")
        about.size, about.mode = len(program), 0o755
        tar.addfile(about, io.BytesIO(program.encode()))
        for folder in ("/tmp", "/proc", "/dev", "/sys", "/root"):
            about = tarfile.TarInfo(folder)
            about.type, about.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755
            tar.addfile(about)
    return file.getvalue()


def _is_needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    left_out = {"site-packages", "test", "tests", "__pycache__", "idlelib", "tkinter", "ensurepip"}
    parts = entry.name.split("/")
    return None if left_out & set(parts[parts.index("lib") :] if "lib" in parts else ()) else entry


def _linked(program: Path) -> Iterator[Path]:
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True).stdout
    for found in re.findall(r"(?:=> )?(/\S+) \(0x", said):
        yield Path(found)
