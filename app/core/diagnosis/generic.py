"""The diagnosis rows that hold for any engine: what the operating system, the loader and Python say."""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern

# A driver's library comes with the driver and never with an engine: to install the engine again would not help.
_DRIVER_LIBRARIES: tuple[FailurePattern, ...] = tuple(
    FailurePattern(
        kind="driver",
        pattern=rf"{library}\.so[\w.]*: cannot open shared object file",
        summary=f"{what} is not installed here, and this build of the engine cannot start without it.",
        advice=f"{how}, or use the engine's build for the processor.",
    )
    for library, what, how in (
        ("libcuda", "The NVIDIA driver", "Install the NVIDIA driver (`nvidia-smi` then lists the card)"),
        ("libamdhip64", "ROCm", "Install ROCm"),
        ("libvulkan", "The Vulkan loader", "Install libvulkan1 and the card's Vulkan driver"),
    )
)

GENERIC: tuple[FailurePattern, ...] = (
    *_DRIVER_LIBRARIES,
    FailurePattern(
        kind="missing_library",
        pattern=r"error while loading shared libraries: (?P<library>[^:]+):"
        r"|(?P<library_too>lib[\w.+-]+\.so[\w.]*): cannot open shared object file"
        r"|Library not loaded: (?P<library_three>\S+)",
        summary="The engine needs the library {library}{library_too}{library_three}, which is not there.",
        advice="Install the package that has it, or install the engine again.",
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"undefined symbol: (?P<symbol>\S+)|version `(?P<version>[^']+)' not found",
        summary="The engine's files do not belong together or need a newer system ({symbol}{version}).",
        advice="Install the engine again.",
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"(?:ModuleNotFoundError|ImportError): (?P<reason>.+)",
        summary="The engine's Python environment is incomplete: {reason}.",
        advice="Install the engine again.",
        rank=20,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"xllamacpp_host: error: the engine's library cannot be loaded: (?P<reason>.+)",
        summary="The built-in engine cannot be loaded: {reason}.",
        advice="Run ./packaging/run again; it installs the engine anew.",
    ),
    FailurePattern(
        kind="port_taken",
        pattern=r"[Aa]ddress already in use|\[Errno 98\]",
        summary="The port is taken by another process.",
        advice="Load again: another port is chosen for each launch.",
    ),
    FailurePattern(
        kind="disk_full",
        pattern=r"No space left on device|\[Errno 28\]",
        summary="The disk is full.",
        advice="Free space on the drive of the model cache and of the logs.",
    ),
    FailurePattern(
        kind="no_permission",
        pattern=r"Permission denied|\[Errno 13\]",
        summary="The engine may not read or write something that it needs.",
        advice="Check the permissions of the model file and of the engine's folder.",
        rank=20,
    ),
    FailurePattern(
        kind="illegal_instruction",
        pattern=r"[Ii]llegal instruction",
        summary="The engine was built for a newer processor than this one.",
        advice="Install the prebuilt engine, or build it on this machine.",
        rank=20,
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"std::bad_alloc|MemoryError|[Cc]annot allocate memory|out of memory while loading",
        summary="Main memory ran out.",
        advice="Take a smaller context or a smaller model, or close other programs.",
        rank=20,
    ),
    FailurePattern(
        kind="model_missing",
        pattern=r"(?:FileNotFoundError: .*|error: .*)No such file or directory:? '?(?P<path>[^']*)",
        summary="A file that the engine needs is not there: {path}.",
        advice="Check the paths in the profile.",
        rank=30,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Segmentation fault|signal SIGSEGV",
        summary="The engine crashed.",
        advice="Load again; when it comes back, update the engine or change the settings.",
        rank=50,
    ),
)
