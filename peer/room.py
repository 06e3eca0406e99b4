"""Membership in one room: joins it, tracks presence, and passes the relay's messages to the calls.

Everything that the relay sends ends up in one of three places: in ``Presence`` (the peers in the room), in the
options of new connections (ICE servers), or, as an event of one remote, in call control.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from . import events as ev
from . import negotiation as n
from .call_control import CallControl
from .errors import CallFailed, JoinRefused, NotHere, ServerUnreachable
from .log_limit import LimitedLogger
from .signaling import client as signaling
from .signaling import messages
from .signaling.diagnosis import Diagnosis
from .signaling.ice_servers import merge, read_ice_servers
from .signaling.presence import Changes, Presence
from .timeouts import CleanupTimeout

log = logging.getLogger(__name__)
limited_log = LimitedLogger(log)

FLUSH_TIMEOUT: Final = 2.0
"""Maximum time to send the hang-ups when leaving, in seconds. A remote that receives none detects the closed
connection."""

TURN_HINT: Final = "--ice-server turn:user:password@host"


class Room:
    """The room of one agent.

    Args:
        server: URL of the relay.
        join: id, room, token and key.
        calls: receives the events of the remotes, and the ICE servers of the relay.
        publish: publishes an event.
        accept: the accept policy; ``None`` accepts every incoming call.
        join_timeout: maximum time to the first join, in seconds; ``None``: unlimited.
        tls: checks the relay's certificate; ``None``: the system's trust.
    """

    def __init__(
        self,
        server: str,
        join: messages.Join,
        calls: CallControl,
        publish: Callable[[ev.Event], None],
        *,
        accept: Callable[[str], bool] | None = None,
        join_timeout: float | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.id = join.peer_id
        self.leaving = False
        self._server = server
        self._client = signaling.SignalingClient(server, join, self._on_event, tls=tls)
        self._calls = calls
        self._options = calls.options
        self._publish = publish
        self._accept = accept
        self._join_timeout = join_timeout
        self._presence = Presence(join.peer_id)
        self._skipped_servers: list[str] = []
        self._lacks_turn = False
        self._joined = self._was_joined = False
        self._diagnosis: Diagnosis | None = None
        self._rejection: tuple[str, str] | None = None  # for now; the client retries
        self._rejected: signaling.Rejected | None = None  # for good
        self._changed = asyncio.Event()

    def __contains__(self, peer: str) -> bool:
        return peer in self._presence

    @property
    def peers(self) -> tuple[str, ...]:
        """The other peers in the room, in the order in which they joined."""
        return self._presence.peers

    def send(self, message: messages.Message) -> None:
        """Queue ``message`` for the relay."""
        self._client.send(message)

    async def run(self) -> None:
        """Join and rejoin until cancelled or rejected for good."""
        await self._client.run()

    async def wait_joined(self) -> None:
        """Wait for the first join.

        Raises:
            JoinRefused: the relay rejected the join.
            ServerUnreachable: the relay cannot be reached: the time-out expired, or no retry can help.
        """
        try:
            async with asyncio.timeout(self._join_timeout):
                while not self._joined:
                    self.check_rejected()
                    permanent = self._diagnosis is not None and self._diagnosis.permanent
                    if permanent and self._join_timeout is not None:
                        break
                    await self._changed.wait()
                else:
                    return
        except TimeoutError:
            if self._rejection is not None:
                raise JoinRefused(self._server, *self._rejection) from None
        diagnosis = self._diagnosis or self._client.timeout_diagnosis
        raise ServerUnreachable(self._server, diagnosis.why, diagnosis.hint)

    async def wait_for(self, peer: str, timeout: float | None) -> None:
        """Wait until ``peer`` is in the room; see ``Agent.wait_for``."""
        try:
            async with asyncio.timeout(timeout):
                while peer not in self._presence:
                    self.check_rejected()
                    if self.leaving:
                        raise CallFailed(peer, "shutdown")
                    await self._changed.wait()
        except TimeoutError:
            raise NotHere(peer) from None

    async def wait_closed(self) -> None:
        """Wait until ``leave``, or raise ``JoinRefused`` when the relay rejects this peer for good."""
        while not self.leaving:
            self.check_rejected()
            await self._changed.wait()

    def check_rejected(self) -> None:
        """Raise ``JoinRefused`` if the relay has rejected this peer for good."""
        if self._rejected is not None:
            raise JoinRefused(self._server, self._rejected.code, self._rejected.message)

    def leave(self) -> None:
        """Decline all further calls and release all waiters."""
        self.leaving = True
        self._notify()

    async def flush(self) -> None:
        """Wait until all messages are sent, for at most ``FLUSH_TIMEOUT``."""
        try:
            async with CleanupTimeout(FLUSH_TIMEOUT):
                await self._client.flush()
        except TimeoutError:
            log.warning("hang-ups were not sent: the relay accepted no data for %g s", FLUSH_TIMEOUT)

    # --- events of the signaling client ---

    def _on_event(self, event: signaling.SignalingEvent) -> None:
        match event:
            case signaling.Joined(peers):
                self._on_joined(peers)
            case signaling.Disconnected(diagnosis, rejection):
                if diagnosis.permanent and diagnosis != self._diagnosis and self._join_timeout is None:
                    log.warning("%s", ServerUnreachable(self._server, diagnosis.why, diagnosis.hint))
                self._diagnosis, self._rejection = diagnosis, rejection
                if self._joined:
                    self._joined = False
                    self._publish(ev.ServerLost(detail=diagnosis.why))
            case signaling.Rejected():
                self._rejected = event
                if self._was_joined:  # before the first join, wait_joined raises instead
                    self._publish(ev.Error(code=event.code, message=event.message))
            case signaling.MessageReceived(message):
                self._on_message(message)
        self._notify()

    def _on_joined(self, peers: messages.PeerList) -> None:
        rejoined = self._was_joined
        self._joined = self._was_joined = True
        self._diagnosis = None
        self._set_ice_servers(peers.ice_servers)
        changes = self._presence.replace(peers.peers, peers.instances)
        if rejoined:
            self._publish(ev.ServerBack())
        self._publish(ev.Joined(id=self.id, peers=self._presence.peers))
        self._on_presence(changes, publish_joined=rejoined)

    def _on_presence(self, changes: Changes, *, publish_joined: bool = True) -> None:
        """Publish ``changes``, and pass them to the negotiations.

        The ``peers`` of the first ``Joined`` event need no ``PeerJoined``: ``publish_joined`` is false.
        """
        for peer in changes.left:
            self._publish(ev.PeerLeft(peer=peer))
            self._dispatch_if_known(peer, n.PeerGone())
        for peer in changes.restarted:
            self._peer_restarted(peer)
        for peer in changes.came:
            if publish_joined:
                self._publish(ev.PeerJoined(peer=peer))
            self._dispatch_if_known(peer, n.PeerBack())

    def _peer_restarted(self, peer: str) -> None:
        """Note that another process has taken the seat of ``peer``; between its ``PeerGone`` and ``PeerBack``."""
        limited_log.debug("= %s was restarted", peer)
        self._dispatch_if_known(peer, n.PeerRestarted())

    def _set_ice_servers(self, servers: Sequence[Mapping[str, Any]]) -> None:
        """Use the relay's ICE servers for new connections; existing ones keep theirs."""
        found, skipped = read_ice_servers(servers)
        for why in skipped:
            if why not in self._skipped_servers:  # the relay repeats its list with new credentials
                log.warning("skipped an ICE server of the relay: %s", why)
        self._skipped_servers = skipped
        usable = merge(self._options.ice_servers, found)
        lacks_turn = self._options.relay_only and not any(server.is_turn for server in usable)
        if lacks_turn and not self._lacks_turn:  # no error: the relay may send one later
            log.warning("no call can connect: --relay-only is set, but no TURN server is known; add %s", TURN_HINT)
        self._lacks_turn = lacks_turn
        self._calls.options = replace(self._options, ice_servers=usable)

    def _on_message(self, message: messages.Message) -> None:
        match message:
            case messages.IceServers(servers):
                self._set_ice_servers(servers)
            case messages.PeerJoined(peer, instance):
                self._on_presence(self._presence.add(peer, instance))
            case messages.PeerLeft(peer):
                self._on_presence(self._presence.remove(peer))
            case messages.Error(code, text, to):
                self._publish(ev.Error(code=code, message=text, peer=to))
                if code == "peer-not-found" and to is not None:
                    self._dispatch_if_known(to, n.PeerGone())
            case (
                messages.Offer(peer, to)
                | messages.Answer(peer, to)
                | messages.Candidate(peer, to)
                | messages.HangUp(peer, to)
            ):
                if to == self.id and peer != self.id and messages.is_valid_id(peer):
                    self._calls.dispatch(peer, self._event_of(peer, message))
                else:
                    limited_log.info("= ignored a message from %s to %s", peer, to)
            case messages.Source(peer, to) if to == self.id and peer in self._calls.calls:
                self._calls.calls[peer]._set_source(message.kind, message.cause)
            case _:
                limited_log.debug("= ignored: %s", message)

    def _dispatch_if_known(self, peer: str, event: n.Event) -> None:
        """Dispatch ``event`` only if ``peer`` has a negotiation; presence alone must not create one."""
        if peer in self._calls.remotes:
            self._calls.dispatch(peer, event)

    def _event_of(self, peer: str, message: messages.Message) -> n.Event:
        match message:
            case messages.Offer(sdp=sdp, call=call, round=number):
                offer = n.OfferReceived(sdp, True, call, number)
                allowed = not self._calls.starts_call(peer, offer) or self._is_allowed(peer)
                return replace(offer, allowed=allowed)
            case messages.Answer(sdp=sdp, call=call, round=number):
                return n.AnswerReceived(sdp, call, number)
            case messages.Candidate(candidate=candidate):
                return n.CandidateReceived(candidate)
            case messages.HangUp(reason=reason, detail=detail, call=call, round=number):
                return n.HangUpReceived(reason, detail, call, number)
        raise AssertionError(message)

    def _is_allowed(self, peer: str) -> bool:
        if self.leaving or (peer not in self._calls.calls and self._calls.is_full):
            return False
        try:
            return self._accept is None or bool(self._accept(peer))
        except Exception:  # a bug in the program's policy must not end its other calls
            limited_log.exception("accept(%r) failed; the call is declined", peer)
            return False

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
