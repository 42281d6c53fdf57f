"""Owns engines, gateway, telemetry and library: asyncio, no Qt; never imports ui."""
