"""``python -m server``: the relay with its defaults. ``peer serve`` is the same with options."""

import asyncio
import logging
import sys

from .relay import CannotListen, RelayConfig
from .run import serve


def main() -> int:
    """Run the relay. Exit codes: 0 stopped by a signal, 1 cannot listen, 130 interrupted twice."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        asyncio.run(serve(RelayConfig()))
    except CannotListen as exc:
        logging.getLogger("server").error("%s", exc)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
