"""Receiving RTP, apart from any engine and any socket: packets, their order, what is lost, pictures put together.

PURE: bytes, numbers and moments in, pictures and figures out. Every structure is bounded. ``reception`` connects it
with the engine; ``docs/engine.md`` says what the engine's own parts cost.
"""
