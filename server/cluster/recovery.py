"""Presence in the rooms of one node, and its recovery after a restart of Redis. Pure.

A new ledger learns of the peers node by node. Until it is ``settle_time`` seconds old, a peer that it does not know
is unconfirmed: not reported as gone, and messages to other nodes wait, because the ledger would not find their
recipients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Generic

from peer.signaling.messages import PeerJoined, PeerLeft

from ..rooms.rooms import Command, Send, encode
from . import messages
from .forwarding import Forwarding
from .messages import UNKNOWN, is_other_process, read_instance
from .state import C, NodeState, Room


class Recovery(Generic[C]):
    """Presence in the rooms, as reported by the inbox. It is kept when the node registers again."""

    def __init__(self, state: NodeState[C], forwarding: Forwarding[C]) -> None:
        self._state = state
        self._forwarding = forwarding
        self._unconfirmed_rooms: set[str] = set()
        self._settled_at = inf

    # --- registration ---------------------------------------------------------------------------------------------

    def register(self, name: str) -> list[Command[C]]:
        """Register as ``name``: claim all seats of this node again, and forward the waiting messages."""
        state, forwarding = self._state, self._forwarding
        state.name, self._settled_at = name, inf
        lost, waiting = state.outgoing.reset()
        commands = [command for message in lost for command in forwarding.undelivered(message)]
        add = state.outgoing.add
        for room in list(state.rooms.values()):
            room.subscribed = False
            room.unconfirmed = room.peers.keys() - room.seats.keys()
            self._update_unconfirmed(room)
            for seat in room.seats.values():
                seat.claims, seat.pong_until, seat.confirm_until = [], None, None  # the claiming clients join again
                add(messages.Resume(room.name, seat.id, seat.ticket, seat.key, seat.instance))
            self.remove_if_empty(room)
        add(messages.Resumed())
        for claim in state.claims_by_ticket.values():
            claim.queued = add(claim.join)
        for message, since in waiting:
            commands += forwarding.retry(message, since)
        for seat in state.seats_by_ticket.values():
            commands += forwarding.end_handover(seat)
        return commands

    def entered(self, event: messages.Entered, now: float) -> Sequence[Command[C]]:
        """Process the registration of this node: schedule ``settle``."""
        self._settled_at = self._state.schedule(now + max(0.0, self._state.config.settle_time - event.age), None)
        return ()

    def settle(self, now: float) -> list[Command[C]]:
        """Report the peers that are still unconfirmed as gone, if the ledger is old enough to know all peers."""
        commands: list[Command[C]] = []
        for name in list(self._unconfirmed_rooms) if self._settled_at <= now else ():
            room = self._state.rooms[name]
            if room.subscribed:
                for peer in list(room.unconfirmed):
                    commands += self.peer_left(room, peer)
        return commands

    def _update_unconfirmed(self, room: Room[C]) -> None:
        outgoing = self._state.outgoing
        if room.unconfirmed:
            self._unconfirmed_rooms.add(room.name)
            outgoing.hold_messages()
        else:
            self._unconfirmed_rooms.discard(room.name)
            if not self._unconfirmed_rooms:
                outgoing.release_messages()

    def _confirm(self, room: Room[C], peer: str) -> None:
        if peer in room.unconfirmed:
            room.unconfirmed.discard(peer)
            self._update_unconfirmed(room)

    # --- presence -------------------------------------------------------------------------------------------------

    def subscribe(self, name: str, peers: Mapping[str, str] | None, now: float) -> tuple[Room[C], list[Command[C]]]:
        """Record that the ledger now reports changes of the room ``name``.

        Args:
            peers: all peers in the room, id to instance; ``None`` if the ledger reported its changes before, too.
        """
        room = self._state.rooms.setdefault(name, Room(name))
        room.subscribed = True
        commands: list[Command[C]] = []
        if peers is not None:
            for peer in room.peers.keys() - peers.keys() - room.seats.keys():
                if now < self._settled_at:
                    room.unconfirmed.add(peer)
                else:
                    commands += self.peer_left(room, peer)
            for peer, instance in peers.items():
                commands += self.peer_joined(room, peer, instance)
            self._update_unconfirmed(room)
        return room, commands

    def unsubscribe(self, room: Room[C]) -> None:
        """Record that the ledger reports no more changes of ``room``."""
        room.subscribed = False
        self.remove_if_empty(room)

    def peer_arrived(self, event: messages.PeerArrived, now: float) -> Sequence[Command[C]]:
        """Add a peer that has joined at another node."""
        room = self._state.rooms.get(event.room)
        return () if room is None else self.peer_joined(room, event.id, event.instance)

    def peer_joined(self, room: Room[C], peer: str, instance: str) -> list[Command[C]]:
        """Add ``peer`` to ``room`` and notify the others, unless this process is there already."""
        self._confirm(room, peer)
        known = room.peers.get(peer)
        if known is not None and not is_other_process(known, instance):
            room.peers[peer] = known if instance == UNKNOWN else instance
            return []
        commands = self.peer_left(room, peer)
        room.peers[peer] = instance
        return [*commands, Send(room.others(peer), encode(PeerJoined(peer, read_instance(instance))))]

    def peer_left(self, room: Room[C], peer: str) -> list[Command[C]]:
        """Remove ``peer`` from ``room`` and notify the others, if it is there."""
        self._confirm(room, peer)
        if peer not in room.peers:
            return []
        del room.peers[peer]
        return [Send(room.others(peer), encode(PeerLeft(peer)))]

    def remove_if_empty(self, room: Room[C]) -> None:
        """Remove ``room`` when it has no seats here and the ledger reports nothing of it."""
        if not room.seats and not room.subscribed and self._state.rooms.get(room.name) is room:
            del self._state.rooms[room.name]
            room.unconfirmed.clear()
            self._update_unconfirmed(room)
