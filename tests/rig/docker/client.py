"""Behaves like Docker's command line client: its own words and exit codes, the service's errors in the service's words.

Standard library only; found on a home's PATH as `docker`. It speaks to service.py over the socket of DOCKER_HOST, one JSON
value a line, and does what the real one does by itself: fetch a missing image, attach, hand signals on, leave when the
connection breaks.
"""

import base64
import json
import os
import re
import signal
import socket
import sys

HOST = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
SOCKET = HOST.removeprefix("unix://")
HELP = "\n\nRun 'docker {0} --help' for more information\n"


class Refused(Exception):
    """The service answered with an error."""


def out(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def err(text):
    sys.stderr.write(text)
    sys.stderr.flush()


def connect(prefix=""):
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.connect(SOCKET)
    except PermissionError:
        err(
            f"{prefix}permission denied while trying to connect to the Docker daemon socket at {HOST}: "
            f'Head "http://{SOCKET.replace("/", "%2F")}/_ping": dial unix {SOCKET}: connect: permission denied\n'
        )
        sys.exit(125 if prefix else 1)
    except OSError:
        err(f"{prefix}Cannot connect to the Docker daemon at {HOST}. Is the docker daemon running?")
        err(HELP.format("run") if prefix else "\n")
        sys.exit(125 if prefix else 1)
    return link


def ask(call, prefix="", **fields):
    """Every value that the service sends in answer; raises Refused."""
    link = connect(prefix)
    with link, link.makefile("rwb") as both:
        both.write(json.dumps({"call": call, **fields}).encode() + b"\n")
        both.flush()
        for line in both:
            value = json.loads(line)
            if "error" in value:
                raise Refused(value["error"])
            yield value
            if value.get("last"):
                return
    raise EOFError


def answer(call, **fields):
    return list(ask(call, **fields))[-1]


def filled(template, row):
    """What --format makes of a row: fields, labels, `json`."""
    if template == "{{json .}}":
        return json.dumps(row)
    text = template.replace("\\t", "\t")
    text = re.sub(r'\{\{\.Label "([^"]+)"\}\}', lambda found: row.get("Labels", {}).get(found[1], ""), text)
    return re.sub(r"\{\{\.(\w+)\}\}", lambda found: str(row[found[1]]), text)


# --- run -------------------------------------------------------------------------------------------------------------

SWITCHES = {"--rm": "rm", "--init": "init"}
SINGLE = {"--name": "name", "--entrypoint": "entrypoint", "--gpus": "gpus", "--ipc": "ipc", "--pull": "pull"}
SEVERAL = ("--label", "--env", "--publish", "--mount", "--volume", "--device", "--group-add")


def run(words):
    wish = {"rm": False, "init": False, "pull": "missing", **{flag.strip("-"): [] for flag in SEVERAL}}
    while words and words[0].startswith("-"):
        flag, equals, value = words.pop(0).partition("=")
        if flag in SWITCHES:
            wish[SWITCHES[flag]] = True
        elif flag in SINGLE or flag in SEVERAL:
            value = value if equals else words.pop(0)
            if flag in SINGLE:
                wish[SINGLE[flag]] = value
            else:
                wish[flag.strip("-")].append(value)
        else:
            err(f"unknown flag: {flag}\n\nUsage:  docker run [OPTIONS] IMAGE [COMMAND] [ARG...]{HELP.format('run')}")
            sys.exit(125)
    if not words:
        err("docker: 'docker run' requires at least 1 argument\n" + HELP.format("run"))
        sys.exit(125)
    wish["image"], wish["command"] = words[0], words[1:]
    given = {}
    for each in wish.pop("env"):
        name, equals, value = each.partition("=")
        if equals or name in os.environ:  # one without a value is taken from here, or left out
            given[name] = value if equals else os.environ[name]
    try:
        number = created({**wish, "environment": given})
        answer("start", id=number)
    except Refused as error:
        err(f"docker: {error}{HELP.format('run')}")
        sys.exit(127 if "executable file not found" in str(error) else 125)
    except EOFError:
        err("docker: error during connect: unexpected EOF" + HELP.format("run"))
        sys.exit(125)
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, lambda got, _: hand_on(number, got))
    try:
        for news in ask("attach", id=number):
            if "exit" in news:
                sys.exit(news["exit"])
            stream = sys.stdout if news["stream"] == 1 else sys.stderr
            stream.buffer.write(base64.b64decode(news["data"]))
            stream.flush()
    except (EOFError, OSError, Refused):
        pass
    err('time="2026-11-21T00:00:00Z" level=error msg="error waiting for container: unexpected EOF"\n')
    sys.exit(125)


def created(wish):
    try:
        return answer("create", prefix="docker: ", **wish)["id"]
    except Refused as error:
        if "No such image" not in str(error) or wish["pull"] == "never":
            raise
    err(f"Unable to find image '{wish['image']}' locally\n")
    pull_image(wish["image"], stream=sys.stderr)
    return answer("create", prefix="docker: ", **wish)["id"]


def hand_on(number, got):
    try:
        answer("kill", name=number, signal=int(got))
    except (Refused, EOFError, SystemExit):
        pass


# --- the others ------------------------------------------------------------------------------------------------------


def pull_image(image, stream):
    """On a terminal each layer's line is drawn again as it comes; into a pipe only what changes is told."""
    fancy = stream.isatty()
    for news in ask("pull", image=image):
        if news.get("last"):
            break
        if "layer" not in news:
            stream.write(news["line"] + "\n")
        elif fancy and "done" in news:
            bar = "=" * int(50 * news["done"] / news["total"])
            figures = f"[{bar + '>':<51}]  {news['done'] / 1e6:.4g}MB/{news['total'] / 1e6:.4g}MB"
            stream.write(f"\x1b[1A\x1b[2K\r{news['layer']}: {news['status']} {figures}\r\x1b[1B")
        elif "done" not in news:
            stream.write(f"{news['layer']}: {news['status']}\n")
        stream.flush()


def pull(words):
    pull_image(words[0], sys.stdout)


def kill(words):
    got = 9
    if words[0] in ("--signal", "-s"):
        got = getattr(signal, "SIG" + words[1].removeprefix("SIG"))
        words = words[2:]
    each(words, lambda name: answer("kill", name=name, signal=int(got)))


def rm(words):
    force = words[0] in ("--force", "-f")
    each(words[1:] if force else words, lambda name: answer("rm", name=name, force=force))


def each(names, work):
    failed = False
    for name in names:
        try:
            work(name)
            out(name + "\n")
        except Refused as error:
            failed = True
            err(f"{error}\n")
    sys.exit(1 if failed else 0)


def inspect(words):
    rows = []
    failed = ""
    for name in words:
        try:
            rows.append(answer("inspect", name=name)["row"])
        except Refused as error:
            failed = str(error)
    out(json.dumps(rows, indent=4) + "\n")
    if failed:
        err(f"{failed}\n")
        sys.exit(1)


def listed(call, words, fields):
    template, wish = "", {}
    while words:
        word = words.pop(0)
        if word == "--format":
            template = words.pop(0)
        elif word == "--filter":
            name, _, value = words.pop(0).partition("=")
            wish.setdefault(name, []).append(value)
        elif word in ("--all", "-a"):
            wish["all"] = True
        elif word != "--no-trunc":
            err(f"unknown flag: {word}\n\nUsage:  docker {call} [OPTIONS]{HELP.format(call)}")
            sys.exit(125)
    for row in answer(call, **{**fields, **wish})["rows"]:
        out(filled(template, row) + "\n")


def logs(words):
    value = answer("logs", name=words[0])
    for stream, file in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        file.buffer.write(base64.b64decode(value[stream]))
        file.flush()


def version(words):
    if words[:1] == ["--format"]:
        out(filled(words[1].replace("{{.Server.Version}}", "{{.Version}}"), answer("version")) + "\n")
        return
    out("Client:\n Version:           28.2.2\n")
    answer("version")


def main():
    words = sys.argv[1:]
    if words[:2] in (["container", "inspect"], ["image", "ls"], ["image", "inspect"]):
        verb, words = " ".join(words[:2]), words[2:]
    else:
        verb, words = (words or [""])[0], words[1:]
    verbs = {
        "run": run, "pull": pull, "kill": kill, "rm": rm, "container inspect": inspect, "logs": logs, "version": version,
        "ps": lambda rest: listed("ps", rest, {}), "image ls": lambda rest: listed("images", rest, {}),
    }  # fmt: skip
    if verb not in verbs:
        err(f"docker: unknown command: docker {verb}\n\nRun 'docker --help' for more information\n")
        sys.exit(1)
    try:
        verbs[verb](words)
    except Refused as error:
        err(f"{error}\n")
        sys.exit(1)
    except EOFError:
        err("error during connect: unexpected EOF\n")
        sys.exit(1)


main()
