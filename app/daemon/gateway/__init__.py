"""Carries inference between clients and the active engine: bytes unchanged, every request one outcome."""
