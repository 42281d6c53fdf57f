"""The rows of vLLM's memory: the KV cache, the card and main memory."""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern
from app.core.diagnosis.vllm.cures import EAGER, FEWER_SEQUENCES, KV_FP8, LESS_OF_THE_CARD, SMALLER_CONTEXT

MEMORY: tuple[FailurePattern, ...] = (
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
