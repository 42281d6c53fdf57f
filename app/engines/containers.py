"""Says in which container image each family's server runs, and what stands in front of its command line there."""

from __future__ import annotations

import msgspec

from app.engines.base import Installation

# The images that llama.cpp's own project publishes of its server, by what they compute on.
SERVER_IMAGES = {
    "cpu": "ghcr.io/ggml-org/llama.cpp:server",
    "cuda": "ghcr.io/ggml-org/llama.cpp:server-cuda",
    "rocm": "ghcr.io/ggml-org/llama.cpp:server-rocm",
    "vulkan": "ghcr.io/ggml-org/llama.cpp:server-vulkan",
}
# Those that vLLM's own project publishes, by what they compute on.
VLLM_IMAGES = {"cuda": "vllm/vllm-openai", "rocm": "vllm/vllm-openai-rocm", "cpu": "vllm/vllm-openai-cpu"}
# The package is installed when the container starts; $0 is its requirement, and what follows is the command line.
_INSTALL_FIRST = ("/bin/sh", "-ec", 'pip install --quiet --no-cache-dir "$0" && exec "$@"')
_PYTHON_PACKAGES = {
    "llama.cpp": ("docker.io/library/python:3.12-slim", "xllamacpp"),
    "llama-cpp-python": ("docker.io/library/python:3.12", "llama-cpp-python[server]"),  # the full image has a compiler
}


def vllm_image(accelerator: str, version: str) -> str:
    """The published image of a version ("0.32.0"; "" = the newest)."""
    tag = f"v{version.lstrip('v').partition('+')[0]}" if version else "latest"
    return f"{VLLM_IMAGES.get(accelerator, VLLM_IMAGES['cpu'])}:{tag}"


class ContainerSide(msgspec.Struct, frozen=True, kw_only=True):
    """`program` takes the place of the installation's executable; empty = the entrypoint is the program itself."""

    image: str
    entrypoint: tuple[str, ...]
    program: str = ""
    passed: tuple[str, ...] = ()  # variables by which the person can change what is installed
    notes: tuple[str, ...] = ()


def container_side(installation: Installation) -> ContainerSide:
    if installation.client:
        return ContainerSide(image=installation.executable, entrypoint=("vllm",))
    if installation.family == "vllm":
        image = vllm_image(installation.accelerator, installation.version)
        return ContainerSide(image=image, entrypoint=("vllm",))
    if installation.family not in _PYTHON_PACKAGES:
        image = SERVER_IMAGES.get(installation.accelerator, SERVER_IMAGES["cpu"])
        build = f", and yours is {installation.build}" if installation.build else ""
        note = f"{image} is the newest build of llama.cpp{build}: a tag such as server-b1234 holds one build fast."
        return ContainerSide(image=image, entrypoint=("/app/llama-server",), notes=(note,))
    image, package = _PYTHON_PACKAGES[installation.family]
    version = installation.version or installation.build.rpartition(" ")[2]
    requirement = f"{package}=={version}" if version else package
    notes = [f"{requirement} is installed when the container starts, so it needs the network then."]
    passed: tuple[str, ...] = ()
    if installation.family == "llama-cpp-python":
        passed = ("CMAKE_ARGS",)
        notes.append(
            "It is built from source there, for the processor; CMAKE_ARGS=… in the environment file changes that."
        )
    elif installation.accelerator != "cpu":
        passed = ("PIP_INDEX_URL",)
        notes.append(
            f"That is the build for the processor; PIP_INDEX_URL=… in the environment file, with the wheel index of the"
            f" {installation.accelerator.upper()} build, takes the other."
        )
    entrypoint = (*_INSTALL_FIRST, requirement)
    return ContainerSide(image=image, entrypoint=entrypoint, program="python", passed=passed, notes=tuple(notes))
