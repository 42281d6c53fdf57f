"""Owns the ideas that the demo model can explain: their names, short definitions and one further fact each."""

from __future__ import annotations

from dataclasses import dataclass

from grammar import lines


@dataclass(frozen=True)
class Concept:
    """One idea; `names` and `asks` are templates in the bracket language of `grammar.py`."""

    names: tuple[str, ...]
    answer: str
    more: str
    asks: tuple[str, ...] = ()
    weight: float = 1.0


def _concept(names: str, answer: str, more: str, asks: str = "", weight: float = 1.0) -> Concept:
    return Concept(lines(names), answer, more, lines(asks), weight)


CONCEPTS: dict[str, Concept] = {
    "vram": _concept(
        """
        vram
        video [memory|ram]
        gpu [memory|ram]
        graphics [memory|ram|card memory]
        the memory [of|on|in] [a|the|my] [gpu|graphics card|video card|card]
        [video|graphics] card memory
        """,
        "**VRAM** is the memory of the graphics card. It holds the model weights and the KV cache, so it limits which model you can load.",
        "VRAM is much faster than the memory of the computer. When a model does not fit, some layers must run on the CPU, which is slow.",
        """
        [why|what] [is|makes] vram [so important|important|matter|the limit]
        why does [a|my|the] [llm|model] need [so much|] [vram|gpu memory|video memory]
        what [goes into|is stored in|lives in|is kept in|sits in|takes up|fills|eats|uses up] [the|my|] [vram|gpu memory|video memory|graphics memory]
        what [is using|uses|consumes|occupies] [all|] [my|the] [vram|gpu memory|video ram]
        is vram the same as [ram|normal ram|system memory]
        difference between [vram and ram|ram and vram|system memory and gpu memory]
        [vram|gpu memory] vs [ram|system ram]
        """,
        2,
    ),
    "kv_cache": _concept(
        """
        [the|] kv cache
        [the|] kv-cache
        [the|] kvcache
        [the|] key[-| |/]value cache
        [the|] kv
        [the|] cache of keys and values
        [the|] attention cache
        """,
        "The **KV cache** stores the keys and values of all earlier tokens, so the model does not compute them again. It grows with the context length.",
        "The KV cache can be stored in `q8_0`, which halves its size with little loss. Flash attention is needed for that in llama.cpp.",
        """
        why does [memory|memory use|vram|vram use|gpu memory] [grow|rise|go up|increase|climb] [with|when] [the|a] [context|long context|longer context|chat gets longer|conversation is long|prompt is long]
        why does a long [chat|conversation|context|prompt] [need|use|take|cost] more [memory|vram|gpu memory]
        what [remembers|stores|keeps] [the|] [earlier|previous|old|past] tokens
        where are [the|] keys and values [kept|stored|saved]
        how [big|large] is the kv cache
        what makes the kv cache [grow|big|so big|large]
        what does the kv cache [store|hold|contain|keep|save|do]
        """,
        2,
    ),
    "quantisation": _concept(
        """
        quantisation
        quantization
        quantising
        quantizing
        quantised models
        quantized models
        a [quantised|quantized] model
        a quant
        quants
        model compression
        """,
        "**Quantisation** stores the weights with fewer bits, for example 4 instead of 16. The model gets much smaller and faster, and loses only a little quality.",
        "`Q4_K_M` is a good start for most models. Use `Q8_0` when you have memory to spare.",
        """
        [why are|how are|how can] [models|weights|model files] [made|get|be made] [smaller|small|compressed]
        how [can|do you|to] [shrink|compress|make smaller] [a|the] [model|weights|llm]
        does quantisation [hurt|harm|reduce|lower|change] [the|] [quality|answers|accuracy]
        do i lose [quality|accuracy|anything] [with|when using|if i use] [quantisation|quantization|a quantised model|a quantized model|fewer bits]
        what [does it mean|happens] [when|if] a model is [quantised|quantized]
        why [should|would] [i|anyone|somebody] [quantise|quantize] a model
        why [use|store weights with] fewer bits
        what [do|does] [4 bit|4-bit|8 bit|8-bit|low bit] [weights|models|] mean
        """,
        2,
    ),
    "q4_k_m": _concept(
        """
        q4_k_m
        q4 k m
        q4km
        q4
        the q4_k_m [quant|format|type|file]
        q4 [quantisation|quantization]
        4[-| ]bit [quantisation|quantization|weights]
        """,
        "`Q4_K_M` is a 4-bit quantisation with about 4.8 bits per weight. It is the usual choice: small, fast and close to the full quality.",
        "A model in `Q4_K_M` needs about 0.6 GB per billion parameters, plus the KV cache.",
        """
        what does [the|] [k|m|k_m] [mean|stand for] in q4_k_m
        why [is q4_k_m so popular|do people use q4_k_m|do so many files say q4_k_m]
        is q4 [good|good enough|ok|any good|fine]
        should i [use|take|pick|download] q4_k_m
        """,
    ),
    "q8_0": _concept(
        """
        q8_0
        q8 0
        q8
        the q8_0 [quant|format|type|file]
        q8 [quantisation|quantization]
        8[-| ]bit [quantisation|quantization|weights]
        """,
        "`Q8_0` is an 8-bit quantisation with 8.5 bits per weight. Its quality is almost that of the original, at about half the size of 16-bit weights.",
        "A model in `Q8_0` needs about 1.1 GB per billion parameters, plus the KV cache.",
        """
        is q8 [good|better|worth it|lossless|overkill]
        when should i [use|take|pick] q8_0
        what does q8_0 [mean|stand for]
        """,
    ),
    "q4_or_q8": _concept(
        """
        [the difference between|] q4 and q8
        [the difference between|] q4_k_m and q8_0
        q4 [vs|versus|or|compared to|against] q8
        q8 [vs|versus|or|compared to|against] q4
        q4_k_m [vs|versus|or|compared to] q8_0
        q8_0 [vs|versus|or|compared to] q4_k_m
        4 bit [vs|versus|or] 8 bit
        """,
        "`Q4_K_M` is about half the size of `Q8_0` and faster. `Q8_0` is a little more exact: take it only when it fits with room for the context.",
        "If `Q8_0` does not fit, a larger model in `Q4_K_M` is usually better than a small one in `Q8_0`.",
        """
        which [quant|quantisation|quantization|one] [should i|do i|to] [use|pick|choose|take|download]
        [which|what] [quant|quantisation|quantization] is [best|better|the best|right for me]
        should i [use|take|choose|pick|get] q4 or q8
        is q8 better than q4
        [q4|q4_k_m|4 bit] [or|vs] [q8|q8_0|8 bit][,|:|] [which one|what is better|which is better|what do you prefer|what to take|which to take|which one is right for me|what do you recommend|what would you choose]
        [do you prefer|would you rather have|do you recommend|better take|i hesitate between|i cannot decide between|choose between|decide between|help me choose between] [q4 or q8|q4 and q8|q8 and q4|q8_0 and q4_k_m|q4_k_m or q8_0]
        is q4 worse than q8
        """,
    ),
    "other_quants": _concept(
        """
        [q5_k_m|q6_k|q5|q6|q3_k_m|q3|q2_k|q2]
        [q5_k_m|q6_k|q5|q6|q3_k_m|q2_k] [quantisation|quantization|quant]
        iq[2|3|4] quants
        """,
        "That is one more GGUF quantisation: the number after `Q` says about how many bits each weight has. More bits mean a larger file and better quality.",
        "Below 4 bits the answers get clearly worse. `Q5_K_M` and `Q6_K` lie between `Q4_K_M` and `Q8_0`.",
        "what does the number after q mean\nwhat do the quant [names|letters] mean",
        0.5,
    ),
    "half": _concept(
        """
        fp16
        f16
        bf16
        bfloat16
        float16
        half precision
        16[-| ]bit weights
        """,
        "`F16` and `BF16` store each weight in 16 bits. That is the full quality of most models, and it needs 2 GB per billion parameters.",
        "Quantised files such as `Q4_K_M` need less than a third of that.",
        "difference between fp16 and bf16\nfp16 vs bf16",
        0.6,
    ),
    "awq": _concept(
        """
        awq
        gptq
        awq and gptq
        fp8
        """,
        "**AWQ**, **GPTQ** and **FP8** are quantised formats for safetensors models. They are made for GPUs and run in vLLM.",
        "For llama.cpp take a GGUF file instead.",
        "awq or gptq\ndoes vllm [run|support] quantised models",
        0.5,
    ),
    "context": _concept(
        """
        [the|] context length
        [the|] context window
        [the|] context size
        context
        n_ctx
        ctx
        ctx size
        max model len
        [the|] maximum context
        """,
        "The **context length** is how many tokens the model can see at once: your messages, its answers and the system prompt together. A longer context needs more memory.",
        "You set it in the profile. When a chat is longer than the context, the oldest messages no longer fit.",
        """
        how [long|large|big] can [a|my|the] [chat|conversation|prompt|message|text] [be|get]
        how much [text|of a chat] can [a|the] model [see|read|remember|keep in mind|handle] [at once|]
        why does the model forget [the beginning|what i said|earlier messages|old messages|the start of the chat|the start]
        what [happens|will happen] when [the|my] [context|chat|context window] [is full|gets full|is too long|runs out|overflows]
        what does a context of [4096|8192|32768|32k|8k|2048] [tokens|] mean
        how many tokens [can the model see|fit in the context|fit]
        does a longer context [need|use|cost] more memory
        how much [can|does|will] [the|a] model [keep|hold|carry|store|bear] [in mind|in its head|in its memory|at a time|in one go]
        [what is the|is there a] [limit|maximum] [for|of|on] [the length of a chat|my prompt|my message|the conversation|the text i send|the input]
        [my|the] [prompt|text|document|chat] is too long
        """,
        1.6,
    ),
    "tok_s": _concept(
        """
        tokens per second
        tok/s
        tokens/s
        tps
        tok per sec
        [the|] generation speed
        token throughput
        """,
        "**Tokens per second** says how fast the model writes. 10 is about reading speed; a model that fits in the VRAM often reaches 30 to 100.",
        "It is limited by the memory bandwidth of the card: every token reads all the weights once.",
        """
        how [fast|quickly|quick] [is the model|does the model write|does a model write|is my model|is generation|will it be|does it generate]
        what [is a good|is a normal|counts as good] [speed|number of tokens per second|tok/s]
        how is [speed|the speed|the speed of a model|model speed|generation speed] measured
        how many tokens per second [is good|should i get|can i expect|is normal]
        what limits [the speed|the tokens per second|tok/s|generation speed]
        is [10|20|30|50] [tok/s|tokens per second] [good|fast|slow|ok]
        """,
        1.4,
    ),
    "ttft": _concept(
        """
        ttft
        time to [the|] first token
        time-to-first-token
        [the|] first token [time|latency|delay]
        [the|] latency of the first token
        """,
        "**TTFT** is the *time to first token*: the wait from sending a prompt to the first word of the answer. Long prompts make it longer.",
        "The chat page shows the TTFT below each answer. A cached prompt makes it much shorter.",
        """
        why does it take [long|a while|a moment|so long|some time] [until|before|for] the [first word|first token|answer starts|answer begins|reply starts]
        [what is|what's] the [wait|delay|pause] before the [answer|first word|reply|response] [starts|comes|appears|]
        how long [until|before|do i wait for] the [first word|first token|answer starts|reply starts]
        what does ttft [mean|stand for]
        why is there a [pause|delay|wait] [before|until] it [answers|starts writing|writes|replies]
        """,
        1.4,
    ),
    "gpu_layers": _concept(
        """
        [gpu|] layers
        layers on [the|] gpu
        gpu layers
        ngl
        n_gpu_layers
        n gpu layers
        layer offloading
        gpu offload
        offloading [layers|]
        cpu offload
        gpu layer count
        """,
        "**Layers on the GPU** says how many layers of the model run on the graphics card. The rest runs on the CPU, which is slower, so use as many as fit.",
        "Engine Room computes how many layers fit. In llama.cpp the flag is `-ngl`.",
        """
        how many layers [should|can|do] [i|] [go on|put on|place on|fit on|offload to|keep on] the [gpu|card|graphics card]
        [should i put|can i put|why put] [all|some|the] layers on the gpu
        what [if|happens when|happens if] [a|the|my] model [is bigger than|is larger than|does not fit in|exceeds|doesnt fit in] [the|my] [vram|gpu|card|gpu memory]
        [can|could] [part|half|some] of [a|the] model run on the [cpu|processor]
        [can i|is it possible to] split a model between [cpu and gpu|gpu and cpu|the processor and the graphics card]
        what does [-ngl|ngl|ngl 99|offloading] [do|mean]
        """,
        1.4,
    ),
    "flash_attention": _concept(
        """
        flash attention
        flashattention
        flash attn
        flash-attention
        fa
        """,
        "**Flash attention** computes attention in small blocks that stay in fast memory. It uses less VRAM for long contexts and is usually faster.",
        "In llama.cpp it is also needed for a quantised KV cache. Leave it on *auto* if you are not sure.",
        """
        should i [turn on|enable|use|switch on|activate] flash [attention|attn]
        is flash attention [good|faster|worth it|safe|better]
        what [does flash attention do|changes with flash attention|do i gain from flash attention]
        """,
        1.4,
    ),
    "gguf": _concept(
        """
        gguf
        [a|the|] gguf [file|files|format|model|models]
        a .gguf file
        """,
        "**GGUF** is the model format of llama.cpp. One file holds the weights, the tokenizer and all settings, often quantised.",
        "Put GGUF files in a folder that Engine Room knows, and they appear on the **Models** page.",
        """
        what [file|kind of file|type of file|file type|format] does llama.cpp [use|need|load|read|want|open]
        [which|what] [program|engine] opens [a|] gguf [file|files]
        what is [inside|in|stored in] a gguf [file|]
        can i [load|use|open|run] [a|] gguf [file|files|models|]
        """,
        1.4,
    ),
    "safetensors": _concept(
        """
        safetensors
        safe tensors
        [a|the|] safetensors [file|files|format|model|folder]
        .safetensors
        """,
        "**Safetensors** is the model format of Hugging Face. It stores only numbers and no code, so it is safe to load; vLLM uses it.",
        "A safetensors model is a folder: the weights, `config.json` and the tokenizer belong together.",
        """
        what [file|kind of file|type of file|file type|format] does vllm [use|need|load|read|want]
        why [is|are] safetensors [safe|safer|called safe]
        what is in a [hugging face|safetensors] folder
        can i [load|use|open|run] [a|] safetensors [file|files|models|]
        """,
        1.2,
    ),
    "gguf_or_safetensors": _concept(
        """
        [the difference between|] gguf and safetensors
        [the difference between|] safetensors and gguf
        gguf [vs|versus|or|compared to] safetensors
        safetensors [vs|versus|or|compared to] gguf
        """,
        "**GGUF** is one file for llama.cpp, often quantised. **Safetensors** is a folder for vLLM, mostly with 16-bit weights.",
        "For one user on one card, GGUF is usually the better choice.",
        """
        which [model|file|] formats [are supported|can i use|does it support|does engine room support|work|can be loaded]
        what [model|file|] format [should i download|do i need|should i choose|is better]
        should i [download|use|get|choose] gguf or safetensors
        """,
    ),
    "temperature": _concept(
        """
        [the|] temperature
        [the|] temp [setting|value|]
        [the|] sampling temperature
        temperature [0|0.7|1] [in the chat|]
        the temperature [setting|parameter|slider]
        """,
        "**Temperature** sets how freely the next word is chosen. `0` always takes the most likely word; around `0.7` is lively; above `1.2` it gets wild.",
        "Use a low temperature for code and facts, and a higher one for stories.",
        """
        how [do i|can i|to] make [the|] [answers|model|replies|it] [more|less] [creative|random|wild|predictable|boring|varied|strict|deterministic]
        why [is the answer|are the answers] [always the same|different every time|different each time]
        why do i get [a different|another|the same] answer [each|every] time
        what temperature should i [use|set|choose]
        which temperature is [best|good] for [code|stories|facts|chat]
        """,
        1.4,
    ),
    "sampling": _concept(
        """
        sampling
        sampling [parameters|settings|options]
        top[-| |_]p
        top[-| |_]k
        min[-| |_]p
        top p and top k
        nucleus sampling
        samplers
        """,
        "**Sampling** picks the next token from the likely ones. `top_k` keeps the best *k*, `top_p` keeps the best until their chances add up to *p*.",
        "Good values to begin with: `temperature` 0.7, `top_p` 0.9 and `top_k` 40.",
        """
        how does [a|the] model [choose|pick|select|decide on] [the|its] next [word|token]
        [how|where] is the next [token|word] [chosen|picked|selected]
        what do top_p and top_k do
        which sampling [settings|values|parameters] are [good|best|recommended]
        """,
        1.2,
    ),
    "tensor_parallel": _concept(
        """
        tensor parallel
        tensor parallelism
        tensor-parallel
        tensor parallel size
        tp size
        tp=[2|4|8]
        """,
        "**Tensor parallel** splits every layer over several GPUs, which work on each token together. Set it to the number of cards, such as 2 or 4.",
        "In vLLM the flag is `--tensor-parallel-size`. The cards should be equal, and the number of heads must be divisible by it.",
        """
        how [do|can] [i|we|you] [use|run on|combine|work with] [two|2|several|multiple|four|4|many|both] [gpus|cards|graphics cards|video cards]
        [can|could] [i|a model|one model|it|engine room] [use|run on|be split over|be spread over|be shared by|work with] [two|2|several|multiple|four|both] [gpus|cards|graphics cards]
        [multi gpu|multiple gpus|multi-gpu|two gpus|dual gpu|several gpus] [support|setup|]
        how [do i|to] [split|spread|share|distribute] [a|one] model [over|across|between|on] [two|several|multiple|many|my] [gpus|cards|graphics cards]
        [split|spread|shard|divide] [a|the|my] model [over|across|between|onto] [two|2|3|three|four|4|8|several] [gpus|cards|graphics cards]
        [use|combine|join|pool] [both|all|two|2|4|several] [of my|my|] [gpus|cards|graphics cards] [together|for one model|]
        i have [two|2|three|3|four|4|eight|8] [gpus|cards|graphics cards][, how do i use them|, what now|]
        """,
        1.5,
    ),
    "pipeline_parallel": _concept(
        """
        pipeline parallel
        pipeline parallelism
        pipeline-parallel
        """,
        "**Pipeline parallel** puts whole layers on different GPUs, one group after the other. It needs less traffic between the cards than tensor parallel.",
        "In vLLM the flag is `--pipeline-parallel-size`.",
        "pipeline parallel or tensor parallel\ndifference between tensor and pipeline parallel",
        0.6,
    ),
    "token": _concept(
        """
        [a|] token
        tokens
        [a|the|] tokenizer
        [a|the|] tokeniser
        tokenization
        tokenisation
        """,
        "A **token** is a small piece of text, often a word or a part of one. Models read and write tokens; 100 tokens are about 75 English words.",
        "The tokenizer cuts text into tokens. Each model brings its own.",
        """
        how many [words|letters|characters] is [a|one] token
        how does [a|the] model [read|see|split|cut] [text|words|my text]
        how long is a token
        """,
    ),
    "llamacpp": _concept(
        """
        llama.cpp
        llamacpp
        llama cpp
        llama-server
        the llama.cpp engine
        """,
        "**llama.cpp** is the default engine here. It runs GGUF files on the GPU, on the CPU or on both, and starts within seconds.",
        "It works without a GPU too: this demo model runs on it.",
        "what [runs|is running] this demo\n[which|what] engine [runs you|are you running on|do you run on|is the default|is used by default]\nis llama.cpp [good|fast]",
        1.3,
    ),
    "vllm": _concept(
        """
        vllm
        v-llm
        the vllm engine
        """,
        "**vLLM** is an engine for fast GPUs and many requests at once. It loads safetensors models, supports tensor parallel and takes a minute or more to start.",
        "It reserves a fixed share of the VRAM at the start; `--gpu-memory-utilization` sets that share.",
        "why is vllm [slow to start|so slow to load|taking so long to start]\nis vllm [good|fast|better]\nwhen should i use vllm",
        1.4,
    ),
    "vllm_or_llamacpp": _concept(
        """
        [the difference between|] vllm and llama.cpp
        [the difference between|] llama.cpp and vllm
        vllm [vs|versus|or|compared to] llama.cpp
        llama.cpp [vs|versus|or|compared to] vllm
        llamacpp [vs|versus|or] vllm
        """,
        "Take **llama.cpp** for one user, GGUF files or little VRAM. Take **vLLM** for many users at once on a strong GPU.",
        "llama.cpp can put some layers on the CPU when a model is too large; vLLM wants the whole model on the GPU.",
        """
        which engine [should i|do i|to] [use|choose|pick|take|want|need]
        [which|what] engine is [better|best|faster|right for me|right]
        should i [use|choose|pick] vllm or llama.cpp
        is vllm [better|faster] than llama.cpp
        which [engine|one] is better for [one user|many users|a single user|a team|me|small cards]
        """,
        1.4,
    ),
    "utilisation": _concept(
        """
        gpu memory utili[s|z]ation
        gpu_memory_utilization
        --gpu-memory-utilization
        gpu-memory-utilization
        the utili[s|z]ation setting
        """,
        "`--gpu-memory-utilization` is the share of the GPU memory that vLLM reserves, for example `0.9`. What is left after the weights becomes KV cache.",
        "Engine Room works out this value from the memory that is free right now, so you need not guess.",
        "why does vllm [take|use|eat|grab|fill] [all|so much of|90 % of] [the|my] [vram|gpu memory|memory]\nwhat should i set gpu memory utilization to",
        1.0,
    ),
    "batching": _concept(
        """
        continuous batching
        batching
        batched tokens
        max num seqs
        max sequences
        parallel requests
        [the|] batch size
        """,
        "**Batching** lets the engine answer several requests in one pass over the weights. The total speed rises, while each single answer gets a little slower.",
        "*Low latency* presets use few sequences; *high throughput* presets use many.",
        "can [several|many|multiple|two] [people|users|clients|programs] [use|ask|talk to] [it|the model|the endpoint] at [the same time|once]\nhow many [requests|users|people] [at once|can it serve|can use it]\ncan it [answer|handle|serve] [several|many|multiple] requests at once",
        1.0,
    ),
    "oom": _concept(
        """
        [an|] oom
        out of memory
        [an|] out[- ]of[- ]memory error
        cuda out of memory
        [an|] oom error
        """,
        "**Out of memory** means the model and its KV cache need more than the card has free. Try a shorter context, a smaller quantisation or fewer layers on the GPU.",
        "Engine Room checks this *before* it loads a model, and says which setting would make it fit.",
        """
        [i get|i got|it says|it shows|the log says|my engine says|what do i do about|how do i fix|fixing|help with] [an|] [oom|out of memory|cuda out of memory|oom error|out of memory error]
        [my|the|a] model [does not|doesn't|doesnt|won't|will not|can't|cannot] fit
        [my|the|a] model is too [big|large|heavy] [for my gpu|for my card|for the card|]
        [what|what can i do|what now] if [a|the|my] model is too [big|large]
        [the|my] [gpu|card] [has|does not have|doesn't have] [not enough|too little|enough] memory
        i [have|don't have|do not have] [too little|not enough|enough] [vram|gpu memory|video memory]
        i ran out of [vram|gpu memory|video memory|memory]
        the engine [crashes|crashed|dies|died] with out of memory
        [how can i|how do i|how to|ways to|tips to] [save|reduce|lower|use less|free up some|cut] [vram|gpu memory|memory|vram use|memory use]
        """,
        1.8,
    ),
    "prefill": _concept(
        """
        prefill
        prompt processing
        decode
        prefill and decode
        decoding
        """,
        "**Prefill** reads the whole prompt at once; **decode** then writes the answer token by token. Prefill decides the TTFT, decode the tokens per second.",
        "Prefill is limited by computing power, decode by memory bandwidth.",
        "difference between prefill and decode\nprefill vs decode",
        0.7,
    ),
    "llm": _concept(
        """
        [an|] llm
        llms
        [a|] large language model
        language models
        [a|] language model
        """,
        "An **LLM** is a large language model. It predicts text token by token, and that is enough to chat, write and code.",
        "Its knowledge lies in the weights: billions of numbers that must fit in memory.",
        "how does [an llm|a language model|a chatbot] work",
        0.8,
    ),
    "parameters": _concept(
        """
        [the|] parameters [of a model|]
        [the|] [weights|model weights] [of a model|]
        a billion parameters
        model size
        """,
        "**Parameters**, or weights, are the learned numbers of a model. *7B* means 7 billion of them; more parameters know more but need more memory.",
        "At `Q4_K_M` each billion parameters needs about 0.6 GB.",
        "what does [the b|b|7b|13b|70b|8b] [mean|stand for] [in model names|in a model name|]\nwhat is the b in [7b|70b|8b]",
        1.0,
    ),
    "streaming": _concept(
        """
        streaming
        a stream
        streamed answers
        token streaming
        """,
        '**Streaming** sends each token as soon as it is written, so you can read along. Set `"stream": true` in the request.',
        "The chat page always streams, and the *Stop* button ends an answer at once.",
        "how do i [stream|get streamed] [answers|replies|responses|]\ndoes [it|the endpoint|the api|engine room] [support|do|have] streaming\nwhy [do|does] [words|the answer|the text] appear [one by one|bit by bit|word by word]",
        0.9,
    ),
    "system_prompt": _concept(
        """
        [a|the|] system prompt
        [a|the|] system message
        [the|] system role
        """,
        "A **system prompt** is an instruction that stands before the chat, such as a role or a style. The model sees it with every message.",
        "You can set it in the chat presets.",
        "how do i [set|change|write|give] [a|the] system prompt",
        0.7,
    ),
    "chat_template": _concept(
        """
        [a|the|] chat template
        [the|] prompt template
        chatml
        chat format
        """,
        "A **chat template** turns the messages into the exact text that a model was trained on. It is normally stored in the model itself.",
        "This demo model uses the *ChatML* template.",
        "why does the model need a [chat|prompt] template\nwrong chat template",
        0.7,
    ),
    "embeddings": _concept(
        """
        embeddings
        [an|] embedding [model|]
        text embeddings
        """,
        "**Embeddings** turn a text into a list of numbers, so that similar texts get similar numbers. They are used for search; they need an embedding model.",
        "The endpoint serves them at `/v1/embeddings` when the loaded model can do it.",
        "",
        0.6,
    ),
    "lora": _concept(
        """
        lora
        [a|] lora adapter
        loras
        """,
        "A **LoRA** is a small add-on that changes how a model behaves, without a new copy of all weights. The engine loads it together with its base model.",
        "Name the LoRA file in the profile.",
        "how do i [use|load|add] a lora",
        0.6,
    ),
    "draft": _concept(
        """
        speculative decoding
        [a|] draft model
        speculation
        """,
        "**Speculative decoding** lets a small draft model guess a few tokens, which the large model then checks in one pass. Good guesses make it faster.",
        "The draft model needs memory of its own.",
        "",
        0.5,
    ),
    "prefix_cache": _concept(
        """
        prefix caching
        [the|] prompt cache
        prompt caching
        """,
        "**Prefix caching** keeps the work for the beginning of a prompt, so the same beginning is not computed twice. The first token then comes much sooner.",
        "It helps most with long system prompts and long chats.",
        "",
        0.5,
    ),
    "paged_attention": _concept(
        """
        paged attention
        pagedattention
        """,
        "**Paged attention** stores the KV cache in small blocks, like pages of memory. vLLM uses it to serve many requests without wasting VRAM.",
        "It was introduced with vLLM.",
        "",
        0.4,
    ),
    "gpu": _concept(
        """
        [a|the|] gpu
        [a|] graphics card
        [a|] video card
        gpus
        """,
        "A **GPU** is a graphics card: thousands of small cores and fast memory. That is just what a language model needs.",
        "Engine Room shows its memory, load, power and temperature on the **Monitor** page.",
        "why do [models|llms|language models|you|we] [need|use|run on] [a|] [gpu|gpus|graphics card]\nwhy is a gpu [faster|better] than a cpu\ngpu vs cpu\nwhy not [use|run on] the cpu",
        1.0,
    ),
    "cuda": _concept(
        """
        cuda
        """,
        "**CUDA** is the software from NVIDIA that lets programs compute on its graphics cards. llama.cpp and vLLM use it when it is there.",
        "Without CUDA the models still run on the CPU, only slower.",
        "do i need cuda\nis cuda [required|needed]",
        0.7,
    ),
    "openai_api": _concept(
        """
        [an|the|] openai[-| ]compatible [api|endpoint|server|url]
        openai compatibility
        [the|] openai api
        """,
        "**OpenAI-compatible** means the endpoint accepts the same requests as the OpenAI API. Most editors and libraries work with it: only the base URL changes.",
        "The base URL is `http://127.0.0.1:7000/v1`.",
        "does [it|engine room|this] [work with|support] the openai [api|library|client|sdk|python package]\ncan i use the openai [library|client|sdk|package]",
        1.0,
    ),
    "profile": _concept(
        """
        [a|the|] profile
        profiles
        [a|the] profile file
        """,
        "A **profile** names an engine, a model and its settings, so that one click loads it. Profiles are TOML files that you can also edit by hand.",
        "This demo belongs to the profile `demo`.",
        "[what is|what's] in a profile\nhow do i [make|create|write|add|edit|change] a [new|] profile\nwhere do i [create|edit|change] [profiles|a profile]\n[create|add|make|edit] [a|] [new|] profile",
        1.0,
    ),
    "ollama": _concept(
        """
        ollama
        """,
        "**Ollama** is another program that runs local models. Engine Room can attach to a running Ollama and shows its models in the same library.",
        "Its models are read in place and never copied.",
        "can i use [ollama|my ollama models]\ndoes [it|engine room] [work with|support] ollama\nengine room [vs|or] ollama",
        0.8,
    ),
    "hugging_face": _concept(
        """
        hugging face
        huggingface
        the hugging face hub
        hf
        """,
        "**Hugging Face** is the website where most open models are published. Engine Room can search it and download from it on the **Models** page.",
        "Some models ask you to accept a licence first; for those you need a token.",
        "where [can i find|do i get|can i get|do i find|come] [new|more|other|open|] models [from|]\nwhere do models come from",
        0.9,
    ),
    "sleep": _concept(
        """
        sleep mode
        engine sleep
        putting a model to sleep
        """,
        "**Sleep** frees the GPU memory of a vLLM engine but keeps its weights in normal memory. Waking up is much faster than a new start.",
        "It needs enough free memory in the computer.",
        "how do i [wake|put] [a|the] model [up|to sleep]",
        0.5,
    ),
    "headroom": _concept(
        """
        [the|] headroom
        vram headroom
        the memory reserve
        """,
        "**Headroom** is the part of the VRAM that Engine Room keeps free, 1.5 to 2 GB, so that the desktop and other programs do not run out of memory.",
        "You can change it on the **Settings** page.",
        "why [does it|does engine room] keep [some|] [vram|memory|gpu memory] free\nwhy can't i use all [the|my] [vram|memory]",
        0.6,
    ),
    "vision": _concept(
        """
        [a|] vision model
        mmproj
        [an|the] mmproj file
        image input
        """,
        "A **vision model** can also read images. For llama.cpp it comes as two files: the model and an `mmproj` file that turns images into tokens.",
        "I cannot see images myself; load a vision model for that.",
        "can i [send|attach|use|upload|show you] [images|pictures|photos|a picture|an image|a photo]\ncan you [see|read|look at] [images|pictures|photos|a picture|an image]",
        0.8,
    ),
    "moe": _concept(
        """
        moe
        [a|] mixture of experts [model|]
        experts in a model
        """,
        "A **mixture of experts** has many small expert networks and uses only a few of them for each token. It is fast, but all experts must be in memory.",
        "Plan its memory by the total number of parameters, not by the active ones.",
        "",
        0.5,
    ),
    "ray": _concept(
        """
        ray
        ray [cluster|executor|in vllm]
        """,
        "**Ray** is a library that spreads work over GPUs and machines. vLLM can use it to run one model on several of them.",
        "On a single machine you usually do not need it.",
        "",
        0.4,
    ),
    "throttling": _concept(
        """
        [thermal|] throttling
        gpu throttling
        clock throttling
        """,
        "**Throttling** means the GPU lowers its clocks because it is too hot or at its power limit. The tokens per second then drop.",
        "The **Monitor** page shows the reason next to the clocks.",
        "why [does|is] my gpu [slow down|getting slow|get slower|so hot|getting hot]\nmy [gpu|card|graphics card] is [too|very|so] hot\n[is it bad|what happens] if [my|the] gpu [gets hot|is hot|overheats]",
        0.7,
    ),
    "reasoning": _concept(
        """
        [a|] reasoning model
        reasoning
        thinking [models|mode|tokens]
        """,
        "A **reasoning model** thinks in text before it answers. The chat page folds that part away so that you can open it when you like.",
        "I do not think first; I am too small for that.",
        "",
        0.5,
    ),
    "max_tokens": _concept(
        """
        max tokens
        max_tokens
        the answer limit
        the token limit
        """,
        "`max_tokens` limits the length of one answer. When it is reached, the answer stops with the reason *length*.",
        "Raise it in the chat settings when answers are cut off.",
        "why [is|are] [the|my] [answer|answers|reply|output] [cut off|cut short|cut|incomplete|not complete]\nwhy does [the|my|an] answer stop in the middle\nhow do i limit the [length|size] of [an|the] answer[s|]",
        0.9,
    ),
    "seed": _concept(
        """
        [a|the|] seed
        [the|] random seed
        """,
        "A **seed** fixes the random choices of sampling. The same prompt with the same seed and settings gives the same answer.",
        "At temperature 0 no seed is needed.",
        "how do i get [the same|a reproducible|repeatable] answer [again|]",
        0.5,
    ),
    "repeat_penalty": _concept(
        """
        [the|] repeat penalty
        [the|] repetition penalty
        """,
        "The **repeat penalty** makes words less likely that were just used. A value around `1.1` stops loops; higher values hurt the text.",
        "You find it with the other sampling parameters in the chat.",
        "[why does|what if] [the|a|my] model [repeat|repeats] itself\nhow do i stop [loops|repetition|the model from repeating itself|it repeating itself]",
        0.6,
    ),
}
