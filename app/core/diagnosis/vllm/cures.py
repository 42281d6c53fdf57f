"""The cures that several of vLLM's rows name."""

from __future__ import annotations

from app.core.memory.plan_types import Remedy

SMALLER_CONTEXT = Remedy(title="Use a context of 4,096 tokens", settings={"context_tokens": 4_096})
KV_FP8 = Remedy(title="Keep the KV cache in fp8", settings={"kv_type": "fp8"})
EAGER = Remedy(title="Do not compile", settings={"eager": True})
FEWER_SEQUENCES = Remedy(title="Answer 16 requests at once", settings={"max_sequences": 16, "batch_tokens": 2_048})
LESS_OF_THE_CARD = Remedy(title="Take 0.8 of the card", settings={"gpu_memory_utilisation": 0.8})
FLOAT16 = Remedy(title="Compute in float16", settings={"number_type": "float16"})
TWO_CARDS = Remedy(title="Use one card", settings={"tensor_parallel": 1, "pipeline_parallel": 1})

DOWNLOAD_AGAIN = "Download the model again, or compare its files' sizes with the source's."
UPDATE_ENGINE = "Update vLLM, or take another form of the model."
OTHER_BUILD = "Install a build of vLLM for this card and its driver, with its own PyTorch."
