"""Writes a real but tiny projector, with which a tiny model looks at pictures; the engine loads it within milliseconds."""

import base64
import json
import struct
import zlib
from pathlib import Path

import gguf
import numpy as np

from tests.engines.running import Running

IMAGE, PATCH = 28, 14  # pixels: two by two pieces


def write_tiny_projector(path: Path, *, width: int = 64, layers: int = 1, model_width: int = 64) -> Path:
    """A vision tower of random numbers with two matrices behind it, of the oldest kind that the engine knows (LLaVA)."""
    writer = gguf.GGUFWriter(str(path), "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", True)
    writer.add_string("clip.projector_type", "mlp")
    vision = {
        "image_size": IMAGE,
        "patch_size": PATCH,
        "embedding_length": width,
        "feed_forward_length": 2 * width,
        "projection_dim": model_width,
        "block_count": layers,
        "attention.head_count": 2,
    }
    for name, value in vision.items():
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    random = np.random.default_rng(5)

    def weights(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.05).astype(np.float32))

    def both(name: str, *shape: int) -> None:
        weights(f"{name}.weight", *shape)
        weights(f"{name}.bias", shape[0])

    pieces = (IMAGE // PATCH) ** 2
    weights("v.patch_embd.weight", width, 3, PATCH, PATCH)
    weights("v.class_embd", width)
    weights("v.position_embd.weight", pieces + 1, width)
    both("v.pre_ln", width)
    for layer in range(layers):
        at = f"v.blk.{layer}."
        both(at + "ln1", width)
        both(at + "ln2", width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            both(at + name, width, width)
        both(at + "ffn_up", 2 * width, width)
        both(at + "ffn_down", width, 2 * width)
    both("mm.0", model_width, width)
    both("mm.2", model_width, model_width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def png(red: int, green: int, blue: int) -> bytes:
    """A small picture of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes((red, green, blue)) * IMAGE) * IMAGE
    head = struct.pack(">IIBBBBB", IMAGE, IMAGE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def assert_it_looks_at_an_image(engine: Running) -> None:
    """A running engine with the projector: an image makes the prompt longer by its pieces, and an answer comes."""

    def prompt_tokens(*images: bytes) -> int:
        parts: list[dict[str, object]] = [{"type": "text", "text": "What is it?"}]
        for image in images:
            url = "data:image/png;base64," + base64.b64encode(image).decode()
            parts.append({"type": "image_url", "image_url": {"url": url}})
        body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 4, "logit_bias": {"97": 100}}
        status, text = engine.request("/v1/chat/completions", body)
        assert status == 200, text
        answer = json.loads(text)
        assert answer["choices"][0]["message"]["content"].startswith("aaa")
        return int(answer["usage"]["prompt_tokens"])

    plain, one, two = prompt_tokens(), prompt_tokens(png(255, 0, 0)), prompt_tokens(png(255, 0, 0), png(0, 0, 255))
    assert one - plain >= (IMAGE // PATCH) ** 2
    assert two - one == one - plain
