"""The rows of the Python environment, the compiler and the folders that vLLM needs."""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern
from app.core.diagnosis.vllm.cures import EAGER, OTHER_BUILD

ENVIRONMENT: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="engine_not_installed",
        pattern=r"No module named '?vllm'?(?:\.entrypoints\S*)?$",
        summary="This Python does not have vLLM.",
        advice="Install it there, or choose another installation.",
        rank=9,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"operator torchvision::nms does not exist|torchvision.*(?:partially initialized|not compiled)",
        summary="The engine's torchvision was built for another PyTorch.",
        advice="Remove torchvision and torchaudio from that environment (text models need neither), or install it again.",
        rank=9,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"No package metadata was found for vllm",
        summary="vLLM does not find its own version: it was installed under another package name.",
        advice="Install it by Engine Room, which gives it the name.",
        rank=9,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"ImportError: (?P<reason>\S+ undefined symbol.*)|Failed to import from vllm\._C with (?P<reason_too>.+)"
        r"|No module named '(?P<reason_three>vllm\._C)'",
        summary="The engine's compiled parts do not fit the PyTorch beside them ({reason}{reason_too}{reason_three}).",
        advice=OTHER_BUILD,
        rank=9,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"OSError: (?P<library>\S+\.so[\w.]*): cannot open shared object file",
        summary="A compiled part of the engine is gone: {library}.",
        advice="Clear the caches of torch and vLLM, or install vLLM again.",
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"ModuleNotFoundError: No module named '(?P<module>[^']+)'",
        summary="The engine's Python environment lacks {module}.",
        advice="Install it there, or install vLLM again.",
        rank=19,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"type '[\w.]+' is not subscriptable|SyntaxError: ",
        summary="A package of the engine's environment needs another version of Python.",
        advice="Install vLLM again, with the versions that belong together.",
        rank=19,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"Failed to find C compiler|fatal error: Python\.h|/ninja'|No such file or directory: '(?:ninja|nvcc|gcc|g\+\+)'",
        summary="The engine compiles code while loading, and what it needs for that is not there.",
        advice="Install a C++ compiler, ninja and Python's headers, or do not compile.",
        remedies=(EAGER,),
        rank=9,
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r'ipc path "(?P<folder>/.*)/[^/"]+" is longer than (?P<most>\d+) characters',
        summary="The path of the folder for temporary files is too long for the engine's sockets: {folder}.",
        advice="Put TMPDIR=/tmp into the profile's environment.",
        rank=9,
    ),
    FailurePattern(
        kind="disk_full",
        pattern=r"Disk quota exceeded|\[Errno 122\]",
        summary="The account's share of the disk is used up.",
        advice="Free space there, or clear vLLM's compile cache.",
        rank=8,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Cannot re-initialize CUDA in forked subprocess",
        summary="The graphics card was touched before the workers were started.",
        advice="Take VLLM_WORKER_MULTIPROC_METHOD out of the profile's environment: spawn is then used.",
    ),
    FailurePattern(
        kind="no_permission",
        pattern=r"bad interpreter: Permission denied",
        summary="The engine's Python may not be executed by this account.",
        advice="Check the permissions of the engine's folder and of all folders above it.",
    ),
)
