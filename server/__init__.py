"""The relay: who is in a room, and who gets which frame. Imports ``peer.protocol`` and nothing else of peer."""
