"""The agent: one peer in one room, with its sources, its calls and its playout.

Everything runs in one event loop and one TaskGroup. ``Room`` talks to the relay, ``CallControl`` manages the calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from . import events as ev
from . import negotiation as n
from .call import Call, State
from .call_control import CallControl
from .errors import CallFailed, ConfigError
from .media.audio.speaker import SpeakerBack, SpeakerLost
from .media.fanout import Fanout, Reader
from .media.outgoing.audio_track import OutgoingAudio
from .media.outgoing.passthrough import Passthrough
from .media.outgoing.shared import SharedAudio, SharedVideo
from .media.outgoing.track import OutgoingVideo
from .media.sources.device_watch import DeviceWatch
from .media.sources.local_media import LocalMedia, open_sources
from .media.sources.spec import parse_audio, parse_control, parse_video
from .options import VIDEO_CODECS, VIDEO_ENCODERS, AgentOptions, MediaOptions, RelayOptions, taking
from .playout import Playout
from .room import Room
from .rtc.connection import ConnectionOptions
from .rtc.outgoing_tracks import OutgoingTracks
from .signaling import messages
from .signaling.ice_servers import IceServer, merge, parse_ice_server
from .signaling.identity import default_id, new_instance
from .signaling.relay_url import check_url, tls_context
from .source_watch import SourceWatch

log = logging.getLogger(__name__)

EVENT_BACKLOG: Final = 1000
"""Maximum number of events queued per reader. A reader that falls further behind loses the oldest."""

DEFAULT_SIZE: Final = (1280, 720)
"""Size of the outgoing video in pixels before the source has delivered its first frame."""


class Agent:
    """One peer in one room: ``async with Agent("lobby", server=…, video="test") as agent: …``.

    Entering opens the sources and joins the room. Leaving hangs up, closes recordings and leaves the room. Joining
    starts no call. Incoming calls are answered unless ``accept(peer)`` returns ``False``.

    The arguments are the fields of ``AgentOptions``: ``peer/options.py`` has their defaults and units,
    docs/interface.md their meaning.

    Raises:
        ConfigError: an argument has a wrong value.
        MediaError: on entering: a source could not be opened, or the speaker cannot play.
        ServerUnreachable: on entering: the relay cannot be reached.
        JoinRefused: on entering: the relay rejected the join.
    """

    @taking(AgentOptions)
    def __init__(self, options: AgentOptions) -> None:
        self.id = default_id() if options.id is None else options.id
        codecs = options.video_codec
        if not messages.is_valid_id(self.id):
            raise ConfigError(f"{self.id!r} is not a valid id: use 1 to 64 of A-Z a-z 0-9 . _ ~ -", where="--id")
        if codecs is not None and (not codecs or not set(codecs) <= set(VIDEO_CODECS)):
            raise ConfigError(f"{','.join(codecs)!r}: choose from vp8, h264", where="--video-codec")
        if options.video_encoder not in VIDEO_ENCODERS:
            raise ConfigError(f"{options.video_encoder!r}: choose from auto, software", where="--video-encoder")
        self._options = options
        self._instance = new_instance()
        self._server = check_url(options.server)
        self._tls = tls_context(options.cacert)
        self._video, self._audio = parse_video(options.video), parse_audio(options.audio)
        self._controls = [parse_control(text) for text in options.camera_controls]
        self._video_out: SharedVideo | None = None
        self._audio_out: SharedAudio | None = None
        self._connection_options = ConnectionOptions(
            ice_servers=_usable(options.ice_servers),
            relay_only=options.relay_only,
            video_codecs=None if codecs is None else tuple(codecs),
        )
        self._events: Fanout[ev.Event] = Fanout()
        self._signaling: asyncio.Task[None] | None = None
        self._device_watch: asyncio.Task[None] | None = None

    @classmethod
    def from_options(
        cls,
        relay: RelayOptions,
        media: MediaOptions,
        *,
        accept: Callable[[str], bool] | None = None,
        unattended: bool = False,
    ) -> Self:
        """Create an agent from these options. Equivalent to ``Agent`` with all their fields as arguments."""
        return cls(**vars(relay), **vars(media), accept=accept, unattended=unattended)

    # --- entering and leaving ---

    async def __aenter__(self) -> Agent:
        stack = AsyncExitStack()
        try:
            await self._enter(stack)
        except BaseException:
            await stack.aclose()
            raise
        self._stack = stack
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The exception is not passed on: the TaskGroup would wrap the caller's own exception in a group.
        await self._stack.aclose()

    async def _enter(self, stack: AsyncExitStack) -> None:
        options = self._options
        self._media: LocalMedia = await open_sources(
            self._video,
            self._audio,
            size=options.size,
            fps=options.fps,
            controls=self._controls,
            unattended=options.unattended,
        )
        stack.push_async_callback(self._media.close)
        self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
        self._share_media(self._tasks)
        self._source_watch = SourceWatch(
            self._media.sources,
            self.id,
            publish=self._events.put,
            send=lambda message: self._room.send(message),
            viewers=lambda: [peer for peer, call in self._calls.calls.items() if call.state is State.CONNECTED],
        )
        self._playout = Playout(
            self._tasks,
            show=options.show,
            speaker=options.speaker,
            on_close=lambda peer: self._calls.dispatch(peer, n.HangUp()),
            on_notice=lambda line: log.warning("%s", line),
            on_speaker=self._report_speaker,
            unattended=options.unattended,
        )
        self._calls: CallControl = CallControl(
            self.id,
            self._tasks,
            options=self._connection_options,
            tracks=self._create_tracks,
            playout=self._playout,
            send=lambda message: self._room.send(message),
            publish=self._publish,
            is_present=lambda peer: peer in self._room,
        )
        self._room: Room = Room(
            self._server,
            messages.Join(self.id, options.room, options.token, options.key, self._instance),
            self._calls,
            self._publish,
            accept=options.accept,
            join_timeout=options.join_timeout,
            tls=self._tls,
        )
        stack.push_async_callback(self._leave)
        for notice in self._media.notices:
            log.warning("%s", notice)
        self._source_watch.start(self._tasks)
        if options.speaker != "none" or any(source.has_device for source in self._media.sources):
            self._device_watch = self._tasks.create_task(self._watch_devices(), name="watch /dev")
        await self._playout.open(self._media.video)
        self._signaling = self._tasks.create_task(self._room.run(), name="signaling")
        await self._room.wait_joined()

    def _share_media(self, tasks: asyncio.TaskGroup) -> None:
        """Create the outgoing video and audio, which all calls share."""
        media, options = self._media, self._options
        if media.video is not None:
            passthrough = None
            if media.encoded is not None and media.passthrough is not None:
                passthrough = Passthrough(tasks, media.encoded, media.passthrough, options.max_bitrate)
            self._video_out = SharedVideo(
                tasks,
                media.video,
                size=options.size or DEFAULT_SIZE,
                fps=options.fps,
                max_bitrate=options.max_bitrate,
                passthrough=passthrough,
                hardware=options.video_encoder == "auto",
                expected=media.frame_expected,
            )
        if media.audio is not None:
            self._audio_out = SharedAudio(tasks, media.audio)

    def _create_tracks(self) -> OutgoingTracks:
        return OutgoingTracks(
            OutgoingVideo(self._video_out) if self._video_out is not None else None,
            OutgoingAudio(self._audio_out) if self._audio_out is not None else None,
        )

    async def _leave(self) -> None:
        self._room.leave()
        for peer in self._calls.calls:
            self._calls.dispatch(peer, n.HangUp("shutdown"))
        await self._room.flush()
        self._calls.close()
        if self._device_watch is not None:
            self._device_watch.cancel()
        await self._media.close()  # also ends the tasks of the source watch
        if self._signaling is not None:
            self._signaling.cancel()
        await self._playout.close()
        self._events.close()

    # --- the interface ---

    @property
    def peers(self) -> Mapping[str, State]:
        """The other peers in the room, each with the state of its call. Includes connected peers that have left."""
        known = dict.fromkeys((*self._room.peers, *self._calls.calls))
        return {peer: self._calls.state(peer) for peer in known}

    @property
    def calls(self) -> Mapping[str, Call]:
        """Calls that have not ended, by peer."""
        return self._calls.calls

    def call(self, peer: str, timeout: float = 15.0) -> Call:
        """Call ``peer``, or return the existing call with it. It ends unless connected within ``timeout`` seconds.

        Raises:
            ConfigError: ``peer`` is not a valid id, or is our own.
            CallFailed: with ``shutdown``: this agent is leaving or has left.
            JoinRefused: the relay has rejected this agent for good.
        """
        if not messages.is_valid_id(peer):
            raise ConfigError(f"cannot call {peer!r}: not a valid id")
        if peer == self.id:
            raise ConfigError(f"cannot call {peer!r}: it is this agent's own id")
        self._room.check_rejected()
        if self._room.leaving:
            raise CallFailed(peer, "shutdown")
        self._calls.dial(peer, timeout)
        return self._calls.calls[peer]

    async def wait_for(self, peer: str, timeout: float | None = None) -> None:
        """Wait until ``peer`` is in the room.

        Raises:
            CallFailed: with ``no-answer`` (``NotHere``) after ``timeout`` seconds, or with ``shutdown`` when this
                agent leaves.
            JoinRefused: the relay has rejected this agent for good.
        """
        await self._room.wait_for(peer, timeout)

    async def closed(self) -> None:
        """Wait until this agent leaves, or until the relay rejects it for good.

        Raises:
            JoinRefused: rejected. ``code`` is ``replaced`` if another program took over the seat.
        """
        await self._room.wait_closed()

    def events(self) -> Reader[ev.Event]:
        """Return a reader of all events from now on: ``async for event in agent.events()``. It ends with the agent. A
        reader that falls 1,000 events behind loses the oldest."""
        return self._events.read(EVENT_BACKLOG)

    def _publish(self, event: ev.Event) -> None:
        self._events.put(event)
        self._source_watch.on_event(event)

    def _report_speaker(self, state: SpeakerLost | SpeakerBack) -> None:
        if isinstance(state, SpeakerLost):
            self._events.put(ev.SinkLost(sink=state.device, message=state.why))
        else:
            self._events.put(ev.SinkBack(sink=state.device, seconds=round(state.seconds, 1)))

    async def _watch_devices(self) -> None:
        def on_change() -> None:
            self._media.devices_changed()
            self._playout.devices_changed()

        await DeviceWatch(on_change).run()


def _usable(urls: Sequence[str]) -> tuple[IceServer, ...]:
    """Parse ``urls`` and return the supported servers. Logs a warning for each other one, which a browser may
    support.

    Raises:
        ConfigError: not the URL of an ICE server.
    """
    servers = [parse_ice_server(url) for url in urls]
    for server in servers:
        if server.unsupported is not None:
            log.warning("ignored %s: %s", server.url, server.unsupported)
    return merge((server for server in servers if server.unsupported is None), ())
