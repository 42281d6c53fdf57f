"""Owns a real Docker service for one test home, where one may be started: ENGINE_ROOM_DOCKERD names its program.

It takes a root account, and a network namespace of its own keeps the machine's network as it was:

    ENGINE_ROOM_DOCKERD=/usr/sbin/dockerd unshare --net --mount sh -c 'ip link set lo up; exec ./packaging/test -m engines …'

Its images hold this interpreter and the stand-in engine as the programs `vllm` and `llama-server`: only the container
engine is real here. An image with the real built-in engine can be added.
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
from typing import Any

from tests.rig.docker import CARD_IMAGE, IMAGE
from tests.rig.home import Home
from tests.rig.waiting import eventually

VARIABLE = "ENGINE_ROOM_DOCKERD"
RIG = Path(__file__).parents[1]
NETWORK = "10.213.0.1/24"
FACES = {"usr/bin/vllm": "vllm", "app/llama-server": "llama-server"}  # where the published images have them


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
            self._imported(IMAGE, _image())
            self.said("tag", IMAGE, CARD_IMAGE)
        return self

    def _imported(self, image: str, content: bytes) -> None:
        words = [self.client, "import", "-", image]
        subprocess.run(words, input=content, env=self._environment, check=True, capture_output=True, timeout=300)

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
        self.process.wait(60)

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

    def python_image(self, image: str, embedded_python: Path) -> None:
        """An image with a shell, a `pip` that only says what it is asked for, and a `python` that has the real engine."""
        self._imported(image, _image(embedded_python))

    def composed(self, *words: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Runs Docker Compose in a folder, as a person does."""
        variables = {**self._environment, **environment}
        return subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)

    def running(self) -> dict[str, str]:
        return self._names()

    def there(self) -> dict[str, str]:
        return self._names("--all")

    def _names(self, *words: str) -> dict[str, str]:
        rows = (line.split("\t") for line in self.said("ps", *words, "--format", "{{.Names}}\t{{.ID}}").splitlines())
        return dict(rows)

    def container_pid(self, name: str) -> int:
        return int(self.inspected(name)["State"]["Pid"])

    def inspected(self, name: str) -> dict[str, dict[str, Any]]:
        return json.loads(self.said("container", "inspect", name))[0]  # type: ignore[no-any-return]

    def created(self) -> list[dict[str, object]]:
        """The containers that are there, as they were asked for; oldest first. In the words of the stand-in."""
        return [_told(self.inspected(name)) for name in reversed(list(self.there()))]

    def foreign(self, name: str = "theirs", **labels: str) -> subprocess.Popen[bytes]:
        """A container of the person's own: its client, which stays attached."""
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        argv = [self.client, "run", "--name", name, *words, "--entrypoint", "sleep", IMAGE, "600"]
        client = subprocess.Popen(argv, env=self._environment, stdout=subprocess.DEVNULL)
        eventually(lambda: name in self.running(), 60, "the container runs")
        return client


def _told(about: dict[str, dict[str, Any]]) -> dict[str, object]:
    config, host = about["Config"], about["HostConfig"]
    mounted = [mount["Source"] for mount in host.get("Mounts") or () if mount["Type"] == "bind"]
    command = [*config["Entrypoint"], *config["Cmd"]]
    paths = [word for word in command if word.startswith("/") and Path(word).exists()]
    environment = dict(entry.split("=", 1) for entry in config["Env"] or ())
    published = [
        (address["HostIp"], address["HostPort"], inner.partition("/")[0])
        for inner, addresses in host["PortBindings"].items()
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
def _image(embedded_python: Path | None = None) -> bytes:
    """A root file system: this interpreter with its library, what both are linked against, and the stand-in engine; with
    the environment of the real one, when that is given."""
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    sleep = Path(shutil.which("sleep") or "/bin/sleep")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        compiled = sorted(library.glob("lib-dynload/*.so"))
        programs = [interpreter, sleep, Path("/bin/sh")]
        scripts = {f"/{place}": _engine(interpreter, face) for place, face in FACES.items()}
        if embedded_python is not None:
            environment = embedded_python.parents[1]
            tar.add(environment)
            compiled += sorted(environment.rglob("*.so*"))
            scripts["/usr/local/bin/pip"] = '#!/bin/sh\necho "pip $*"\n'
            scripts["/usr/local/bin/python"] = f'#!/bin/sh\nexec "{embedded_python}" "$@"\n'
        linked = {path for program in (*programs, *compiled) for path in _linked(program)}
        for path in sorted({interpreter, Path("/bin/sh"), *linked} - set(compiled)):
            tar.add(path.resolve(), str(path))
        tar.add(sleep, "/bin/sleep")
        for path in (library, RIG / "standin"):
            tar.add(path, filter=_is_needed)
        tar.add(RIG / "fake_engine.py")
        for place, script in scripts.items():
            about = tarfile.TarInfo(place)
            about.size, about.mode = len(script), 0o755
            tar.addfile(about, io.BytesIO(script.encode()))
        for folder in ("/tmp", "/proc", "/dev", "/sys", "/root"):
            about = tarfile.TarInfo(folder)
            about.type, about.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755
            tar.addfile(about)
    return file.getvalue()


def _engine(interpreter: Path, face: str) -> str:
    words = [str(interpreter), "-S", "-I", str(RIG / "fake_engine.py"), "--face", face]
    return f"#!{interpreter} -SI\nimport os, sys\nos.execv({words[0]!r}, [*{words!r}, *sys.argv[1:]])\n"


def _is_needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    left_out = {"site-packages", "test", "tests", "__pycache__", "idlelib", "tkinter", "ensurepip"}
    parts = entry.name.split("/")
    return None if left_out & set(parts[parts.index("lib") :] if "lib" in parts else ()) else entry


def _linked(program: Path) -> Iterator[Path]:
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True).stdout
    for found in re.findall(r"(?:=> )?(/\S+) \(0x", said):
        yield Path(found)
