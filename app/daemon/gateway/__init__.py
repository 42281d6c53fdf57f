"""Owns the one stable OpenAI-compatible endpoint: who may ask, who waits, what reaches the engine and what comes back."""

from app.daemon.gateway.server import Bound, Gateway
from app.daemon.gateway.upstream import Route

__all__ = ["Bound", "Gateway", "Route"]
