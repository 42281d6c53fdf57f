"""The rows of what a profile asks of vLLM and cannot have."""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern
from app.core.diagnosis.vllm.cures import FLOAT16

SETTINGS: tuple[FailurePattern, ...] = (
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
        advice="Take it out of the profile, or install another version of vLLM.",
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
