"""Target: ICE servers, proxies and origins, from users and from the network.

    python -m fuzz addresses --seconds 60

Properties: a one-line ``ConfigError`` without the password, or a value that parses the same again. Only trusted
proxies can set the client address, and an accepted origin is valid by RFC 6454.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from peer.errors import ConfigError
from peer.signaling.ice_servers import parse_ice_server
from server.admission.origins import Origins
from server.admission.proxies import Proxies, read_address

from .byte_reader import ByteReader

PASSWORD = "hush-3f1c"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+(%[^\]\s]*)?\]|[^\s/?#@\[\]:\\]+)(:\d{0,5})?", re.IGNORECASE)

SCHEMES = ("stun:", "turn:", "turns:", "stuns:", "turn://", "TURN:", "", "http://", "https://")
HOSTS = ("a.example", "[::1]", "192.0.2.1", "localhost", "127.0.0.1", "x.localhost", "[::ffff:192.0.2.1%1]", "")
ADDRESSES = ("192.0.2.7", "203.0.113.9", "198.51.100.2:80, 192.0.2.8", "[::1]:80", "::ffff:192.0.2.3", "unknown", "")
TAILS = ("", ":3478", ":0", ":65536", ":80", ":443", "?transport=tcp", "?transport=udp", ":1?transport=tcp", "/", "@")
SEEDS = [bytes([kind, *range(12)]) for kind in range(4)] + [
    b"\4turn:u:p@[2001:db8::1]:443?transport=tcp",
    b"\5https://site.example:443",
    b"\x06[2001:db8::1]:80, 10.0.0.1",
    b"\x0710.0.0.0/8",
]


def test_one(data: bytes) -> None:
    reader = ByteReader(data)
    match reader.number() % 8:
        case 0:
            who = reader.pick((f"u:{PASSWORD}@", f"{reader.text()}:{PASSWORD}@", f"u:{reader.text()}{PASSWORD}@"))
            _ice_server(reader.pick(SCHEMES) + who + _piece(reader, HOSTS) + _piece(reader, TAILS), secret=True)
        case 1 | 5:
            _origin(reader)
        case 2 | 6:
            _hop(reader)
        case 3:
            _ice_server(reader.pick(SCHEMES) + _piece(reader, HOSTS) + _piece(reader, TAILS), secret=False)
        case 4:
            _ice_server(reader.rest().decode("utf-8", "surrogateescape"), secret=False)
        case _:
            try:
                Proxies([reader.rest().decode("utf-8", "surrogateescape")])
            except ConfigError as exc:
                _one_line(exc)


def _piece(reader: ByteReader, known: tuple[str, ...]) -> str:
    return reader.text() if reader.number() % 4 == 0 else reader.pick(known)


def _one_line(exc: ConfigError) -> None:
    assert str(exc).isprintable() and exc.where


def _ice_server(text: str, *, secret: bool) -> None:
    for bare in (False, True):
        try:
            server = parse_ice_server(text, bare=bare)
        except ConfigError as exc:
            _one_line(exc)
            assert not secret or PASSWORD not in str(exc)
            continue
        assert PASSWORD not in f"{server.url} {server!r}" or not secret
        assert 0 < server.port < 65536 and server.host
        again = parse_ice_server(server.url, bare=True)
        assert (again.url, again.host, again.port) == (server.url, server.host, server.port)


def _origin(reader: ByteReader) -> None:
    named = reader.pick(SCHEMES) + _piece(reader, HOSTS) + _piece(reader, TAILS)
    asked = reader.pick(SCHEMES) + _piece(reader, HOSTS) + _piece(reader, TAILS)
    host = _piece(reader, HOSTS) + _piece(reader, TAILS)
    try:
        origins = Origins([named])
    except ConfigError as exc:
        _one_line(exc)
        origins = Origins()
    scheme = reader.pick(("http", "https"))
    assert origins.allow(None, scheme=scheme, host=host, trust_host=False)
    allowed = {
        trust_host: origins.allow(asked, scheme=scheme, host=host, trust_host=trust_host)
        for trust_host in (True, False)
    }
    assert allowed[True] or not allowed[False]
    if allowed[True] and named != "*":
        assert asked == "null" or _ORIGIN.fullmatch(asked), "no browser sends this"


def _hop(reader: ByteReader) -> None:
    proxies = Proxies(["192.0.2.0/24", "::1"])
    here = reader.pick(("192.0.2.1", "::1", "::ffff:192.0.2.9", "192.0.2.1%eth0"))
    assert proxies.trust(here)
    said = {
        "X-Forwarded-For": [_piece(reader, ADDRESSES) for _ in range(reader.number() % 5)],
        "X-Forwarded-Proto": [reader.pick(("https", "http", "wss", " HTTPS ", reader.text()))],
        "X-Forwarded-Host": [reader.text() for _ in range(reader.number() % 2)],
    }
    hop = proxies.hop(here, lambda name: said[name])
    assert hop.scheme in ("http", "https")
    heard = [read_address(part.strip()) for part in ",".join(said["X-Forwarded-For"]).split(",")]
    if hop.address != here:
        at = max(n for n, address in enumerate(heard) if address is not None and str(address) == hop.address)
        assert all(address is not None and proxies.trust(str(address)) for address in heard[at + 1 :])
        assert ip_address(hop.address)
