"""The rows of a model that vLLM does not find, may not have, cannot read or does not know."""

from __future__ import annotations

from app.core.diagnosis.pattern import FailurePattern
from app.core.diagnosis.vllm.cures import DOWNLOAD_AGAIN, UPDATE_ENGINE

MODEL: tuple[FailurePattern, ...] = (
    FailurePattern(
        kind="needs_permission",
        pattern=r"(?:401|403) Client Error.*https?://(?P<host>[^/\s]+)/(?P<model>[^/\s]+/[^/\s]+)|GatedRepoError"
        r"|Access to model (?P<model_too>\S+) is restricted",
        summary="The model {model}{model_too} may only be fetched by who has accepted its terms.",
        advice="Accept them on the model's page, give Engine Room a token of that account, and download the model first.",
        rank=8,
    ),
    FailurePattern(
        kind="model_missing",
        pattern=r"HFValidationError: .*'(?P<path>[./~][^' ]+)'|Repo id must (?:be in the f|use alphanumeric)",
        summary="The model {path} is not there: it is neither a folder on this machine nor a name of the hub.",
        advice="Correct the path in the profile.",
    ),
    FailurePattern(
        kind="model_missing",
        pattern=r"LocalEntryNotFoundError|Cannot find an appropriate cached snapshot folder"
        r"|couldn't connect to 'https://huggingface\.co'|OfflineModeIsEnabled",
        summary="The model is not on this machine, and an engine does not download by itself.",
        advice="Download the model first, then load it.",
    ),
    FailurePattern(
        kind="no_network",
        pattern=r"(?:MaxRetryError|SSLError|ConnectionError).*host='(?P<host>[^']+)'",
        summary="The engine wanted something from {host} and cannot reach it.",
        advice="Download the model first and name its folder, or mend the network.",
    ),
    FailurePattern(
        kind="model_missing",
        pattern=r"presence of a '(?P<file_too>config\.json)'|does not appear to have a file named (?P<file>[\w./-]+\w)",
        summary="The model's folder is incomplete: {file}{file_too} is not there.",
        advice="Name a folder that holds a Hugging Face model with its config.json. " + DOWNLOAD_AGAIN,
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"(?:SafetensorError: )?Error while deserializing header: (?P<reason>.+)",
        summary="A file of the model's weights is damaged or cut off ({reason}).",
        advice=DOWNLOAD_AGAIN,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"has model type `(?P<type>[^`]+)` but Transformers does not recognize",
        summary="This vLLM is older than the model: its Transformers does not know the type {type}.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"Model architectures \[(?P<names>[^\]]*)\] (?:are not supported|failed to be inspected)",
        summary="This vLLM does not know the architecture {names}.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"(?P<name>\w+) has no vLLM implementation",
        summary="vLLM has no implementation of {name}.",
        advice=UPDATE_ENGINE,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"Unknown quantization method: (?P<method>[^.]*)\. Must be|quantization method (?P<method_too>\S+) is not supported",
        summary="vLLM does not know how the model is quantised: '{method}{method_too}'.",
        advice="Take a form of the model made for vLLM: AWQ, GPTQ, FP8 or compressed-tensors; conversions for MLX are not.",
    ),
    FailurePattern(
        kind="needs_trust",
        pattern=r"requires you to execute the (?:configuration )?file|option `trust_remote_code=True`",
        summary="The model brings Python code of its own, which vLLM runs only when told that it is trusted.",
        advice="Read that code, then set trust_remote_code in the profile; it runs with all your rights.",
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"invalid tiktoken vocab file: (?P<reason>.+)",
        summary="A vocabulary file is damaged: {reason}.",
        advice="Delete it from the cache and download it again.",
    ),
    FailurePattern(
        kind="bad_model",
        pattern=r"TypeError: not a string|Couldn't instantiate the backend tokenizer|Can't load tokenizer for|\.model is not found",
        summary="The model's tokeniser files are incomplete.",
        advice="Download them again, or name the original model's folder as the tokeniser.",
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"config file at '(?P<file>[^']+\.gguf)' is not a valid JSON|(?:load|weights?) format gguf is not supported",
        summary="This vLLM does not load GGUF files: newer versions leave that to a plugin.",
        advice="Load {file} with llama.cpp, or take the original model's folder.",
        rank=9,
    ),
    FailurePattern(
        kind="unsupported_model",
        pattern=r"GGUF model with architecture (?P<type>\S+) is not supported|Unknown gguf model_type: (?P<type_too>\S+)",
        summary="vLLM cannot load GGUF files of the architecture {type}{type_too}.",
        advice="Load this file with llama.cpp, or the original model with vLLM.",
    ),
)
