"""The diagnosis rows of llama.cpp and of everything built on it; each pattern was read in a real log."""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern
from app.core.memory.plan_types import Remedy

SMALLER_CONTEXT = Remedy(title="Use a context of 4,096 tokens", settings={"context_tokens": 4_096})
KV_Q8 = Remedy(
    title="Keep the KV cache in q8_0",
    settings={"kv_type_k": "q8_0", "kv_type_v": "q8_0", "flash_attention": "on"},
)
FEWER_LAYERS = Remedy(title="Run it on the processor", settings={"gpu_layers": 0})
SMALLER_BATCH = Remedy(title="Compute 128 prompt tokens at a time", settings={"ubatch_tokens": 128})
FLASH_ATTENTION = Remedy(title="Turn flash attention on", settings={"flash_attention": "on"})

DOWNLOAD_AGAIN = "Download the file again, or compare its size and checksum with the source's."
UPDATE_ENGINE = "Update the engine, or take a file made for this version of it."

_MEMORY: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="out_of_memory",
        pattern=r"failed to allocate buffer for kv cache|llama_kv_cache\w*: failed to allocate",
        summary="The KV cache does not fit into the memory that is left.",
        advice="Take a smaller context or a smaller KV type, or move layers to the processor.",
        remedies=(SMALLER_CONTEXT, KV_Q8, FEWER_LAYERS),
        rank=8,  # says what the allocation was for, unlike the driver's line just before it
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"failed to allocate compute (?:pp |tg )?buffers|graph_reserve: failed to allocate",
        summary="Weights and KV cache fit, the compute buffer does not.",
        advice="Compute fewer prompt tokens at a time, turn flash attention on, or take a smaller context.",
        remedies=(SMALLER_BATCH, FLASH_ATTENTION, SMALLER_CONTEXT),
        rank=8,
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"unable to allocate (?P<device>\S+) buffer|failed to allocate (?P<device_too>\S+) model buffer",
        summary="The model's weights do not fit into the memory of {device}{device_too}.",
        advice="Move layers to the processor, or take a smaller quantisation.",
        remedies=(FEWER_LAYERS,),
        rank=8,
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"allocating (?P<mib>[\d.]+) MiB on device (?P<device>\d+): \w*[mM]alloc failed: out of memory",
        summary="The graphics card {device} had no room for another {mib} MiB.",
        advice="Close what else uses the card, take a smaller context, or move layers to the processor.",
        remedies=(SMALLER_CONTEXT, KV_Q8, FEWER_LAYERS),
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"ErrorOutOfDeviceMemory|ErrorOutOfHostMemory|Device memory allocation of size (?P<bytes>\d+) failed",
        summary="The graphics card had no room for a buffer, or the buffer is larger than the driver allows at once.",
        advice="Compute fewer prompt tokens at a time, take a smaller context, or move layers to the processor.",
        remedies=(SMALLER_BATCH, SMALLER_CONTEXT, FEWER_LAYERS),
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"CUDA error: out of memory|hipErrorOutOfMemory|ROCm error: out of memory"
        r"|kIOGPUCommandBufferCallbackErrorOutOfMemory|command buffer \d+ failed with status 5",
        summary="The graphics card ran out of memory.",
        advice="Close what else uses the card, take a smaller context, or move layers to the processor.",
        remedies=(SMALLER_CONTEXT, KV_Q8, FEWER_LAYERS),
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"insufficient memory \(attempted to allocate *(?P<mb>[\d.]+) *MB\)"
        r"|ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size (?P<bytes>\d+)",
        summary="Main memory has no room for a buffer that the engine asked for.",
        advice="Take a smaller context, a smaller KV type or a smaller model, or close other programs.",
        remedies=(SMALLER_CONTEXT, KV_Q8),
    ),
)

_MODEL: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="model_missing",
        pattern=r"failed to open GGUF file '(?P<path>.+?)' \((?P<reason>[^)]*)\)",
        summary="The file {path} cannot be opened: {reason}.",
        advice="Check the path in the profile, and that the drive is there.",
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"gguf_init_from_\w+: invalid magic|invalid magic (?:characters|number)",
        summary="The model file is not a GGUF file.",
        advice="Check that the profile names the model itself, not a web page saved in its place. " + DOWNLOAD_AGAIN,
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"tensor '(?P<tensor>[^']+)' data is not within the file bounds",
        summary="The model file is incomplete: the data of {tensor} lies beyond its end.",
        advice="The download was cut off. " + DOWNLOAD_AGAIN,
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"failed to read key-value pairs|failed to read tensor (?:info|data)|gguf_init_from_\w+: failed to read",
        summary="The model file's header cannot be read; the file is damaged or cut off.",
        advice=DOWNLOAD_AGAIN,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"unknown model architecture: '(?P<architecture>[^']+)'",
        summary="This engine does not know the model's architecture, {architecture}.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"unknown pre-tokenizer type: '(?P<tokenizer>[^']+)'",
        summary="This engine does not know the model's tokenizer, {tokenizer}.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"tensor '(?P<tensor>[^']+)' has wrong shape",
        summary="The tensor {tensor} has a shape that this engine does not expect.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"missing tensor '(?P<tensor>[^']+)'|tensor '(?P<tensor_too>[^']+)' not found",
        summary="The file lacks the tensor {tensor}{tensor_too}, which this engine needs.",
        advice="Either the conversion left it out or the engine is older than the model. " + UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"key not found in model: (?P<key>\S+)",
        summary="The file's header lacks {key}, which this engine needs.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"wrong number of tensors; expected (?P<expected>\d+), got (?P<found>\d+)",
        summary="The engine expects {expected} tensors of this model and the file has {found}.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"error loading model vocabulary: (?P<reason>.+)",
        summary="The model's vocabulary cannot be used: {reason}.",
        advice=UPDATE_ENGINE,
        rank=11,
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"this custom template is not supported|chat template (?:parsing|is not supported)|failed to parse chat template",
        summary="The model's chat template cannot be used by this engine.",
        advice="Name a built-in template in the profile's settings, for example chatml.",
        remedies=(Remedy(title="Use the chatml template", settings={"chat_template": "chatml"}),),
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"failed to load lora adapter '(?P<path>[^']+)'|llama_adapter_lora_init: failed to (?:open|apply)(?: '(?P<path_too>[^']+)')?",
        summary="The LoRA adapter {path}{path_too} cannot be loaded.",
        advice="Check its path, and that it was made for this model.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"failed to load multimodal model, '(?P<path>[^']+)'|Clip model path does not exist: (?P<path_too>.+)",
        summary="The projector file {path}{path_too} cannot be loaded.",
        advice="Check its path, and that it belongs to this model.",
    ),
    FailurePattern(
        kind="model_missing",
        pattern=r"llama_model_loader: failed to load model from (?P<path>.+)",
        summary="The model file {path} is not there, or is no model.",
        advice="Check the path in the profile, and that the drive is there.",
        rank=30,
    ),
)

_SETTINGS: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="port_taken",
        pattern=r"couldn't bind (?:HTTP )?server socket, hostname: (?P<host>\S+), port: (?P<port>\d+)",
        summary="Port {port} is taken by another process.",
        advice="Load again: another port is chosen for each launch.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"quantized V cache (?:requires|was requested, but this requires) (?:flash_attn|Flash Attention)"
        r"|V cache quantization requires flash_attn",
        summary="A KV cache below f16 needs flash attention, which is off.",
        advice="Turn flash attention on, or use f16 for the values.",
        remedies=(FLASH_ATTENTION, Remedy(title="Keep the values in f16", settings={"kv_type_v": "f16"})),
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"error: invalid argument: (?P<argument>.+)",
        summary="This build of the engine does not know {argument}.",
        advice="Take it out of the profile's extra arguments, or update the engine.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"error while handling argument \"(?P<argument>[^\"]+)\": (?P<reason>.+)",
        summary="The engine does not accept the value of {argument}: {reason}.",
        advice="Correct the setting in the profile.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"xllamacpp_host(?:\.py)?: error: (?:unrecognized arguments: (?P<argument>.+)|argument (?P<reason>.+))",
        summary="The built-in engine does not accept {argument}{reason}.",
        advice="Take it out of the profile's extra arguments; the llama-server engine has every flag of llama.cpp.",
    ),
)

_DEVICE: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="driver",
        pattern=r"CUDA driver version is insufficient|forward compatibility was attempted on non supported HW"
        r"|PTX was compiled with an unsupported toolchain|CUDA error: system has unsupported display driver",
        summary="The graphics driver is too old for this build of the engine.",
        advice="Update the driver, or install the build for an older CUDA.",
    ),
    FailurePattern(
        kind="driver",
        pattern=r"no kernel image is available|invalid device function|not compiled (?:for|with) .*(?:sm_|gfx)"
        r"|device kernel image is invalid",
        summary="This build of the engine has no code for this graphics card.",
        advice="Install a build for this card's generation, or run on the processor.",
        remedies=(FEWER_LAYERS,),
    ),
    FailurePattern(
        kind="driver",
        pattern=r"ErrorIncompatibleDriver|ErrorExtensionNotPresent|ggml_vulkan: .*(?:not supported|No devices found)"
        r"|vk::createInstance",
        summary="The Vulkan driver is missing or lacks what this build needs.",
        advice="Update the graphics driver, or run on the processor.",
        remedies=(FEWER_LAYERS,),
    ),
    FailurePattern(
        kind="gpu_fault",
        pattern=r"CUDA error: an illegal memory access|CUDA error: unspecified launch failure|misaligned address",
        summary="The graphics card stopped at a memory fault inside the engine.",
        advice="Load again; when it comes back, update engine and driver, or turn flash attention off.",
    ),
    FailurePattern(
        kind="gpu_fault",
        pattern=r"CUBLAS_STATUS_(?P<status>\w+)|rocblas_status_(?P<status_too>\w+)",
        summary="The card's mathematics library could not work ({status}{status_too}); often its memory is full.",
        advice="Free memory of the card, or take a smaller context.",
        remedies=(SMALLER_CONTEXT,),
    ),
    FailurePattern(
        kind="gpu_fault",
        pattern=r"CUDA error: (?P<reason>.+)|ROCm error: (?P<reason_too>.+)|ggml_cuda_compute_forward: \w+ failed",
        summary="The graphics card reported an error: {reason}{reason_too}.",
        advice="Load again; when it comes back, update engine and driver.",
        rank=20,
    ),
    FailurePattern(
        kind="driver",
        pattern=r"ggml_cuda_init: failed to initialize CUDA: (?P<reason>.+)",
        summary="CUDA cannot be used: {reason}.",
        advice="Check the driver with nvidia-smi.",
        rank=20,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"ggml_metal_\w+: error|ggml-common\.h' file not found",
        summary="The engine's code for the graphics processor cannot be prepared.",
        advice="Install the engine again.",
        rank=20,
    ),
    FailurePattern(
        kind="missing_library",
        pattern=r"no backends are loaded|ggml_backend_load_best: .*not found|failed to find .*backend",
        summary="The engine did not find its own computing libraries.",
        advice="Install the engine again, with all files of its package beside each other.",
        rank=20,
    ),
)

_BUGS: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="crashed",
        pattern=r"GGML_ASSERT(?:\(|:)(?P<check>.+)|Assertion [`'](?P<check_too>.+)' failed|fatal error$",
        summary="The engine stopped at a check of its own: {check}{check_too}.",
        advice="This is a fault of the engine with this model or these settings: update it, or change the settings.",
        rank=30,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"terminate called after throwing an instance of '(?P<error>[^']+)'",
        summary="The engine stopped at an error that it does not handle ({error}).",
        advice="The line after it says more. Update the engine, or change the settings.",
        rank=40,
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"error loading model: (?P<reason>.+)",
        summary="The model cannot be loaded: {reason}.",
        advice="Check the file, or update the engine.",
        rank=40,
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"exiting due to model loading error|unable to load model|Failed to load model from file",
        summary="The engine could not load the model.",
        advice="The lines before it say more.",
        rank=60,
    ),
)

LLAMA_CPP: tuple[FailurePattern, ...] = (*_MEMORY, *_MODEL, *_SETTINGS, *_DEVICE, *_BUGS)

LLAMA_CPP_PYTHON: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="model_missing",
        pattern=r"ValueError: Model path does not exist: (?P<path>.+)",
        summary="The model file {path} is not there.",
        advice="Check the path in the profile, and that the drive is there.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"__main__\.py: error: (?P<reason>.+)",
        summary="The engine does not accept its arguments: {reason}.",
        advice="Correct the profile's settings or extra arguments.",
    ),
    FailurePattern(
        kind="engine_not_installed",
        pattern=r"No module named '?llama_cpp",
        summary="This Python does not have llama-cpp-python.",
        advice="Install it there with the server extra, or choose another engine.",
    ),
)
