"""The shell blocks of docs/deployment.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deployment.md").read_text()


def block(words: str) -> str:
    """The one ``sh`` block that contains ``words``."""
    (found,) = [text for text in blocks() if words in text]
    return found


def blocks() -> list[str]:
    """All ``sh`` blocks, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
