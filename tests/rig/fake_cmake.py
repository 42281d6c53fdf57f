"""Behaves like CMake with Ninja for a source folder that has a `steps.txt`: one step a line, done once, told as Ninja tells.

A step "wait FILE" lasts until that file appears (and makes FILE.begun), "say TEXT" prints, "fail TEXT" prints and fails;
everything else is just done. Each step that is executed is a line of `executed.txt` in the build folder. A line
"configure-fail TEXT" makes the configuration fail, "configure-found NAME VERSION" is a package that it finds. Afterwards
`bin` holds the source folder's program and a library.
"""

import shutil
import sys
import time
from pathlib import Path


def configure(source: Path, build: Path) -> int:
    lines = (source / "steps.txt").read_text().splitlines()
    for line in lines:
        if line.startswith("configure-fail "):
            print(f"CMake Error at CMakeLists.txt:1 (find_package):\n  {line.partition(' ')[2]}\n", flush=True)
            return 1
    build.mkdir(parents=True, exist_ok=True)
    found = [line.split()[1:] for line in lines if line.startswith("configure-found ")]
    rows = [
        f"FIND_PACKAGE_MESSAGE_DETAILS_{name}:INTERNAL=[/usr/lib/x.so][c ][v{version}()]\n" for name, version in found
    ]
    (build / "CMakeCache.txt").write_text("".join(rows))
    (build / "source.txt").write_text(str(source))
    print(f"-- Build files have been written to: {build}", flush=True)
    return 0


def build(folder: Path) -> int:
    source = Path((folder / "source.txt").read_text())
    executed = folder / "executed.txt"
    done = executed.read_text().splitlines() if executed.exists() else []
    left = [line for line in (source / "steps.txt").read_text().splitlines() if line and line not in done]
    for number, line in enumerate(left, 1):
        word, _, rest = line.partition(" ")
        print(f"[{number}/{len(left)}] {line}", flush=True)
        if word == "fail":
            print(rest.replace("\\n", "\n"), flush=True)
            return 1
        if word == "say":
            print(rest, flush=True)
        if word == "wait":
            Path(f"{rest}.begun").touch()
            while not Path(rest).exists():
                time.sleep(0.02)
        with executed.open("a") as file:
            file.write(f"{line}\n")
    (folder / "bin").mkdir(exist_ok=True)
    shutil.copy(source / "program.sh", folder / "bin" / "llama-server")
    library = folder / "bin" / "libstandin.so.1"
    library.write_bytes(b"\x7fELF")
    library.chmod(0o755)
    if not (folder / "bin" / "libstandin.so").is_symlink():
        (folder / "bin" / "libstandin.so").symlink_to(library.name)
    return 0


def main(arguments: list[str]) -> int:
    if arguments[0] == "--build":
        return build(Path(arguments[1]))
    return configure(Path(arguments[arguments.index("-S") + 1]), Path(arguments[arguments.index("-B") + 1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
