"""ICE servers, proxies and origins, as they are typed and as others send them.

    python -m fuzz addresses --seconds 60

``ConfigError`` in one line and never with the password in it, or a value that is written as it was read. Nobody
talks a proxy's word into being his own, and an origin that is let in is one that RFC 6454 knows.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from peer.errors import ConfigError
from peer.ice_server import parse_ice_server
from server.origins import Origins
from server.proxies import Proxies, read_address

from .octets import Octets

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
    octets = Octets(data)
    match octets.number() % 8:
        case 0:
            who = octets.pick((f"u:{PASSWORD}@", f"{octets.text()}:{PASSWORD}@", f"u:{octets.text()}{PASSWORD}@"))
            _ice_server(octets.pick(SCHEMES) + who + _piece(octets, HOSTS) + _piece(octets, TAILS), secret=True)
        case 1 | 5:
            _origin(octets)
        case 2 | 6:
            _hop(octets)
        case 3:
            _ice_server(octets.pick(SCHEMES) + _piece(octets, HOSTS) + _piece(octets, TAILS), secret=False)
        case 4:
            _ice_server(octets.rest().decode("utf-8", "surrogateescape"), secret=False)
        case _:
            try:
                Proxies([octets.rest().decode("utf-8", "surrogateescape")])
            except ConfigError as exc:
                _one_line(exc)


def _piece(octets: Octets, known: tuple[str, ...]) -> str:
    return octets.text() if octets.number() % 4 == 0 else octets.pick(known)


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


def _origin(octets: Octets) -> None:
    named = octets.pick(SCHEMES) + _piece(octets, HOSTS) + _piece(octets, TAILS)
    asked = octets.pick(SCHEMES) + _piece(octets, HOSTS) + _piece(octets, TAILS)
    host = _piece(octets, HOSTS) + _piece(octets, TAILS)
    try:
        origins = Origins([named])
    except ConfigError as exc:
        _one_line(exc)
        origins = Origins()
    scheme = octets.pick(("http", "https"))
    assert origins.allow(None, scheme=scheme, host=host, any_host=False)
    allowed = {
        any_host: origins.allow(asked, scheme=scheme, host=host, any_host=any_host) for any_host in (True, False)
    }
    assert allowed[True] or not allowed[False]
    if allowed[True] and named != "*":
        assert asked == "null" or _ORIGIN.fullmatch(asked), "no browser sends that"


def _hop(octets: Octets) -> None:
    proxies = Proxies(["192.0.2.0/24", "::1"])
    here = octets.pick(("192.0.2.1", "::1", "::ffff:192.0.2.9", "192.0.2.1%eth0"))
    assert proxies.trust(here)
    said = {
        "X-Forwarded-For": [_piece(octets, ADDRESSES) for _ in range(octets.number() % 5)],
        "X-Forwarded-Proto": [octets.pick(("https", "http", "wss", " HTTPS ", octets.text()))],
        "X-Forwarded-Host": [octets.text() for _ in range(octets.number() % 2)],
    }
    hop = proxies.hop(here, lambda name: said[name])
    assert hop.scheme in ("http", "https")
    heard = [read_address(part.strip()) for part in ",".join(said["X-Forwarded-For"]).split(",")]
    if hop.address != here:
        at = max(n for n, address in enumerate(heard) if address is not None and str(address) == hop.address)
        assert all(address is not None and proxies.trust(str(address)) for address in heard[at + 1 :])
        assert ip_address(hop.address)
