"""Names how a Hugging Face model is quantised, from the `quantization_config` of its config.json."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.catalog.facts import one_line

_METHODS = {"awq": "AWQ", "gptq": "GPTQ", "fp8": "FP8", "fbgemm_fp8": "FP8", "nvfp4": "NVFP4", "mxfp4": "MXFP4"}


def quantisation_of(config: Mapping[str, object]) -> str | None:
    """The name that people know, from a config's `quantization_config`: AWQ, GPTQ, FP8, NVFP4, bitsandbytes, …"""
    method = one_line(str(config.get("quant_method") or config.get("quant_algo") or ""), 40).lower()
    if method in ("modelopt", "compressed-tensors", "sparseml") or not method:
        return _packed(config) or method or None
    bits = config.get("bits", config.get("w_bit"))
    if method == "bitsandbytes":
        return "bitsandbytes 8-bit" if config.get("load_in_8bit") is True else "bitsandbytes 4-bit"
    name = _METHODS.get(method, method)
    return (
        f"{name} {bits}-bit"
        if name in ("AWQ", "GPTQ") and isinstance(bits, int) and bits in range(1, 17) and bits != 4
        else name
    )


def kv_quantisation_of(config: Mapping[str, object]) -> str | None:
    """The number type of the KV cache for which the weights carry scales: "fp8", "nvfp4"; None: that of the model."""
    said = str(config.get("kv_cache_quant_algo") or "").lower()
    if said in ("fp8", "nvfp4"):
        return said
    scheme = config.get("kv_cache_scheme")
    if isinstance(scheme, dict) and scheme.get("num_bits") == 8 and scheme.get("type") == "float":
        return "fp8"
    return None


def _packed(config: Mapping[str, object]) -> str | None:
    """Of the two formats that hold several kinds of numbers, the kind."""
    stated = str(config.get("quant_algo") or config.get("format") or "").lower()
    for mark, name in (("nvfp4", "NVFP4"), ("mxfp4", "MXFP4"), ("fp8", "FP8"), ("float-quantized", "FP8")):
        if mark in stated:
            return name
    groups = config.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict) and (bits := weights.get("num_bits")) in range(1, 65):
            inputs = group.get("input_activations")
            kind = "FP" if weights.get("type") == "float" else "INT"
            if kind == "INT" and not isinstance(inputs, dict):
                return f"W{bits}A16"
            return f"{kind}{bits}"
    return None


def weight_bits_of(config: Mapping[str, object]) -> int:
    """Bits of one quantised weight; 4 where nothing is said, as nearly all packed formats have."""
    groups = config.get("config_groups")
    weights = (
        [group.get("weights") for group in groups.values() if isinstance(group, dict)]
        if isinstance(groups, dict)
        else []
    )
    said = [
        config.get("bits"),
        config.get("w_bit"),
        *(each.get("num_bits") for each in weights if isinstance(each, dict)),
    ]
    return next((bits for bits in said if isinstance(bits, int) and not isinstance(bits, bool) and 1 <= bits <= 16), 4)
