"""Behaves like Docker's service: images, pulls, containers that outlive every client, published ports, labels, errors.

`service.py FOLDER SOCKET`, standard library only. Its containers run below shims of their own, so they go on when it is
killed; when it starts again it ends those that it still finds, as the real one does without live restore. What a container
is here: a process tree with the environment, the arguments and the files that it was given, and its own port behind a
published one. There is no separate network, so the port that a program is told inside is exchanged for a free one.
"""

# ruff: noqa: PTH123
import base64
import csv
import json
import os
import random
import secrets
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

FOLDER, SOCKET = Path(sys.argv[1]), sys.argv[2]
CONTAINERS = FOLDER / "containers"
LOOK_SECONDS = 0.01
SHIM = str(Path(__file__).with_name("shim.py"))
LOCK = threading.RLock()


class Refused(Exception):
    def __init__(self, text):
        super().__init__(f"Error response from daemon: {text}")


class Container:
    def __init__(self, number, folder):
        self.id, self.folder = number, folder
        self.spec = json.loads((folder / "container.json").read_text())
        self.proxies = []
        self.gone = threading.Event()

    def read(self, name):
        try:
            return json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return None

    @property
    def pid(self):
        started = self.read("started.json")
        return started["pid"] if started and self.read("exit.json") is None else 0

    @property
    def running(self):
        return self.read("started.json") is not None and self.read("exit.json") is None

    def start(self):
        for address, port, inner in self.spec["publish"]:
            self.proxies.append(Proxy(address, port, inner))
        subprocess.Popen(
            [sys.executable, "-S", "-I", SHIM, str(self.folder)],
            env={"PATH": os.environ["PATH"]},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while self.read("started.json") is None:
            time.sleep(LOOK_SECONDS)
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self):
        while self.read("exit.json") is None:
            time.sleep(LOOK_SECONDS)
        for proxy in self.proxies:
            proxy.close()
        self.gone.set()
        if self.spec["rm"]:
            time.sleep(0.05)  # who is attached hears of the end first
            remove(self)

    def row(self):
        ended = self.read("exit.json")
        ports = {f"{inside}/tcp": [{"HostIp": a, "HostPort": str(p)}] for (a, p, _), inside in zip(self.spec["publish"], self.spec["inside"], strict=False)}  # fmt: skip
        return {
            "Id": self.id,
            "Name": "/" + self.spec["name"],
            "State": {
                "Status": "running" if self.running else "exited",
                "Running": self.running,
                "Pid": self.pid and elsewhere(self.pid),
                "ExitCode": ended["code"] if ended else 0,
            },
            "Config": {"Labels": self.spec["labels"], "Image": self.spec["image"]},
            "NetworkSettings": {"Ports": ports if self.running else {}},
        }


def elsewhere(pid):
    """As a service in a virtual machine numbers it, where the test says so: a number of that machine, not of this one."""
    file = FOLDER / "elsewhere"
    return int(file.read_text()) if file.exists() else pid


class Proxy:
    """A published port: held here, led to the port inside; it ends with the service, as the real one does."""

    def __init__(self, address, port, inner):
        self.inner = inner
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.listener.bind((address, port))
            self.listener.listen(64)
        except OSError as error:
            self.listener.close()
            raise Refused(
                "failed to set up container networking: driver failed programming external connectivity on endpoint: "
                f"Bind for {address}:{port} failed: port is already allocated"
            ) from error
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                inside = socket.create_connection(("127.0.0.1", self.inner), 5)
                inside.settimeout(None)
            except OSError:
                client.close()
                continue
            for one, other in ((client, inside), (inside, client)):
                threading.Thread(target=carry, args=(one, other), daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def carry(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
    except OSError:
        pass
    for end in (one, other):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


containers = {}


def remove(container):
    with LOCK:
        containers.pop(container.id, None)
        shutil.rmtree(container.folder, ignore_errors=True)


def found(name):
    with LOCK:
        for container in containers.values():
            if name in (container.id, container.spec["name"]) or (len(name) >= 12 and container.id.startswith(name)):
                return container
    raise Refused(f"No such container: {name}")


# --- images ----------------------------------------------------------------------------------------------------------


def images():
    return json.loads((FOLDER / "images.json").read_text())


def whole(image):
    return image if ":" in image.rpartition("/")[2] else image + ":latest"


def pull(image):
    name = whole(image)
    repository, _, tag = name.rpartition(":")
    registry = json.loads((FOLDER / "registry.json").read_text())
    if name not in registry:
        if not any(known.rpartition(":")[0] == repository for known in registry):
            raise Refused(
                f"pull access denied for {repository}, repository does not exist or may require 'docker login': "
                "denied: requested access to the resource is denied"
            )
        raise Refused(f"manifest for {name} not found: manifest unknown: manifest unknown")
    about = registry[name]
    yield {"line": f"{tag}: Pulling from {repository}"}
    layers = [secrets.token_hex(6) for _ in range(about["layers"])]
    size = about["layer_bytes"]
    for layer in layers:
        yield {"layer": layer, "status": "Pulling fs layer"}
    for layer in layers:
        for step in range(1, 5):
            while (FOLDER / "slow").exists():
                time.sleep(LOOK_SECONDS)
            yield {"layer": layer, "status": "Downloading", "done": size * step // 4, "total": size}
        yield {"layer": layer, "status": "Verifying Checksum"}
        yield {"layer": layer, "status": "Download complete"}
    for layer in layers:
        yield {"layer": layer, "status": "Extracting", "done": size, "total": size}
        yield {"layer": layer, "status": "Pull complete"}
    with LOCK:
        (FOLDER / "images.json").write_text(json.dumps({**images(), name: about["id"]}))
    yield {"line": f"Digest: {about['id']}"}
    yield {"line": f"Status: Downloaded newer image for {name}"}


# --- containers ------------------------------------------------------------------------------------------------------


def create(wish):
    image = whole(wish["image"])
    if image not in images():
        raise Refused(f"No such image: {image}")
    with LOCK:
        name = wish.get("name") or secrets.token_hex(4)
        for other in containers.values():
            if other.spec["name"] == name:
                raise Refused(
                    f'Conflict. The container name "/{name}" is already in use by container "{other.id}". '
                    "You have to remove (or rename) that container to be able to reuse that name."
                )
    mounts = [dict(field.partition("=")[::2] for field in next(csv.reader([text]))) for text in wish["mount"]]
    for mount in mounts:
        if mount["type"] == "bind" and not Path(mount["source"]).exists():
            raise Refused(f'invalid mount config for type "bind": bind source path does not exist: {mount["source"]}')
    wanted = [
        text.partition("=")[2] for text in next(csv.reader([wish.get("gpus") or ""])) if text.startswith("device=")
    ]
    cards = wanted[0].split(",") if wanted else []
    if wish.get("gpus") and (FOLDER / "no-toolkit").exists():
        raise Refused('could not select device driver "" with capabilities: [[gpu]]')
    programs = json.loads((FOLDER / "programs.json").read_text())
    entrypoint = wish.get("entrypoint") or "vllm"
    if entrypoint not in programs:
        raise Refused(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create "
            f'failed: unable to start container process: error during container init: exec: "{entrypoint}": '
            "executable file not found in $PATH: unknown"
        )
    publish, inside, argv = [], [], [*programs[entrypoint], *wish["command"]]
    for text in wish["publish"]:
        address, port, inner = text.rsplit(":", 2)
        free = free_port()
        publish.append((address, int(port), free))
        inside.append(int(inner))
        if "--port" in argv:
            argv[argv.index("--port") + 1] = str(free)
    targets = [mount["target"] for mount in mounts]
    outside = [
        word
        for word in wish["command"]
        if word.startswith("/")
        and Path(word).exists()
        and not any(word == t or word.startswith(t + "/") for t in targets)
    ]
    spec = {
        **wish,
        "name": name,
        "argv": ["127.0.0.1" if word == "0.0.0.0" else word for word in argv],
        "labels": dict(text.partition("=")[::2] for text in wish["label"]),
        "publish": publish,
        "inside": inside,
        "cards": cards,
        "outside": outside,  # files of the machine that the program is told of and cannot see
        "environment": {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/root",
            "ENGINE_ROOM_TEST_DRIVER": os.environ.get("ENGINE_ROOM_TEST_DRIVER", ""),
            **wish["environment"],
        },
    }
    number = secrets.token_hex(32)
    folder = CONTAINERS / number
    folder.mkdir(parents=True)
    (folder / "container.json").write_text(json.dumps(spec))
    with open(FOLDER / "created.jsonl", "a") as file:
        file.write(json.dumps(spec) + "\n")
    with LOCK:
        containers[number] = Container(number, folder)
    return number


def free_port():
    """As tests/rig/ports.py does, which cannot be imported here: not one that the kernel gives to others meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def kill(container, number):
    if not container.running:
        raise Refused(f"cannot kill container: {container.spec['name']}: container {container.id} is not running")
    try:
        os.kill(container.pid, number)
    except ProcessLookupError:
        pass


def attach(container):
    offsets = {"stdout": 0, "stderr": 0}
    while True:
        over = container.gone.is_set()
        for stream, name in ((1, "stdout"), (2, "stderr")):
            try:
                with open(container.folder / name, "rb") as file:
                    file.seek(offsets[name])
                    data = file.read(1 << 20)
            except OSError:
                data = b""
            if data:
                offsets[name] += len(data)
                yield {"stream": stream, "data": base64.b64encode(data).decode()}
        if over:
            ended = container.read("exit.json") or {"code": 137}
            yield {"exit": ended["code"]}
            return
        time.sleep(LOOK_SECONDS)


def answers(asked):
    while (FOLDER / "hang").exists():
        time.sleep(LOOK_SECONDS)
    call = asked["call"]
    if call == "version":
        yield {"Version": "28.2.2"}
    elif call == "images":
        rows = [(name.rpartition(":"), number) for name, number in images().items()]
        yield {"rows": [{"Repository": n[0], "Tag": n[2], "ID": number.removeprefix("sha256:")[:12]} for n, number in rows]}  # fmt: skip
    elif call == "pull":
        yield from pull(asked["image"])
    elif call == "create":
        yield {"id": create(asked)}
    elif call == "start":
        container = found(asked["id"])
        try:
            container.start()
        except Refused:
            remove(container)
            raise
        yield {}
    elif call == "attach":
        yield from attach(found(asked["id"]))
        return
    elif call == "kill":
        kill(found(asked["name"]), asked["signal"])
        yield {}
    elif call == "rm":
        container = found(asked["name"])
        if container.running:
            if not asked["force"]:
                raise Refused(f'cannot remove container "/{container.spec["name"]}": container is running')
            kill(container, signal.SIGKILL)
            container.gone.wait(60)
        remove(container)
        yield {}
    elif call == "inspect":
        yield {"row": found(asked["name"]).row()}
    elif call == "logs":
        folder = found(asked["name"]).folder
        yield {n: base64.b64encode((folder / n).read_bytes() if (folder / n).exists() else b"").decode() for n in ("stdout", "stderr")}  # fmt: skip
    elif call == "ps":
        with LOCK:
            there = list(containers.values())
        labels = [tuple(text.partition("=")[::2]) for text in asked.get("label", [])]
        yield {
            "rows": [
                {"ID": c.id, "Names": c.spec["name"], "Labels": c.spec["labels"], "Image": c.spec["image"]}
                for c in there
                if (asked.get("all") or c.running)
                and all((c.spec["labels"].get(n) == v if v else n in c.spec["labels"]) for n, v in labels)
            ]
        }
    else:
        raise Refused(f"unknown call {call}")
    yield {"last": True}


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            asked = json.loads(self.rfile.readline())
            value = None
            for value in answers(asked):
                if asked["call"] in ("pull", "attach") or not value.get("last"):
                    if asked["call"] not in ("pull", "attach"):
                        value = {**value, "last": True}
                    self.wfile.write(json.dumps(value).encode() + b"\n")
        except Refused as error:
            self.tell({"error": str(error)})
        except (BrokenPipeError, ConnectionResetError):
            pass

    def tell(self, value):
        try:
            self.wfile.write(json.dumps(value).encode() + b"\n")
        except OSError:
            pass


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def main():
    CONTAINERS.mkdir(parents=True, exist_ok=True)
    for folder in CONTAINERS.iterdir():
        container = Container(folder.name, folder)
        containers[container.id] = container
        if container.running:
            os.kill(container.pid, signal.SIGKILL)
        threading.Thread(target=container.wait, daemon=True).start()
    Path(SOCKET).unlink(missing_ok=True)
    with Server(SOCKET, Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


main()
