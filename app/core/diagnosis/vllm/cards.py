"""The rows of graphics cards: how many, which, their driver, and how they talk to each other."""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern
from app.core.diagnosis.vllm.cures import EAGER, OTHER_BUILD, TWO_CARDS
from app.core.memory.plan_types import Remedy

CARDS: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="bad_argument",
        pattern=r"attention heads \((?P<heads>\d+)\) must be divisible by tensor parallel size \((?P<cards>\d+)\)",
        summary="The model's {heads} attention heads cannot be shared by {cards} cards.",
        advice="Take a number of cards that divides them.",
        remedies=(TWO_CARDS,),
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"output_size of .*= (?P<size>\d+) is not divisible by weight quantization block_n = (?P<block>\d+)",
        summary="Quantised weights come in blocks of {block}, which do not divide a card's part of {size}.",
        advice="Spread the model over fewer cards, or put whole experts onto each card.",
        remedies=(Remedy(title="Whole experts on each card", settings={"expert_parallel": True}), TWO_CARDS),
    ),
    FailurePattern(
        kind="too_few_cards",
        pattern=r"number of required GPUs exceeds the total number of available GPUs|Ray does not allocate any GPUs"
        r"|Cannot provide a placement group|larger than the (?:total )?number of (?:available )?GPUs",
        summary="More cards are asked for than can be had.",
        advice="Spread the model over fewer cards, or start the missing machines.",
        remedies=(TWO_CARDS,),
    ),
    FailurePattern(
        kind="driver",
        pattern=r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver",
        summary="vLLM finds no graphics card.",
        advice="Check the driver with nvidia-smi, or install the build for the processor.",
    ),
    FailurePattern(
        kind="driver",
        pattern=r"(?P<card>[\w -]+) with CUDA capability (?P<arch>sm_\d+) is not compatible with the current PyTorch",
        summary="This build of vLLM has no code for the {card} ({arch}).",
        advice=OTHER_BUILD,
        rank=8,
    ),
    FailurePattern(
        kind="driver",
        pattern=r"PassManager::run failed|no kernel image is available|`memory_efficient_attention_forward`|no kernel found to run"
        r"|FlashAttention only supports Ampere|requires (?:CUDA )?compute capability",
        summary="This build of vLLM has no code for this card.",
        advice=OTHER_BUILD,
        rank=9,
    ),
    FailurePattern(
        kind="driver",
        pattern=r"NVIDIA driver on your system is too old|CUDA driver version is insufficient|forward compatibility was attempted",
        summary="The graphics driver is too old for this build of vLLM.",
        advice="Update the driver, or install a build for an older CUDA.",
        rank=9,
    ),
    FailurePattern(
        kind="no_shared_memory",
        pattern=r"while creating shared memory segment|failed to extend /dev/shm",
        summary="The shared memory (/dev/shm) is too small for several cards.",
        advice="In a container: start it with --ipc=host. Else make /dev/shm larger.",
        rank=8,
    ),
    FailurePattern(
        kind="gpu_fault",
        pattern=r"illegal memory access|unspecified launch failure|misaligned address",
        summary="The graphics card stopped at a memory fault inside the engine.",
        advice="Load again; when it comes back, update vLLM and driver, or do not compile.",
        remedies=(EAGER,),
        rank=9,
    ),
    FailurePattern(
        kind="gpu_fault",
        pattern=r"NCCL error|ncclSystemError|ncclInternalError|ncclUnhandledCudaError",
        summary="The cards could not talk to each other (NCCL).",
        advice="Look at the lines before it; check link and driver, or use one card.",
        remedies=(TWO_CARDS,),
        rank=20,
    ),
    FailurePattern(
        kind="timed_out",
        pattern=r"Watchdog caught collective operation timeout|RPC call to \w+ timed out|execute_model timed out",
        summary="A worker did not answer in time, so vLLM gave up.",
        advice="Load again; when it comes back, check the cards' link and driver, or do not compile.",
        remedies=(EAGER,),
        rank=15,
    ),
)
