"""The child process of ``encoder_probe.py``: tries the encoders that it is given by name.

It prints one JSON object per encoder as soon as it is tried, because the next one may crash this process.
"""

from __future__ import annotations

import json
import resource
import sys

from peer.media.outgoing import encoder


def main(names: list[str]) -> None:
    """Try each encoder of ``names`` and print the result."""
    for name in names:
        sys.stdout.write(json.dumps({"encoder": name, "problem": encoder.trial(name)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is an expected result
    main(sys.argv[1:])
