"""Behaves like `ollama serve`: models by tag, a runner process for each loaded one, unloading by keep_alive 0. Standard library only.

A load whose parameters differ from those of the loaded one loads anew; the OpenAI routes load by themselves with the
model's own parameters. Knobs: models (names), vram {uuid: bytes}, load_seconds, load_error, keeps (ignores unloading),
embeds (names of encoders), pull_error, pull_steps, words, only_one.
"""
# ruff: noqa: PTH100, PTH105, PTH118, PTH120, PTH123, RET503

import hashlib
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "driver"))

from allocate import allocate
from common import FOLDER, LOCK, Handler, journal, knobs, serve

LOADED = {}  # name → {"runner": Popen, "base", "parameters", "until"}
LAID_OVER = {}  # name → {"from", "parameters"}
PULLED = []


def full(name):
    return name if ":" in name.rpartition("/")[2] else name + ":latest"


def digest(name):
    return hashlib.sha256(
        (name + json.dumps(LAID_OVER.get(name, {})) + str(knobs().get("salt", ""))).encode()
    ).hexdigest()


def there():
    return [*map(full, knobs().get("models", [])), *LAID_OVER, *PULLED]


def write_loaded():
    with open(os.path.join(FOLDER, "loaded.new"), "w") as file:
        json.dump(list(LOADED), file)
    os.replace(os.path.join(FOLDER, "loaded.new"), os.path.join(FOLDER, "loaded.json"))


def unload(name):
    with LOCK:
        row = LOADED.pop(name, None)
        if row is not None:
            row["runner"].kill()
            row["runner"].wait()
            journal("unload", model=name)
        write_loaded()


def load(name, keep_alive=None):
    """Raises KeyError for a model that is not there, RuntimeError with Ollama's words for one that does not load."""
    name = full(name)
    if name not in there():
        raise KeyError(name)
    base = LAID_OVER.get(name, {}).get("from", name)
    parameters = LAID_OVER.get(name, {}).get("parameters", {})
    with LOCK:
        for other, row in list(LOADED.items()):
            differs = row["base"] == base and row["parameters"] != parameters
            if differs or (knobs().get("only_one") and other != name):
                unload(other)
        if name not in LOADED:
            if knobs().get("load_error"):
                raise RuntimeError(knobs()["load_error"])
            time.sleep(knobs().get("load_seconds", 0))
            runner = subprocess.Popen(["/bin/sleep", "100000"])
            if knobs().get("vram"):
                allocate(knobs()["vram"], pid=runner.pid)
            LOADED[name] = {"runner": runner, "base": base, "parameters": parameters, "keep_alive": "5m"}
            journal("load", model=name, parameters=parameters, runner=runner.pid, keep_alive=keep_alive)
            write_loaded()
        if keep_alive is not None:
            LOADED[name]["keep_alive"] = keep_alive
    return name


class Ollama(Handler):
    def do_GET(self):
        match self.path:
            case "/api/version":
                self.send({"version": "0.12.3"})
            case "/api/tags":
                self.send(
                    {
                        "models": [
                            {"name": name, "model": name, "digest": digest(name), "size": 1000} for name in there()
                        ]
                    }
                )
            case "/api/ps":
                rows = [
                    {"name": name, "model": name, "digest": digest(name), "size": 1000, "size_vram": 1000,
                     "context_length": row["parameters"].get("num_ctx", 4096)}
                    for name, row in LOADED.items()
                ]  # fmt: skip
                self.send({"models": rows})
            case "/v1/models":
                self.send({"object": "list", "data": [{"id": name, "object": "model"} for name in there()]})
            case _:
                self.send(b"404 page not found", 404, "text/plain")

    def do_DELETE(self):
        name = full(self.body().get("model", ""))
        unload(name)
        found = LAID_OVER.pop(name, None)
        journal("delete", model=name)
        self.send({}, 200 if found else 404) if found else self.send({"error": f"model '{name}' not found"}, 404)

    def do_POST(self):
        asked = self.body()
        name = full(asked.get("model", ""))
        journal("request", path=self.path, **{key: asked[key] for key in sorted(asked)})
        try:
            self.answer(asked, name)
        except KeyError:
            error = f"model '{name}' not found"
            self.send(
                {"error": {"message": error, "type": "not_found_error"}} if "/v1/" in self.path else {"error": error},
                404,
            )
        except RuntimeError as error:
            self.send({"error": {"message": str(error)}} if "/v1/" in self.path else {"error": str(error)}, 500)
        except (ConnectionError, OSError):
            self.close_connection = True

    def answer(self, asked, name):
        words = knobs().get("words", "one two three four").split()
        match self.path:
            case "/api/show":
                if name not in there():
                    raise KeyError(name)
                encoder = name in map(full, knobs().get("embeds", []))
                self.send({"capabilities": ["embedding"] if encoder else ["completion", "tools"]})
            case "/api/generate" if asked.get("keep_alive") == 0:
                if not knobs().get("keeps"):
                    unload(name)
                self.send({"model": name, "response": "", "done": True, "done_reason": "unload"})
            case "/api/generate":
                if name in map(full, knobs().get("embeds", [])):
                    return self.send({"error": f'"{name}" does not support generate'}, 400)
                load(name, asked.get("keep_alive"))
                self.send({"model": name, "response": "", "done": True, "done_reason": "load"})
            case "/api/embed":
                load(name, asked.get("keep_alive"))
                self.send({"model": name, "embeddings": [[0.1]]})
            case "/api/create":
                LAID_OVER[name] = {"from": full(asked["from"]), "parameters": asked.get("parameters") or {}}
                self.send({"status": "success"})
            case "/api/pull":
                self.pull(name)
            case "/v1/chat/completions":
                load(name)
                count = asked.get("max_tokens") or len(words)
                self.chat(asked, asked["model"], words[:count])
            case "/v1/embeddings":
                load(name)
                self.embedding(asked["model"])
            case _:
                self.send(b"404 page not found", 404, "text/plain")

    def pull(self, name):
        self.begin("application/x-ndjson")
        lines = [{"status": "pulling manifest"}]
        steps = knobs().get("pull_steps", 4)
        for layer, total in (("sha256:a", 4_000_000), ("sha256:b", 1_000_000)):
            lines += [
                {"status": f"pulling {layer[7:]}", "digest": layer, "total": total, "completed": total * step // steps}
                for step in range(1, steps + 1)
            ]
        if knobs().get("pull_error"):
            lines = [*lines[:3], {"error": knobs()["pull_error"]}]
        else:
            lines += [{"status": status} for status in ("verifying sha256 digest", "writing manifest", "success")]
        for line in lines:
            self.chunk(json.dumps(line).encode() + b"\n")
            time.sleep(knobs().get("pull_pause", 0))
        if not knobs().get("pull_error"):
            PULLED.append(name)
        self.chunk(b"")


def at_end():
    for name in list(LOADED):
        unload(name)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        port = int(os.environ["OLLAMA_HOST"].rpartition(":")[2])
        journal("serve", environment={k: v for k, v in os.environ.items() if k.startswith("OLLAMA_")})
    else:
        port = int(arguments[0])
    serve(port, Ollama, at_end)
