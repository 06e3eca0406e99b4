"""Target: untrusted tokens, and signed tokens with unusual claims.

    python -m fuzz tokens --seconds 60

Properties: every error is ``unauthorized`` and does not contain the token; an accepted token is signed with HS256,
is valid now, and matches the room and the id.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from typing import Any

from peer.signaling.messages import Join, ProtocolError
from server.admission.jwt_tokens import LEEWAY, Key, SignedTokenCheck

from .byte_reader import ByteReader

SECRET = b"0123456789abcdef0123456789abcdef"
GATE = SignedTokenCheck(Key("HS256", SECRET))
FAR = 4102444800
HEADERS = ({"alg": "HS256"}, {"alg": "HS256", "typ": "JWT"}, {"alg": "none"}, {"alg": "HS512"}, {"alg": ["HS256"]})
CLAIMS = ("exp", "nbf", "iat", "room", "id", "aud", "iss", "sub", "jti", "b64", "crit", "kid")
VALUES: tuple[Any, ...] = (
    *(
        "attic",
        "*",
        "cam-*",
        "cam-1",
        "",
        "a*b",
        None,
        True,
        0,
        -1,
        FAR,
        FAR * 10**300,
        1.5,
        float("inf"),
        float("nan"),
    ),
    *([], ["attic"], {}, {"a": 1}, "4102444800", "x"),
)
GOOD = {"room": "attic", "id": "cam-*", "exp": FAR}
SEEDS = [
    b"\0a.b.c",
    b"\0eyJhbGciOiJIUzI1NiJ9.e30.x",
    b"\1\0" + json.dumps(GOOD).encode(),
    b"\2\1\2\0\1\3\2\4\5\6\7",
    b'\3{"alg":"HS256","crit":["b64"],"b64":false}',
]


def test_one(data: bytes) -> None:
    reader = ByteReader(data)
    header: bytes = json.dumps(HEADERS[0]).encode()
    match reader.number() % 4:
        case 0:
            _check(reader.rest().decode("utf-8", "surrogateescape"))
            return
        case 1:
            header = json.dumps(reader.pick(HEADERS)).encode()
            claims = reader.rest()
        case 2:
            chosen = {reader.pick(CLAIMS): reader.pick(VALUES) for _ in range(reader.number() % 6)}
            claims = json.dumps(GOOD | chosen).encode()
        case _:
            header, claims = reader.rest(), json.dumps(GOOD).encode()
    body = f"{_encoded(header)}.{_encoded(claims)}"
    _check(f"{body}.{_encoded(hmac.digest(SECRET, body.encode(), 'sha256'))}", header, claims)


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def _check(token: str, header: bytes = b"", claims: bytes = b"") -> None:
    for peer, room in (("cam-1", "attic"), ("door", "")):
        try:
            GATE.check(Join(peer, room, token))
        except ProtocolError as exc:
            assert exc.code == "unauthorized" and exc.message.isprintable()
            assert len(token) < 20 or token not in exc.message
            continue
        says = json.loads(claims)
        assert json.loads(header)["alg"] == "HS256"
        assert int(says["exp"]) > time.time() - LEEWAY - 1
        assert int(says.get("nbf") or 0) < time.time() + LEEWAY + 1
        assert not says.get("aud")
        assert _means(says["room"], room) and _means(says["id"], peer)


def _means(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
