"""RTP without an engine or sockets: packets, order, loss, frames and statistics. Pure.

Bytes, numbers and times in; frames, requests and statistics out. Every buffer is bounded. ``peer.rtc.receiver`` and
``peer.rtc.sender`` connect this package with the engine; docs/engine.md has the cost of the engine's own parts.
"""
