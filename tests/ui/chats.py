"""Hand-made conversations: what the chat's tests, its gallery and its benchmark show."""

from __future__ import annotations

import time
from pathlib import Path

from app.core.conversation import Conversation, Figures, Message
from app.ui.chat.store import ChatFile

QUESTION = "How much VRAM will Qwen3 32B FP8 need at 32k context on two cards?"
ANSWER = """About **31.4 GiB per GPU** with tensor parallelism 2. The breakdown:

| Part | Per GPU | Note |
|:-----|--------:|:-----|
| Weights | 16.4 GiB | FP8, split in two |
| KV cache | 12.0 GiB | `32 768` tokens × 6 sequences |
| Activations | 3.0 GiB | CUDA graphs included |

You can check it yourself:

```python
def kv_bytes(layers: int, heads: int, dim: int, ctx: int) -> int:
    \"\"\"Bytes of K and V
    for one sequence.\"\"\"
    return 2 * layers * heads * dim * ctx * 2

print(kv_bytes(64, 8, 128, 32_768) / 2**30)  # 8.0 GiB
```

Next steps:

1. Keep `gpu_memory_utilization` at **0.90**
2. Lower `max_num_seqs` if other apps share the card
   - it frees about 2 GiB per sequence
3. See [the documentation](https://docs.vllm.ai/)

> The first load compiles CUDA graphs, which takes a minute.

## Rule of thumb

Weights first, then the KV cache, then 10 % for everything else.
"""
REASONING = "The user asks for VRAM. Weights at FP8 are one byte per parameter.\n\nThen the KV cache on top."


def turn(number: int, text: str = ANSWER, question: str = QUESTION, **more: object) -> tuple[Message, Message]:
    parent = f"a{number - 1}" if number else None
    figures = Figures(first_token_seconds=0.086, tokens_per_second=64.2, completion_tokens=412, prompt_tokens=31)
    answer = {"finish": "stop", "figures": figures, "model": "qwen3-32b", **more}
    return (
        Message(id=f"q{number}", parent=parent, role="user", text=question, finish=""),
        Message(id=f"a{number}", parent=f"q{number}", role="assistant", text=text, **answer),  # type: ignore[arg-type]
    )


def keep(file: Path, conversations: dict[str, list[Message]], drafts: dict[str, str] | None = None) -> None:
    """Writes conversations by title, the first one as the last changed."""
    chats = ChatFile(file)
    now = time.time()
    for number, (title, messages) in enumerate(conversations.items()):
        chats.keep_conversation(
            Conversation(
                id=f"c{number}",
                title=title,
                created_at_unix=now - 90_000 * number,
                changed_at_unix=now - 90_000 * number,
                draft=(drafts or {}).get(title, ""),
            )
        )
        for message in messages:
            chats.keep_message(f"c{number}", message)
    chats.close()
