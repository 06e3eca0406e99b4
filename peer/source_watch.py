"""Reports which of our sources are lost and back: as events, in the log, and to the viewers (``source`` messages).

A viewer's program cannot tell the card from a dark room. The message tells it, with the cause, but not with the name
of the device: that stays here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from . import events as ev
from .media.sources.local_media import Source, SourceBack, SourceLost
from .signaling import messages

log = logging.getLogger(__name__)


class SourceWatch:
    """Watch over ``sources``, from ``start`` until they are closed.

    Args:
        own_id: our id in the room.
        publish: takes an event.
        send: takes a message for the relay.
        viewers: returns the ids of the connected remotes.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        own_id: str,
        *,
        publish: Callable[[ev.Event], None],
        send: Callable[[messages.Message], None],
        viewers: Callable[[], Iterable[str]],
    ) -> None:
        self._sources = sources
        self._own_id = own_id
        self._publish = publish
        self._send = send
        self._viewers = viewers

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start the tasks that watch the sources."""
        for source in self._sources:
            tasks.create_task(self._watch(source), name=f"watch {source.name}")

    def on_event(self, event: ev.Event) -> None:
        """React to an event of this agent: a new viewer is told which sources are lost; after an outage of the relay,
        all viewers are told the state of each."""
        if isinstance(event, ev.Connected):
            for source in self._sources:
                if source.lost is not None:
                    self._report(source, [event.peer])
        elif isinstance(event, ev.ServerBack):
            for source in self._sources:
                self._report(source, self._viewers())

    async def _watch(self, source: Source) -> None:
        lost = [SourceLost(source.name, source.lost)] if source.lost is not None else []
        with source.failures.read(8, lost) as failures:
            async for failure in failures:
                self._publish_change(source, failure)
                self._report(source, self._viewers())

    def _publish_change(self, source: Source, change: SourceLost | SourceBack) -> None:
        match change:
            case SourceLost(name, error):
                log.warning("%s", error)
                self._publish(ev.SourceLost(source=name, kinds=source.kinds, cause=error.cause, message=str(error)))
            case SourceBack(name, seconds):
                log.warning("%s works again after %.1f s", name, seconds)
                self._publish(ev.SourceBack(source=name, kinds=source.kinds, seconds=round(seconds, 1)))

    def _report(self, source: Source, viewers: Iterable[str]) -> None:
        cause = None if source.lost is None else source.lost.cause
        for viewer in viewers:
            for kind in source.kinds:
                self._send(messages.Source(self._own_id, viewer, kind, cause))
