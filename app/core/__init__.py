"""Holds the decisions: pure values and functions; no Qt, no asyncio, no sockets; time and files arrive as arguments."""
