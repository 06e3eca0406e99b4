"""What of an input somebody wants right now: between the event loop and the thread that reads the input."""

from __future__ import annotations


class Demand:
    """Whether decoded pictures and sound are wanted; the loop sets it, a capture thread looks at it for each packet.

    ``decoded`` counts the packets of pictures that were decoded; the thread counts.
    """

    def __init__(self, *, pictures: bool = True, sound: bool = True) -> None:
        self.pictures = pictures
        self.sound = sound
        self.decoded = 0
