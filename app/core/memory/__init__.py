"""Decides what a model needs, what is free, and what would help."""

from app.core.memory.planner import admitted, plan

__all__ = ["admitted", "plan"]
