"""Owns a Docker of one test home: the client on its PATH, the service with its images, and containers of other people.

client.py, service.py and shim.py are the stand-in; nothing of Engine Room is in them. The program `vllm` of an image is the
stand-in engine with vLLM's face.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.rig.engines import PROGRAM
from tests.rig.home import Home
from tests.rig.waiting import eventually

HERE = Path(__file__).parent
IMAGE = "vllm/vllm-openai-cpu:v0.32.0"
CARD_IMAGE = "vllm/vllm-openai:v0.32.0"


class Docker:
    def __init__(self, home: Home) -> None:
        self.home = home
        self.folder = home.folder / "docker"
        self.folder.mkdir()
        self.socket = home.runtime_home / "docker.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.python = str(Path(sys.executable).resolve())
        self.images(IMAGE, CARD_IMAGE)
        self.registry()
        programs = {"vllm": [self.python, "-S", "-I", str(PROGRAM), "--face", "vllm"], "sleep": ["/usr/bin/sleep"]}
        (self.folder / "programs.json").write_text(json.dumps(programs))
        client = home.bin / "docker"
        client.write_text(f'#!/bin/sh\nexec "{self.python}" -S -I "{HERE / "client.py"}" "$@"\n')
        client.chmod(0o755)
        home.environment["DOCKER_HOST"] = f"unix://{self.socket}"

    # --- what there is

    def images(self, *names: str) -> None:
        """These images are on the machine."""
        rows = {name: f"sha256:{number:064x}" for number, name in enumerate(names, 1)}
        (self.folder / "images.json").write_text(json.dumps(rows))

    def registry(self, *names: str, layers: int = 3, layer_bytes: int = 400_000_000) -> None:
        """These images can be fetched."""
        about = {"layers": layers, "layer_bytes": layer_bytes}
        rows = {name: {**about, "id": f"sha256:{number:064x}"} for number, name in enumerate(names, 100)}
        (self.folder / "registry.json").write_text(json.dumps(rows))

    def switch(self, name: str, on: bool = True) -> None:
        """`hang`: no call is answered; `slow`: a pull waits; `no-toolkit`: no card for containers."""
        (self.folder / name).touch() if on else (self.folder / name).unlink(missing_ok=True)

    def numbers_processes_elsewhere(self, pid: int) -> None:
        """Every container's first process is told as this number, as a service in a virtual machine tells its own ones."""
        (self.folder / "elsewhere").write_text(str(pid))

    # --- its life

    def start(self) -> "Docker":
        self.process = subprocess.Popen(
            [self.python, "-S", "-I", str(HERE / "service.py"), str(self.folder), str(self.socket)],
            env={"PATH": os.environ["PATH"], "ENGINE_ROOM_TEST_DRIVER": str(self.home.driver)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def kill(self) -> None:
        """The service crashes; its containers go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def close(self) -> None:
        """Ends everything, by the pids that it wrote down itself."""
        if self.process is not None and self.process.poll() is None:
            self.switch("hang", False)
            self.kill()
        for folder in (self.folder / "containers").glob("*"):
            if not (folder / "exit.json").exists():
                with contextlib.suppress(OSError, ValueError, ProcessLookupError):
                    os.kill(json.loads((folder / "started.json").read_text())["pid"], signal.SIGKILL)
                    eventually((folder / "exit.json").exists, 60, "a container of the test has ended")

    # --- as a person uses it

    def said(self, *words: str) -> str:
        argv = [self.python, "-S", "-I", str(HERE / "client.py"), *words]  # the home's own may be spoilt by a test
        done = subprocess.run(argv, env=self.home.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def running(self) -> dict[str, str]:
        """Name → id of every container that runs."""
        rows = (line.split("\t") for line in self.said("ps", "--format", "{{.Names}}\\t{{.ID}}").splitlines())
        return dict(rows)

    def there(self) -> dict[str, str]:
        """As `running`, with those that have ended and were not removed."""
        rows = (line.split("\t") for line in self.said("ps", "--all", "--format", "{{.Names}}\\t{{.ID}}").splitlines())
        return dict(rows)

    def container_pid(self, name: str) -> int:
        """As the kernel numbers it, whatever the service tells."""
        folder = self.folder / "containers" / self.running()[name]
        return int(json.loads((folder / "started.json").read_text())["pid"])

    def created(self) -> list[dict[str, object]]:
        """Every container that was ever made, as it was asked for; oldest first."""
        file = self.folder / "created.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def foreign(self, name: str = "theirs", **labels: str) -> subprocess.Popen[bytes]:
        """A container of the person's own: its client, which stays attached."""
        words = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
        argv = [str(self.home.bin / "docker"), "run", "--name", name, *words, "--entrypoint", "sleep", IMAGE, "600"]
        client = subprocess.Popen(argv, env={**self.home.environment, "HOME": "/"}, stdout=subprocess.DEVNULL)
        eventually(lambda: name in self.running(), 60, "the container runs")
        return client
