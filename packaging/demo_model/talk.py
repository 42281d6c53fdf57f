"""Owns small talk, lists, code, tables, poems and stories: everything fixed that is neither a concept nor a task."""

from __future__ import annotations

from dataclasses import dataclass

from grammar import lines


@dataclass(frozen=True)
class Talk:
    """One fixed exchange with several answers; `answers[0]` is the most frequent."""

    asks: tuple[str, ...]
    answers: tuple[str, ...]
    weight: float = 1.0


def _talk(asks: str, *answers: str, weight: float = 1.0) -> Talk:
    return Talk(lines(asks), answers, weight)


URL = "http://127.0.0.1:7000/v1"

CURL = f"""```bash
curl {URL}/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "demo", "messages": [{{"role": "user", "content": "Hello"}}]}}'
```"""
PYTHON = f"""```python
from openai import OpenAI

client = OpenAI(base_url="{URL}", api_key="none")
answer = client.chat.completions.create(
    model="demo",
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.choices[0].message.content)
```"""
STREAM = f"""```python
from openai import OpenAI

client = OpenAI(base_url="{URL}", api_key="none")
stream = client.chat.completions.create(
    model="demo",
    messages=[{{"role": "user", "content": "Hello"}}],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="")
```"""
HTTPX = f"""```python
import httpx

reply = httpx.post(
    "{URL}/chat/completions",
    json={{"model": "demo", "messages": [{{"role": "user", "content": "Hello"}}]}},
)
print(reply.json()["choices"][0]["message"]["content"])
```"""
JAVASCRIPT = f"""```javascript
const reply = await fetch("{URL}/chat/completions", {{
  method: "POST",
  headers: {{ "Content-Type": "application/json" }},
  body: JSON.stringify({{ model: "demo", messages: [{{ role: "user", content: "Hello" }}] }}),
}});
console.log((await reply.json()).choices[0].message.content);
```"""

TALKS: dict[str, Talk] = {
    "greeting": _talk(
        """
        [hi|hello|hey|hiya|howdy|greetings|yo|hallo|hola|bonjour|good day|sup|heya|hello hello|hi hi|ahoy|salut|ciao]
        [hi|hello|hey] [there|you|again|model|demo|engine room|bot|friend|everyone|my friend|little model|robot|computer|buddy|mate]
        good [morning|afternoon|evening]
        good [morning|afternoon|evening] [to you|model|demo|there|engine room]
        [hi|hello|hey][!|, nice to meet you|, anyone there|, how nice to see you|, here i am]
        nice to meet you
        pleased to meet you
        """,
        "Hello! I am the demo model of **Engine Room**. Ask me how to load a model or what VRAM is.",
        weight=3,
    ),
    "how_are_you": _talk(
        """
        how are you [doing|today|feeling|doing today|]
        [hi|hello|hey][,|] how are you [doing|today|]
        how is it going
        how's it going
        hows it going
        how do you [do|feel]
        [are you|you] [ok|well|good|alright|fine|happy]
        what's up
        whats up
        how have you been
        how was your day
        everything [ok|alright|good|fine] [with you|]
        are you having a good day
        """,
        "I am fine, thank you: all my layers are loaded. How can I help you with Engine Room?",
        weight=1.8,
    ),
    "who": _talk(
        """
        who are you
        what are you
        who am i [talking|speaking|chatting] [to|with]
        [introduce|describe] yourself
        tell me [about yourself|something about yourself|who you are|what you are]
        what is your name
        what's your name
        whats your name
        do you have a name
        what should i call you
        what do they call you
        [what|which] [model|kind of model|language model|ai|llm|bot|kind of ai] [are you|is this|am i using|am i talking to|do you use]
        are you [a|an] [ai|robot|bot|model|human|person|real person|llm|machine|computer|chatbot|real model|language model|demo|toy]
        are you [chatgpt|gpt|llama|qwen|mistral|gpt-4|gemini|a big model|a real ai|intelligent|smart|alive|conscious|real|sentient]
        [is this|am i talking to] [chatgpt|a real model|a real ai|a human|a person|a bot|a demo]
        what is [this model|the demo model|the engine room demo]
        what is engine room demo
        how [big|large|small] are you
        how many parameters do you have
        why are you so [small|tiny|little]
        what [size|kind of model] are you
        who [am i dealing with|is there|is this]
        are you the demo [model|]
        """,
        "I am **Engine Room Demo**, a tiny demo model trained to show the app. I know Engine Room and the basics of local models, and little else.",
        weight=3,
    ),
    "maker": _talk(
        """
        who [made|built|created|trained|wrote|programmed|designed|developed] you
        who is your [maker|creator|author|developer|boss]
        how were you [made|trained|built|created]
        where do you come from
        what were you trained on
        what is your training data
        when were you [trained|made|created|born]
        how old are you
        who taught you
        where were you [made|trained|born]
        """,
        "I was trained from scratch for Engine Room, on text that a small program wrote about the app. That is why I know so little else.",
        weight=1.2,
    ),
    "can_do": _talk(
        """
        what can you do
        what [do you know|are you good at|are you good for|do you do|can you help [me|] with|can i ask you|can you tell me|can you answer|may i ask]
        what should i ask you
        what are you [for|here for|able to do]
        what is your [purpose|job|task|role]
        why [are you here|do you exist]
        [help|help me|i need help|can you help me|could you help me|help please|i need some help|please help]
        [do|can] you [know anything|help]
        what are your [skills|abilities|limits|strengths|capabilities]
        [give me|show me] some [examples|ideas] [of questions|what to ask|]
        how can you help me
        what questions can you answer
        what don't you know
        """,
        "You can ask me:\n\n- what **Engine Room** does and how to use it\n- what words like *VRAM*, *KV cache* or *GGUF* mean\n- how much memory a 7B or 70B model needs\n- for a `curl` or Python example, a poem or a story",
        weight=2,
    ),
    "engine_room": _talk(
        """
        [what is|what's|whats|what exactly is|explain|describe|define] [engine room|engine-room|this app|this program|this application|this software|this tool|this]
        what does [engine room|engine-room|this app|this program|it|this tool|this software|the app] do
        [tell me about|tell me more about|tell me something about|give me a summary of|introduce] [engine room|this app|this program|the app]
        [what|why] [would|should|do] [i|people|one|anyone] use [engine room|this app|it|this] [for|]
        what is [engine room|this app|it|this program] [good|made|used|meant|there|useful] for
        [what's|what is] the [point|purpose|idea|use] of [engine room|this app|this program|this]
        engine room
        about engine room
        engine room [explained|in short|in one sentence|summary|overview]
        who is engine room for
        what can [engine room|the app|this app|this program] do
        [what are the|list the|name the|] [features|main features|functions] [of engine room|of this app|]
        what [is|kind of program is] this [app|program|thing|window]
        how does engine room [help|help me|work]
        where am i
        """,
        "**Engine Room** is the control panel of a GPU workstation. It runs local models with llama.cpp and vLLM, switches between them with one click and serves them at one URL.",
        weight=3,
    ),
    "thanks": _talk(
        """
        [thanks|thank you|thx|ty|cheers|many thanks|thanks a lot|thank you very much|thank you so much|much appreciated|i appreciate it|tysm|thanks so much|big thanks]
        [thanks|thank you|thx|cheers][,| for your help| for the help| for that| for explaining| for the answer| friend| mate| for the information]
        [great|ok|perfect|nice|good|cool|super|awesome|wonderful|excellent][,|] [thanks|thank you|thx]
        that [helped|helps|was helpful|was useful|was great|is helpful|is what i needed|answers my question|answered it] [a lot|, thanks|, thank you|]
        you helped me [a lot|]
        """,
        "You are welcome! Ask me anything else about Engine Room.",
        weight=2,
    ),
    "bye": _talk(
        """
        [bye|goodbye|bye bye|see you|see you later|see ya|cya|farewell|good night|so long|take care|until next time|see you tomorrow|later|have a nice day|good bye|ciao for now]
        [ok|thanks|well|alright|right][,|] [bye|goodbye|see you|see you later|good night|i have to go]
        i [have to|must|need to|gotta] [go|leave] [now|]
        [that is|that's|thats] all [for today|for now|]
        talk to you [later|soon|tomorrow]
        [i am|im|i'm] [leaving|off|done for today|going to bed]
        """,
        "Goodbye! The model stays loaded until you stop it or switch.",
        weight=1.6,
    ),
    "praise": _talk(
        """
        [you are|you're|ur] [great|good|nice|cool|clever|awesome|funny|cute|amazing|sweet|helpful|the best|very kind|wonderful|smart]
        [good|great|nice|well done|excellent|impressive] [job|work|answer|bot|model|]
        i [like|love] [you|this|it|this app|engine room]
        well done
        [wow|amazing|awesome|cool|nice|great|perfect|lovely|brilliant|fantastic|wonderful|impressive|interesting]
        [that is|that's|this is] [great|cool|nice|amazing|awesome|impressive|interesting|fun|good|clever]
        """,
        "That is kind of you, thank you! A larger model from the **Models** page will please you even more.",
        weight=1.3,
    ),
    "insult": _talk(
        """
        [you are|you're|ur] [stupid|dumb|bad|useless|wrong|boring|slow|terrible|an idiot|not very smart|not helpful|annoying|ugly|silly|broken]
        i [hate|dislike|don't like] [you|this|it]
        [that is|that's|this is] [wrong|bad|nonsense|stupid|not true|not right|rubbish|incorrect|false|not what i asked|not helpful]
        [bad|stupid|wrong|terrible|useless|silly] [bot|answer|model]
        [shut up|go away]
        you [don't understand|do not understand|did not understand|misunderstood] [me|]
        no that is wrong
        """,
        "I am sorry. I am only a tiny demo model; load a larger one on the **Models** page for better answers.",
        weight=1.2,
    ),
    "ack": _talk(
        """
        [ok|okay|k|yes|yeah|yep|sure|alright|right|i see|got it|understood|fine|all right|makes sense|makes sense now|good|aha|ah ok|ah i see|clear|good to know|no|nope|no thanks|maybe|hmm|hm|well|not really|i understand|not now|nothing|never mind]
        ok [got it|i see|understood|good|cool|then]
        """,
        "Good. Is there anything else you would like to know about Engine Room?",
        weight=1.4,
    ),
    "test": _talk(
        """
        [test|testing|ping|test test|hello world|testing 1 2 3|test 123|just testing|this is a test|is this thing on|check|are you there|anybody there|anyone there|can you hear me|do you hear me|are you [working|online|alive|ready|awake]|is this working|does this work|is it working|say something|say hello|say hi|write something|answer me|say anything]
        """,
        "I am here and working. The engine, the endpoint and the chat all do their job.",
        weight=1.4,
    ),
    "feelings": _talk(
        """
        do you [like|love|enjoy] [me|music|your job|being a model|people|humans|gpus|working here|pizza|cats]
        [are you|do you feel|do you get] [sad|lonely|tired|bored|angry|afraid|hungry|sleepy|in love]
        do you [have|feel] [feelings|emotions|friends|dreams|a soul|a family|a body|a brain]
        do you [sleep|dream|eat|think|breathe]
        what is your favourite [colour|food|gpu|animal|movie|song|number|book]
        what is your favorite [color|food|movie|song|number|book]
        """,
        "I have no feelings: I am a tiny demo model made of a few million numbers. But I do like a free gigabyte of VRAM.",
        weight=1.0,
    ),
    "memory": _talk(
        """
        do you [remember|know] [me|our last chat|what we talked about|what i said yesterday|who i am|our last conversation]
        do you remember [earlier|old|previous] chats
        will you remember [me|this|this chat]
        do you [learn|remember things] [from me|from our chat|]
        """,
        "I only see this chat, and I learn nothing from it. Older chats are saved by the app, not by me.",
        weight=0.8,
    ),
    "languages": _talk(
        """
        [what|which] languages [do you speak|can you speak|do you know|do you understand]
        do you [speak|know|understand] [german|french|spanish|italian|chinese|other languages|any other language|english|russian|japanese]
        can you [speak|write in|answer in|talk in] [german|french|spanish|italian|chinese|another language|english|japanese]
        """,
        "I only know a little English. Larger models speak many languages.",
        weight=0.9,
    ),
    "joke": _talk(
        """
        [tell me|do you know|say|give me|got|know] [a|another|any|some|one] [joke|good joke|funny joke|jokes|gpu joke|joke about gpus|joke about computers|funny thing]
        [make me laugh|joke|be funny|say something funny|tell me something funny|a joke please|can you tell jokes|i need a laugh|cheer me up]
        """,
        "Why did the model break up with the graphics card? It needed more **space**.",
        "What does a GPU say after a long night? *I am not hot, I am only throttling.*",
        weight=1.0,
    ),
    "poem": _talk(
        """
        [write|compose|make|give me|tell me|recite|i want|i would like|create|do you know] [a|me a|a short|a little|another|a small|a nice|some|me a short] [poem|verse|rhyme|verses|song|poetry|ode|lines of poetry] [about|on|for] [a|the|my|your|] [gpu|gpus|graphics card|vram|model|models|engine room|computer|kv cache|tokens|llama|machine|workstation|fan|memory]
        [write|compose|make|give me|recite|i want|can you write|do you know|could you write|create] [a|me a|a short|a little|another|some|me a short] [poem|verse|rhyme|song|poetry|ode]
        poem [please|about a gpu|about vram|]
        [be|feel] poetic
        something [poetic|in verse|that rhymes]
        [ode|a song] to [my|a|the] [gpu|graphics card]
        """,
        "**The Night Shift**\n\nThe fans are turning soft and low,\nthe weights lie still in ordered row.\nA prompt comes in, the layers wake,\nand count the words that they will make.\n\nOne token first, and then the next,\ntill numbers turn again to text.\nThe cache holds all that went before,\nand quietly asks for a little more.\n\nAnd when the final word is said,\nthe card grows cool, the lights go red.\nSleep well, small GPU, till morning,\nand never fail without a warning.",
        weight=1.2,
    ),
    "haiku": _talk(
        """
        [write|compose|give me|make|tell me|can you write|do you know|i want] [a|me a|another|some] haiku [about|on|] [a|the|my|] [gpu|gpus|vram|engine room|graphics card|model|fan|]
        haiku
        [write|give me] a three line poem
        """,
        "Fans begin to hum.\nFour billion small weights wake up:\none word, then the next.",
        weight=0.8,
    ),
    "story": _talk(
        """
        [tell|write|read|give] me [a|another|a short|a little|a nice|a long|the|a bedtime|one more|some] [story|tale|fairy tale|stories|bedtime story|short story]
        [tell|write|make up|invent|i want|i would like|can you tell|create|compose|do you know] [a|a short|a little|another|a nice|a bedtime] [story|tale|fairy tale|bedtime story] [about|with|on|of|for] [a|the|my|an old|a brave|a small|two|a little] [gpu|gpus|graphics card|llama|model|computer|fan|workstation|machine|video card]
        [story|tell a story|storytime|story time|story please|a story please|once upon a time|write a story|a short story]
        tell me [a story|a tale] about [a|the|my|an old|two] [gpu|gpus|graphics card|llama|model|computer|fan|workstation|engine]
        what happened to the [gpu|graphics card|little gpu]
        """,
        'Once upon a time there was a small graphics card named Vera. She lived in a grey workstation under a desk and had sixteen gigabytes of memory, not one more.\n\nEvery day somebody asked her to load a model that was far too large. Vera tried and tried, until her fans screamed and the engine fell over. *Out of memory*, said the log, and nobody read it.\n\nThen one morning a new control panel arrived. It looked at Vera, counted her free memory and said: "This one **fits**. That one does not, but it will with a shorter context."\n\nVera loaded the model in one breath. Words began to stream, forty tokens per second, and her fans hummed softly. From that day on nobody asked her for more than she had, and she never crashed again.',
        weight=1.3,
    ),
    "essay": _talk(
        """
        [write|give me|tell me|i want|can you write|produce|generate] [a long|a longer|a really long|a very long] [text|answer|essay|article|explanation|message|reply|story about gpus|output]
        [write|give me|can you write] [an|a|me an|me a|a short] [essay|article|blog post|report] [about|on] [gpus|local models|llms|engine room|vram|running models|local llms|language models|graphics cards]
        [write|say|tell me|talk] [a lot|a lot about gpus|as much as you can|something long|for a long time]
        [explain|tell me] how [local models|language models|llms] work in [detail|depth|a long text]
        [essay|article|long text] [about|on] [gpus|local models|vram]
        write [a few|some|several|three|many] paragraphs [about|on|] [gpus|vram|local models|]
        """,
        "## Running models at home\n\nA language model is a large file of numbers. To use it, an *engine* reads these numbers into memory and computes one token after the other. The faster the memory, the faster the words appear.\n\n### Memory\n\nThe weights come first. A 7B model needs about 4.2 GB at `Q4_K_M`, a 70B model about 42 GB. On top comes the **KV cache**, which grows with every token of the context. When both fit in the VRAM, the model is fast. When they do not, some layers move to the CPU and the speed drops.\n\n### Engines\n\n- **llama.cpp** reads GGUF files and runs on nearly every machine.\n- **vLLM** serves many users at once on strong GPUs.\n\n### Everyday use\n\nLoad a model, ask a question, watch the tokens per second. Switch when you need another one. The endpoint stays the same, so your editor never notices.\n\nThat is all there is to it: a card, a file and a little patience.",
        weight=1.0,
    ),
    "code_curl": _talk(
        """
        [show|give|write|send] me [a|an|the|some] curl [example|command|request|call|line|snippet]
        [curl|curl example|curl command|curl request|curl please|curl snippet|example curl]
        how [do|can] i [call|use|reach|query|test|ask] [the|] [endpoint|api|model|server|it] [with|using|from|by] [curl|bash|the shell|a shell script|the terminal with curl]
        how do i [send|make|post] a request [to the endpoint|to the api|to the model|] [with|using|in] [curl|bash|the shell]
        [call|use|query|test] the [endpoint|api|model] with curl
        [show|give] me [a|an] [shell|bash|http|raw http|rest|api] [example|request|snippet|script|call] [for the endpoint|for the api|]
        [write|show|give] me [a|an] [example|sample] request
        what does a request [look like|to the endpoint look like]
        [write|make] a [bash|shell] [script|command] [that|to|which] [calls|call|asks|ask|queries|query] the [model|endpoint|api]
        """,
        f"This asks the loaded model with `curl`:\n\n{CURL}",
        weight=1.8,
    ),
    "code_python": _talk(
        """
        [show|give|write|send] me [a|an|the|some] python [example|code|script|snippet|program|sample|client]
        [python|python example|python code|python snippet|python please|example in python|python script|example code|code example|sample code]
        how [do|can] i [call|use|reach|query|access|ask|talk to] [the|] [endpoint|api|model|server|it] [with|using|from|in] python
        [call|use|query|connect to|talk to] the [endpoint|api|model] [from|in|with|using] python
        [write|show|give|code] [a|me a|me some|some] [python|] [code|script|program|snippet|example] [that|to|which|for] [calls|call|asks|ask|talks to|use|using|uses|query|queries|calling|querying] the [model|endpoint|api|server]
        [show|give|write] me [some|a|an] [code|example|code example|code snippet|snippet|code sample] [for the endpoint|for the api|]
        how do i use the openai [library|client|package|sdk|python client] [with|for] [engine room|this|it]
        [write|give me|show me|i want|i need] [code|some code|a script]
        can you [write|show|give me|show me] [some|] [code|python|python code]
        [openai client|openai library|openai sdk] [example|in python|code]
        """,
        f"With the `openai` package:\n\n{PYTHON}",
        weight=1.9,
    ),
    "code_stream": _talk(
        """
        [show|give|write] me [a|an|some] [python|] [streaming|stream] [example|code|snippet|script]
        [python|code|] [streaming example|stream example|streaming code|streaming snippet]
        how do i [stream|get a stream|read a stream|receive tokens|print the tokens] [in|with|from|using] python
        [write|show|give me] [python|] code [that|to|which] [streams|stream] [the|an|] [answer|answers|tokens|reply]
        stream [the|an] answer in python
        """,
        f"Set `stream=True` and print each piece:\n\n{STREAM}",
        weight=1.2,
    ),
    "code_httpx": _talk(
        """
        [show|give|write] me [a|an|some] [httpx|requests] [example|code|snippet]
        [python|call the endpoint|call the api|an example|use the api|code] [with|using] [httpx|requests]
        python [without the openai package|without openai|without the openai library]
        [httpx|requests] [example|snippet]
        """,
        f"With `httpx`:\n\n{HTTPX}",
        weight=0.8,
    ),
    "code_js": _talk(
        """
        [show|give|write] me [a|an|some] [javascript|js|node|typescript|node.js] [example|code|snippet|script]
        [javascript|js|node|fetch] [example|code|snippet|please|]
        how [do|can] i [call|use|query] the [endpoint|api|model] [from|in|with] [javascript|js|node|a web page|typescript]
        """,
        f"With `fetch`:\n\n{JAVASCRIPT}",
        weight=0.9,
    ),
    "code_models": _talk(
        """
        how [do|can] i [list|get|see|query] the models [over|from|with|through|via] [the|] [api|endpoint|curl]
        [curl|code|command|request] [to|that|for] [list|lists|listing|get] [the|all|] models
        what does /v1/models [do|return]
        """,
        f"This lists the models:\n\n```bash\ncurl {URL}/models\n```",
        weight=0.7,
    ),
    "code_health": _talk(
        """
        how [do|can] i check [if|that|whether] the [server|endpoint|api] is [up|alive|healthy|running|ready]
        health [check|endpoint|url]
        [curl|command|request] [for|to check] [the|] health
        """,
        "Ask the health address:\n\n```bash\ncurl http://127.0.0.1:7000/health\n```",
        weight=0.7,
    ),
    "code_env": _talk(
        """
        which environment variables [do i set|do i need|should i set|does a client need]
        [how do i set|set|show me|give me] [the|] environment variables [for openai|for my editor|for the endpoint|for a client|]
        [openai_base_url|openai_api_key|env file|.env]
        """,
        f"Most clients read these two:\n\n```bash\nexport OPENAI_BASE_URL={URL}\nexport OPENAI_API_KEY=none\n```",
        weight=0.7,
    ),
    "code_hello": _talk(
        """
        [write|show me|give me|code|make] [a|] hello world [program|script|example|] [in python|]
        hello world in python
        python hello world
        [print|say] hello world in python
        """,
        '```python\nprint("Hello from Engine Room")\n```',
        weight=0.7,
    ),
    "code_cli": _talk(
        """
        [show|give|write] me the [commands|terminal commands|cli commands|shell commands] [in a code block|as code|as a script|]
        [write|show me|give me] a [shell script|bash script|script] [that|which|to] [loads|load|starts|start] [the|a|the demo|my] [model|demo]
        [example|examples] of [the|] [cli|command line|engine-room command|commands]
        [bash|shell] example of engine-room
        [cli|command line] [example|examples]
        """,
        "```bash\nengine-room load demo\nengine-room status\nengine-room logs -f\n```",
        weight=1.0,
    ),
    "list_vram": _talk(
        """
        [list|name|what are|give me|give me a list of|show me|enumerate] [the|some|] [things|parts] [that|which] [use|need|take|fill|eat] [vram|gpu memory|memory]
        [list|bullet points|bullets|a list of|enumerate] [of|] what [uses|fills|takes up|needs] [vram|gpu memory|the vram]
        what [parts|things] [need|use] [vram|gpu memory]
        what is the vram made up of
        """,
        "- **Weights** of the model\n- **KV cache** of the context\n- **Compute buffers** of the engine\n- **Overhead** of CUDA, and other programs on the card",
        weight=1.0,
    ),
    "list_save": _talk(
        """
        [list|give me|name|show me|what are] [some|a few|three|four|the|five|] [tips|ways|ideas|tricks|methods|options] [to|for|how to] [save|saving|reduce|lower|reducing|use less|lowering|cut] [vram|gpu memory|memory|memory use]
        [tips|list of tips|checklist|bullet points|a list] [to|for|of ways to|on how to] [save|saving|reduce|reducing] [vram|gpu memory|memory]
        what are the ways to [use less|save] [vram|memory]
        """,
        "- Take a smaller quantisation, such as `Q4_K_M`.\n- Shorten the context.\n- Store the KV cache in `q8_0`.\n- Put fewer layers on the GPU.\n- Close other programs that use the card.",
        weight=1.1,
    ),
    "list_quants": _talk(
        """
        [list|name|which|what are|show me|give me a list of|enumerate] [the|some|common|all|the common|] [quantisations|quantizations|quant types|quants|quantisation types|quantization types|quantisation levels|quant formats]
        [which|what] [quantisations|quantizations|quants|quant types] [are there|exist|are common]
        """,
        "- `Q4_K_M`: small and fast, the usual choice\n- `Q5_K_M`, `Q6_K`: larger, a little better\n- `Q8_0`: almost the original quality\n- `F16`: 16 bits, the full size",
        weight=1.0,
    ),
    "list_proscons": _talk(
        """
        [pros and cons|advantages and disadvantages|benefits and drawbacks|advantages|upsides and downsides|the good and bad sides] of [quantisation|quantization|quantising|quantised models|quantized models]
        [list|give me|name|what are] [the|some|] [pros and cons|advantages and disadvantages|advantages|benefits|drawbacks|disadvantages|pros] of [quantisation|quantization|quantised models|quantized models]
        """,
        "**Good**\n\n- less memory\n- faster answers\n- smaller downloads\n\n**Bad**\n\n- a little less exact\n- clearly worse below 4 bits",
        weight=0.8,
    ),
    "list_local": _talk(
        """
        [why|what are the reasons to|what are the benefits of|advantages of|list the advantages of|reasons for] [run|running|use|using] [models|llms|a model|an llm|ai] [locally|at home|on my own machine|on my own gpu|local]
        [why|what are the advantages of] [a|] local [model|models|llm|llms]
        [local|local models] [vs|or] [cloud|the cloud]
        """,
        "- **Private**: your text stays on your machine.\n- **Free of limits**: no quota and no bill per token.\n- **Offline**: it works without internet.\n- **Your choice**: any open model you like.",
        weight=0.8,
    ),
    "table_sizes": _talk(
        """
        [show|give|write|make|draw] [me|] [a|the] table [of|with|about|for|showing|that shows] [the|] [model sizes|sizes|memory sizes|memory needs|memory|how much memory models need|vram needs|model memory|sizes and memory]
        [table|a table|markdown table|make a table|show me a table|give me a table|a markdown table please]
        [list|compare|show] [the|] [memory|vram|sizes] of [all|different|several|common|the] [models|model sizes]
        [memory|vram] [table|overview] [of models|by model size|]
        """,
        "| Model | Q4_K_M | Q8_0 | F16 |\n|---|---|---|---|\n| 7B | 4.2 GB | 7.5 GB | 14 GB |\n| 13B | 7.9 GB | 13.8 GB | 26 GB |\n| 32B | 19.5 GB | 34 GB | 64 GB |\n| 70B | 42 GB | 74 GB | 140 GB |\n\nThe KV cache comes on top.",
        weight=1.0,
    ),
    "name_unknown": _talk(
        """
        [what is|what's|whats|do you know|tell me|say|can you tell me] my name
        who am i
        do you remember my name
        how am i called
        """,
        "You have not told me your name in this chat yet.",
        weight=0.7,
    ),
    "llama_animal": _talk(
        """
        what is a llama
        why [is it|are models] called llama
        """,
        "A llama is an animal with a soft coat. Here *Llama* is a family of open models, and llama.cpp is named after it.",
        weight=0.5,
    ),
    "recommend": _talk(
        """
        [which|what] [model|llm|one] [should i|do i|can i|would you|do you] [use|load|choose|download|try|pick|take|recommend|suggest|get] [first|next|]
        [recommend|suggest] [me|] [a|some|] [good|] [model|models|llm]
        [what is|which is|what's] [a|the] [good|best|right] model for [me|my card|my gpu|coding|chat|writing|programming]
        which [model|llm] is [good|right|best] for [me|my gpu|coding|beginners|a beginner|writing]
        """,
        "Take the largest model that is marked *fits* on the **Models** page, at `Q4_K_M`. An 8B model is a good first choice for most cards.",
        weight=1.2,
    ),
}
