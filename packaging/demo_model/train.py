"""Decides how the demo model learns: its shape, its tokenizer, the batches and the optimiser; needs torch."""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import corpus
import torch
import torch.nn.functional as F
from plan import Plan, tokenizer_text
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

# The pre-tokenizer that llama.cpp calls "qwen2": every digit is a token of its own.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END_OF_TEXT, TURN_START, TURN_END = 0, 1, 2


@dataclass(frozen=True)
class Shape:
    """Widths are multiples of 256, so that K-quants of this model are possible too."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 512
    context: int = 2048
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def build_tokenizer(size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts: list[str] = []
    answers: set[str] = set()
    for chat in tokenizer_text():
        for role, text in chat:
            if role != "assistant" or text not in answers:
                texts.append(text)
            if role == "assistant":
                answers.add(text)
    # Every answer counts a few times, so that its words become single tokens.
    texts += sorted(answers) * 4
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(corpus.SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class Norm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on neighbouring pairs, as llama.cpp expects of the architecture `llama`."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.attn_norm = Norm(shape.width, shape.epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_v = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = Norm(shape.width, shape.epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, _ = x.shape
        h = self.attn_norm(x)
        q = self.attn_q(h).view(rows, length, self.shape.heads, -1).transpose(1, 2)
        k = self.attn_k(h).view(rows, length, self.shape.kv_heads, -1).transpose(1, 2)
        v = self.attn_v(h).view(rows, length, self.shape.kv_heads, -1).transpose(1, 2)
        share = self.shape.heads // self.shape.kv_heads
        q, k = rotate(q, cos, sin), rotate(k, cos, sin).repeat_interleave(share, 1)
        seen = F.scaled_dot_product_attention(q, k, v.repeat_interleave(share, 1), is_causal=True)
        x = x + self.attn_output(seen.transpose(1, 2).reshape(rows, length, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Model(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape.width, shape.epsilon)
        nn.init.normal_(self.token_embd.weight, std=0.02)
        for block in self.blk:
            for layer in (block.attn_output, block.ffn_down):
                nn.init.zeros_(layer.weight)
        turns = shape.rope_base ** (-torch.arange(0, shape.head_width, 2) / shape.head_width)
        angles = torch.outer(torch.arange(shape.context), turns)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def loss(self, tokens: Tensor, weights: Tensor) -> Tensor:
        x = self.token_embd(tokens[:, :-1])
        cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        for block in self.blk:
            x = block(x, cos, sin)
        wanted = weights[:, 1:] > 0
        logits = F.linear(self.output_norm(x[wanted]), self.token_embd.weight)
        each = F.cross_entropy(logits, tokens[:, 1:][wanted], reduction="none")
        w = weights[:, 1:][wanted]
        return (each * w).sum() / w.sum()


class Batches:
    """Turns chats into token rows with one loss weight per token.

    The opening of an answer decides which answer it is; the rest is recited. So opening tokens weigh more, and half of
    all tokens go to rows of one question with only the opening of its answer.
    """

    OPENING, OPENING_WEIGHT = 6, 3.0

    def __init__(self, tokenizer: Tokenizer, plan: Plan) -> None:
        self.plan = plan
        self._tokenizer = tokenizer
        self._chats = plan.chats()
        self._firsts = plan.firsts()
        self._longs = plan.longs()
        self._known: dict[str, list[int]] = {}

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).ids

    def _row(self, chat: list[tuple[str, str]], answer_limit: int = 10**9) -> tuple[list[int], list[float]]:
        ids: list[int] = []
        weights: list[float] = []
        for turn, (role, text) in enumerate(chat):
            head = self._known.setdefault(role, self._encode(f"<|im_start|>{role}\n"))
            ids += head
            weights += [0.0] * len(head)
            body = [*self._encode(text), TURN_END]
            if role == "assistant":
                body = body[:answer_limit] if turn == len(chat) - 1 else body
                value = [self.OPENING_WEIGHT if i < self.OPENING else 1.0 for i in range(len(body))]
            else:
                value = [self.plan.question_weight if role == "user" else 0.0] * len(body)
            ids += body
            weights += value
            tail = self._known.setdefault("\n", self._encode("\n"))
            ids += tail
            weights += [0.0]
        return ids, weights

    def _pack(self, rows: list[tuple[list[int], list[float]]], limit: int) -> tuple[Tensor, Tensor]:
        length = min(limit, max(len(ids) for ids, _ in rows))
        tokens = torch.zeros(len(rows), length, dtype=torch.long)
        weights = torch.zeros(len(rows), length)
        for i, (ids, w) in enumerate(rows):
            n = min(length, len(ids))
            tokens[i, :n] = torch.tensor(ids[:n])
            weights[i, :n] = torch.tensor(w[:n])
        return tokens, weights

    def step(self, long: bool) -> list[tuple[Tensor, Tensor]]:
        """The four packs of one step, two of first questions and two of chats."""
        firsts = [self._row(next(self._firsts), self.plan.first_answer) for _ in range(self.plan.first_rows)]
        # Rows of similar length waste little on padding.
        firsts.sort(key=lambda row: len(row[0]))
        cut = len(firsts) * 5 // 8
        if long:
            chats, limit = [self._row(next(self._longs)) for _ in range(self.plan.long_rows)], 2048
        else:
            chats, limit = [self._row(next(self._chats)) for _ in range(self.plan.chat_rows)], self.plan.chat_tokens
        half = len(chats) // 2
        return [
            self._pack(chats[:half], limit),
            self._pack(chats[half:], limit),
            self._pack(firsts[:cut], self.plan.first_tokens),
            self._pack(firsts[cut:], self.plan.first_tokens),
        ]


def orthogonal(g: Tensor) -> Tensor:
    """The nearest orthogonal matrix, by five Newton-Schulz steps: the heart of the Muon optimiser."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def gradients(model: Model, tokens: Tensor, weights: Tensor) -> tuple[float, tuple[Tensor, ...]]:
    with torch.enable_grad():
        loss = model.loss(tokens, weights)
        return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


def prepare(folder: Path, shape: Shape, seed: int) -> None:
    """Build the tokenizer and the untrained weights."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer(shape.vocabulary).save(str(folder / "tokenizer.json"))
    (folder / "shape.json").write_text(json.dumps(asdict(shape)))
    torch.save(Model(shape).state_dict(), folder / "weights.pt")


def train(folder: Path, plan: Plan) -> None:
    """Train the weights in `folder` for one round."""
    # Two packs at a time, one thread each: on a shared machine that is several times faster than two threads per
    # operation, which wait for each other at every barrier.
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(2, initializer=lambda: torch.set_num_threads(1))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = Model(Shape(**json.loads((folder / "shape.json").read_text())))
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    matrices = [p for p in model.blk.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if all(p is not m for m in matrices)]
    momenta = [torch.zeros_like(p) for p in matrices]
    adam = torch.optim.AdamW(vectors, lr=plan.vector_rate, betas=(0.9, 0.98), weight_decay=0.0)
    batches = Batches(tokenizer, plan)
    began, seen = time.monotonic(), 0
    for step in range(plan.steps):
        rest = (plan.steps - step) / (plan.steps * plan.decay_share) if plan.decay_share else 1.0
        decay = min(1.0, rest) * min(1.0, (step + 1) / plan.warm_up)
        packs = batches.step(step >= plan.long_from)
        results = list(pool.map(lambda pack: gradients(model, *pack), packs))
        losses = [loss for loss, _ in results]
        for p, *grads in zip(model.parameters(), *(grads for _, grads in results), strict=True):
            p.grad = torch.stack(grads).sum(0) / len(grads)
        seen += sum(tokens.numel() for tokens, _ in packs)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with torch.no_grad():
            for p, m in zip(matrices, momenta, strict=True):
                m.lerp_(p.grad, 0.05)
            updates = pool.map(orthogonal, [p.grad.lerp(m, 0.95) for p, m in zip(matrices, momenta, strict=True)])
            for p, update in zip(matrices, updates, strict=True):
                p.mul_(1 - plan.matrix_rate * decay * 0.05)
                p.add_(update, alpha=-plan.matrix_rate * decay * math.sqrt(max(1.0, p.shape[0] / p.shape[1])))
                p.grad = None
        for group in adam.param_groups:
            group["lr"] = plan.vector_rate * decay
        adam.step()
        adam.zero_grad(set_to_none=True)
        if step % 20 == 0 or step == plan.steps - 1:
            spent = time.monotonic() - began
            print(
                f"step {step} losses {' '.join(f'{x:.3f}' for x in losses)} {seen / spent:.0f} tok/s {spent:.0f} s",
                flush=True,
            )
    pool.shutdown()
    torch.save(model.state_dict(), folder / "weights.pt")
