"""Makes engines that can be installed in a second and without any network: wheels, and a source archive that compiles.

What they install is the stand-in engine, so that an installation's last step, a token through HTTP, is real.
"""

import io
import shutil
import sys
import tarfile
from pathlib import Path

import msgspec
import tomli_w

from app.daemon.engine_sources import Build, Source
from tests.rig.engines import PROGRAM
from tests.rig.home import Home
from tests.rig.wheels import sha256_of, write_wheel

INTERPRETER = str(Path(sys.executable).resolve())

# The prebuilt package's module: its Server is the stand-in engine in a child process.
XLLAMACPP = f"""
import os, subprocess, threading
from types import SimpleNamespace


class CommonParams:
    def __init__(self):
        for group in ("model", "cpuparams", "cpuparams_batch", "mmproj"):
            setattr(self, group, SimpleNamespace())


class _Kinds:
    def __getattr__(self, name):
        return name


def get_device_info():
    return []


ggml_type = llama_split_mode = llama_load_mode = llama_flash_attn_type = common_reasoning_format = _Kinds()


class Server:
    def __init__(self, params):
        [alias] = params.model_alias
        self.listening_address = f"http://127.0.0.1:{{params.port}}"
        self.engine = subprocess.Popen(
            [{INTERPRETER!r}, "-S", "-I", {str(PROGRAM)!r}, "--face", "llama-server",
             "--model", params.model.path, "--alias", alias, "--port", str(params.port)]
        )
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        os._exit(abs(self.engine.wait()))
"""

WORKS = {"standin/__init__.py": "", "xllamacpp/__init__.py": XLLAMACPP}
LACKS_A_LIBRARY = {**WORKS, "standin/__init__.py": "import ctypes\nctypes.CDLL('libnowhere.so.9')\n"}
# imports well and dies only when it computes: another processor's instructions
ANOTHER_PROCESSOR = {**WORKS, "xllamacpp/__init__.py": XLLAMACPP.replace("        [alias]", "        import os, signal\n        os.kill(os.getpid(), signal.SIGILL)\n        [alias]")}  # fmt: skip
DIES = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"  # as an instruction does that this processor lacks
ILLEGAL_AT_IMPORT = {**WORKS, "standin/__init__.py": DIES}


def wheel_source(cuda: Path, cpu: Path, **cpu_fields: object) -> Source:
    """An engine with a prebuilt package for cards and one for the processor, in these folders of wheels."""
    return Source(
        family="llama.cpp",
        package="standin",
        version="1.0",
        module="standin",
        build=(
            Build(accelerator="cuda", find_links=str(cuda), needs="a card"),
            Build(accelerator="cpu", find_links=str(cpu), **cpu_fields),  # type: ignore[arg-type]
        ),
    )


def write_standin_wheel(folder: Path, files: dict[str, str] = WORKS, version: str = "1.0") -> Path:
    return write_wheel(folder, "standin", version, files)


# --- from source -----------------------------------------------------------------------------------------------------

STEPS = ("compile one", "compile two", "link")
FAKE_CMAKE = Path(__file__).with_name("fake_cmake.py")
BASIC_PROGRAMS = ("sh", "nice", "timeout", "env")  # what every machine has
PROGRAM_SCRIPT = f'#!/bin/sh\nexec "{INTERPRETER}" -S -I "{PROGRAM}" --face llama-server "$@"\n'
BINDING = f"""
import os, subprocess, sys
assert os.path.isfile(os.environ["LLAMA_CPP_LIB_PATH"] + "/libstandin.so"), "the shared libraries are not there"
os.execv({INTERPRETER!r}, [{INTERPRETER!r}, "-S", "-I", {str(PROGRAM)!r}, "--face", "llama-cpp-python", *sys.argv[1:]])
"""
# Builds the Python part without any package from an index, as a build backend may.
BACKEND = """
import os, zipfile
INFO = "llama_cpp_python-{version}.dist-info"
FILES = {{"llama_cpp/__init__.py": "", "llama_cpp/server/__init__.py": "", "llama_cpp/server/app.py": "",
         "llama_cpp/server/__main__.py": {binding!r},
         INFO + "/METADATA": "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: {version}\\nProvides-Extra: server\\n",
         INFO + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: tests\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}}


def build_wheel(folder, config_settings=None, metadata_directory=None):
    assert os.environ["CMAKE_ARGS"] == "-DLLAMA_BUILD=OFF", "the libraries would be compiled a second time"
    name = "llama_cpp_python-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
        wheel.writestr(INFO + "/RECORD", "".join(f"{{path}},,\\n" for path in [*FILES, INFO + "/RECORD"]))
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "llama-cpp-python"
version = "{version}"
[project.optional-dependencies]
server = []
"""


def write_archive(folder: Path, *steps: str, version: str = "0.1") -> Path:
    """`llama_cpp_python-VERSION.tar.gz` in `folder`; the stand-in CMake does these steps."""
    files = {
        "engine/steps.txt": "\n".join(steps or STEPS) + "\n",
        "engine/program.sh": PROGRAM_SCRIPT,
        "backend.py": BACKEND.format(version=version, binding=BINDING),
        "pyproject.toml": PYPROJECT.format(version=version),
    }
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"llama_cpp_python-{version}.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"llama_cpp_python-{version}/{name}")
            entry.size, entry.mode = len(text.encode()), 0o755
            opened.addfile(entry, io.BytesIO(text.encode()))
    return archive


def put_tools(home: Home, *names: str) -> None:
    """The home's PATH has the programs of every machine and, of the tools for compiling, exactly these stand-ins."""
    for file in home.bin.glob("*"):
        if file.name in ("c++", "cmake", "ninja"):
            file.unlink()
    for name in BASIC_PROGRAMS:
        found = shutil.which(name)
        assert found is not None
        if not (home.bin / name).exists():
            (home.bin / name).symlink_to(found)
    for name in names:
        (home.bin / name).write_text(tool_script(name))
        (home.bin / name).chmod(0o755)
    home.environment["PATH"] = str(home.bin)


def tool_script(name: str) -> str:
    return f'#!/bin/sh\nexec "{INTERPRETER}" -S -I "{FAKE_CMAKE}" "$@"\n' if name == "cmake" else "#!/bin/sh\nexit 0\n"


def write_tool_wheel(folder: Path, name: str) -> Path:
    """CMake and Ninja as the package index has them: a package with a program."""
    return write_wheel(folder, name, "4.0", {f"{name}-4.0.data/scripts/{name}": tool_script(name)})


def archive_source(archive: Path | None = None, version: str = "0.1", **build_fields: object) -> Source:
    """The engine of that archive; found where pip is configured to look."""
    return Source(
        family="llama-cpp-python",
        package="llama-cpp-python",
        version=version,
        module="llama_cpp.server.app",
        extras=("server",),
        archive_sha256=sha256_of(archive) if archive is not None else "",
        cmake_folder="engine",
        cmake_targets=("llama-server",),
        programs={"llama-server": "native/llama-server", "llama-cpp-python": "bin/python"},
        library_folder="native",
        build=(Build(accelerator="cpu", how="source", needs="a compiler", **build_fields),),  # type: ignore[arg-type]
    )


# --- for a daemon ----------------------------------------------------------------------------------------------------


def write_table(home: Home, *sources: Source) -> None:
    """The home's table of engine sources: its daemon, its jobs and its commands install from there."""
    file = home.folder / "engines.toml"
    file.write_text(tomli_w.dumps({"engine": [msgspec.to_builtins(source) for source in sources]}), "utf-8")
    home.environment["ENGINE_ROOM_ENGINE_SOURCES"] = str(file)


def pip_finds(home: Home, folder: Path) -> None:
    """pip of this home is configured with that folder and no index."""
    settings = home.folder / "config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"[global]\nno-index = true\nfind-links = {folder}\n", "utf-8")
