"""A log line for people with its facts beside it, for ``--log-format json``."""

from __future__ import annotations


def facts(event: str, **found: object) -> dict[str, dict[str, object]]:
    """What goes into ``extra`` of a logging call: ``event`` and ``found`` become keys of the JSON object."""
    return {"facts": {"event": event} | found}
