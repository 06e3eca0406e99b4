"""Messages between peers, and the handover of queued messages when a seat moves to another node. Pure.

Message order between two peers, while one of them moves from node 1 to node 2: node 1 hands over the messages queued
for the seat, and then reports the end of the handover. Its own clients' messages precede that report. Until it
arrives, node 2 does not admit the client, so nothing the client sends can overtake a queued message. Node 2's own
clients may still have messages for the seat on their way through the ledger. Their later messages wait for an echo,
a line that node 2 sends to itself through the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic

from peer.signaling.messages import Envelope

from ..memory_budget import MESSAGE_OVERHEAD
from ..rooms.rooms import Admit, Command, Send, error_to
from . import messages
from .messages import read_instance
from .state import C, NodeState, Seat

_OUT_OF_REACH: Final = "the peer's relay is out of reach"


class Forwarding(Generic[C]):
    """The messages of one node's clients, and those that other nodes send to them, delivered or queued."""

    def __init__(self, state: NodeState[C]) -> None:
        self._state = state

    # --- from this node's clients ---------------------------------------------------------------------------------

    def route(self, conn: C, envelope: Envelope, text: bytes, now: float) -> Sequence[Command[C]]:
        """Forward ``text``, unchanged, to the recipients in its envelope (rules 4 to 6)."""
        state = self._state
        seat = state.seats[conn]
        room, to = seat.room, envelope.to
        if envelope.from_ != seat.id:
            return [error_to(conn, "from-mismatch", f'"from" must be {seat.id}, the id that joined', to)]
        if to is None:
            return self._broadcast(seat, text, now)
        if to not in room.peers or to == seat.id:
            return [error_to(conn, "peer-not-found", "there is no such peer in the room", to)]
        target = room.seats.get(to)
        if target is None:
            if not state.outgoing.add_message(messages.Deliver(room.name, seat.id, seat.ticket, to, text), now):
                return [error_to(conn, "peer-not-found", f"{_OUT_OF_REACH}, and its queue is full", to)]
            return ()
        if (ready := target.reachable) is not None:
            return (Send((ready,), text),)
        if not self._enqueue_local(target, text):
            return [error_to(conn, "peer-not-found", "the peer is disconnected, and its queue is full", to)]
        return ()

    def _broadcast(self, seat: Seat[C], text: bytes, now: float) -> list[Command[C]]:
        room, ready = seat.room, []
        for other in room.seats.values():
            if other is seat:
                continue
            if (conn := other.reachable) is not None:
                ready.append(conn)
            else:
                self._enqueue_local(other, text)  # no error if a queue is full: the sender named no recipient
        if room.peers.keys() - room.seats.keys():
            self._state.outgoing.add_message(messages.DeliverToAll(room.name, seat.id, seat.ticket, text), now)
        return [Send(ready, text)]

    def undelivered(self, message: messages.Deliver | messages.DeliverToAll) -> Sequence[Command[C]]:
        """Send an error for a message that the ledger did not accept in time, or that may not have arrived."""
        seat = self._state.seats_by_ticket.get(message.ticket)
        if seat is None or seat.conn is None or not seat.admitted or isinstance(message, messages.DeliverToAll):
            return ()
        return (error_to(seat.conn, "peer-not-found", _OUT_OF_REACH, message.to),)

    def retry(self, message: messages.Deliver | messages.DeliverToAll, since: float) -> Sequence[Command[C]]:
        """Forward a message again that has waited for the ledger since ``since``, before the node registered anew."""
        sender = self._state.seats_by_ticket.get(message.ticket)
        if sender is None:
            return ()
        target = sender.room.seats.get(message.to) if isinstance(message, messages.Deliver) else None
        if target is not None:  # it has moved here since
            return self._deliver(target, target.local, message.text) or ()
        self._state.outgoing.add_message(message, since)
        return ()

    # --- from other nodes -----------------------------------------------------------------------------------------

    def message_received(self, event: messages.MessageReceived, now: float) -> Sequence[Command[C]]:
        """Deliver or queue a message from a client of another node to a peer here."""
        seat = self._state.seat(event.room, event.to)
        commands = None if seat is None else self._deliver(seat, seat.queue, event.text)
        if commands is None:
            self._state.outgoing.add(messages.Notify(event.node, f"nobody {event.ticket} {event.to}"))
            return ()
        return commands

    def broadcast_received(self, event: messages.BroadcastReceived, now: float) -> Sequence[Command[C]]:
        """Deliver or queue a message from a client of another node to all peers of the room."""
        room = self._state.rooms.get(event.room)
        if room is None:
            return ()
        ready = []
        for seat in room.seats.values():
            if (conn := seat.reachable) is not None and seat.id != event.sender:
                ready.append(conn)
            elif seat.id != event.sender:
                self._enqueue(seat, seat.queue, event.text)
        return (Send(ready, event.text),)

    def peer_not_found(self, event: messages.PeerNotFound, now: float) -> Sequence[Command[C]]:
        """Send an error to the client whose message found no recipient."""
        seat = self._state.seats_by_ticket.get(event.ticket)
        if seat is None or seat.conn is None or not seat.admitted:
            return ()
        return (error_to(seat.conn, "peer-not-found", "there is no such peer in the room", event.to),)

    # --- handover -------------------------------------------------------------------------------------------------

    def hand_over(self, seat: Seat[C]) -> None:
        """Send the messages queued for ``seat`` to the node it has moved to."""
        for text in self.take_queued(seat):
            self._state.outgoing.add(messages.HandOver(seat.room.name, seat.id, seat.ticket, text))

    def await_handover(self, seat: Seat[C], now: float) -> None:
        """Hold back messages for ``seat``, which has moved here, until its previous node has handed over."""
        seat.awaits, seat.echo = {"handed", "echo"}, seat.ticket
        seat.awaits_until = self._state.schedule(now + self._state.config.handover_timeout, seat)
        echo = f"echo {seat.room.name} {seat.id} {seat.ticket}"
        self._state.outgoing.add(messages.Notify(self._state.name, echo))

    def handed_over(self, event: messages.MessageHandedOver, now: float) -> Sequence[Command[C]]:
        """Deliver or queue a message that the previous node has handed over."""
        seat = self._state.seat(event.room, event.id)
        return () if seat is None else self._deliver(seat, seat.handed, event.text) or ()

    def handover_ended(self, event: messages.HandoverEnded, now: float) -> Sequence[Command[C]]:
        """End the handover, once the echo has arrived too: the previous node has sent all messages."""
        # the ticket is not compared: it has changed if the owner has returned since
        seat = self._state.seat(event.room, event.id)
        return () if seat is None else self._arrived(seat, "handed")

    def echo_received(self, event: messages.Echo, now: float) -> Sequence[Command[C]]:
        """End the handover, once the previous node has: our clients' earlier messages have been processed."""
        seat = self._state.seat(event.room, event.id)
        return () if seat is None or seat.echo != event.ticket else self._arrived(seat, "echo")

    def check_handover(self, seat: Seat[C], now: float) -> list[Command[C]]:
        """Stop waiting for the handover to ``seat`` if its time is over."""
        if seat.awaits_until is None or seat.awaits_until > now:
            return []
        if "handed" in seat.awaits:  # the previous node is dead or busy
            self._state.outgoing.add(messages.EndHandover(seat.room.name, seat.id, seat.ticket))
            seat.awaits.discard("handed")
            seat.awaits_until = self._state.schedule(now + self._state.config.join_timeout, seat)
        else:  # the ledger is out of reach
            seat.awaits.clear()
        return [] if seat.awaits else self.end_handover(seat)

    def _arrived(self, seat: Seat[C], what: str) -> list[Command[C]]:
        if what not in seat.awaits:
            return []
        seat.awaits.discard(what)
        return [] if seat.awaits else self.end_handover(seat)

    def end_handover(self, seat: Seat[C]) -> list[Command[C]]:
        """Deliver the messages held back for ``seat``, now that all earlier ones have arrived."""
        seat.awaits, seat.awaits_until = set(), None
        if seat.conn is None:
            seat.queue, seat.handed, seat.local = [*seat.handed, *seat.queue, *seat.local], [], []
            return []
        if not seat.admitted:
            return self.admit(seat)
        return [Send((seat.conn,), text) for text in self.take_queued(seat)]

    def admit(self, seat: Seat[C]) -> list[Command[C]]:
        """Send the connection of ``seat`` its peer list and the queued messages."""
        assert seat.conn is not None
        seat.admitted = True
        others = {peer: read_instance(word) for peer, word in seat.room.peers.items() if peer != seat.id}
        instances = {peer: instance for peer, instance in others.items() if instance is not None}
        return [
            Admit(seat.conn, tuple(others), instances),
            *(Send((seat.conn,), text) for text in self.take_queued(seat)),
        ]

    # --- queues ---------------------------------------------------------------------------------------------------

    def take_queued(self, seat: Seat[C]) -> list[bytes]:
        """Empty the queues of ``seat`` and return their messages."""
        self._state.queued -= seat.memory
        return seat.take()

    def _deliver(self, seat: Seat[C], queue: list[bytes], text: bytes) -> Sequence[Command[C]] | None:
        """Send ``text``, or add it to ``queue``. ``None``: it does not fit."""
        if (ready := seat.reachable) is not None:
            return (Send((ready,), text),)
        if not seat.awaits:
            queue = seat.queue
        return () if self._enqueue(seat, queue, text) else None

    def _enqueue_local(self, seat: Seat[C], text: bytes) -> bool:
        return self._enqueue(seat, seat.local if seat.awaits else seat.queue, text)

    def _enqueue(self, seat: Seat[C], queue: list[bytes], text: bytes) -> bool:
        """Add ``text`` to one of the three queues of ``seat``. ``False``: it does not fit."""
        size, most = len(text) + MESSAGE_OVERHEAD, self._state.config.max_seat_queues
        if seat.queued + len(text) > self._state.config.max_seat_queue or (most and self._state.queued + size > most):
            return False
        queue.append(text)
        seat.queued += len(text)
        self._state.queued += size
        return True
