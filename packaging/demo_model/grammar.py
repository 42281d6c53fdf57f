"""Decides how one template becomes one question: alternatives, slots, polite frames, case, punctuation and typing errors."""

from __future__ import annotations

import random
import re

_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


def lines(text: str) -> tuple[str, ...]:
    """One template per line."""
    return tuple(line.strip() for line in text.strip().splitlines() if line.strip())


def alternatives(text: str) -> tuple[str, ...]:
    """Alternatives between bars, over several lines."""
    return tuple(text.strip().replace("|\n", "|").split("|"))


BEFORE = alternatives(
    """
hey,|hi,|hello,|hello!|ok,|ok so|so|please|sorry,|quick question:|question:|one more question:|just curious,|
excuse me,|and|hi there,|good morning,|i am new to this:|a beginner asks:|my friend asked:|by the way,|now|
well,|right,|i wonder:|i just installed this.|i have a new card.|i am a bit lost.|this is my first time here.|
i saw your app today.|my colleague uses this.|before i forget,|last thing:|let me ask this:|
a stupid question:|silly question, but|serious question:|real quick:|can i ask something?|you seem nice.|
got a minute?|i have a question.|i am reading the docs.|wait,|listen,|look,|dear model,|yo,|alright,|
fine, but|next question:|also,|another thing:|hmm,|um,|tell me,|first of all,|for my notes:|ok then,|
thanks, and|cool,|great.
"""
)
POLITE = alternatives(
    """
can you tell me|could you tell me|please tell me|do you know|would you tell me|i want to know|
i would like to know|can you explain|could you explain|please explain|tell me|i'd like to know|
i was wondering|can i ask|may i ask|help me understand|i need to know|any idea|remind me|
do you happen to know|let me know
"""
)
AFTER = alternatives(
    """
please|thanks|thank you|for me|right now|exactly|then|again|actually|in short|briefly|in simple words|
in plain english|for a beginner|in engine room|here|in one sentence|if you know|i forgot|i am new|quickly|pls|
today|in this app|on my machine|i am confused|really|anyway|my boss wants to know|i have no idea|now|
i am curious
"""
)
CONCEPT = lines(
    """
what [is|are|exactly is] {x}
[what's|whats|wat is|what s] {x}
what [does|do] {x} [mean|do|stand for|refer to]
what is meant by {x}
what do you mean by {x}
what [is|are] {x} [good for|used for|for|about|all about|in this context|in simple terms|exactly|then]
[what is|what's] the [meaning|purpose|point|idea|definition|role|use|sense|benefit|concept] of {x}
[explain|define|describe|clarify] {x}
[explain|describe] [to me|me] {x}
[explain|describe|clarify] {x} [to me|to a beginner|simply|in simple words|for dummies|like i am five|in a sentence|in a few words]
explain [what|] {x} [is|are|means|does]
[tell|teach] me [about|something about|more about|a bit about|all about|what you know about] {x}
[tell me|do you know|i want to know|i don't know|i do not know|i wonder|can you say|i never understood|not sure] what {x} [is|are|means|does|do]
{x}
{x} [meaning|definition|explained|explanation|in short|basics|info|for beginners|what is that|what's that|what is it]
[the|a] [definition|meaning|explanation] of {x}
[give|show] me [a|the|an] [definition|explanation|short explanation|summary|quick explanation|idea] of {x}
[why|how come] [is|are] {x} [important|useful|needed|relevant]
why does {x} matter
why [do|would|should] [i|we|people|you] [need|care about|want|use] {x}
[do i need|should i care about|should i worry about|is it worth learning] {x}
how [does|do] {x} work
how [is|are] {x} [used|working]
what [happens|is going on] with {x}
what do i need {x} for
[i don't|i do not|i dont|i can't|i never] [understand|get|really get|know] {x}
[i am|i'm] [confused about|not sure about|unsure about|puzzled by|curious about|reading about|lost with] {x}
[i read about|i heard of|i heard about|i keep reading about|i keep hearing about|i saw|i came across|someone mentioned|people talk about|my friend mentioned|the docs mention|there is a setting called|i see the word|the log says] {x}[, what is it|, what is that|, what does it mean|, what's that|. what is it|. can you explain|. what does that mean|]
[what should i know|what can you tell me|what do you know|what can you say] about {x}
[have you heard of|ever heard of|do you know|do you know about|you know|know anything about] {x}
[help me understand|i want to understand|i'd like to understand|let's talk about|talk about|say something about|let us discuss|i want to learn about] {x}
[a few words|some words|a sentence|info|information|a note|details|facts] [on|about] {x}
how would you [describe|explain|define] {x}
what [kind of thing|sort of thing|thing] is {x}
what role does {x} play
where [does|do] {x} come in
[so|and|but|ok] {x} [is|are] what [exactly|then|]
[why all the fuss|what is all the fuss|what is the fuss|what is the hype|what's the story|what is so special|what is so great|what's up|what is it] [about|with] {x}
{x} [is|are] [what|good for what|there for what]
{x}[:|,|] [yes or no|good or bad|on or off|worth it|any good|does it matter|important|what now|how does it work|why|what for|what does it do]
[what counts as|what is considered|what is called|what do we call|what does one call] {x}
[how much|how far] does {x} [matter|help|count]
[i need|i'd like|i want|may i have|could i get] [a|an|some] [definition|explanation|info|introduction|intro|primer] [of|on|to|about] {x}
[how|in what way] [does|do|would|can] {x} [help|help me|affect the model|affect speed|affect memory|change things|matter in practice|make a difference]
[when|where] [is|are|do i use|do i need|would i need|should i think about|do people use] {x} [used|needed|]
[what does one use|what do people use|what do engineers use|who needs|who uses] {x} [for|]
[what would you say|what do experts say|what do you think] {x} [is|are|means]
[people|everybody|the settings|the manual|a forum post|the readme|this page] [keeps mentioning|keep mentioning|mentions|talks about|says something about|asks for|refers to] {x}[. what is it|, what is this|, please explain|. meaning|. what do they mean]
[no clue|i have no clue|i have no idea|clueless|not a clue] what {x} [is|are|means|does]
[my question is about|this is about|i have a question about|question about|regarding|concerning|about] {x}
[would you mind|do you mind|care to|mind] [explaining|describing|telling me about|defining|summarising] {x}
[can|could|would|will] you [please|] [explain|describe|define|tell me about|talk about|introduce|go over|shed light on|say what is|tell me what is] {x} [please|to me|for me|]
[which|what] [effect|impact|influence|advantage|benefit] does {x} have
"""
)
CONCEPT_LIST = lines(
    """
[list|give me|name|tell me] [some|the|two|a few|three|the main|] [facts|points|key points|things to know|bullet points|notes] [about|on|for] {x}
[bullet points|bullets|key points|a list of facts|facts as a list|short notes] [about|on] {x}
explain {x} [in bullet points|as a list|as bullet points|in a list|with bullets]
{x} [in bullet points|as a list|in a list|as bullets]
summarise {x} [in bullet points|as a list]
"""
)
TASK = lines(
    """
[how do i|how can i|how to|how would i|how could i|how should i|how do you|how does one|how can one|how do we|how can we|how am i supposed to|how may i|howto] {x}
[how do i|how can i|how to|how do i go about] {x}
[what do i do|what must i do|what should i do|what do i need|what do i have to do|what is needed] to {x}
[i want to|i need to|i would like to|i'd like to|i wanna|i have to|i am trying to|im trying to|i must|we want to|i wish to|it is time to|i plan to] {x}
[i want to|i'd like to|i need to|i am trying to] {x}[, how| , how do i do that|, what do i do|. how does that work|, can you help|, what now]
[where can i|where do i|where should i|where is the place to|where do i go to|where do i click to] {x}
[what is|what's] the [way|easiest way|best way|quickest way|right way|simplest way|trick|fastest way] to {x}
[is there a way to|is it possible to|is there an option to|is there any way to|does engine room let me|does it allow me to|am i able to|is it easy to] {x}
[can i|could i|can you|can we|may i|can one|can engine room|could you|is it hard to] {x}
[help me|please help me|can you help me|i need help to|i need help trying to|help me to] {x}
[show me how to|tell me how to|explain how to|describe how to|teach me how to|teach me to|let me know how to|i forgot how to|i don't know how to|i do not know how to|any idea how to|no idea how to|i can't figure out how to|i wonder how to|explain to me how to] {x}
[which|what] [button|page|menu|click|command] [do i need|do i use|do i press|is there|should i use|lets me] to {x}
[what do i press|what do i click|what should i click|where do i click|where to click] to {x}
{x}
[let's|let us|let me|just|now|please] {x}
how does it work to {x}
[what if i want to|suppose i want to|say i want to|imagine i want to] {x}
[could you|can you|would you] [explain|tell me|show me|describe|say] [how to|how i|how one can|how i can|how we] {x}
[would you mind|do you mind|mind] [telling me|showing me|explaining|saying] how [to|i] {x}
[i am looking for|i look for|i search|looking for] [a|the|some] way to {x}
[i'd love to|i would love to|i feel like i should|i was told to|my boss wants me to|i am supposed to|my plan is to|i decided to|my goal is to|i was hoping to] {x}
[what steps do i take|what are my options|what does it take|what do i click|what do i have to press|what do i type|what has to be done|who can help me|where must i look] to {x}
[is it ok to|is it fine to|am i allowed to|will it let me|do i get to|are we able to|is one able to] {x}
[i struggle to|i cannot|i can't|i am unable to|i don't manage to|i fail to] {x}[, please help|. help|. what now|, how|]
[how do people|how do others|how do users|how do folks] {x}
[how might i|how might one|how will i|how did you|how am i going to|in which way can i|by what means can i|how exactly do i] {x}
[the best way|an easy way|quickest way|a way|instructions|advice|help] to {x}
[go ahead and|would you|will you|kindly|can you please|could you please] {x} [for me|]
[after that i want to|next i want to|first i need to|later i want to] {x}
"""
)
DOING = lines(
    """
[what about|how about|help with|instructions for|a guide to|tips for|advice on|a question about|i have trouble|i have problems|problems with|the way of|what is needed for|what do i need for] {x}
[how does|how do people do|how would] {x} [work|go|function|happen]
[explain|describe|show me|tell me about|teach me|talk about|demonstrate] {x}
[is|would] {x} [possible|supported|easy|hard|allowed|difficult|an option]
[what is|what's] the [command|button|page|procedure|way|trick|recipe|approach] for {x}
{x} [how|how does it work|instructions|guide|help|please]
{x}
[i am interested in|i think about|i am thinking of|i am new to|i am having trouble|i was thinking of|i need a hand with|i am stuck at|i am about to start] {x}
[do you support|does it support|does engine room support|do you allow|is there support for] {x}
where does {x} happen
"""
)
STEPS_DOING = lines(
    """
[walk|guide|take|lead|talk] me through {x}
[the steps|steps|a list of steps|a checklist|instructions step by step|numbered steps|the single steps] [for|of|when] {x}
{x}[,|] [step by step|in steps|as a numbered list|as steps]
[list|show|give me|describe] the [steps|stages|single steps] [of|for] {x}
[a|your|the] [step by step|numbered] [guide|list|recipe] for {x}
"""
)
STEPS = lines(
    """
[list|give me|show me|write|name|tell me|write down|what are] [the|] steps [to|for how to|needed to|i need to|required to] {x}
[the|] steps to {x}
[step by step|step-by-step][,|:|] [how do i|how to|how can i] {x}
[how do i|how to|how can i|show me how to|explain how to|tell me how to] {x}[,|] [step by step|in steps|step-by-step|one step at a time|with steps|in numbered steps|as a list|as a numbered list|in a list]
[walk|guide|take|lead] me through how to {x}
[give|show|write|make] me [a|the] [step by step guide|numbered list|checklist|list of steps|recipe|guide|step-by-step guide|short guide|list] [to|how to|for how to|on how to] {x}
[checklist|guide|instructions|a list of steps|numbered list|numbered steps|step by step guide|walkthrough] [to|for how to|on how to|how to] {x}
[list|enumerate] what i [have to do|must do|need to do] to {x}
{x}[,|] [step by step|in steps|as a list|list the steps]
"""
)
SYNONYMS = dict(
    line.split(": ")
    for line in """
show: display|present|reveal
need: require|need
use: utilise|employ|work with
big: huge|large|massive
start: launch|begin|fire up
get: obtain|grab|fetch|receive
want: wish|would love|want
change: alter|modify|adjust|tweak
fix: repair|resolve|cure|sort out
find: locate|discover|spot|look up
see: view|look at|observe|check
many: lots of|numerous|plenty of
fast: quick|speedy|rapid
slow: sluggish|laggy|slow
good: decent|fine|great
important: crucial|essential|central|relevant
model: model|llm|ai model|network|neural net
explain: clarify|outline|spell out|break down|illustrate
describe: outline|sketch|characterise
difference: distinction|contrast
meaning: sense|significance
stop: halt|end|stop
switch: change|flip|hop
load: load|start up|bring up|mount
running: active|live|working
gpu: graphics card|gpu|card|video card
memory: memory|ram|mem
answer: reply|response|output
answers: replies|responses|outputs
chat: conversation|dialogue|chat
computer: pc|machine|box|system|rig
machine: pc|computer|box|workstation
help: assist|support
write: compose|produce|write|create
give: hand|provide|give
tell: tell|inform
problem: issue|trouble
error: failure|fault|error message
folder: directory|path
button: control|key|icon
page: screen|tab|view|section
window: app|interface|gui|program
example: sample|snippet|demo
delete: erase|wipe|discard
enough: sufficient|adequate
small: tiny|little|compact
short: brief|quick
list: list|overview|enumeration
steps: stages|steps|moves
terminal: shell|console|command prompt
endpoint: endpoint|api|server
url: address|link|url
editor: ide|editor|code editor|text editor
quality: accuracy|precision|fidelity
speed: pace|velocity|performance
happens: occurs|goes on|takes place
know: know|be aware of
choose: select|pick|decide on
run: execute|operate|run
works: functions|operates|works
work: function|operate|work
mean: signify|stand for|say|mean|imply
long: lengthy|long
possible: feasible|doable|possible
maximum: largest|greatest|highest
tokens: tokens|token
free: available|unused|free
new: fresh|new|different
another: a different|some other|one more
settings: options|settings|preferences
download: download|fetch|pull
log: log|log output|logfile
why: why|how come|for what reason
words: words|terms
do: do
best: ideal|optimal|right
should: ought to|should|better
talk: speak|chat
like: like|enjoy
people: folks|people|users
beginner: newcomer|novice|newbie|layman
anything: something|anything|any stuff
easy: simple|straightforward
quickly: fast|rapidly
automatically: on its own|by itself
once: the same time|once
several: a few|multiple|various|several
data: information|data
story: tale|story|fable
poem: poem|verse|little rhyme
made: built|created|made
larger: bigger|larger
""".strip().splitlines()
)
FILLERS = alternatives(
    """
really|just|actually|basically|even|ever|exactly|kind of|sort of|maybe|perhaps|simply|still|usually|normally|
generally|roughly|typically|quickly|probably|possibly|again|always|also|honestly|precisely|already|only|here|
there|now|then|like|well|uh|um|in general|in practice|in fact|at all|you know|i mean|on earth|for instance|
in your opinion|these days|by default
"""
)
SPELLINGS = {
    "quantisation": ("quantization", "quantisation", "quantizaton", "quantsation"),
    "quantization": ("quantisation", "quantization"),
    "please": ("pls", "plz", "please"),
    "you": ("u", "you"),
    "what": ("wat", "what", "wht"),
    "are": ("r", "are"),
    "because": ("cuz",),
    "tokens": ("tokens", "toks"),
    "model": ("model", "modle"),
    "temperature": ("temperature", "temprature"),
    "does": ("does", "dose"),
    "and": ("and", "&"),
    "the": ("the", "teh"),
    "cannot": ("can't", "cant", "cannot"),
}


def expand(template: str, rng: random.Random) -> str:
    """Pick one of every [a|b] group, innermost first."""
    while match := _CHOICE.search(template):
        pick = rng.choice(match.group(1).split("|"))
        template = template[: match.start()] + pick + template[match.end() :]
    return re.sub(r"\s+([,?!.])", r"\1", re.sub(r"\s+", " ", template)).strip()


def fill(template: str, slots: dict[str, str]) -> str:
    return _SLOT.sub(lambda match: slots.get(match.group(1), match.group(0)), template)


DOUBLING = frozenset(alternatives("stop|swap|run|get|put|cut|quit|shut|set|spin|hop|chat|drop|plug"))


def gerund(phrase: str) -> str:
    """Turn "load a model" into "loading a model"."""
    verb, _, rest = phrase.partition(" ")
    if verb.endswith("e") and not verb.endswith("ee"):
        verb = verb[:-1]
    elif verb in DOUBLING:
        verb += verb[-1]
    return f"{verb}ing {rest}".strip()


def _mistype(word: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[at + 1 :]


def roughen(text: str, rng: random.Random, typo_rate: float = 0.3) -> str:
    """What people and hands do to a sentence: other words, filler words, spelling variants, lost words, typing errors."""
    words = text.split(" ")
    if rng.random() < 0.35:
        words = [rng.choice(SYNONYMS[w].split("|")) if w in SYNONYMS and rng.random() < 0.4 else w for w in words]
    if rng.random() < 0.15:
        words.insert(rng.randint(0, len(words)), rng.choice(FILLERS))
    words = [rng.choice(SPELLINGS[w]) if w in SPELLINGS and rng.random() < 0.12 else w for w in words]
    if rng.random() < typo_rate:
        words = [_mistype(w, rng) if len(w) > 4 and w.isalpha() and rng.random() < 0.25 else w for w in words]
    small = {"the", "a", "an", "do", "to", "of", "my", "is"}
    if len(words) > 3 and rng.random() < 0.12:
        words = [w for w in words if w not in small or rng.random() < 0.5] or words
    return " ".join(words)


def dress(text: str, rng: random.Random, question: bool = True, frames: bool = True) -> str:
    """Put a bare question into the clothes that people give it."""
    if frames and rng.random() < 0.16 and re.match(r"(what|how|why|where|which|who|is|are|do|does)\b", text):
        text = f"{rng.choice(POLITE)} {text}"
    if frames and rng.random() < 0.2:
        text = f"{rng.choice(BEFORE)} {text}"
    if frames and rng.random() < 0.16:
        text = f"{text}{rng.choice((' ', ' ', ', '))}{rng.choice(AFTER)}"
    text = roughen(text, rng)
    style = rng.random()
    if style < 0.5:
        text = text[:1].upper() + text[1:]
        text = re.sub(r"\bi\b", "I", text)
        text = re.sub(
            r"\b(vram|kv|gguf|gpu|ttft|cpu|api|url|llm|cuda|oom|gpus)\b",
            lambda m: m.group(1).upper().replace("GPUS", "GPUs"),
            text,
        )
        text = re.sub(r"\bengine room\b", "Engine Room", text)
        text = re.sub(r"\bvllm\b", "vLLM", text)
        text = re.sub(r"\b(q\d_\w+)", lambda m: m.group(1).upper(), text)
    elif style < 0.55:
        text = text.upper()
    elif style < 0.62:
        text = re.sub(r"\b(vram|kv|gguf|gpu|ttft|cpu|api|url|llm)\b", lambda m: m.group(1).upper(), text)
    if question:
        text += rng.choices(("?", "", "??", ".", " ?", "!"), (10, 5, 0.5, 1, 0.5, 0.2))[0]
    else:
        text += rng.choices(("", ".", "!", "?", "..."), (10, 4, 2, 1, 0.5))[0]
    return text
