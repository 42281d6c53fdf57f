"""The diagnosis rows of vLLM: each pattern was read in a real log.

Several processes write into one log: the first error line of a worker or of the engine core is the cause, and what the
others print after it, or a bare "Killed", only repeats it. An exit code of 0 says nothing: vLLM leaves with it after a crash.
"""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern
from app.core.memory.plan_types import Remedy

SMALLER_CONTEXT = Remedy(title="Use a context of 4,096 tokens", settings={"context_tokens": 4_096})
KV_FP8 = Remedy(title="Keep the KV cache in fp8", settings={"kv_type": "fp8"})
EAGER = Remedy(title="Do not compile", settings={"eager": True})
FEWER_SEQUENCES = Remedy(title="Answer 16 requests at once", settings={"max_sequences": 16, "batch_tokens": 2_048})
LESS_OF_THE_CARD = Remedy(title="Take 0.8 of the card", settings={"gpu_memory_utilisation": 0.8})
FLOAT16 = Remedy(title="Compute in float16", settings={"number_type": "float16"})
TWO_CARDS = Remedy(title="Use one card", settings={"tensor_parallel": 1, "pipeline_parallel": 1})

DOWNLOAD_AGAIN = "Download the model again, or compare its files' sizes with the source's."
UPDATE_ENGINE = "Update vLLM, or take another form of the model."
OTHER_BUILD = "Install a build of vLLM for this card and its driver, with its own PyTorch."

_MEMORY: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="out_of_memory",
        pattern=r"max seq len \((?P<length>\d+)\), \((?P<needed>[\d.]+ \w+) KV cache is needed.*"
        r"available KV cache memory \((?P<there>[\d.]+ \w+)\).*estimated maximum model length is (?P<most>\d+)",
        summary="One conversation of {length} tokens needs {needed} of KV cache, and {there} is there.",
        advice="Set the context to {most} tokens or fewer, keep the KV cache in fp8, or give it more memory.",
        remedies=(SMALLER_CONTEXT, KV_FP8, EAGER),
        rank=8,
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"max seq len \((?P<length>\d+)\), \((?P<needed>[\d.]+ \w+) KV cache is needed.*"
        r"available KV cache memory \((?P<there>[\d.]+ \w+)\)",
        summary="One conversation of {length} tokens needs {needed} of KV cache, and {there} is there.",
        advice="Shorten the context, keep the KV cache in fp8, or give it more memory.",
        remedies=(SMALLER_CONTEXT, KV_FP8, EAGER),
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"max seq len \((?P<length>\d+)\) is larger than the maximum number of tokens that can be stored in KV cache "
        r"\((?P<most>\d+)\)",
        summary="The KV cache has room for {most} tokens, and one conversation shall have {length}.",
        advice="Set the context to {most} tokens or fewer, or give the KV cache more memory.",
        remedies=(SMALLER_CONTEXT, KV_FP8),
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"No available memory for the cache blocks",
        summary="Nothing is left for the KV cache when the weights and the largest step are in memory.",
        advice="Give vLLM a larger share of the card, compute less at once, or take a smaller model.",
        remedies=(FEWER_SEQUENCES, EAGER),
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"Free memory on device(?: \S+)? \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than desired "
        r"GPU memory utilization \((?P<share>[\d.]+), (?P<wanted>[\d.]+) GiB\)",
        summary="vLLM was told to take {wanted} GiB ({share} of the card), and only {free} of {total} GiB are free.",
        advice="Close what else uses the card, or take the share of the card out of the profile: then it is chosen by what is free.",
        remedies=(LESS_OF_THE_CARD,),
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"Available memory on node \d+ \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on kv cache allocation is less than "
        r"requested memory for kv \((?P<wanted>[\d.]+) GiB\)",
        summary="The KV cache shall have {wanted} GiB of main memory, and {free} of {total} GiB are free.",
        advice="Make the KV cache smaller, or close other programs.",
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"out of memory occurred when warming up sampler with (?P<count>\d+) dummy requests",
        summary="The memory of {count} answers at once does not fit beside the rest.",
        advice="Answer fewer requests at once, or take a smaller share of the card.",
        remedies=(FEWER_SEQUENCES, LESS_OF_THE_CARD),
        rank=8,
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"Failed to run autotuning code block: .*out of memory",
        summary="The card had no room left for trying out compiled kernels.",
        advice="Take a smaller share of the card, or do not compile.",
        remedies=(LESS_OF_THE_CARD, EAGER),
        rank=8,
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"Error in memory profiling\.|Initial free memory [\d.]+ \w+, current free memory",
        summary="Another program took or gave back memory of the card while vLLM was measuring it.",
        advice="Load again when the other program is quiet.",
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"Tried to allocate (?P<size>[\d.]+ \w+)\. GPU (?P<card>\d+) has a total capacity of (?P<total>[\d.]+ \w+) of "
        r"which (?P<free>[\d.]+ \w+) is free",
        summary="Card {card} had no room for another {size}: {free} of {total} were free.",
        advice="Compute less at once (answers at once, batch), do not compile, or take a smaller model or quantisation.",
        remedies=(FEWER_SEQUENCES, EAGER, LESS_OF_THE_CARD),
    ),
    FailurePattern(
        kind="out_of_memory",
        pattern=r"CUDA out of memory|torch\.(?:cuda\.)?OutOfMemoryError|HIP out of memory",
        summary="The graphics card ran out of memory.",
        advice="Compute less at once (answers at once, batch), do not compile, or take a smaller model or quantisation.",
        remedies=(FEWER_SEQUENCES, EAGER, LESS_OF_THE_CARD),
        rank=12,
    ),
)

_SETTINGS: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="bad_argument",
        pattern=r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len "
        r"\((?:\w+=)?(?P<most>\d+)",
        summary="The context of {asked} tokens is longer than the model's own, {most}.",
        advice="Set the context to {most} tokens or fewer, or leave it out.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"error: unrecognized arguments: (?P<argument>.+)",
        summary="This version of vLLM does not know {argument}.",
        advice="Take it out of the profile's extra arguments, or install another version.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"error: argument (?P<flag>[^\s:]+): (?P<reason>.+)",
        summary="vLLM does not accept the value of {flag}: {reason}.",
        advice="Correct the setting in the profile.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"torch\.(?P<type>\w+) is not supported for quantization method (?P<method>\w+)\. "
        r"Supported dtypes: \[torch\.(?P<known>[^\]]*)\]",
        summary="Weights quantised as {method} are computed in {known} only, not in {type}.",
        advice="Compute in float16.",
        remedies=(FLOAT16,),
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"Bfloat16 is only supported on GPUs with compute capability of at least [\d.]+\. Your (?P<card>.+?) GPU has "
        r"compute capability (?P<has>[\d.]+\d)",
        summary="The {card} (compute capability {has}) cannot compute in bfloat16.",
        advice="Compute in float16.",
        remedies=(FLOAT16,),
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"supplied chat template.*\((?P<template>[^)]*)\) (?:appears|looks).*doesn't exist",
        summary="The chat template {template} is not there.",
        advice="Name a Jinja file in the profile, or leave it out.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"invalid (?P<which>tool call|reasoning) parser: (?P<parser>\S+)",
        summary="This version of vLLM has no {which} parser {parser}.",
        advice="Choose another in the profile, or install another version.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"Sleep mode is not supported on current platform",
        summary="Sleep mode does not work without a graphics card.",
        advice="Take --enable-sleep-mode out of the profile's extra arguments.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"(?:Model )?(?P<model>\w+) does not support LoRA",
        summary="LoRA adapters cannot be put onto this kind of model ({model}).",
        advice="Take the adapters out of the profile, or load a model into which they were merged.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank (?P<most>\d+)",
        summary="The adapter has rank {rank}, and {most} is the largest that is allowed.",
        advice="Raise the largest LoRA rank in the profile.",
    ),
    FailurePattern(
        kind="bad_argument",
        pattern=r"No such file or directory: '(?P<path>[^']*adapter_config\.json)'",
        summary="There is no LoRA adapter at {path}.",
        advice="Name a folder that holds adapter_config.json and the adapter's weights.",
    ),
)

_MODEL: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="needs_permission",
        pattern=r"(?:401|403) Client Error.*https?://(?P<host>[^/\s]+)/(?P<model>[^/\s]+/[^/\s]+)|GatedRepoError"
        r"|Access to model (?P<model_too>\S+) is restricted",
        summary="The model {model}{model_too} may only be fetched by who has accepted its terms.",
        advice="Accept them on the model's page, give Engine Room a token of that account, and download the model first.",
        rank=8,
    ),
    FailurePattern(
        kind="model_missing",
        pattern=r"HFValidationError: .*'(?P<path>[./~][^' ]+)'|Repo id must (?:be in the f|use alphanumeric)",
        summary="The model {path} is not there: it is neither a folder on this machine nor a name of the hub.",
        advice="Correct the path in the profile.",
    ),
    FailurePattern(
        kind="model_missing",
        pattern=r"LocalEntryNotFoundError|Cannot find an appropriate cached snapshot folder"
        r"|couldn't connect to 'https://huggingface\.co'|OfflineModeIsEnabled",
        summary="The model is not on this machine, and an engine does not download by itself.",
        advice="Download the model first, then load it.",
    ),
    FailurePattern(
        kind="no_network",
        pattern=r"(?:MaxRetryError|SSLError|ConnectionError).*host='(?P<host>[^']+)'",
        summary="The engine wanted something from {host} and cannot reach it.",
        advice="Download the model first and name its folder, or mend the network.",
    ),
    FailurePattern(
        kind="model_missing",
        pattern=r"presence of a '(?P<file_too>config\.json)'|does not appear to have a file named (?P<file>[\w./-]+\w)",
        summary="The model's folder is incomplete: {file}{file_too} is not there.",
        advice="Name a folder that holds a Hugging Face model with its config.json. " + DOWNLOAD_AGAIN,
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"(?:SafetensorError: )?Error while deserializing header: (?P<reason>.+)",
        summary="A file of the model's weights is damaged or cut off ({reason}).",
        advice=DOWNLOAD_AGAIN,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"has model type `(?P<type>[^`]+)` but Transformers does not recognize",
        summary="This vLLM is older than the model: its Transformers does not know the type {type}.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"Model architectures \[(?P<names>[^\]]*)\] (?:are not supported|failed to be inspected)",
        summary="This vLLM does not know the architecture {names}.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"(?P<name>\w+) has no vLLM implementation",
        summary="vLLM has no implementation of {name}.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"Unknown quantization method: (?P<method>[^.]*)\. Must be|quantization method (?P<method_too>\S+) is not supported",
        summary="vLLM does not know how the model is quantised: '{method}{method_too}'.",
        advice="Take a form of the model made for vLLM: AWQ, GPTQ, FP8 or compressed-tensors; conversions for MLX are not.",
    ),
    FailurePattern(
        kind="needs_trust",
        pattern=r"requires you to execute the (?:configuration )?file|option `trust_remote_code=True`",
        summary="The model brings Python code of its own, which vLLM runs only when told that it is trusted.",
        advice="Read that code, then set trust_remote_code in the profile; it runs with all your rights.",
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"invalid tiktoken vocab file: (?P<reason>.+)",
        summary="A vocabulary file is damaged: {reason}.",
        advice="Delete it from the cache and download it again.",
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"TypeError: not a string|Couldn't instantiate the backend tokenizer|Can't load tokenizer for|\.model is not found",
        summary="The model's tokeniser files are incomplete.",
        advice="Download them again, or name the original model's folder as the tokeniser.",
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"config file at '(?P<file>[^']+\.gguf)' is not a valid JSON|(?:load|weights?) format gguf is not supported",
        summary="This vLLM does not load GGUF files: newer versions leave that to a plugin.",
        advice="Load {file} with llama.cpp, or take the original model's folder.",
        rank=9,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"GGUF model with architecture (?P<type>\S+) is not supported|Unknown gguf model_type: (?P<type_too>\S+)",
        summary="vLLM cannot load GGUF files of the architecture {type}{type_too}.",
        advice="Load this file with llama.cpp, or the original model with vLLM.",
    ),
)

_CARDS: tuple[FailurePattern, ...] = (
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

_ENVIRONMENT: tuple[FailurePattern, ...] = (
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
        pattern=r"ImportError: (?P<reason>\S+undefined symbol.*)|Failed to import from vllm\._C with (?P<reason_too>.+)"
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

_BUGS: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="stopped_outside",
        pattern=r"slurmstepd: error: .*CANCELLED|DUE TO TIME LIMIT",
        summary="The machine's scheduler ended the engine.",
        advice="Load it again in a job that lives long enough.",
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"in compile_grammar|grammar.*(?:parse|syntax) error",
        summary="A request's grammar ended the engine.",
        advice="Correct the grammar of the request, and update vLLM.",
        rank=18,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Fatal Python error: (?P<reason>.+)|\*\*\* (?P<signal>SIG\w+) received",
        summary="A process of the engine crashed ({reason}{signal}).",
        advice="Load again; when it comes back, update vLLM, or do not compile.",
        remedies=(EAGER,),
        rank=20,
    ),
    FailurePattern(
        kind="request_refused",
        pattern=r"maximum context length is (?P<most>\d+) tokens\. However, (?P<what>[^.]+)",
        summary="A request was longer than the model's context of {most} tokens; such a request is refused, the engine goes on.",
        advice="Look further down in the log for what ended the engine.",
        rank=55,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"(?:ERROR .*\]|^\[rank\d+\]:|pid=\d+\)) +(?:Value error, )?(?!\S*EngineDeadError)(?P<error>[\w.]*(?:Error|Exception)): "
        r"(?!This model's maximum|Engine core initialization failed|cancelled$)(?P<reason>.+)",  # what the others say of a death
        summary="The engine stopped at an error of its own: {error}: {reason}.",
        advice="Change what it names, or update vLLM.",
        rank=45,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Worker proc (?P<which>\S+) died unexpectedly \(exit code: -(?P<number>\d+)\)",
        summary="A worker of the engine was ended by signal {number}.",
        advice="Signal 9 mostly means that main memory ran out: close other programs or make the KV cache smaller. Load it again.",
        rank=43,
    ),
    FailurePattern(
        kind="timed_out",
        pattern=r"in acquire_read$",
        summary="A worker did not answer in time, so vLLM gave up.",
        advice="Load again; when it comes back, check the cards' link and driver, or do not compile.",
        remedies=(EAGER,),
        rank=52,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Worker proc (?P<which>\S+) died unexpectedly",  # its exit code is not always known yet
        summary="A worker of the engine died while the others went on.",
        advice="Most often main memory ran out or it was killed from outside; the lines before it may say more. Load it again.",
        rank=50,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Engine core proc \S+ died|engine core exited unexpectedly|EngineCore (?:died|encountered)",
        summary="The engine's core died while the others went on.",
        advice="Most often main memory ran out or it was killed from outside; the lines before it may say more. Load it again.",
        rank=50,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Value error, (?P<reason>.+)|^\s*(?P<error>[\w.]*Error): (?!Engine core initialization failed)(?P<reason_too>.+)",
        summary="The engine refused to start: {reason}{reason_too}.",
        advice="Change what it names in the profile.",
        rank=56,
    ),
    FailurePattern(
        kind="crashed",
        pattern=r"Engine core initialization failed|EngineDeadError",
        summary="The engine's core could not be started.",
        advice="The lines before it say more.",
        rank=60,
    ),
)

VLLM: tuple[FailurePattern, ...] = (*_MEMORY, *_SETTINGS, *_MODEL, *_CARDS, *_ENVIRONMENT, *_BUGS)
