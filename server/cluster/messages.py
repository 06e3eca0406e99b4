"""What a node says to the ledger, and what it finds in its inbox. PURE.

An operation is a word and its arguments, an entry of the inbox is a line of words and perhaps a text;
``ledger.lua`` reads the one and writes the other. No id, room or node has a space in it (protocol, rule 2), so
nothing needs quoting.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final, NamedTuple

NONE: Final = "-"
"""No key, no node."""

INBOX: Final = (100_000, 64 * 1024 * 1024)
"""Entries, octets that may wait in Redis for a node that is behind."""
READ: Final = 100
"""Entries that a node reads at once: a few milliseconds. Each may be as large as a frame, and all are in memory."""


def room_word(room: str) -> str:
    """``room`` as one word, also the one without a name."""
    return "/" + room


def key_word(key: str | None) -> str:
    """A client's key as the ledger keeps it: enough to tell whether two are the same."""
    return NONE if key is None else sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]


# --- operations: the order of their fields is that of the ledger's arguments --------------------------------------


class Join(NamedTuple):
    """A client asks for a seat. ``insist``: it was asked for before, and nobody answered."""

    room: str
    id: str
    ticket: str
    key: str
    insist: int = 0
    limit: int = 0
    """Peers that the room takes; 0: any number."""


class Resume(NamedTuple):
    """A client that sits here is brought along into a new life of the node."""

    room: str
    id: str
    ticket: str
    key: str


class Resumed(NamedTuple):
    """These were all."""


class Leave(NamedTuple):
    room: str
    id: str
    ticket: str


class Deliver(NamedTuple):
    """A frame to whoever holds the seat ``to`` at that moment."""

    room: str
    sender: str
    ticket: str
    to: str
    text: bytes


class Cast(NamedTuple):
    """A frame to all of the room that are at other nodes."""

    room: str
    sender: str
    ticket: str
    text: bytes


class Hand(NamedTuple):
    """What waited here for a seat that has moved."""

    room: str
    id: str
    ticket: str
    text: bytes


class Settle(NamedTuple):
    """All was handed over; or the new holder waits no longer."""

    room: str
    id: str
    ticket: str


class Entrust(NamedTuple):
    """This node stops; another one keeps the seat for ``grace`` seconds."""

    room: str
    id: str
    ticket: str
    grace: float


class Tell(NamedTuple):
    """Put a line into a node's inbox."""

    node: str
    line: str


class Bye(NamedTuple):
    """This node is no more."""


Operation = Join | Resume | Resumed | Leave | Deliver | Cast | Hand | Settle | Entrust | Tell | Bye

_WORDS: Final[dict[type[Any], str]] = {
    Join: "join", Resume: "resume", Resumed: "resumed", Leave: "leave", Deliver: "send", Cast: "cast", Hand: "hand",
    Settle: "settle", Entrust: "entrust", Tell: "tell", Bye: "bye",
}  # fmt: skip


def arguments(operation: Operation) -> tuple[str | bytes | int | float, ...]:
    """What the ledger reads."""
    return (_WORDS[type(operation)], *operation)


# --- what comes ---------------------------------------------------------------------------------------------------


class Entered(NamedTuple):
    """The first line. ``age``: seconds that this ledger has worked; a young one does not know everybody yet."""

    age: float


class Joined(NamedTuple):
    """The seat is this node's. ``source``: who held it, and hands over. ``peers`` come with a node's first seat."""

    room: str
    id: str
    ticket: str
    source: str | None
    peers: tuple[str, ...] | None


class Ward(NamedTuple):
    """The seat is this node's, and its owner is away for ``grace`` seconds at most."""

    room: str
    id: str
    ticket: str
    source: str | None
    key: str
    grace: float
    peers: tuple[str, ...] | None


class Came(NamedTuple):
    """Somebody sits at another node now who was not in the room."""

    room: str
    id: str


class Gone(NamedTuple):
    """Somebody left. ``ticket``: that of this node, if he sat here; ``last``: this node hears no more of the room."""

    room: str
    id: str
    last: bool
    ticket: str


class Moved(NamedTuple):
    """The seat is another node's now; nobody left."""

    room: str
    id: str
    last: bool
    ticket: str


class Lost(NamedTuple):
    """What was to be resumed is somebody else's."""

    ticket: str


class AskFor(NamedTuple):
    """Somebody without its key wants the seat (rule 3): ``claim`` is his ticket at ``node``."""

    room: str
    id: str
    ticket: str
    node: str
    claim: str


class Denied(NamedTuple):
    """The holder is alive."""

    ticket: str


class Again(NamedTuple):
    """The holder is not there any more: join again."""

    ticket: str


class Full(NamedTuple):
    """The room takes no more."""

    ticket: str


class Nobody(NamedTuple):
    """A frame of ``ticket`` found no ``to``."""

    ticket: str
    to: str


class Frame(NamedTuple):
    """For ``to``, from a ``ticket`` at ``node``."""

    room: str
    to: str
    node: str
    ticket: str
    text: bytes


class Broadcast(NamedTuple):
    room: str
    sender: str
    text: bytes


class Mail(NamedTuple):
    """Handed over."""

    room: str
    id: str
    text: bytes


class Handed(NamedTuple):
    """That was all of it."""

    room: str
    id: str
    ticket: str


class Echo(NamedTuple):
    """A node's own line, back: what it said before has been done."""

    room: str
    id: str
    ticket: str


Event = (
    Entered | Joined | Ward | Came | Gone | Moved | Lost | AskFor | Denied | Again | Full | Nobody | Frame | Broadcast
    | Mail | Handed | Echo
)  # fmt: skip


def _source(word: str) -> str | None:
    return None if word == NONE else word


def _peers(text: bytes | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(text.decode().split())


_READERS: Final[dict[str, Callable[[list[str], Any], Event]]] = {
    "entered": lambda w, _: Entered(int(w[0]) / 1000),
    "joined": lambda w, text: Joined(w[0], w[1], w[2], _source(w[3]), _peers(text)),
    "ward": lambda w, text: Ward(w[0], w[1], w[2], _source(w[3]), w[4], float(w[5]), _peers(text)),
    "came": lambda w, _: Came(*w),
    "gone": lambda w, _: Gone(w[0], w[1], w[2] == "1", w[3]),
    "moved": lambda w, _: Moved(w[0], w[1], w[2] == "1", w[3]),
    "lost": lambda w, _: Lost(*w),
    "ask": lambda w, _: AskFor(*w),
    "denied": lambda w, _: Denied(*w),
    "again": lambda w, _: Again(*w),
    "full": lambda w, _: Full(*w),
    "nobody": lambda w, _: Nobody(*w),
    "frame": lambda w, text: Frame(w[0], w[1], w[2], w[3], text),
    "cast": lambda w, text: Broadcast(w[0], w[1], text),
    "mail": lambda w, text: Mail(w[0], w[1], text),
    "handed": lambda w, _: Handed(*w),
    "echo": lambda w, _: Echo(*w),
}


def read(line: bytes, text: bytes | None) -> Event:
    """An entry of the inbox."""
    word, *words = line.decode().split(" ")
    return _READERS[word](words, text)
