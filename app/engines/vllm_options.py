"""The settings of vLLM's server, one row each: what a profile may say, and the flag that says it to the engine.

The flags are those of 0.32. What a profile says in another form than the flag wants is turned into it by `app.engines.vllm`.
"""

from __future__ import annotations

from app.core.model_parsers import REASONING_PARSERS, TOOL_PARSERS
from app.core.options import Option, Preset
from app.engines.native_options import choice, group, number, path, switch, text, whole

KV_TYPES = ("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2", "nvfp4", "int8_per_token_head")
NUMBER_TYPES = ("auto", "bfloat16", "float16", "float32")
LORA_RANKS = ("8", "16", "32", "64", "128", "256", "320", "512")

QUANTISATIONS = (
    *("awq", "awq_marlin", "gptq", "gptq_marlin", "fp8", "compressed-tensors", "bitsandbytes", "modelopt", "gguf"),
    *("mxfp4", "torchao", "moe_wna16"),
)
ATTENTION_BACKENDS = (
    "FLASH_ATTN",
    "FLASHINFER",
    "TRITON_ATTN",
    "FLEX_ATTENTION",
    "FLASH_ATTN_MLA",
    "FLASHMLA",
    "CPU_ATTN",
)
LOAD_FORMATS = ("auto", "safetensors", "pt", "gguf", "bitsandbytes", "mistral", "runai_streamer", "tensorizer", "dummy")

# A table: one row per setting, what decides in the first line, the sentence in the second.
# fmt: off
MEMORY = group(
    "Context and memory",
    whole(name="context_tokens", title="Context", flag="--max-model-len", minimum=16, maximum=10_000_000, unit="tokens",
        sentence="How many tokens one conversation can have, prompt and answer together; the KV cache must hold at least one of them."),
    whole(name="max_sequences", title="Answers at once", flag="--max-num-seqs", minimum=1, maximum=4_096,
        sentence="How many requests are computed together at most; more wait. Memory for the sampler and graphs grows with it."),
    number(name="gpu_memory_utilisation", title="Share of the card", flag="--gpu-memory-utilization", minimum=0.01, maximum=1,
        sentence="Share of each card that vLLM takes for everything; left alone, what is free now less the headroom. It refuses to start when less is free."),
    whole(name="kv_cache_mib", title="KV cache", flag="--kv-cache-memory-bytes", minimum=1, maximum=16_777_216, unit="MiB",
        sentence="Memory for the KV cache, in place of a share of the card; without a card it is main memory, and left alone a small part of what is free."),
    choice(name="kv_type", title="KV cache format", flag="--kv-cache-dtype", choices=KV_TYPES,
        sentence="Number format of the KV cache; fp8 holds twice the tokens in the same memory at a very small loss."),
    advanced=(
        number(name="cpu_offload_gib", title="Weights in main memory", flag="--cpu-offload-gb", minimum=0, maximum=4_096, unit="GiB",
            sentence="How much of the weights stays in main memory and is sent to each card for every token: fits more, costs much speed."),
        number(name="kv_offload_gib", title="KV cache in main memory", flag="--kv-offloading-size", minimum=0, maximum=4_096, unit="GiB",
            sentence="Main memory for parts of the KV cache that the card has no room for, so that old prompts need not be read again."),
        switch(name="prefix_caching", title="Reuse prompts", flag="--enable-prefix-caching", flag_off="--no-enable-prefix-caching",
            sentence="Keep the KV cache of prompts' beginnings, so that a conversation that goes on is not read from its start."),
        switch(name="sleep_mode", title="Can sleep", flag="--enable-sleep-mode",
            sentence="Let it be put to sleep: nearly all of the card's memory comes back, and it wakes in seconds instead of loading again."),
        whole(name="block_tokens", title="KV block", flag="--block-size", minimum=1, maximum=1_024, unit="tokens",
            sentence="How many tokens one block of the KV cache holds; left alone, as the attention backend likes it."),
    ),
)

SPEED = group(
    "Speed",
    whole(name="batch_tokens", title="Batch", flag="--max-num-batched-tokens", minimum=1, maximum=1_048_576, unit="tokens",
        sentence="How many tokens one step computes at most: fewer answer sooner, more answer more people. Its memory is taken from the KV cache."),
    choice(name="number_type", title="Number format", flag="--dtype", choices=NUMBER_TYPES,
        sentence="Number format of weights and computation; cards older than Ampere need float16, auto takes the model's own."),
    switch(name="eager", title="Do not compile", flag="--enforce-eager",
        sentence="Run the model as it is instead of compiling it and recording graphs: starts much sooner and saves memory, answers more slowly."),
    text(name="attention_backend", title="Attention backend", flag="--attention-backend", suggestions=ATTENTION_BACKENDS,
        sentence="The implementation of attention; left alone, the best one for the card and the model."),
    advanced=(
        switch(name="chunked_prefill", title="Cut long prompts", flag="--enable-chunked-prefill", flag_off="--no-enable-chunked-prefill",
            sentence="Read long prompts in pieces between the tokens of other answers, so that nobody waits for them."),
        whole(name="optimisation_level", title="Optimisation", flag="--optimization-level", minimum=0, maximum=3,
            sentence="How much is compiled while loading: 0 nothing, 1 the quick gains, 2 the usual, 3 everything; more takes longer to start."),
        text(name="compilation", title="Compilation", flag="--compilation-config",
            sentence='Details of compilation and graphs as one JSON object, for example {"cudagraph_mode": "PIECEWISE"}.'),
        text(name="speculation", title="Guess ahead", flag="--speculative-config",
            sentence='How tokens are guessed ahead, as one JSON object, for example {"method": "ngram", "num_speculative_tokens": 4}.'),
        text(name="cpu_binding", title="Processor cores", environment="VLLM_CPU_OMP_THREADS_BIND",
            sentence="Which cores compute, without a card: for example 0-7; auto takes all but one of them, nobind leaves it to the system."),
        whole(name="seed", title="Seed", flag="--seed", minimum=0, maximum=4_294_967_295,
            sentence="Start of the random numbers: the same seed, prompt and settings give the same answer."),
    ),
)

CARDS = group(
    "Several cards",
    whole(name="tensor_parallel", title="Cards for each layer", flag="--tensor-parallel-size", minimum=1, maximum=1_024,
        sentence="Over how many cards each layer is spread; must divide the model's attention heads. Left alone, the cards that the profile names."),
    whole(name="pipeline_parallel", title="Groups of layers", flag="--pipeline-parallel-size", minimum=1, maximum=1_024,
        sentence="Into how many groups the layers are divided, one after the other; for cards without a fast link between them."),
    advanced=(
        switch(name="expert_parallel", title="Whole experts", flag="--enable-expert-parallel",
            sentence="Put whole experts onto each card instead of a slice of each (mixture-of-experts models only)."),
        choice(name="executor", title="Executor", flag="--distributed-executor-backend", choices=("mp", "ray", "uni"),
            sentence="What runs the workers: mp on this machine, ray also on others (Ray must be in the engine's environment)."),
        text(name="ray_address", title="Ray cluster", environment="RAY_ADDRESS",
            sentence="Address of the Ray cluster whose cards are used, for example 10.0.0.1:6379, with ray as the executor; left alone, Ray is started on this machine."),
    ),
)

MODEL = group(
    "Model parts",
    text(name="quantisation", title="Quantisation", flag="--quantization", suggestions=QUANTISATIONS,
        sentence="How the weights are quantised; left alone, as the model says. fp8 and bitsandbytes quantise a plain model while loading."),
    path(name="lora", title="LoRA", flag="--lora-modules", several=True, folder=True,
        sentence="LoRA adapters to offer beside the model, with commas between; each is asked for by its folder's name as the model."),
    switch(name="trust_remote_code", title="Trust the model's code", flag="--trust-remote-code",
        sentence="Run Python code that came with the model, with all your rights: only for models whose code you have read."),
    advanced=(
        choice(name="lora_rank_max", title="Largest LoRA rank", flag="--max-lora-rank", choices=LORA_RANKS,
            sentence="The largest rank that an adapter may have; 16 when nothing is said, and memory grows with it."),
        whole(name="loras_at_once", title="LoRAs at once", flag="--max-loras", minimum=1, maximum=256,
            sentence="How many different adapters one step can use."),
        text(name="limit_media", title="Images in a prompt", flag="--limit-mm-per-prompt",
            sentence='How many images, videos and sounds one prompt may have, as one JSON object, for example {"image": 2, "video": 0}; 0 saves the memory of that part.'),
        text(name="media_options", title="Image reading", flag="--mm-processor-kwargs",
            sentence='Values for the model\'s image reader, as one JSON object, for example {"max_pixels": 1003520}.'),
        text(name="load_format", title="Loading", flag="--load-format", suggestions=LOAD_FORMATS,
            sentence="The form of the weights on the disk; dummy takes random numbers, to try out settings quickly."),
        text(name="tokenizer", title="Tokeniser", flag="--tokenizer",
            sentence="Folder of another tokeniser than the model's own; a GGUF file runs faster with its original's."),
        text(name="tokenizer_mode", title="Tokeniser kind", flag="--tokenizer-mode", suggestions=("auto", "hf", "slow", "mistral"),
            sentence="Which kind of tokeniser is used; mistral for models that came with Mistral's own."),
        text(name="revision", title="Revision", flag="--revision",
            sentence="Which version of a model of the Hugging Face cache is used: a branch, a tag or a commit."),
        path(name="config_folder", title="Config folder", flag="--hf-config-path", folder=True,
            sentence="A folder whose config.json is used in place of the model's own; a GGUF file may need its original's."),
        text(name="override_config", title="Correct the config", flag="--hf-overrides",
            sentence='Values in place of those of config.json, as one JSON object, for example {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}.'),
        choice(name="runner", title="What it serves", flag="--runner", choices=("auto", "generate", "pooling"),
            sentence="Whether the model writes (generate) or measures texts (pooling: embeddings, scores); auto asks the model."),
        choice(name="convert", title="Turn it into", flag="--convert", choices=("auto", "none", "embed", "classify"),
            sentence="Use a writing model for embeddings (embed) or classes (classify)."),
    ),
)

CHAT = group(
    "Chat",
    text(name="tool_parser", title="Tool calls", flag="--tool-call-parser", suggestions=TOOL_PARSERS,
        sentence="How calls of tools are read from the model's text; left alone, chosen by the model's family, and none for a family not known."),
    text(name="reasoning_parser", title="Thoughts", flag="--reasoning-parser", suggestions=REASONING_PARSERS,
        sentence="How thoughts are told from the answer; left alone, chosen by the model's family, and none for a family not known."),
    path(name="chat_template_file", title="Template file", flag="--chat-template",
        sentence="A file with a Jinja chat template in place of the model's own."),
    advanced=(
        switch(name="auto_tools", title="Tools when it wants", flag="--enable-auto-tool-choice",
            sentence="Let the model decide by itself when to call a tool; on wherever its calls can be read."),
        text(name="chat_template_arguments", title="Template arguments", flag="--default-chat-template-kwargs",
            sentence='Values that the chat template asks for, as one JSON object, for example {"enable_thinking": false}.'),
        choice(name="template_content", title="Message form", flag="--chat-template-content-format", choices=("auto", "string", "openai"),
            sentence="How the template gets messages: as plain text (string) or as parts with types (openai)."),
        text(name="generation_config", title="Sampling defaults", flag="--generation-config", suggestions=("auto", "vllm"),
            sentence="Where a request's missing sampling values come from: auto from the model's folder, vllm from the engine itself."),
    ),
)

SERVER = group("Server", advanced=(
    text(name="other_names", title="Other names", flag="--served-model-name", several=True,
        sentence="More names under which the engine itself serves the model, with commas between; the profile's aliases are the usual way."),
    switch(name="log_requests", title="Log requests", flag="--enable-log-requests",
        sentence="Write each request into the engine's log; prompts are then readable there."),
    whole(name="finish_seconds", title="Finish answers", flag="--shutdown-timeout", minimum=0, maximum=3_600, unit="s", since="0.18",
        sentence="How long the engine itself lets answers finish when it is stopped; the gateway has let them finish before that."),
))
# fmt: on

OPTIONS: tuple[Option, ...] = (*MEMORY, *SPEED, *CARDS, *MODEL, *CHAT, *SERVER)

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="low-latency",
        title="Low latency",
        sentence="Few answers at once in small steps, so that none waits long for another; part of the card stays free.",
        settings={"max_sequences": 16, "batch_tokens": 2_048, "gpu_memory_utilisation": 0.8},
    ),
    Preset(
        name="high-throughput",
        title="High throughput",
        sentence="Many answers in large steps, and nearly the whole card for their KV cache: most tokens in all, each a little later.",
        settings={"max_sequences": 256, "batch_tokens": 8_192, "gpu_memory_utilisation": 0.92},
    ),
)
