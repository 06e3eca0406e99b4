"""Calls with other WebRTC stacks: Firefox, Chromium, pion, werift and libdatachannel, over a real relay.

Each stack is a program that owns peer connections and nothing else (``programs/``). A test drives it through
``engines.Engine``. ``remote.Remote`` is the client of the relay around it: all stacks share one implementation of
signaling. Browsers make and decode their media themselves. The other stacks only carry RTP: ``rtp`` encodes what
they send and decodes what they receive.
"""
