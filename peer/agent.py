"""The shell: one room, one TaskGroup, everything a program needs of both.

What the relay says goes to the directory (who is here) or, as an event of one remote, to the exchange (the calls).
Everything happens in one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from . import events as ev
from . import negotiation as n
from .call import Call, State
from .call_control import Exchange
from .errors import CallFailed, ConfigError, JoinRefused, NotHere, ServerUnreachable
from .media.fanout import Fanout, Reader
from .media.outgoing.passthrough import PassthroughRelay
from .media.outgoing.shared import SharedAudio, SharedVideo
from .media.outgoing.track import OutgoingAudio, OutgoingVideo
from .media.sources.local_media import LocalMedia, Source, SourceLost, open_sources
from .media.sources.spec import parse_audio, parse_video
from .options import VIDEO_CODECS, VIDEO_ENCODERS, AgentOptions, MediaOptions, RelayOptions, taking
from .playout import Presentation
from .rtc.connection import ConnectionOptions, OutgoingTracks
from .signaling import messages
from .signaling.client import (
    Disconnected,
    Joined,
    MessageReceived,
    Rejected,
    SignalingClient,
    SignalingEvent,
    check_url,
    tls_context,
)
from .signaling.diagnosis import Diagnosis
from .signaling.ice_servers import IceServer, merge, parse_ice_server, read_ice_servers
from .signaling.identity import default_id
from .signaling.presence import Presence

log = logging.getLogger(__name__)

LEAVE_TIMEOUT: Final = 2.0
"""Seconds that leaving waits for hang-ups to go out."""

TURN_HINT: Final = "--ice-server turn:user:password@host"

CARD: Final = (1280, 720)
"""Size in pixels of what is shown before a source has shown anything."""


class Agent:
    """One peer in one room: ``async with Agent("lobby", server=…, video="test") as agent: …``.

    Entering opens the sources and joins the room; leaving hangs up, closes recordings and leaves. Joining calls
    nobody; incoming calls are answered unless ``accept(peer)`` says no.

    The arguments are the fields of ``AgentOptions``: each with its default and unit is in ``peer/options.py``, and
    with its meaning in docs/interface.md.

    Raises:
        ConfigError: a value that cannot be used.
        On entering: MediaError (a source), ServerUnreachable, JoinRefused.
    """

    @taking(AgentOptions)
    def __init__(self, options: AgentOptions) -> None:
        self.id = default_id() if options.id is None else options.id
        codecs = options.video_codec
        if not messages.is_valid_id(self.id):
            raise ConfigError(f"{self.id!r} is no id: use 1 to 64 of A-Z a-z 0-9 . _ ~ -", where="--id")
        if codecs is not None and (not codecs or not set(codecs) <= set(VIDEO_CODECS)):
            raise ConfigError(f"{','.join(codecs)!r}: choose from vp8, h264", where="--video-codec")
        if options.video_encoder not in VIDEO_ENCODERS:
            raise ConfigError(f"{options.video_encoder!r}: choose from auto, software", where="--video-encoder")
        self._server = check_url(options.server)
        self._tls = tls_context(options.cacert)
        self._join = messages.Join(self.id, options.room, options.token, options.key)
        self._video, self._audio = parse_video(options.video), parse_audio(options.audio)
        self._video_out: SharedVideo | None = None
        self._audio_out: SharedAudio | None = None
        self._size, self._fps = options.size, options.fps
        self._speaker, self._show = options.speaker, options.show
        self._accept = options.accept
        self._join_timeout = options.join_timeout
        self._left_out: list[str] = []
        self._turnless = False
        self._options = ConnectionOptions(
            ice_servers=_usable(options.ice_servers),
            relay_only=options.relay_only,
            video_codecs=None if codecs is None else tuple(codecs),
        )
        self._max_bitrate = options.max_bitrate
        self._hardware = options.video_encoder == "auto"
        self._presence = Presence(self.id)
        self._events: Fanout[ev.Event] = Fanout()
        self._changed = asyncio.Event()
        self._service: asyncio.Task[None] | None = None
        self._joined = self._was_joined = False
        self._lost: Diagnosis | None = None
        self._refused: Rejected | None = None
        self._put_off: tuple[str, str] | None = None
        self._leaving = False

    @classmethod
    def from_options(
        cls, relay: RelayOptions, media: MediaOptions, *, accept: Callable[[str], bool] | None = None
    ) -> Self:
        """An agent with these options: ``Agent`` with all their fields as arguments."""
        return cls(**vars(relay), **vars(media), accept=accept)

    # --- life ---

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
        # The TaskGroup is not told what the body raised: it would wrap the caller's own exception in a group.
        await self._stack.aclose()

    async def _enter(self, stack: AsyncExitStack) -> None:
        self._media: LocalMedia = await open_sources(self._video, self._audio, size=self._size, fps=self._fps)
        stack.push_async_callback(self._media.close)
        self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
        self._share(self._tasks)
        self._presentation = Presentation(
            self._tasks,
            show=self._show,
            speaker=self._speaker,
            on_close=lambda peer: self._exchange.feed(peer, n.HangUp()),
            on_notice=lambda line: log.warning("%s", line),
        )
        self._signaling = SignalingClient(self._server, self._join, self._signal, tls=self._tls)
        self._exchange = Exchange(
            self.id,
            self._tasks,
            options=self._options,
            tracks=self._tracks,
            presentation=self._presentation,
            send=self._signaling.send,
            publish=self._publish,
            here=lambda peer: peer in self._presence,
        )
        stack.push_async_callback(self._leave)
        for notice in self._media.notices:
            log.warning("%s", notice)
        for source in self._media.sources:
            self._tasks.create_task(self._watch_source(source), name=f"watch {source.name}")
        await self._presentation.open(self._media.video)
        self._service = self._tasks.create_task(self._signaling.run(), name="signaling")
        await self._first_join()

    def _share(self, tasks: asyncio.TaskGroup) -> None:
        """What all calls send."""
        media = self._media
        if media.video is not None:
            relay = None
            if media.encoded is not None and media.passthrough is not None:
                relay = PassthroughRelay(tasks, media.encoded, media.passthrough, self._max_bitrate)
            self._video_out = SharedVideo(
                tasks,
                media.video,
                size=self._size or CARD,
                fps=self._fps,
                max_bitrate=self._max_bitrate,
                relay=relay,
                hardware=self._hardware,
                expected=media.frame_expected,
            )
        if media.audio is not None:
            self._audio_out = SharedAudio(tasks, media.audio)

    def _tracks(self) -> OutgoingTracks:
        return OutgoingTracks(
            OutgoingVideo(self._video_out) if self._video_out is not None else None,
            OutgoingAudio(self._audio_out) if self._audio_out is not None else None,
        )

    async def _first_join(self) -> None:
        try:
            async with asyncio.timeout(self._join_timeout):
                while not self._joined:
                    self._raise_refusal()
                    if self._lost is not None and self._lost.permanent and self._join_timeout is not None:
                        break
                    await self._changed.wait()
                else:
                    return
        except TimeoutError:
            if self._put_off is not None:
                raise JoinRefused(self._server, *self._put_off) from None
        diagnosis = self._lost or self._signaling.timeout_diagnosis
        raise ServerUnreachable(self._server, diagnosis.why, diagnosis.hint)

    async def _leave(self) -> None:
        self._leaving = True
        self._notify()
        for peer in self._exchange.calls:
            self._exchange.feed(peer, n.HangUp("shutdown"))
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self._signaling.flush()
        except TimeoutError:
            log.warning("the relay did not take our hang-ups in time")
        self._exchange.close()
        await self._media.close()  # ends the watchers of the sources
        if self._service is not None:
            self._service.cancel()
        await self._presentation.close()
        self._events.close()

    async def closed(self) -> None:
        """Wait until it is over by itself: the relay turns us out for good. Returns once we have left.

        Raises:
            JoinRefused: turned out; ``code`` is ``replaced`` when another program took our seat.
        """
        while not self._leaving:
            self._raise_refusal()
            await self._changed.wait()

    def _raise_refusal(self) -> None:
        if self._refused is not None:
            raise JoinRefused(self._server, self._refused.code, self._refused.message)

    # --- what a program sees ---

    @property
    def peers(self) -> Mapping[str, State]:
        """Who else is in the room, and what we have with them. A connected peer that the relay lost stays."""
        known = dict.fromkeys((*self._presence.peers, *self._exchange.calls))
        return {peer: self._exchange.state(peer) for peer in known}

    @property
    def calls(self) -> Mapping[str, Call]:
        """The calls that are not over, by peer."""
        return self._exchange.calls

    def call(self, peer: str, timeout: float = 15.0) -> Call:
        """Call ``peer``; the call that we have with it if there is one. It must be connected in ``timeout`` s.

        Raises:
            ConfigError: ``peer`` is no id, or our own.
            CallFailed: with ``shutdown``: we are leaving, or have left.
            JoinRefused: the relay turned us out.
        """
        if not messages.is_valid_id(peer) or peer == self.id:
            raise ConfigError(f"{peer!r} cannot be called: " + ("that is us" if peer == self.id else "it is no id"))
        self._raise_refusal()
        if self._leaving:
            raise CallFailed(peer, "shutdown")
        self._exchange.feed(peer, n.Dial(timeout))
        return self._exchange.calls[peer]

    async def wait_for(self, peer: str, timeout: float | None = None) -> None:
        """Wait until ``peer`` is in the room.

        Raises:
            CallFailed: after ``timeout`` seconds (NotHere, whose reason is ``no-answer``), or because we are leaving.
            JoinRefused: the relay turned us out.
        """
        try:
            async with asyncio.timeout(timeout):
                while peer not in self._presence:
                    self._raise_refusal()
                    if self._leaving:
                        raise CallFailed(peer, "shutdown")
                    await self._changed.wait()
        except TimeoutError:
            raise NotHere(peer) from None

    def events(self) -> Reader[ev.Event]:
        """Every event from now on, until the agent closes: ``async for event in agent.events()``. A reader that is
        1,000 events late loses the oldest."""
        return self._events.read(1000)

    # --- events in ---

    def _signal(self, event: SignalingEvent) -> None:
        match event:
            case Joined(peers):
                self._up(peers)
            case Disconnected(diagnosis, rejection):
                if diagnosis.permanent and diagnosis != self._lost and self._join_timeout is None:
                    log.warning("%s", ServerUnreachable(self._server, diagnosis.why, diagnosis.hint))
                self._lost, self._put_off = diagnosis, rejection
                if self._joined:
                    self._joined = False
                    self._publish(ev.ServerLost())
            case Rejected():
                self._refused = event
                if self._was_joined:  # else who enters is told, by an exception
                    self._publish(ev.Error(code=event.code, message=event.message))
            case MessageReceived(message):
                self._received(message)
        self._notify()

    def _up(self, peers: messages.PeerList) -> None:
        back = self._was_joined
        self._joined = self._was_joined = True
        self._lost = None
        self._offered(peers.ice_servers)
        came, went = self._presence.replace(peers.peers)
        if back:
            self._publish(ev.ServerBack())
        self._publish(ev.Joined(id=self.id, peers=self._presence.peers))
        for peer in went:
            self._publish(ev.PeerLeft(peer=peer))
            self._known(peer, n.PeerGone())
        for peer in came:
            if back:
                self._publish(ev.PeerJoined(peer=peer))
            self._known(peer, n.PeerBack())

    def _offered(self, servers: Sequence[Mapping[str, Any]]) -> None:
        """The relay tells which ICE servers connections to come may use; those that there are keep theirs."""
        found, left_out = read_ice_servers(servers)
        for why in left_out:
            if why not in self._left_out:  # they come again and again, with new credentials
                log.warning("an ICE server of the relay's is left out: %s", why)
        self._left_out = left_out
        usable = merge(self._options.ice_servers, found)
        turnless = self._options.relay_only and not any(server.is_turn for server in usable)
        if turnless and not self._turnless:  # it may hand one out later
            log.warning("relay only, but there is no TURN server, so no call can connect; name one: %s", TURN_HINT)
        self._turnless = turnless
        self._exchange.options = replace(self._options, ice_servers=usable)

    def _received(self, message: messages.Message) -> None:
        match message:
            case messages.IceServers(servers):
                self._offered(servers)
            case messages.PeerJoined(peer):
                if self._presence.add(peer):
                    self._publish(ev.PeerJoined(peer=peer))
                    self._known(peer, n.PeerBack())
            case messages.PeerLeft(peer):
                if self._presence.remove(peer):
                    self._publish(ev.PeerLeft(peer=peer))
                    self._known(peer, n.PeerGone())
            case messages.Error(code, text, to):
                self._publish(ev.Error(code=code, message=text, peer=to))
                if code == "peer-not-found" and to is not None and to in self._exchange.remotes:
                    self._exchange.feed(to, n.PeerGone())
            case (
                messages.Offer(peer, to)
                | messages.Answer(peer, to)
                | messages.Candidate(peer, to)
                | messages.HangUp(peer, to)
            ):
                if to == self.id and peer != self.id and messages.is_valid_id(peer):
                    self._exchange.feed(peer, self._event(peer, message))
                else:
                    log.info("= not for us: %s to %s", peer, to)
            case _:
                log.debug("= of no meaning here: %s", message)

    def _known(self, peer: str, event: n.Event) -> None:
        """What the relay says of a peer matters to the calls only if there is or was one."""
        if peer in self._exchange.remotes:
            self._exchange.feed(peer, event)

    def _event(self, peer: str, message: messages.Message) -> n.Event:
        match message:
            case messages.Offer(sdp=sdp):
                return n.OfferReceived(sdp, self._allows(peer))
            case messages.Answer(sdp=sdp):
                return n.AnswerReceived(sdp)
            case messages.Candidate(candidate=candidate):
                return n.CandidateReceived(candidate)
            case messages.HangUp(reason=reason):
                return n.HangUpReceived(reason)
        raise AssertionError(message)

    def _allows(self, peer: str) -> bool:
        if self._leaving or (peer not in self.calls and self._exchange.full):
            return False
        try:
            return self._accept is None or bool(self._accept(peer))
        except Exception:  # the program's policy is broken; that must not end its other calls
            log.exception("accept(%r) failed; the call is declined", peer)
            return False

    async def _watch_source(self, source: Source) -> None:
        with source.failures.read(8) as failures:
            async for failure in failures:
                if isinstance(failure, SourceLost):
                    self._publish(ev.Error(code="source-lost", message=str(failure.error)))
                    log.warning("%s", failure.error)
                else:
                    log.warning("%s is back", failure.source)

    # --- small things ---

    def _publish(self, event: ev.Event) -> None:
        self._events.put(event)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _usable(urls: Sequence[str]) -> tuple[IceServer, ...]:
    """Those of ``urls`` that our engine can use; a notice for each of the others, which a browser might.

    Raises:
        ConfigError: one is no ICE server.
    """
    servers = [parse_ice_server(url) for url in urls]
    for server in servers:
        if server.unsupported is not None:
            log.warning("%s is left out: %s", server.url, server.unsupported)
    return merge((server for server in servers if server.unsupported is None), ())
