"""``python -m peer``."""

from .cli import main

main()
