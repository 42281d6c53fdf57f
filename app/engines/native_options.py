"""The settings of llama.cpp's native server, one row each: what a profile may say, and the flag that says it to the engine.

The flags are those of a current build. What only one of the native families can be told is in that family's own module.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from msgspec.structs import replace

from app.core.options import Option, OptionKind, Preset

ALL_LAYERS = 999
PROMPTS_FOLDER = "prompts_folder"
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

# The templates that people ask for by name; the engine knows some fifty, and any name may be given.
CHAT_TEMPLATES = (
    *("chatml", "llama2", "llama3", "llama4", "mistral-v1", "mistral-v3", "mistral-v3-tekken", "mistral-v7"),
    *("gemma", "phi3", "phi4", "deepseek", "deepseek2", "deepseek3", "command-r", "granite", "zephyr", "vicuna"),
    *("openchat", "chatglm4", "exaone4", "gpt-oss", "kimi-k2", "minicpm", "falcon3"),
)

whole = partial(Option, kind=OptionKind.INTEGER)
number = partial(Option, kind=OptionKind.NUMBER)
switch = partial(Option, kind=OptionKind.SWITCH)
text = partial(Option, kind=OptionKind.TEXT)
choice = partial(Option, kind=OptionKind.CHOICE)
path = partial(Option, kind=OptionKind.PATH)


def group(name: str, *options: Option, advanced: Iterable[Option] = ()) -> tuple[Option, ...]:
    rows = (*options, *(replace(option, advanced=True) for option in advanced))
    return tuple(replace(option, group=name) for option in rows)


# A table: one row per setting, what decides in the first line, the sentence in the second.
# fmt: off
MEMORY = group(
    "Context and memory",
    whole(name="context_tokens", title="Context", flag="--ctx-size", minimum=64, maximum=10_000_000, unit="tokens",
        sentence="How many tokens of conversation the model can see; shared by all slots. Memory grows with it."),
    whole(name="slots", title="Answers at once", flag="--parallel", default=4, minimum=1, maximum=256,
        sentence="How many requests are answered at once; they share the context."),
    whole(name="gpu_layers", title="Layers on the card", flag="--n-gpu-layers", minimum=0, maximum=ALL_LAYERS, unit="layers",
        sentence="How many of the model's layers go to the graphics card; the rest stays in main memory. 999 means all."),
    whole(name="cpu_expert_layers", title="Experts in main memory", flag="--n-cpu-moe", minimum=0, maximum=ALL_LAYERS, unit="layers",
        sentence="How many layers keep their experts in main memory (mixture-of-experts models only)."),
    choice(name="kv_type_k", title="KV cache, keys", flag="--cache-type-k", choices=KV_TYPES,
        sentence="Number format of the KV cache's keys; q8_0 halves the memory of f16 at a very small loss."),
    choice(name="kv_type_v", title="KV cache, values", flag="--cache-type-v", choices=KV_TYPES,
        sentence="Number format of the KV cache's values; anything below f16 needs flash attention."),
    advanced=(
        switch(name="kv_on_gpu", title="KV cache on the card", flag="--no-kv-offload",
            sentence="Keep the KV cache on the graphics card; off saves its memory and costs speed."),
        switch(name="sliding_window_full", title="Full window cache", flag="--swa-full",
            sentence="Keep the full KV cache of sliding-window layers, so that old prompts can be reused; costs memory."),
        whole(name="prompt_cache_mib", title="Prompt cache", flag="--cache-ram", default=2_048, minimum=0, maximum=1_048_576, unit="MiB",
            sentence="Main memory for prompts seen before, so that a returning conversation starts faster; 0 turns it off."),
        path(name=PROMPTS_FOLDER, title="Kept prompts", flag="--slot-save-path", folder=True,
            sentence="A folder for what the model has read: while it is unloaded for being idle it is kept there, so that nothing is read twice."),
        whole(name="cache_reuse_tokens", title="Reuse moved text", flag="--cache-reuse", minimum=0, maximum=1_048_576, unit="tokens",
            sentence="Shortest piece of an old prompt that is reused when it has moved, as in an edited conversation; 0 reuses none."),
        switch(name="context_shift", title="Shift the context", flag="--context-shift", flag_off="--no-context-shift",
            sentence="When the context is full, forget its oldest part and go on writing, instead of ending the answer."),
        choice(name="load_mode", title="Loading", flag="--load-mode", choices=("auto", "mmap", "none", "mlock", "mmap+mlock"),
            sentence="How the file comes into memory: mapped (mmap), read (none), or pinned so that it is never swapped out (mlock)."),
        switch(name="repack", title="Rearrange weights", flag="--no-repack",
            sentence="Rearrange weights for the processor: faster, but needs up to 0.75 times the model's size in main memory on top."),
        choice(name="split_mode", title="Several cards", flag="--split-mode", choices=("layer", "row", "none"),
            sentence="How a model is spread over several cards: by layers, by rows, or not at all."),
        text(name="tensor_split", title="Shares of the cards", flag="--tensor-split", several=True,
            sentence="Shares of the cards, for example 3,1 for three quarters on the first."),
        whole(name="main_gpu", title="Main card", flag="--main-gpu", minimum=0, maximum=63,
            sentence="Which of the profile's cards, counted from 0, holds a model that is not split, or the small parts of one split by rows."),
        text(name="override_tensor", title="Where tensors go", flag="--override-tensor", several=True,
            sentence="Places for tensors by a pattern of their names, for example exps=CPU for all experts in main memory."),
    ),
)

SPEED = group(
    "Speed",
    whole(name="threads", title="Threads", flag="--threads", minimum=1, maximum=1_024,
        sentence="Processor threads; left alone, one less than the cores, because a full machine makes them wait for each other."),
    choice(name="flash_attention", title="Flash attention", flag="--flash-attn", choices=("auto", "on", "off"),
        sentence="Attention without its large intermediate buffer: less memory, usually faster. auto decides by the device."),
    whole(name="batch_tokens", title="Batch", flag="--batch-size", minimum=1, maximum=65_536, unit="tokens",
        sentence="How many prompt tokens are taken in one step."),
    whole(name="ubatch_tokens", title="Computed together", flag="--ubatch-size", minimum=1, maximum=65_536, unit="tokens",
        sentence="How many prompt tokens are computed together; the compute buffer grows with it."),
    advanced=(
        whole(name="threads_batch", title="Threads for prompts", flag="--threads-batch", minimum=1, maximum=1_024,
            sentence="Processor threads while a prompt is read; left alone, as many as for answers."),
        switch(name="warm_up", title="Warm up", flag="--no-warmup",
            sentence="Run the model once while loading, so that the first answer does not pay for it."),
        choice(name="priority", title="Priority", flag="--prio", choices=("low", "normal", "medium", "high"),
            sentence="Priority of the engine's threads; above normal the system may ask for rights that you do not have."),
        choice(name="numa", title="NUMA", flag="--numa", choices=("distribute", "isolate", "numactl"),
            sentence="How threads lie on a machine with several processors: over all of them, on one, or as numactl says."),
    ),
)

PARTS = group(
    "Model parts",
    path(name="mmproj", title="Vision file", flag="--mmproj",
        sentence="The projector file (mmproj) that lets a vision model see images."),
    path(name="lora", title="LoRA", flag="--lora", several=True,
        sentence="LoRA adapters to put onto the model, with commas between; path:0.5 gives one a strength of its own."),
    path(name="draft_model", title="Draft model", flag="--model-draft",
        sentence="A small model of the same family that guesses ahead, so that the large one only has to check: faster answers."),
    advanced=(
        switch(name="mmproj_on_gpu", title="Vision on the card", flag="--mmproj-offload", flag_off="--no-mmproj-offload",
            sentence="Look at images on the graphics card; off saves its memory."),
        number(name="lora_scale", title="LoRA strength", flag="--lora-scaled", minimum=-10, maximum=10,
            sentence="Strength of the LoRA adapters that have none of their own; 1 is as trained."),
        whole(name="draft_gpu_layers", title="Draft layers on the card", flag="--n-gpu-layers-draft", minimum=0, maximum=ALL_LAYERS, unit="layers",
            sentence="How many of the draft model's layers go to the graphics card; 999 means all."),
        whole(name="draft_tokens_max", title="Longest guess", flag="--spec-draft-n-max", minimum=1, maximum=128, unit="tokens",
            sentence="How many tokens the draft model guesses at most before the large one checks."),
        whole(name="draft_tokens_min", title="Shortest guess", flag="--spec-draft-n-min", minimum=0, maximum=128, unit="tokens",
            sentence="Guesses shorter than this are not worth checking and are dropped."),
        number(name="draft_probability_min", title="Surest guesses only", flag="--draft-p-min", minimum=0, maximum=1,
            sentence="The draft model stops guessing when it is less sure than this."),
        choice(name="draft_kv_type_k", title="Draft KV cache, keys", flag="--cache-type-k-draft", choices=KV_TYPES,
            sentence="Number format of the keys in the draft model's KV cache."),
        choice(name="draft_kv_type_v", title="Draft KV cache, values", flag="--cache-type-v-draft", choices=KV_TYPES,
            sentence="Number format of the values in the draft model's KV cache."),
    ),
)

CHAT = group(
    "Chat",
    text(name="chat_template", title="Chat template", flag="--chat-template", suggestions=CHAT_TEMPLATES,
        sentence="Name of a built-in chat template, or the template itself, in place of the one in the model file."),
    path(name="chat_template_file", title="Template file", flag="--chat-template-file",
        sentence="A file with a Jinja chat template in place of the one in the model file."),
    choice(name="reasoning", title="Thinking", flag="--reasoning", choices=("auto", "on", "off"),
        sentence="Whether the model thinks before it answers, where its template knows how; auto leaves it to the template."),
    choice(name="reasoning_format", title="Thoughts", flag="--reasoning-format", choices=("auto", "deepseek", "none"),
        sentence="Whether thoughts come apart from the answer (deepseek, auto) or inside it (none)."),
    whole(name="reasoning_budget_tokens", title="Longest thought", flag="--reasoning-budget", minimum=-1, maximum=1_000_000, unit="tokens",
        sentence="How long the model may think; 0 ends thoughts at once, -1 sets no bound."),
    advanced=(
        switch(name="jinja", title="Jinja", flag="--jinja", flag_off="--no-jinja",
            sentence="Run the chat template as Jinja; tools need it. Off recognises a few well-known templates only."),
        text(name="chat_template_arguments", title="Template arguments", flag="--chat-template-kwargs",
            sentence='Values that the chat template asks for, as one JSON object, for example {"language": "en"}.'),
        text(name="grammar", title="Grammar", flag="--grammar",
            sentence="A grammar (GBNF) that every answer must follow unless a request brings its own."),
        path(name="grammar_file", title="Grammar file", flag="--grammar-file",
            sentence="A file with a grammar (GBNF) that every answer must follow unless a request brings its own."),
        whole(name="seed", title="Seed", flag="--seed", minimum=0, maximum=4_294_967_295,
            sentence="Start of the random numbers: the same seed, prompt and settings give the same answer."),
    ),
)

LONG_CONTEXT = group(
    "Longer context",
    advanced=(
        choice(name="rope_scaling", title="Stretching", flag="--rope-scaling", choices=("none", "linear", "yarn"),
            sentence="How positions are stretched beyond the length that the model was trained for."),
        number(name="rope_scale", title="Stretch factor", flag="--rope-scale", minimum=0.01, maximum=1_000,
            sentence="By what factor the context is stretched: 2 doubles the trained length."),
        number(name="rope_frequency_base", title="Rope base", flag="--rope-freq-base", minimum=0,
            sentence="Base of the rotary positions, for models stretched beyond their training length."),
        number(name="rope_frequency_scale", title="Rope scale", flag="--rope-freq-scale", minimum=0,
            sentence="Scale of the rotary positions; 0.5 stretches the context to twice its training length."),
        whole(name="yarn_context_tokens", title="YaRN trained length", flag="--yarn-orig-ctx", minimum=0, maximum=10_000_000, unit="tokens",
            sentence="YaRN: the length that the model was trained for; 0 takes it from the file."),
        number(name="yarn_extrapolation", title="YaRN extrapolation", flag="--yarn-ext-factor", minimum=-1, maximum=100,
            sentence="YaRN: mix of stretching and extrapolation; 0 only stretches, -1 leaves it to the model."),
        number(name="yarn_attention", title="YaRN attention", flag="--yarn-attn-factor", minimum=-1, maximum=100,
            sentence="YaRN: factor on the attention's magnitude; -1 leaves it to the model."),
        number(name="yarn_beta_slow", title="YaRN slow end", flag="--yarn-beta-slow", minimum=-1, maximum=1_000,
            sentence="YaRN: where slow rotations end; -1 leaves it to the model."),
        number(name="yarn_beta_fast", title="YaRN fast end", flag="--yarn-beta-fast", minimum=-1, maximum=1_000,
            sentence="YaRN: where fast rotations begin; -1 leaves it to the model."),
    ),
)

SERVER = group(
    "Server",
    switch(name="embeddings", title="Embeddings", flag="--embeddings",
        sentence="Serve embeddings instead of chat (embedding models only)."),
    switch(name="rerank", title="Reranking", flag="--reranking",
        sentence="Serve the order of documents by a question instead of chat (reranking models only)."),
    advanced=(
        choice(name="pooling", title="Pooling", flag="--pooling", choices=("none", "mean", "cls", "last", "rank"),
            sentence="How one embedding is made of a text's tokens; left alone, as the model file says."),
        whole(name="verbosity", title="Log detail", flag="--log-verbosity", default=4, minimum=0, maximum=5,
            sentence="How much the engine writes into its log: 1 errors, 2 warnings, 3 news, 4 sizes of buffers as well, 5 everything."),
    ),
)

# The program takes these flags too, but its chat requests then fail: only the hosted server can be told.
JSON_SCHEMA = group("Chat", advanced=(
    text(name="json_schema", title="JSON schema", flag="--json-schema",
        sentence="A JSON schema that every answer must follow unless a request brings its own."),
    path(name="json_schema_file", title="JSON schema file", flag="--json-schema-file",
        sentence="A file with a JSON schema that every answer must follow unless a request brings its own."),
))

# The hosted server has no way to be told these.
PROGRAM_ONLY = (*group("Model parts", advanced=(
    text(name="override_kv", title="Correct the file", flag="--override-kv", several=True,
        sentence="Values in place of those in the model file, for example tokenizer.ggml.add_bos_token=bool:false."),
)), *group("Server", advanced=(
    switch(name="json_log", title="JSON log", flag="--log-jsonl",
        sentence="Write the log as one JSON object per line, for programs that read it."),
)))
# fmt: on

OPTIONS: tuple[Option, ...] = (*MEMORY, *SPEED, *PARTS, *CHAT, *LONG_CONTEXT, *SERVER)

PRESETS: tuple[Preset, ...] = (
    Preset(
        name="low-latency",
        title="Low latency",
        sentence="One answer at a time has the whole machine and the whole context, and edited conversations are not read anew.",
        settings={"slots": 1, "batch_tokens": 1_024, "ubatch_tokens": 512, "cache_reuse_tokens": 256},
    ),
    Preset(
        name="high-throughput",
        title="High throughput",
        sentence="Many answers are computed in one step, so that each reading of the weights serves all of them; costs memory.",
        settings={"slots": 16, "batch_tokens": 4_096, "ubatch_tokens": 1_024, "prompt_cache_mib": 4_096},
    ),
)
