"""Decides what a model needs, what is free, and what would help."""

from app.core.memory.planner import plan

__all__ = ["plan"]
