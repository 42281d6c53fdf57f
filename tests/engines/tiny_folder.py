"""The tiny Hugging Face model with which the app itself proves an engine."""

from app.daemon.tiny_folder import CONTEXT_TOKENS, SPECIAL, write_tiny_folder

__all__ = ["CONTEXT_TOKENS", "SPECIAL", "write_tiny_folder"]
