"""Owns what the demo model knows about using Engine Room: each thing to do, how people ask for it, answer and steps."""

from __future__ import annotations

from dataclasses import dataclass

from grammar import lines


@dataclass(frozen=True)
class Task:
    """One thing a person wants to do; `actions` are verb phrases, `asks` whole questions."""

    actions: tuple[str, ...]
    asks: tuple[str, ...]
    answer: str
    steps: str = ""
    weight: float = 1.0


def _task(actions: str, asks: str, answer: str, steps: str = "", weight: float = 1.0) -> Task:
    return Task(lines(actions), lines(asks), answer, "\n".join(lines(steps)), weight)


TASKS: dict[str, Task] = {
    "load": _task(
        """
        [load|start|run|launch|open|use|activate|boot|fire up|bring up|spin up] [a|the|my|some|one|this|a new|an llm|a local] [model|llm|language model|ai model]
        [load|run|launch|start] [a|my|the] [gguf|safetensors|llama|qwen|mistral|7b|8b|13b|demo] [model|file|]
        [load|run|start|use|try] [llama 3|llama|qwen 3|qwen|mistral|gemma|gemma 3|phi 4|deepseek|a llama model|a qwen model|mixtral|the demo|the demo model]
        get [a|the|my|some] [model|llm] [running|loaded|going|started|up|up and running|into memory|onto the gpu|on the card]
        put [a|the|my] model [on|onto|into] [the gpu|the card|memory|vram]
        make [a|the|my] model [ready|active|available]
        """,
        """
        model loading
        loading a model
        where is the load button
        [which|what] button loads [a|the] model
        how does [loading|model loading|loading a model] work
        where do i start [a|the] model
        [the|my] model is not [running|loaded] yet, what now
        """,
        "Open the **Models** page, choose a model that is marked *fits* and press **Load**. One click is enough.",
        """
        1. Open the **Models** page.
        2. Choose a model that is marked *fits*.
        3. Press **Load**.
        4. Wait until the state says *Ready*, then open **Chat**.
        """,
        2.2,
    ),
    "switch": _task(
        """
        [switch|change|swap|move|go|hop] [to|to another|to a different|to the next|between|over to another] [model|models|llm]
        [change|swap|replace|exchange] [the|my|the current|the loaded|the running] [model|llm|one]
        [use|load|take|pick|select|try] [another|a different|some other|the other|a second] [model|llm] [instead|now|]
        [replace|swap|change] [the|this] model [by|with|for] [another|a different] [one|model]
        """,
        """
        model switching
        switching models
        what happens [when i switch|during a switch|if i switch] [models|the model|]
        how does [switching|the switch|a switch|model switching] work
        i [am bored of|do not like|don't like|dislike] this model, [i want another one|give me another|how do i get another]
        do i [need to|have to|must i] stop the [old|first|current] model [first|before loading another]
        what happens to the old model [when i load a new one|when i load another|]
        """,
        "To switch, press **Load** on another model. Engine Room finishes running answers, stops the old model, waits for its memory and starts the new one.",
        """
        1. Open the **Models** page.
        2. Press **Load** on the other model.
        3. Engine Room stops the old one and frees its memory.
        4. When the state says *Ready*, chat goes to the new model.
        """,
        2,
    ),
    "stop": _task(
        """
        [stop|unload|eject|end|close|shut down|turn off|quit|kill|terminate|halt|exit|remove|drop] [the|a|my|this|the current|the running|the loaded] [model|llm|engine|running model]
        free [up|] [the|my|all|some|] [vram|gpu memory|memory|video memory|gpu|card|graphics memory] [again|]
        [release|empty|clear|give back|get back|reclaim] [the|my|] [vram|gpu memory|memory|gpu|card|video memory]
        [take|get] [the|a] model [out of|off] [memory|the gpu|vram|the card]
        [shut|switch|turn] [it|the model|the engine] [down|off]
        """,
        """
        unloading
        unload
        where is the [stop|unload] button
        i [am done|am finished|no longer need] [with the model|the model][, how do i free the memory|]
        i need [my gpu|the gpu|the memory|my vram] [back|for a game|for something else]
        """,
        "Press **Stop** on the Models page, or run `engine-room stop`. The engine ends with all its processes and the VRAM is free again.",
        """
        1. Open the **Models** page.
        2. Press **Stop** on the running model.
        3. Wait until the state says *Idle*: the VRAM is free again.
        """,
        2,
    ),
    "leftovers": _task(
        "",
        """
        [does it|does engine room|will it|does the app|does the engine] leave [anything|something|processes|stuff|files|junk|garbage|leftovers] [behind|running|around|]
        are there [any|] [orphans|leftover processes|leftovers|zombie processes|zombies|orphan processes]
        what [happens|will happen] [if|when] [the app|engine room|the window|it|the program] [crashes|is killed|dies|fails]
        what [happens|is] [with|to] [old|leftover|remaining|dead|orphan|orphaned] processes
        is [everything|every process|all memory|all vram] [cleaned up|freed|removed|gone] [after a stop|when i stop|at the end|when it ends|afterwards|]
        [do|will] [processes|engines] [stay|remain|keep running|hang around|survive] [after a crash|after i quit|when i close it|]
        i [see|found|have] [a leftover|an old|a stray] [process|engine] [on|in|using] [the gpu|nvidia-smi|my gpu]
        nothing left behind
        does it clean up [after itself|]
        """,
        "Nothing is left behind: every engine is tied to Engine Room and ends with its whole process tree. Processes of other programs are never touched.",
        "",
        1.3,
    ),
    "close_window": _task(
        "",
        """
        what [happens|will happen] [if|when] i close the window
        does [the model|it] [stay loaded|keep running|stop|unload] when i close [the window|the app|engine room]
        can i close the window [and keep the model|]
        how do i quit [engine room|the app|the program|]
        [quit|exit|close] [engine room|the app|the window]
        """,
        "Closing the window leaves the model loaded, so your editor can go on using it. Choose *Quit and unload* to end everything.",
        "",
        0.8,
    ),
    "chat": _task(
        """
        [chat|talk|speak|write|have a conversation] [with|to] [a|the|my] [model|llm]
        ask [a|the|my] model [a question|something]
        [open|use|start|begin] [the|a|a new] [chat|conversation|chat page]
        send [a message|messages|a prompt] [to the model|]
        """,
        """
        where is the chat
        what [can i do|is] on the chat page
        what is the chat page [for|]
        what does the chat [page|pane|] [do|show|offer]
        chat page
        """,
        "Open the **Chat** page and type your message. The answer streams in, with its speed below; you can stop it, edit your message or ask again.",
        """
        1. Load a model on the **Models** page.
        2. Open the **Chat** page.
        3. Type your message and press Enter.
        """,
        1.2,
    ),
    "chat_edit": _task(
        """
        [edit|change|correct] [a|my|the last] message
        [regenerate|redo|repeat] [an|the|the last] [answer|reply]
        [stop|cancel|interrupt|abort] [an|the|a running] [answer|reply|generation|response]
        [export|save|search|find|delete|download|back up] [a|my|an old|old|the] [chat|chats|conversation|conversations]
        """,
        "are [my|the] chats [saved|kept|stored|private|lost]\nwhere are my chats [saved|stored|kept]\ncan i search [my|old] chats",
        "The **Chat** page can stop, edit, repeat and branch answers. Chats are saved on your machine; you can search them and export them as Markdown or JSON.",
        "",
        1.0,
    ),
    "logs": _task(
        """
        [see|read|view|open|find|show|follow|watch|check|look at|get] [the|my|an|engine|the engine|] [log|logs|log file|engine log|engine output|output|log output]
        [see|find out|check] what [the engine|the model|it] [is doing|prints|writes|says]
        [tail|search|filter] the [log|logs]
        """,
        """
        where [is|are|can i find|do i find|does it keep|does it store|does it write|does it save] [the|its|my|] [log|logs|log file|log files|engine log|engine output]
        where [does|do] [the engine|engine room|it|the app] [log to|write its log|write its output|put its logs]
        [which|what] file [is the log|holds the log|does it log to]
        logs
        log file
        log [location|folder|path]
        what is [on|] the logs page [for|]
        what does the logs page [do|show]
        how [do|can] i follow the log [in|from] [the|a] terminal
        """,
        "Each run has its own log file. Read it on the **Logs** page, or follow it in a terminal with `engine-room logs -f`.",
        """
        1. Open the **Logs** page.
        2. Choose the run on the left.
        3. Press *Follow* to see new lines, or search and filter.
        """,
        2,
    ),
    "monitor": _task(
        """
        [see|check|watch|monitor|view|find out|measure|track|look at|show] [the|my|how much|current|] [gpu|vram|gpu memory|memory|gpu load|gpu temperature|vram use|gpu usage|memory usage|power draw|power use|utilisation|utilization]
        [see|check|find out] [which|what] [process|program|app] [uses|takes|eats|is using|occupies] [the|my] [vram|gpu|gpu memory|memory]
        [see|check|find out] how [hot|busy|full] [the|my] [gpu|card|vram] is
        """,
        """
        where [do i see|can i see|is|can i find] [the|my|] [gpu load|vram use|gpu memory use|gpu temperature|memory use|power draw|gpu usage]
        how much [vram|memory|gpu memory] is [free|used|left|in use|available] [right now|now|]
        how much [vram|memory|gpu memory] do i have [left|free|]
        what [is|does] [on|] the monitor page [show|for|]
        monitor page
        what can i [see|do] [on|in] the monitor
        how [hot|busy] is my gpu
        """,
        "The **Monitor** page shows it live: VRAM by process, load, power and temperature of each GPU, tokens per second and TTFT.",
        "",
        1.6,
    ),
    "settings": _task(
        """
        [change|open|find|edit|adjust|set|configure] [the|my|some|] [settings|options|preferences|configuration|defaults]
        [configure|set up|customise|customize] [engine room|the app|it]
        [change|set|use] [the|another|a different] port
        [change|set|turn on|use] [the|] [dark|light] [mode|theme]
        [change|set] the [theme|headroom|memory limit|limits]
        """,
        """
        where [are|is|do i find|can i find] the [settings|options|preferences|configuration|config]
        what [is|can i change|can i set] [on|in] the settings [page|]
        settings page
        is there a dark [mode|theme]
        """,
        "Open the **Settings** page. There you set the memory limits, the endpoint with its port and keys, model folders and the look of the window.",
        "",
        1.4,
    ),
    "endpoint": _task(
        """
        [reach|call|use|access|find|query|connect to] [the|its|engine room's|your|] [endpoint|api|server|rest api|http api|url] [from outside|]
        """,
        """
        [what is|what's|whats|where is|give me|tell me|show me|which is] the [endpoint|url|endpoint url|api url|base url|server address|api address|address|api base|openai url|server url]
        [which|what] [url|address|endpoint|base url|port] [do i use|should i use|does it use|is it|do i need|do i enter|must i enter|is used|does it listen on|does the api listen on|is the api on]
        [what|which] [port|address] [is|does] [the server|the api|the endpoint|engine room] [on|use|listen on|run on|listening on]
        endpoint
        endpoint url
        base url
        api url
        [is there|does it have|do you have] an [api|endpoint|rest api|http api]
        where [do|can|should] [my|other] [scripts|programs|tools|apps] [connect|connect to|send requests|point]
        what do i [put|enter|type|write|paste] as [the|] [base url|api base|url|server]
        does the [url|endpoint|address] [change|stay the same] [when i switch|with another model|after a switch|]
        """,
        "The endpoint is `http://127.0.0.1:7000/v1`. It is OpenAI-compatible and stays the same when you switch models.",
        "",
        2.2,
    ),
    "connect": _task(
        """
        [connect|link|attach|hook up|set up|point|configure|integrate] [my|an|the|] [editor|ide|vs code|code editor|agent|coding agent|script|other program|client|tool|other app] [to|with|for] [engine room|it|the endpoint|the model|this|the local model|my model]
        use [engine room|it|the model|my model|a local model|the local model] [in|from|with] [my|an|the|another] [editor|ide|vs code|agent|script|program|other app|tool|client]
        """,
        """
        does it work with [my editor|vs code|agents|an ide|other programs|editors|my tools]
        [which|what] programs can use [it|the endpoint|the model]
        """,
        "Set the base URL in your editor or script to `http://127.0.0.1:7000/v1` and take any word as API key. It then always talks to the loaded model.",
        """
        1. Load a model on the **Models** page.
        2. Set the base URL in your program to `http://127.0.0.1:7000/v1`.
        3. Enter any word as API key, unless you have set one.
        4. Send a request.
        """,
        1.5,
    ),
    "api_key": _task(
        """
        [set|add|use|create|make|require] [an|the|] api key
        [protect|secure|lock] the [endpoint|api|server]
        [open|share|expose|reach] [the endpoint|it|the api|engine room] [to|in|on|over|from] [the|my|] [lan|network|local network|other machines|another computer]
        """,
        """
        do i need an api key
        which api key [do i use|is it|should i use]
        is the endpoint [open|safe|secure|reachable from the network|public]
        api key
        """,
        "By default the endpoint listens only on this machine and needs no API key. To open it to the network, set a key on the **Settings** page first.",
        "",
        1.1,
    ),
    "cli": _task(
        """
        [use|control|run|drive] [engine room|it|the app] [from|in|on|with|through] [the|a|] [terminal|command line|shell|console|cli]
        """,
        """
        [is there|does it have|do you have] a [command line|cli|command|terminal command|command line tool]
        [what|which] commands [are there|exist|can i use|does it have|do you know|does engine room have|are available]
        command line
        cli
        [terminal|cli|shell] commands
        engine-room
        engine-room command
        what can the [command line|cli|command] do
        can i use it without [the|a] [window|gui|mouse]
        """,
        "Use the command `engine-room`: `engine-room load demo` loads a model, `engine-room status` shows the state and `engine-room logs -f` follows the log.",
        """
        - `engine-room load demo` loads a profile
        - `engine-room status` shows what is running
        - `engine-room logs -f` follows the log
        - `engine-room stop` stops the model
        """,
        1.8,
    ),
    "cli_load": _task(
        """
        [load|start|run|switch to] [a|the|the demo|another|my] [model|profile|demo] [from|in|on|with|using|via] [the|a|] [terminal|command line|shell|console|cli|command]
        """,
        """
        [what is|what's|which is|tell me] the command [to load|for loading|that loads|to start] [a|the|the demo] [model|profile|]
        engine-room load
        what does engine-room load [demo|] do
        load from [the|] [terminal|cli|command line|shell]
        """,
        "Run `engine-room load demo` in a terminal. Put the name of any other profile in place of `demo`.",
        "",
        1.3,
    ),
    "cli_status": _task(
        """
        [see|check|find out|know|tell|show] [which model is loaded|which model is running|what is running|what is loaded|the status|the state|if a model is loaded|whether it is running|if the engine is up|if the model is ready]
        """,
        """
        [which|what] model is [loaded|running|active] [right now|now|at the moment|]
        is [a|the|any] model [loaded|running|ready|up]
        status
        engine-room status
        what does engine-room status [do|show|print]
        [what is|what's] the [command for the status|status command]
        what is [running|loaded] [right now|now|]
        """,
        "Run `engine-room status`, or look at the top of the window: it shows the loaded model, its state and the free VRAM.",
        "",
        1.3,
    ),
    "download": _task(
        """
        [download|get|fetch|install|pull|add] [a|new|another|more|some|other|a bigger|a better|a larger|the first|a new] [model|models|llm]
        [download|get|fetch] [a|] model from [hugging face|huggingface|the internet|the hub|hf]
        """,
        "downloading models\nmodel download\ncan it download models\nwhere can i download [a|] [model|models]\ni have no models[, what now| yet|]",
        "Open the **Models** page and search the Hugging Face hub. You see whether a file fits *before* you download it; downloads can be paused and resumed.",
        """
        1. Open the **Models** page.
        2. Search the Hugging Face hub.
        3. Choose a file that is marked *fits*.
        4. Press **Download** and wait.
        """,
        1.6,
    ),
    "folder": _task(
        """
        [add|use|import|show|find] [my|a|the|my own|existing] [model folder|folder with models|folder of models|own models|existing models|models on disk|model files|gguf folder|model directory]
        [use|add|import|reuse] models [i have already|that i already have|from another folder|from lm studio|from disk|from my disk]
        """,
        """
        where does [it|engine room] [look for|find|search for|keep|store] [models|my models]
        where [are|is] [my|the] [models|model files|gguf files] [stored|kept|saved]
        why [is|are] my [model|models] [not shown|not listed|missing|not in the list]
        does it copy my models
        which models do i have
        """,
        "Add the folder on the **Settings** page. Engine Room reads your folders, the Hugging Face cache, Ollama and LM Studio in place; nothing is copied.",
        "",
        1.1,
    ),
    "delete_model": _task(
        """
        [delete|remove|erase|trash|throw away|get rid of] [a|old|the|my|unused] [model file|model from disk|models from disk|downloaded model|model files|models i no longer need]
        [free|get back|save] [disk space|space on disk|space on my disk]
        """,
        "how much disk [space|] do [models|my models] [need|use|take]\nmy disk is full",
        "Choose the model on the **Models** page and press **Delete**. It goes to a trash first, so you can undo it.",
        "",
        0.8,
    ),
    "fits": _task(
        """
        [see|know|check|tell|find out|predict] [if|whether] [a|the|my|this] model [fits|will fit|fits my card|fits in vram|fits on my gpu|will run|can run|fits in memory]
        [estimate|predict|calculate|work out] [the|how much] [memory|vram|gpu memory] [of a model|a model needs|for a model|needed|]
        """,
        """
        [will|does|would|can|could] [a|my|the|this] model fit [on|in|into] [my|the] [gpu|card|vram|memory|graphics card]
        what does [fits|does not fit|the verdict] mean
        which models fit [on my gpu|on my card|my card|in my vram|]
        how does [it|engine room] [know|predict|estimate] [what fits|if a model fits|the memory|how much memory a model needs]
        how do i know [which|what] models i can run
        """,
        "The **Models** page says it for each model: *fits*, *fits with fewer layers on the GPU*, *fits with a shorter context* or *does not fit*, against the memory that is free now.",
        "",
        1.5,
    ),
    "switch_failed": _task(
        "",
        """
        what [happens|if|will happen if] [if|when|] [the|a] [new model|switch|load|loading] [fails|does not work|goes wrong|crashes]
        [my|the|a] [model|engine] [does not|doesn't|won't|will not|can't|cannot|fails to|failed to|did not] [load|start|run|come up]
        [loading|the load|the start|starting the engine] [fails|failed|crashes|crashed|does not work|gives an error]
        why did [the|my] [load|engine|model|start] [fail|crash|stop|die]
        i get an error when [loading|i load] a model
        [the|my] engine [crashed|crashes|died|stopped|broke]
        something went wrong
        how do i [fix|debug|repair|solve] [an|the|a] [error|failed load|crash|failure|problem]
        """,
        "When a load fails, Engine Room shows what failed, the log line that proves it and the setting that cures it. The previous model comes back by itself.",
        "",
        1.6,
    ),
    "slow": _task(
        """
        [make|get] [the|my|a] [model|answers|llm|it|generation] [faster|run faster|go faster|quicker|respond faster]
        speed [up|] [the|my|] [model|generation|answers|it|things] [up|]
        [improve|increase|raise|boost] [the|my|] [speed|performance|tokens per second|tok/s]
        """,
        """
        why is [it|the model|my model|the answer|generation|everything|my gpu] [so slow|slow|so sluggish|slower than before|taking so long]
        [it|the model|generation|my model] is [very slow|too slow|slow|really slow|so slow]
        [what|how] can i [do] [against|about] [slow answers|a slow model]
        """,
        "Most often some layers run on the CPU. Choose a smaller quantisation or a shorter context so that all layers fit on the GPU; **Monitor** shows the reason.",
        """
        - Put all layers on the GPU.
        - Take a smaller quantisation, such as `Q4_K_M`.
        - Shorten the context.
        - Turn on flash attention.
        - Look at **Monitor** for throttling.
        """,
        1.5,
    ),
    "no_gpu": _task(
        """
        [run|use|try] [it|a model|models|engine room|this] [without|with no] [a|] [gpu|graphics card|video card|nvidia card]
        [run|use] [a model|models|it] on [the|my|a] [cpu|processor|laptop] [only|alone|]
        """,
        """
        do i need a [gpu|graphics card|nvidia card|video card|strong computer]
        does it [work|run] without a [gpu|graphics card|nvidia card]
        [is a|is a] [gpu|graphics card] [required|needed|necessary]
        i [have no|do not have a|don't have a|lack a] [gpu|graphics card|nvidia card]
        can it run on [the|a] cpu
        cpu only
        does it [work|run] on a laptop
        does it [support|work with|run on] amd [cards|gpus|]
        """,
        "No GPU is needed: llama.cpp also runs on the CPU, only slower. I am running that way if you have no graphics card.",
        "",
        1.2,
    ),
    "engines": _task(
        """
        [install|add|update|upgrade] [an|the|a new|another|] [engine|vllm|llama.cpp|engines]
        """,
        """
        [which|what] engines [are supported|are there|does it support|can i use|does engine room support|does it manage|do you know|are available|does it have|exist]
        [what is|what's] an engine
        what engine[s|] [does it use|are behind it|run the models]
        engines
        list [the|all|] engines
        how do i install vllm
        """,
        "Engine Room manages **llama.cpp** and **vLLM**, and can attach to Ollama or any OpenAI-compatible URL. New engines are installed from the window.",
        """
        - **llama.cpp**: GGUF files, GPU or CPU, the default
        - **vLLM**: safetensors, many users, strong GPUs
        - **Ollama**: attached or managed
        - any OpenAI-compatible URL
        """,
        1.4,
    ),
    "presets": _task(
        """
        [use|choose|set] [a|the|] [preset|low latency preset|high throughput preset]
        """,
        """
        [what is|what are|explain] [the|] [low latency|high throughput|presets|preset]
        low latency or high throughput
        presets
        """,
        "There are two presets: *low latency* for one person who wants quick answers, and *high throughput* for many requests at once.",
        "",
        0.6,
    ),
    "bench": _task(
        """
        [benchmark|bench|test|measure] [the|my|a] [speed|model|gpu|engine|speed of a model]
        [compare|test] [two|several|different|some|my] models [with each other|]
        """,
        "is there a benchmark\nwhat is bench\nbenchmark",
        "Run the **bench**: it measures TTFT and tokens per second for one and many users, and keeps the result with the exact settings.",
        "",
        0.7,
    ),
    "idle": _task(
        """
        unload [a|the] model [when idle|automatically|by itself|after some time|when nobody uses it]
        """,
        "does the model unload [by itself|automatically|when idle]\nidle unload\nhow long does [the|a] model stay loaded\ncan i keep [the|a] model loaded\npin a model",
        "A model stays loaded until you stop it or switch. You can set an idle time after which it unloads by itself, or pin it.",
        "",
        0.7,
    ),
    "show_command": _task(
        """
        [see|show|copy|get|print] the [exact|full|] [command|command line|argv|arguments|flags] [of the engine|that starts the engine|engine room runs|it uses]
        [add|use|pass|set] [my own|extra|custom|more|other] [flags|arguments|engine flags|options] [to the engine|]
        """,
        "[which|what] [command|flags] does [it|engine room] use to start the engine\nengine-room command demo",
        "`engine-room command demo` prints the exact command of the engine. Any flag of your own goes into the profile as an extra argument.",
        "",
        0.8,
    ),
    "remote": _task(
        """
        [use|control|manage|reach] [engine room on|] [a|another|my] [remote|other|gpu] [machine|server|computer|box|workstation]
        """,
        "does it work [over|with|through] ssh\ncan i [use|reach] it [remotely|from another computer|over ssh]\nssh",
        "Yes, over SSH: the same window shows a remote GPU machine as if it were here. Engine Room must be installed on both.",
        "",
        0.7,
    ),
    "privacy": _task(
        "",
        """
        [is|are] my [data|chats|messages|prompts] [private|safe|sent anywhere|uploaded|sent to the cloud|shared]
        does [it|engine room|the app] [send|upload|share|collect] [my|any|] [data|chats|telemetry|anything|information] [anywhere|to anybody|to the internet|to a server|]
        [does it|do you|does engine room|do i] need [an|the] [internet|internet connection|account|online connection]
        [is it|is this|does it work|does it run|can i use it] [offline|local|in the cloud|locally|online]
        [is there|any] telemetry
        [who can see|can anyone see|can anybody read] my [chats|messages|data]
        """,
        "Everything runs on this machine. There is no account and no telemetry, and your chats stay on your disk.",
        "",
        1.2,
    ),
    "train": _task(
        """
        [train|fine-tune|finetune|fine tune] [a|my|my own|the] [model|llm]
        """,
        "can it [train|fine-tune] models\nis [training|fine-tuning] [possible|supported]",
        "Engine Room does not train models; it runs models that you already have. Train elsewhere and load the result here.",
        "",
        0.7,
    ),
    "systems": _task(
        "",
        """
        [which|what] [operating systems|systems|platforms|os|linux versions] [are supported|does it run on|does it support|can i use|does engine room support]
        does [it|engine room|this] [run|work] on [windows|mac|macos|linux|ubuntu|debian|wsl|a mac]
        is there a [windows|mac] version
        what do i need to [run|install] engine room
        system requirements
        """,
        "Engine Room runs on Linux: Debian 12, Ubuntu 22.04 and newer, and in WSL2. There is no version for macOS or native Windows yet.",
        "",
        0.9,
    ),
    "two_models": _task(
        """
        [run|load|use|have] [two|2|several|multiple|more than one|many|both] models at [once|the same time|a time]
        [run|load] a second model [too|as well|beside the first|]
        """,
        "[can|could] i have [two|2|several|multiple] models [loaded|running|in memory] [at once|at the same time|]\nis it only one model at a time\nwhy only one model",
        "One model at a time is the default, because VRAM is limited. On the **Settings** page you can add a second seat when both fit.",
        "",
        1.1,
    ),
    "models_page": _task(
        "",
        """
        what [is|does|can i do on|can i see on|do i see on|is shown on] the models page [for|show|do|]
        models page
        where are the models [listed|shown|]
        where do i [see|find] [all|] [my|the] models
        """,
        "The **Models** page lists every model on your machine with its size and whether it fits. From there you load, switch, download and delete models.",
        "",
        1.0,
    ),
    "pages": _task(
        "",
        """
        [which|what] pages [are there|does it have|does the window have|does engine room have|exist|can i open]
        [list|name|show me|give me a list of] [the|all|all the] pages [of the window|of engine room|of the app|]
        what [is|can i find] [in|] the [sidebar|window|menu|navigation]
        [list|name|show] the [parts|sections|areas|tabs] of [the window|the app|engine room]
        which [tabs|sections|screens|views] are there
        [give me|show me] [a tour|an overview|the tour]
        how do i find my way around
        """,
        "- **Models**: load, switch and download models\n- **Chat**: talk to the loaded model\n- **Logs**: what the engine writes\n- **Monitor**: GPU memory, speed and temperature\n- **Settings**: limits, endpoint and folders",
        "",
        1.4,
    ),
    "first_steps": _task(
        """
        [get started|begin|start out|set this up|set everything up] [with engine room|here|]
        start with engine room
        """,
        """
        [what|where] do i [do first|start|begin]
        first steps
        [i am|im|i'm] new here[, what now|, where do i start|]
        what should i [do|try] [first|now|next]
        getting started
        quick start
        tutorial
        """,
        "1. Open **Models** and load a model that fits.\n2. Open **Chat** and ask it something.\n3. Point your editor to `http://127.0.0.1:7000/v1`.\n4. Watch the GPU on **Monitor**.",
        "",
        1.3,
    ),
}
