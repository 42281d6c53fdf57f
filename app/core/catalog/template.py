"""Decides what a chat template shows that a model was made for."""

from __future__ import annotations

import re

_REASONING = ("<think>", "</think>", "[THINK]", "<thought>", "thinking", "reasoning_content", "reasoning_effort")


def template_capabilities(template: str | None) -> tuple[str, ...]:
    """`chat`, and `tools` and `reasoning` where the template has a place for them; nothing without one."""
    if template is None:
        return ()
    found = ["chat"]
    if re.search(r"\btools\b", template):
        found.append("tools")
    if any(mark in template for mark in _REASONING):
        found.append("reasoning")
    return tuple(found)
