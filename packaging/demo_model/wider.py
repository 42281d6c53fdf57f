"""Owns the second helping of wordings, which only later rounds see: rarer ways to ask, and strangers in familiar words."""

from __future__ import annotations

import random
import re

import grammar
import strangers
from concepts import CONCEPTS
from talk import TALKS
from tasks import TASKS

ANSWERS = {
    **{key: concept.answer for key, concept in CONCEPTS.items()},
    **{key: task.answer for key, task in TASKS.items()},
    **{f"{key}/steps": task.steps for key, task in TASKS.items() if task.steps},
    **{key: talk.answers[0] for key, talk in TALKS.items()},
}

# First the key of the answer, then one question per line.
WORDINGS = """
# vram
what [does|is] [the|] [video ram|vram|graphics memory|gpu memory] [do|store|hold|keep] [on|in] [a|my|the] [card|gpu|graphics card|machine]
[where|in what] does [a|the] model [live|sit|stay|lie|reside] [when it is loaded|while it answers|when loaded|while it works]
[how come|why is it that|what is the reason that|why] [vram|gpu memory|video memory] [counts so much|matters so much|is so precious|is always the bottleneck|is what everybody looks at|is a problem for llms|is so important for models]
is [vram|gpu memory|video memory] [where the model sits|the thing that limits me|what matters most|more important than speed]
# kv_cache
[what|which data|what stuff] [sits|is|gets saved|goes] in [the|a] kv cache
[why|how] does [the|] memory [use|usage|need|consumption] [go up|increase|rise|grow|creep up] [as|while|when] [i chat|we talk|a chat goes on|more is said|the chat becomes long|messages pile up]
[longer|long] [chats|conversations|talks] [eat|cost|need|use] more [memory|vram][, why| why|]
what is that kv [thing|stuff|cache thing|part] [in the memory plan|in the log|on the models page|]
# quantisation
[what|how much] do [i|you|we] [lose|give up|pay|sacrifice] [by|when|with] [quantising|quantizing|quantisation|quantization|fewer bits]
[what is|what's] the [cost|price|catch|downside|drawback|compromise|tradeoff] [of|with|in] [quantisation|quantization|quantising a model|quantized weights]
[a|the] [quantised|quantized] model [against|vs|versus|or] [a|the] [normal|full|original|unquantised] [one|model][, what changes|, what is different|]
what is [a|the] [quantised|quantized|compressed|shrunk] [model|version|file]
[shrinking|making] a model [smaller|fit] [how|by fewer bits|with fewer bits]
# q4_k_m
[why|what for] do [file names|files|downloads|model names|ggufs] [end in|contain|have|carry|show] [q4_k_m|q4]
[what|how] [am i to make of|should i read|do i read|must i understand] [the|] q4_k_m [in the name|in a file name|part|bit|suffix|ending]
the [q4_k_m|q4] [in|at the end of] [the|a|this] [file|file name|filename|download|name] [means what|, what is it|is what]
# q8_0
[how good|how exact|how precise] is [q8|q8_0]
is [q8|q8_0] [really|much|a lot|noticeably] [better|more exact|superior]
what do i [gain|get|win] [from|with] [q8|q8_0]
# q4_or_q8
[which|what] would you [take|choose|use|prefer], [q4|q4_k_m] or [q8|q8_0]
[for|on] [my|a|this] [card|gpu|laptop], [q4|q4_k_m] or [q8|q8_0]
q4 or q8 [for|on] [my|a] [small|big|weak|8 gb|12 gb] [card|gpu]
# context
[what|how] does the context [length|window|size] [do|limit|change|affect|determine|decide]
[what|how big|how long] may [a|my|the] [message|prompt|input|question|chat] be [at most|]
what is the [longest|largest|maximum] [prompt|text|chat|input] [i can send|it takes|possible|allowed]
# tok_s
[how fast|at what speed|how quick|how quickly] does [it|the model|a model|this|the llm] [generate|produce|type|output|answer|write] [text|tokens|words|]
[is|are] [5|8|12|15|25|40|60|100] [tok/s|tokens per second|tokens a second] [fast|good|ok|any good|slow|normal|enough|decent]
what [number|count|rate] of tokens [a second|per second] is [fine|fast|normal|usable|typical]
what is [the|this] [tok/s|t/s|tokens per second] [number|figure|value|display|counter] [in the chat|on the monitor|]
# ttft
[what|which] is [the|this] [ttft|first token] [number|figure|value|time|measure|display] [below|under|beside|next to|after] [an|the|each|every] [answer|message|reply]
[why|how come] [nothing happens|i see nothing|there is silence|it is silent|it sits there|it hangs] [for a moment|for seconds|a while|] [before|until] [the|an] [answer|reply|text|first word|words] [starts|comes|appears|appear]
[why|what] [do i|must i|does one] wait [for|] [at the start|before it writes|before the answer|until it begins]
# gpu_layers
[should|must|can|do] [all|every|each|most] [the|] [layer|layers] [go|be|run|sit|live] on the [gpu|card|graphics card]
[how|what] do [i|you] [set|choose|pick] the [number of layers|layers|gpu layers|ngl]
[half|part|some] of the model [on|in] [the cpu|ram|system memory][, does that work|, is that possible|]
# flash_attention
what [is the gain of|changes with|do i get from|would i gain from|does one gain by] flash [attention|attn]
[do|should|would] [i|you|people] [enable|need|want|leave|keep] flash attention [on|off|]
# gguf
[what is|what's|whats] [a|this|that|the] [file ending in .gguf|gguf thing|.gguf|gguf download|gguf]
what [should i download|kind of model|format] [for|with|does] llama.cpp [need|want|take|]
# safetensors
what [should i download|kind of model|format] [for|with|does] vllm [need|want|take|like|]
[what is|what's|whats] [a|this|that] [safetensors|.safetensors|safetensors file|safetensors thing]
# gguf_or_safetensors
[how|in what] [do|are|does] [gguf and safetensors|safetensors and gguf|gguf files and safetensors] [different|compare|relate|not the same]
what [separates|distinguishes|sets apart] gguf [and|from] safetensors
# temperature
what [happens|does it do|changes|is the effect] [when|if] [i|you] [raise|lower|increase|turn down|set|change] the temperature
[should|must|can|when do] i [raise|lower|increase|set|reduce] the temperature
[high|low|higher|lower] temperature[, what does it do| good or bad| means what| for code|]
# throttling
[the|my] [card|gpu|graphics card] [overheats|gets too hot|runs hot|is at 90 degrees]
# monitor
[where|how] [do|can] i [see|read|check|find|look up|get] the [gpu|card|graphics card] [temperature|heat|load|power|fan|memory use|clocks]
[what|how high] is the [temperature|heat|load|power] of [my|the] [gpu|card|graphics card]
[where|how] [do|can] i [watch|follow|observe|track] [the|my|] [vram|gpu memory|gpu|card|graphics memory] [live|in use|being used|fill up|over time|]
# tensor_parallel
[my|our|the] [machine|box|workstation|server|pc] has [two|2|three|4|four|eight|8] [gpus|cards|3090s|4090s|graphics cards][, how do they work together|. how do i use them all|, can a model use them|, what do i set|]
[can|could|do|will] [two|2|three|both|4|several|my two|my four] [gpus|cards|3090s|4090s|graphics cards] [share|run|hold|split|work on] [a|one|the same] model
i [have|own|bought|run] [two|2|three|4|four] [3090s|4090s|a6000s|rtx cards][, can they share a model|, how do i use both|, what now|]
# vllm_or_llamacpp
[which|what] engine [suits|fits|is right for|is best for|serves|do you advise for] [a team|ten people|many users|me alone|one person|a single user|home use|an office|a company|a lab]
[for|with] [many users|a team|one user|a single person|home use|an office|five people], [vllm or llama.cpp|llama.cpp or vllm|which engine|what engine]
# vllm
what [kind of|type of|sort of] [engine|program|thing|software] is vllm
# llamacpp
what [kind of|type of|sort of] [engine|program|thing|software] is [llama.cpp|llamacpp]
# oom
[cuda|the gpu|my card|it|the engine|vllm|llama.cpp] [ran|runs|is running|has run] out of memory [while loading|when i load|during the load|at start|again|on start]
[i have|i keep having|i always get|there is|i see] [an|this|the same] [oom|out of memory] [problem|crash|message|error|failure] [what helps|, help|, what can i do|again|]
[not enough|too little|insufficient] [vram|gpu memory|memory] [error|message|to load|for this model|what now|]
# token
how [many|do] [words|tokens] [are|make|fit in] [a|one|hundred] [token|tokens|words|text]
[what|how] is a token [compared to|different from|related to] [a|] [word|words|letter]
# parameters
what is [the|] 7b in [llama 7b|a name|mistral 7b]
# max_tokens
[the|my|its] [answer|reply|text] [stops|ends|breaks off] [too early|in the middle|mid sentence|halfway]
# load
[load|start|run|bring up] [a|any|some|the first|your|that] model [for me|now|here|please|]
[i|we] [cannot|can't|could not|do not] [find|see] [how|where|the button] to [start|load|run|launch] [a|the|my] model
[what|which button] do i [press|hit|click|push|choose|tap] [to|for] [load|start|run|get|have] [a|my|the] model [running|started|loaded|]
[bring|get] [my|a|the|one] model [online|to life|ready|going|into the card]
# load/steps
[the|give me the|what are the|your] [steps|single steps|procedure] [for|when|of|behind] [loading|starting|launching|running] [a|the|my] model
# switch
[can|may|could|do] i [jump|change|move|go|flip|hop|alternate] [between|among] models [easily|quickly|in one click|without a restart|any time|]
[can|how do|how can] i [change|swap|exchange] [the|a|my] model [without|with no] [restarting|a restart|quitting|closing anything]
[i want|i would like|give me|i need|let me have] [a different|another|some other] [model|llm] [now|instead|please|]
# switch/steps
[step by step|the steps|in steps|list], [how do i|how to|how can i] [switch|change|swap|move] [to|] [another|a different|a new|the other] model
[the|show me the|what are the] steps [for|of|when|in] [switching|changing|swapping] [the|my|] [model|models|llm]
[show|tell|explain|teach] me [in steps|step by step|as steps|with steps] how [to|i] [switch|change|swap] [models|the model|to a new model|to another one]
# stop
[how to|how do i|how can i|please|i want to|can you] [stop|unload|shut down|turn off|end|quit|kill] [a|the|my|this] [running|loaded|active|current] [model|engine|llm]
[how do i|how to|please|can i] [turn|switch|shut] [the|a|my|this] [engine|model|llm] [off|down] [when i am done|again|after use|please|now|]
[turn|switch|shut] [off|down] the [engine|model|llm] [please|now|]
[i want|i need|give me|how do i get] [my|the|all] [vram|gpu memory|graphics memory|card|gpu] [back|free|empty] [again|now|please|]
# stop/steps
[the|] steps [to|for] [stop|stopping|unload|unloading|end|ending] [a|the|my] [model|engine]
# leftovers
[does|will|can|could|might] [anything|something|any process|a process|some process|the engine] [stay|keep running|remain|survive|hang around|linger|run on] [after|when|once] [i stop|a stop|i stop it|the stop|the engine is stopped|everything is stopped]
[does it|will it|will you|does the app] leave [processes|anything|something|memory|programs] [behind|over|running|in use] [after a stop|when it stops|]
# endpoint
[where|at which address|on which url] [is|does|do] [the|your|] [api|server|endpoint] [live|reachable|listen|answer|found|available|be reached]
[what|which] [is the|] [address|url|host and port|host|link] [for|of|do i use in|goes into] [my|the|] [scripts|agents|api|programs|editor|agent|endpoint|client|code]
[is there|do you offer|do you have|does it have] an [openai style|openai|openai like|openai-compatible] [api|endpoint|server|interface]
# connect
how do i [hook|wire|plug|tie] [up|in|] [vs code|my editor|cursor|an agent|my ide|my agent|continue|my script|another app] [to it|to this|here|to the model|]
[can|may|could|will] [my|other|the|external] [scripts|agents|programs|python scripts|tools|apps|editor] [use|talk to|reach|access|call|share] [the loaded model|the model|this model|it|my model]
# logs
[show|tell|give] me [where|] the [logs|log|log files|engine log] [are|is|lie|live|]
[where|which place|what place] [do|would|can|should] i [look|check|search|go] [for|to see] the [log|logs|log file|engine's messages|engine messages]
[follow|tail|stream|watch] [the|] [log|logs] [in|from|with|on] [a|the|] [terminal|shell|command line|console]
[i want|i'd like] to [see|follow|watch] the [engine|log|] [output|log|messages] [live|as it comes|in real time]
# cli
[do you|does it|does engine room|is there] [have|offer|come with|come|any|] a [cli|command line|terminal version|terminal mode|shell command|text mode]
[can|may|could] i do [all of this|this|that|everything|it] [from|in|on|with] [a|the] [terminal|shell|console|command line]
# cli/steps
[give|show|list|write] me [a|the] list of [the|all|your|] commands
[list|name|enumerate] [the|all|your|] [commands|cli commands|terminal commands|engine-room commands]
# cli_load
what [do i|must i|should i] [type|enter|run|write] [in|into|on|at] the [terminal|shell|console|command line] to [load|start|run] [the demo|a model|a profile|demo]
[the|which|what] command [loads|starts|runs] [the demo|a model|a profile]
# cli_status
[what is|what's|which is] the command to [see|show|check|know] [what is running|what runs|what is loaded|the loaded model|the state|the status]
how [do|can|would] i [know|see|learn|find out|check|tell] [which|what] [model|one] is [loaded|running|active|in memory|up] [now|currently|at the moment|right now|]
# settings
[where|how] [do|can] i [find|see|edit|reach|open] the [config|configuration|options|preferences|settings|setup]
[where|what] is the [config|configuration|settings page|setup|options page]
[which|what] [page|tab|screen|place] [has|holds|contains|is for] the [options|settings|preferences|configuration]
[how do i|where do i|can i] [change|set|pick] the [port|port number|theme|colour theme|limits]
# no_gpu
[will|does|can|would|could] [it|this|the app|engine room] [run|work|start] [on|with] [a|my] [machine|laptop|computer|pc|box] [without|with no|that has no|lacking a] [gpu|graphics card|nvidia card|card]
[must|do|should] i [have|own|buy|possess|get] a [gpu|graphics card|nvidia card] [for this|to use it|to use this|first|at all]
[is|would] a [gpu|graphics card] [needed|required|necessary|a must|obligatory] [here|for this|]
# privacy
is [this|it|that|everything|all of this] [local|private|offline|safe|on my machine] [and private|and local|only|]
[are|do|will] my [chats|conversations|messages|words|prompts] [leave|go|uploaded|sent|shared|stay|remain] [my machine|to the cloud|somewhere|anywhere|private|here|on this computer]
# slow
[generation|the model|writing|the answer|everything|it|my model] is [painfully|awfully|terribly|so|really|very|too|unbearably] [slow|sluggish] [any tips|what can i do|, help|, why|today|]
[why|how come] [is|are] [the|my|] [answers|replies|tokens|generation] [so slow|slow|coming slowly|crawling]
[answers|replies|tokens] [come|arrive|appear] [very|too|so|really] slowly
[what|how] can [i|one] [do to|] [speed|get|make] [it|things|generation|the model|answers] [up|faster|going faster]
# fits
how [do|can|would|will] i [know|see|tell|learn|find out] [what|which models|if something|whether a model] [fits|will fit|fit] [my card|in my vram|on my gpu|here|my memory|]
[will|is|does] [a|this|the|that] model [going to fit|fit|be too big|be too large] [on|for|into|in] [my|the|this] [card|gpu|vram|graphics card]
# download
[i|we] [want|would like|need|wish] to [get|grab|fetch|pull|download|add] [a|some|one|another] [new|more|bigger|fresh|] [model|models] [from the web|from hugging face|online|from the net|]
# switch_failed
[the|my|an|this] [engine|model|load|start] [will not|would not|won't|did not|does not|refuses to|fails to] [start|load|come up|run|work|finish]
[loading|starting|the load|the launch] [failed|ended|stopped|crashed|broke] [with an error|again|suddenly|, why|, what do i do|and now]
# two_models
[can|could|may|is it possible to] [i|we|] [have|keep|hold|load|run|use] [two|several|2|three|many|more|multiple] models [in memory|at once|side by side|together|in parallel|at the same time|loaded]
# first_steps
[what|how] [do|should] i [start|begin] [with|]
# greeting
[oh|well|ah|hey|hi|hello|so] [hello|hi|hey] [there|again|you|]
[hello|hi|hey][,|!] [good|great|nice|lovely|happy] to [meet|see|have|find] you [here|too|again|]
[good|great|nice] to [meet|see|have] you
[hi|hello|hey|good morning|good evening][,|!] [nice app|cool app|i am new|i am back|how nice|what a day|here we go|glad to be here|it works]
# how_are_you
how [is|goes] [it|life|your day|the day|everything|it all|the work] [going|today|with you|at your end|]
how's [life|everything|your day|things|the work|the day]
how [do|are] you [feel|feeling|doing|keeping|holding up] [today|now|this morning|tonight|this evening|]
[are you|you] [doing|feeling] [well|fine|good|ok|alright] [today|]
# who
[so|and|ok|well|but] [who|what] [exactly|precisely|actually|really|] are you [then|exactly|really|precisely|]
[what|who] are you [exactly|really|actually|precisely|anyway]
are you [a|some|some kind of|a sort of|one of those|just a|really a] [human|person|robot|bot|chatbot|ai|model|toy|demo|gpt|chatgpt|machine]
[what|which] [model|llm|ai|bot] is [this|that|it|answering|talking|here|running here|speaking]
who am i [talking|speaking|chatting|writing] [to|with] [here|now|]
[are you|is this] [a large|a big|a real|a proper|a serious|just a small|the real] [model|ai|llm|thing]
# can_do
what [sort of|kind of|] [things|questions|topics|stuff|subjects] [can|could|may|should] i ask [you|about|]
what [things|topics|subjects|questions] do you [know|understand|answer|cover|know about]
what do you know [about|]
[tell|show] me what [you can do|you know|i can ask|to ask]
# maker
[who|which company|which person] [is behind you|made this model|stands behind you|has made you|trained this model]
# engine_room
what [am i|is this i am] looking at [here|]
[what is|what's|whats] [this|the] [app|program|window|thing|panel|software|tool] [about|for|all about|anyway|here]
[can you|please|could you|] [summarise|sum up|describe|outline|explain] [engine room|this app|this program|the app] [for me|briefly|shortly|]
[what's|what is] [engine room|the engine room thing|that engine room]
# thanks
[thanks|thank you|cheers|thx|ty] [so much|a lot|a million|very much|again|indeed|loads|heaps|kindly|really|] [for|that was|this was|it was] [everything|your time|the tips|helpful|useful|great|kind|explaining this|this|the help]
[thanks|thank you|cheers][,| and|!] [you helped|that was useful|very helpful|very useful|good answer|this helps|that works|that helped|it worked now]
# bye
[ok|well|alright|right|so|fine|good|thanks][,|] [bye|goodbye|see you|good night|farewell|until later|so long|take care] [then|now|for today|everyone|friend|and thanks|]
[bye|goodbye|see you|good night] [then|now|for today|model|bot|friend|and thanks|soon|all]
# joke
[do you know|have you got|got|can you tell|let me hear|any] [any|some|a|one|] [jokes|joke|good one|funny joke|good jokes|funny ones]
# poem
[can|could|would|will] you [write|make|compose|recite|do|give me] [me|us|] [a|some|one|a short|a little] [poem|verse|rhyme|poetry|verses] [about|on] [my|the|a|some] [gpu|vram|graphics card|card|fan|model|memory|video card]
# haiku
[a|one|any|some] haiku [about|on|for|of] [a|my|the|] [gpu|gpus|fans|vram|models|card|tokens]
# story
[i would like|i'd like|i want|give me|let me hear|how about|let's have] [a|one|some|another] [story|tale|little story|short story]
[tell|read|write|give] me [a|one|some|another] [short|little|nice|funny|sad|] [tale|story|fairy tale] [about|of|with] [a|the|my|one] [gpu|graphics card|card|llama|model|computer|video card]
# code_curl
[an|one|a|some|the] [example|request|call|snippet|sample|command] [with|in|using|for] curl
[how|what] [would|do|does|can|must] [i|one|a person] [call|query|ask|use|reach] [it|this|the endpoint|the api|the model] [with|using|through|by] curl
# code_python
[how|in what way] [do|can|would|could] i [call|use|query|reach|talk to|ask] [this|it|the thing|the endpoint|the model|that] [from|in|with|using|through] [a|] python [script|code|program|]
[write|make|show|give me|produce|i need|i want|may i see|let me see] [a|some|a bit of|a piece of|a little|one] python [script|code|program|snippet|example] [that|which|to|for] [uses|use|calls|call|asks|ask|talks to|talk to|using] [the|this|my|your] [endpoint|api|model|server]
[python|a python script|some python|python code] [to|for|that can] [ask|query|talk to|call|use|reach] [the|my|a|this] [model|endpoint|api|llm] [something|a question|]
# code_stream
[example|sample|python|show me|give me|write] code [that|to|which] [streams|prints|shows|receives|reads] [tokens|the tokens|words|an answer|pieces] [in|with|using] python
# list_local
[what|which|name|list] [are|] [the|] [benefits|advantages|upsides|reasons|pros] [of|for] [running|using|hosting|having] [models|llms|a model|it|an llm|ai] [locally|at home|on my own machine|myself]
# list_save
[list|name|tell me|show me|any|what are] [ways|tips|tricks|things|ideas|means] [i can|to|for|that help to] [save|saving|use less|reduce|cut|spare] [vram|gpu memory|memory|graphics memory]
# table_sizes
[put|show|list|arrange|give|write|bring] [the|] [memory sizes|sizes|memory needs|vram needs|model sizes|figures] [of models|for models|per model|] [in|into|as] a table
# pages
[can|could|would|will] you [list|name|show|enumerate] [the|all|all the] [pages|tabs|screens|parts] [of|in|that|the] [the app|this app|engine room|app has|it|the window]
# recommend
[which|what] model [is|would be|might be] [good|nice|right|sensible|best] [to start with|for a start|for beginners|to try first]
"""

STRANGE = grammar.lines(
    """
how [do|can|should|would|must] i {home} [a|the|my|an] {noun}
how [do|can|should|would|must] i {home} [a|the|my|an] {adj} {noun}
[how to|where can i|i want to|please|can you|is it possible to|help me] {home} [a|the|my|an|some] {noun}
steps to {home} [a|the|my] {noun}
[what is|what's|whats|how much is|calculate|] {d} [plus|minus|times|+|-|*|x|/] {d}
{d}[+|-|*|x|/]{d}
[what's|whats|what is] {d}[+|-|*|x|/]{d}
[what is|what's|tell me] the temperature [in|of|on] [{place}|a {noun}|the {noun}]
how [fast|long|big|slow|hot|large] [is|are] [a|the|my] {noun}
how much [memory|space|ram|speed|power|water|time] does [a|the|my] {noun} [have|need|use|take]
how many [layers|tokens|words|letters|pages|engines|keys|cards] [does|has|are in] [a|the] {noun} [have|]
what is the [speed|size|context|weight|price|name|model|memory|url|address|log|language|key] of [a|the|my|{person}'s] {noun}
[who|what] [loaded|started|stopped|switched|ran|trained|made|built|opened|closed] [a|the|my] {noun}
[which|what] [{noun}|{noun}s] [should i|do i|can i] [use|load|choose|take|run|open]
[is|are] [the|my|a] {noun} [running|loaded|full|slow|fast|hot|free|open|closed|local|private]
[list|name|show me] [the|all|some] [{noun}s|steps to {verb} a {noun}|parts of a {noun}|{noun} settings]
[show|give|write] me [a|some|the] {noun} [code|table|list|log|example|page|script]
[tell me|write|i want] [a|the] [news|recipe|letter|essay] [about|for|on] [a|the|my] {noun}
[who|where|when] was the [first|last|second|best|oldest|greatest] {noun} [on|in|of|from] [the|] [{noun}|{place}|world]
[who|what|where] was the [first|last] [man|woman|person|king|animal|country] [on|in|of|to] [the|] [{noun}|{place}]
[what is|what's] the [best|right|easiest|fastest|cheapest|safest] [way|time|place|method] to {verb} [a|the|my|] {noun}
[what is|what's] the [best|worst|cheapest|biggest|most {adj}] {noun} [topping|brand|recipe|in {place}|of all|ever|to buy]
how [do|can] i [get over|deal with|get rid of|look after|take care of|lose|gain] [a|my|some|the] [{noun}|weight|{adj} {noun}|hair|stress|friends]
[my|the|our] [girlfriend|boyfriend|boss|friend|teacher|son|daughter|mother|father|{noun}] [left|called|hit|hates|loves|misses|fired] [me|us|a {noun}]
[is|was|will] [it|he|she|{person}|{place}] [raining|snowing|coming|{adj}|far away|dangerous|open on sunday|be here soon]
[explain|describe|tell me about|what are] [black|white|red|dark|the {adj}] [holes|matter|{noun}s]
[do|does|did|would|will] [{person}|he|she|they|my {noun}] [{verb}|like {noun}s|have a {noun}|live in {place}]
[what|how|why|who|where|when] {noun} {noun}
[what|which] [language|languages] [do|does|is] [people|they|{person}|one] [speak|spoken|learn] in {place}
[write|give me|show me] [a|an] [sql|java|c++|rust|regex|excel|html] [query|formula|program|expression|method|page] [to|that|for] [find|finds|sorts|counts|deletes|matching] [duplicates|{noun}s|rows|names|an array|numbers]
"""
)
HOME = grammar.alternatives(
    """
load|start|stop|switch|change|run|open|close|install|download|delete|use|connect|set|share|free|unload|turn off|turn on|
update|add|remove|find|see|make|get|check|measure|test|compare|train|speed up|restart|quit|edit|export|fix|move|split
"""
)


def parsed(text: str) -> dict[str, tuple[str, ...]]:
    """Questions by the key of their answer."""
    wordings: dict[str, list[str]] = {}
    for line in grammar.lines(text):
        if line.startswith("# "):
            asks = wordings.setdefault(line[2:], [])
        else:
            asks.append(line)
    if unknown := wordings.keys() - ANSWERS.keys():
        raise ValueError(f"no answer for {sorted(unknown)}")
    return {key: tuple(asks) for key, asks in wordings.items()}


_WORDINGS = parsed(WORDINGS)
_WEIGHTS = tuple(len(asks) ** 0.5 for asks in _WORDINGS.values())
_PLAIN = {"greeting", "thanks", "bye", "how_are_you"}


def ask(rng: random.Random) -> tuple[str, str]:
    """One question of the second helping, two in five of them from strangers."""
    if rng.random() < 0.4:
        return grammar.dress(grammar.expand(_strange(rng), rng), rng), strangers.REFUSALS[0]
    key = rng.choices(tuple(_WORDINGS), _WEIGHTS)[0]
    question = grammar.expand(rng.choice(_WORDINGS[key]), rng)
    return grammar.dress(question, rng, question=key not in _PLAIN, frames=key not in _PLAIN), ANSWERS[key]


def _strange(rng: random.Random) -> str:
    def filler(match: re.Match[str]) -> str:
        if match.group(1) == "home":
            return rng.choice(HOME)
        if match.group(1) == "d":
            return str(rng.randint(0, 10 ** rng.randint(1, 2)))
        return strangers.slots(rng)[match.group(1)]

    return re.sub(r"\{(\w+)\}", filler, rng.choice(STRANGE))
