"""Owns the everyday questions, which the last round sees again and again: the plain words in which most people ask."""

from __future__ import annotations

import random

import grammar
import wider

WORDINGS = """
# load
how do i [load|start|run] [a|my|the] model
how [can i|to] [load|start] a model
load a model
[how do i start|where do i start|how do i use a model]
# load/steps
how do i load a model[,|] step by step
how [can i|to] load a model[,|] step by step
[what are the|give me the|show me the|list the] steps to [load|start|run] [a|my|the] model
[loading|starting] a model step by step
# stop
how do i [stop|unload|close|end] [a|the|my] [model|engine]
how [can i|to] [stop|unload] [a|the] [model|engine]
[stop|unload] the model
how do i get [the|my] [vram|memory|gpu] [back|free|free again]
# stop/steps
how do i [stop|unload] [a|the] model[,|] step by step
[what are the|give me the|show me the|list the] steps to [stop|unload] [a|the] model
# switch
how do i [switch|change] [models|the model]
how do i [switch|change] to another model
how [can i|to] [switch|change] models
# switch/steps
how do i [switch|change] models[,|] step by step
how [can i|to] [switch|change] to another model[,|] step by step
[what are the|give me the|list the] steps to [switch|change] models
# fits
[will|does] [my|the|this|a] model fit
how do i know [if|whether] a model fits
[which|what] models fit [on my card|my gpu|here]
# oom
[my|the|a] model does not fit[. what can i do| what now|. what now|, what can i do|]
[my|the|a] model doesn't fit[. what can i do|, what now|, what can i do|]
what can i do [when|if] [a|the|my] model does not fit
what can i do [when|if] [i run out of memory|the memory is full|there is not enough vram|vram is not enough]
i [run|ran] out of [memory|vram][. what now|, what can i do|]
[why did|what does] [it say|i get] out of memory[ mean|]
# folder
where [do|can|should] i put my [gguf files|models|model files|own models|ggufs]
how do i [add|use] my [own models|models|gguf files|model folder]
[where|how] do i add a [folder|model folder|gguf file]
can i use my own [models|gguf files|files]
# download
how do i [download|get] [a|new|more] [model|models]
where do i [get|find] [more|other|new] models
# delete_model
how do i [delete|remove] a model
# idle
does [a|the] model unload [by itself|when idle|automatically]
how long does a model stay loaded
can i keep a model loaded
# endpoint
what is the [endpoint|endpoint url|url|address|base url|api url|port]
[where is|what is] the api
[which|what] url do i use
# connect
can i use it [with|in] my [editor|own programs|scripts|agent]
how do i connect my [editor|agent|app|program]
how do i use it [with|in] [vs code|my editor|an editor|cursor]
# api_key
do i need an api key
what is the api key
# logs
where are the logs
how do i [see|read|open|find] the logs
[show me|where is] the log
# monitor
[how|where] do i see [my gpu|the gpu|vram use|the vram|how much vram is used]
# settings
where are the settings
how do i change the settings
# chat
how do i chat
how do i [talk to|ask] the model
where [can|do] i chat
# cli
[can i use|is there] [a terminal|a command line|the terminal|a cli]
how do i use the [command line|terminal]
# two_models
can i [load|run] two models [at once|at the same time|]
can i have two models
# no_gpu
does it work without a gpu
do i need a [gpu|graphics card]
can it run on the cpu
# slow
why is it [slow|so slow]
[why is my model|my model is] [slow|so slow]
how [do|can] i make it faster
the answers are slow
# tok_s
how fast [are you|is it|is this model|is the model]
what is tok/s
what are tokens per second
# context
what is [the context|context length|the context length|a context]
how do i [make the context longer|change the context|get a longer context|set the context length]
how long can [a|my] chat be
# vram
what is vram
# kv_cache
what is [the|a] kv cache
explain the kv cache[ in simple words| simply|]
# quantisation
what is [quantisation|quantization|a quantised model]
explain quantization
# q4_k_m
what [is|does] q4_k_m[ mean|]
# table_sizes
[make|show me|give me|write] a table of [model sizes|models and their sizes|how much memory models need]
[show me|write|make] a table
# list_quants
[list|name|which are|what are] the [quantisations|quantizations|quantization formats|gguf quants]
what quantizations are there
# list_save
how [do|can] i save [vram|memory]
[three|some|a few] ways to save [vram|memory]
# code_python
show me [python code|a python example|some python|some code]
how do i [call|use] [it|the api] [from|in|with] python
write some [code|python|python code]
# code_curl
[show me|give me] [a curl example|an example with curl|a curl command]
how do i [call|use] [it|the api] with curl
# engine_room
what is [engine room|this app|this program|this]
what does [engine room|this app|this program] do
# who
who are you
what are you
what model [are you|is this]
# can_do
what can you do
what can i ask[ you|]
help
# how_are_you
how are you
how are you today
# first_steps
how do i [begin|get started]
what [do|should] i do first
# profile
what is a profile
how do i [make|edit|change] a profile
# engines
which engines [are there|can i use]
how do i install an engine
# vllm
what is vllm
# llamacpp
what is llama.cpp
# vllm_or_llamacpp
[vllm or llama.cpp|what is better, vllm or llama.cpp|which is better, vllm or llama.cpp]
[what is the|] difference between vllm and llama.cpp
# gguf
what is gguf
what is a gguf file
# recommend
[which|what] model [should i use|is best|do you recommend|should i load]
# privacy
is [it|this|my data] private
do you send [my data|anything] [anywhere|to the internet]
# leftovers
does it leave anything behind
# switch_failed
[my|the|a] model does not [load|start]
[why|what] did [the load|loading] fail
[loading|the load] failed
# greeting
[hi|hello|hey]
# thanks
[thanks|thank you]
# bye
bye
# joke
tell me a joke
# poem
write a poem
write me a poem
# story
tell me a story
"""
_WORDINGS = wider.parsed(WORDINGS)
_WEIGHTS = tuple(len(asks) ** 0.5 for asks in _WORDINGS.values())
_NO_QUESTION = {"greeting", "thanks", "bye", "joke", "poem", "story"}


def ask(rng: random.Random) -> tuple[str, str]:
    """One everyday question, now and then with a word around it, and its answer."""
    key = rng.choices(tuple(_WORDINGS), _WEIGHTS)[0]
    question = grammar.expand(rng.choice(_WORDINGS[key]), rng)
    if rng.random() < 0.3:
        return grammar.dress(question, rng, question=key not in _NO_QUESTION, frames=False), wider.ANSWERS[key]
    question = question[:1].upper() + question[1:] if rng.random() < 0.7 else question
    end = "" if rng.random() < 0.3 else "." if key in _NO_QUESTION else "?"
    return question.rstrip(".") + end, wider.ANSWERS[key]
