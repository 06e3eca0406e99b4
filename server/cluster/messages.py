"""Operations that a node sends to the ledger, and events that it receives in its inbox. Pure.

An operation is a word and its arguments. An inbox entry is a line of words and, for some events, a text or instances.
``ledger.lua`` reads the operations and writes the entries. No id, room name or node name contains a space (protocol,
rule 2), so nothing needs quoting. An ``instance`` may be any text, so it is percent-encoded.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

NONE: Final = "-"
"""Stands for a missing key, node or instance."""

UNKNOWN: Final = "?"
"""Stands for the instance of a peer whose relay is too old to read it."""

MAX_INBOX_ENTRIES: Final = 100_000
"""Maximum number of unread entries in an inbox. A node that falls further behind is removed, which
bounds the memory of Redis."""
MAX_INBOX_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of the texts in unread entries, in bytes, for the same reason."""
READ_COUNT: Final = 100
"""Entries that a node reads at once: a few milliseconds of work. All are in memory, each as large as one message."""


def ledger_room(room: str) -> str:
    """Return the ledger's name of ``room``, which is a word even if the room has no name."""
    return "/" + room


def ledger_key(key: str | None) -> str:
    """Return the ledger's form of a client's key: a hash, which suffices to compare two keys."""
    return NONE if key is None else sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]


def ledger_instance(instance: str | None) -> str:
    """Return the ledger's form of an ``instance``: a word, whatever its text."""
    return NONE if instance is None else "=" + quote(instance, safe="", errors="surrogatepass")


def read_instance(word: str) -> str | None:
    """Return the ``instance`` of its ledger's form; ``None`` if it is missing or unknown."""
    return unquote(word[1:], errors="surrogatepass") if word[:1] == "=" else None


def is_other_process(one: str, other: str) -> bool:
    """Whether two instances, in the ledger's form, are of different processes (rule 3). The ledger decides alike."""
    return one != other and UNKNOWN not in (one, other)


# --- operations: the fields are in the order of the ledger's arguments --------------------------------------------


class Join(NamedTuple):
    """Claim a seat for a client. ``insist``: 1 if an earlier join got no answer."""

    room: str
    id: str
    ticket: str
    key: str
    insist: int = 0
    limit: int = 0
    """Maximum number of peers in the room; 0: no limit."""
    instance: str = NONE


class Resume(NamedTuple):
    """Claim a seat again that the node held before it registered under a new name."""

    room: str
    id: str
    ticket: str
    key: str
    instance: str


class Resumed(NamedTuple):
    """Report that all seats have been resumed."""


class Leave(NamedTuple):
    """Free a seat."""

    room: str
    id: str
    ticket: str


class Deliver(NamedTuple):
    """Send a message to the node that holds the seat ``to``."""

    room: str
    sender: str
    ticket: str
    to: str
    text: bytes


class DeliverToAll(NamedTuple):
    """Send a message to all other nodes with seats in the room."""

    room: str
    sender: str
    ticket: str
    text: bytes


class HandOver(NamedTuple):
    """Send a queued message to the node that a seat has moved to."""

    room: str
    id: str
    ticket: str
    text: bytes


class EndHandover(NamedTuple):
    """Report that all messages were handed over, or that the new holder stops waiting for them."""

    room: str
    id: str
    ticket: str


class Entrust(NamedTuple):
    """Pass a seat to another node, which keeps it for ``grace`` seconds, because this node stops."""

    room: str
    id: str
    ticket: str
    grace: float


class Notify(NamedTuple):
    """Put a line into the inbox of a node."""

    node: str
    line: str


class Unregister(NamedTuple):
    """Remove this node from the cluster."""


Operation = (
    Join | Resume | Resumed | Leave | Deliver | DeliverToAll | HandOver | EndHandover | Entrust | Notify | Unregister
)

_WORDS: Final[dict[type[Any], str]] = {
    Join: "join",
    Resume: "resume",
    Resumed: "resumed",
    Leave: "leave",
    Deliver: "send",
    DeliverToAll: "cast",
    HandOver: "hand",
    EndHandover: "settle",
    Entrust: "entrust",
    Notify: "tell",
    Unregister: "bye",
}


def encode(operation: Operation) -> tuple[str | bytes | int | float, ...]:
    """Return ``operation`` as the ledger reads it: its word and its arguments."""
    return (_WORDS[type(operation)], *operation)


# --- inbox -------------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """An entry of an inbox, as the ledger writes it."""

    number: int
    line: bytes
    """Word and arguments of an event."""
    text: bytes | None
    instances: bytes | None
    """Of the peer, or of the peers in ``text``; ``None``: a node that does not read them wrote the entry."""


class Entered(NamedTuple):
    """First entry of an inbox: the node is registered. ``age``: age of the ledger, in seconds.

    A young ledger does not know all peers yet.
    """

    age: float


class SeatGranted(NamedTuple):
    """The seat is this node's."""

    room: str
    id: str
    ticket: str
    source: str | None
    """The node that held the seat, and hands over its messages."""
    instance: str
    peers: dict[str, str] | None
    """All peers in the room, id to instance, if this is the node's first seat there."""


class SeatEntrusted(NamedTuple):
    """The seat is this node's. It is in grace: its owner has ``grace`` seconds to return."""

    room: str
    id: str
    ticket: str
    source: str | None
    key: str
    grace: float
    instance: str
    peers: dict[str, str] | None


class PeerArrived(NamedTuple):
    """A peer joined the room at another node, or its instance is known now."""

    room: str
    id: str
    instance: str


class PeerGone(NamedTuple):
    """A peer left the room."""

    room: str
    id: str
    last: bool
    """Whether this node receives no more events of the room."""
    ticket: str
    """The seat's ticket, if it was this node's."""


class SeatMoved(NamedTuple):
    """The seat was this node's, and is another node's now. The peer stays in the room."""

    room: str
    id: str
    last: bool
    ticket: str


class SeatLost(NamedTuple):
    """A seat that this node tried to resume has another holder."""

    ticket: str


class SeatClaimed(NamedTuple):
    """A client without the key claims a seat of this node (rule 3). ``claim``: its ticket at ``node``."""

    room: str
    id: str
    ticket: str
    node: str
    claim: str


class ClaimDenied(NamedTuple):
    """The holder of a claimed seat is alive."""

    ticket: str


class JoinAgain(NamedTuple):
    """The holder of a claimed seat is gone; the join has to be sent again."""

    ticket: str


class RoomFull(NamedTuple):
    """The room accepts no more peers."""

    ticket: str


class PeerNotFound(NamedTuple):
    """There was no peer ``to`` for a message from the seat ``ticket``."""

    ticket: str
    to: str


class MessageReceived(NamedTuple):
    """A message to the peer ``to``, from the seat ``ticket`` at ``node``."""

    room: str
    to: str
    node: str
    ticket: str
    text: bytes


class BroadcastReceived(NamedTuple):
    """A message from a client of another node to all peers in the room."""

    room: str
    sender: str
    text: bytes


class MessageHandedOver(NamedTuple):
    """A message that the previous node had queued for a seat."""

    room: str
    id: str
    text: bytes


class HandoverEnded(NamedTuple):
    """All messages for a seat have been handed over."""

    room: str
    id: str
    ticket: str


class Echo(NamedTuple):
    """A line from the node to itself: the ledger has executed the node's earlier operations."""

    room: str
    id: str
    ticket: str


Event = (
    Entered | SeatGranted | SeatEntrusted | PeerArrived | PeerGone | SeatMoved | SeatLost | SeatClaimed | ClaimDenied
    | JoinAgain | RoomFull | PeerNotFound | MessageReceived | BroadcastReceived | MessageHandedOver | HandoverEnded
    | Echo
)  # fmt: skip


def _source(word: str) -> str | None:
    return None if word == NONE else word


def _instance(words: bytes | None) -> str:
    return UNKNOWN if words is None else words.decode()


def _peers(peer: str, text: bytes | None, words: bytes | None) -> tuple[str, dict[str, str] | None]:
    """Return the instance of ``peer``, and all peers in its room if the entry lists them."""
    if text is None:
        return _instance(words), None
    ids = text.decode().split()
    peers = dict.fromkeys(ids, UNKNOWN) if words is None else dict(zip(ids, words.decode().split(), strict=True))
    return peers[peer], peers


def _arrived(room: str, id: str, *, instance: str) -> PeerArrived:
    return PeerArrived(room, id, instance)


_READERS: Final[dict[str, Callable[[list[str], Any, bytes | None], Event]]] = {
    "entered": lambda w, _, __: Entered(int(w[0]) / 1000),
    "joined": lambda w, text, i: SeatGranted(w[0], w[1], w[2], _source(w[3]), *_peers(w[1], text, i)),
    "ward": lambda w, text, i: SeatEntrusted(
        w[0], w[1], w[2], _source(w[3]), w[4], float(w[5]), *_peers(w[1], text, i)
    ),
    "came": lambda w, _, i: _arrived(*w, instance=_instance(i)),
    "gone": lambda w, _, __: PeerGone(w[0], w[1], w[2] == "1", w[3]),
    "moved": lambda w, _, __: SeatMoved(w[0], w[1], w[2] == "1", w[3]),
    "lost": lambda w, _, __: SeatLost(*w),
    "ask": lambda w, _, __: SeatClaimed(*w),
    "denied": lambda w, _, __: ClaimDenied(*w),
    "again": lambda w, _, __: JoinAgain(*w),
    "full": lambda w, _, __: RoomFull(*w),
    "nobody": lambda w, _, __: PeerNotFound(*w),
    "frame": lambda w, text, _: MessageReceived(w[0], w[1], w[2], w[3], text),
    "cast": lambda w, text, _: BroadcastReceived(w[0], w[1], text),
    "mail": lambda w, text, _: MessageHandedOver(w[0], w[1], text),
    "handed": lambda w, _, __: HandoverEnded(*w),
    "echo": lambda w, _, __: Echo(*w),
}


def read_event(entry: Entry) -> Event:
    """Read the event in ``entry``.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: the ledger did not write the entry.
    """
    word, *words = entry.line.decode().split(" ")
    return _READERS[word](words, entry.text, entry.instances)
