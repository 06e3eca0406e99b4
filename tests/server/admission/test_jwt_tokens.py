"""Signed tokens: the joins they admit, and attempts to forge them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import ConfigError
from peer.signaling.messages import Join, ProtocolError
from server.admission import jwt_tokens
from server.admission.jwt_tokens import LEEWAY, Key, SignedTokenCheck, matches, sign

from ..keys import MAKERS, SECRET, pair, secret
from ..wire import joined, opened, relay

KEY = Key("HS256", SECRET.encode())
CHECK = SignedTokenCheck(KEY)
CAM = Join("cam-1", "attic")
GOOD: dict[str, Any] = {"room": "attic", "id": "cam-*", "exp": 4102444800}


def rejection(token: str, join: Join = CAM, check: SignedTokenCheck = CHECK) -> str:
    """Return why ``token`` is rejected."""
    with pytest.raises(ProtocolError) as refusal:
        check.check(Join(join.peer_id, join.room, token))
    assert refusal.value.code == "unauthorized"
    assert len(token) < 20 or token not in refusal.value.message
    return refusal.value.message


def encoded(part: object) -> str:
    return (
        base64.urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode()).decode().rstrip("=")
    )


def without_signature(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}"


@pytest.mark.parametrize("algorithm", MAKERS)
def test_key_type_determines_its_algorithm(tmp_path: Path, algorithm: str) -> None:
    private, public = pair(tmp_path, MAKERS[algorithm]())
    token = sign(Key.private(private), room="attic", id="cam-*", lifetime=60)
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    check = SignedTokenCheck(Key.public(public))
    check.check(Join("cam-1", "attic", token))
    assert "another id" in rejection(token, Join("door", "attic"), check)
    stranger = Key.private(pair(tmp_path, MAKERS[algorithm](), "stranger")[0])
    assert "not issued for this relay" in rejection(sign(stranger, room="*", id="*", lifetime=60), check=check)


def test_token_admits_only_its_room_and_ids() -> None:
    token = sign(KEY, room="attic", id="cam-*", lifetime=60)
    CHECK.check(Join("cam-1", "attic", token))
    assert "another room" in rejection(token, Join("cam-1", "hall"))
    assert "another room" in rejection(token, Join("cam-1", ""))
    assert "another id" in rejection(token, Join("xcam-1", "attic"))
    CHECK.check(Join("x", "", sign(KEY, room="", id="x", lifetime=60)))
    CHECK.check(Join("x", "hall", sign(KEY, room="*", id="x", lifetime=60)))


def test_token_is_valid_from_nbf_to_exp() -> None:
    now = time.time()
    assert "expired" in rejection(sign(KEY, room="*", id="*", lifetime=60, now=now - 61 - LEEWAY))
    assert "not valid yet" in rejection(jwt.encode(GOOD | {"nbf": now + 3600}, SECRET))
    CHECK.check(Join("cam-1", "attic", jwt.encode(GOOD | {"nbf": now - 1}, SECRET)))


@pytest.mark.parametrize("claim", ["exp", "room", "id"])
def test_token_without_a_required_claim_is_rejected(claim: str) -> None:
    claims = {name: value for name, value in GOOD.items() if name != claim}
    assert f"has no claim {claim}" in rejection(jwt.encode(claims, SECRET))
    rejection(jwt.encode(GOOD | {claim: None}, SECRET))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": "soon"},
        {"exp": float("inf")},
        {"exp": [1]},
        {"room": ["attic"]},
        {"room": 5},
        {"id": {"*": 1}},
        {"id": "cam-[0-9]"},
        {"id": "*" * 65},
        {"aud": "somebody-else"},
        {"nbf": "x"},
    ],
)
def test_token_with_invalid_claims_is_rejected(claims: dict[str, Any]) -> None:
    rejection(jwt.encode(GOOD | claims, SECRET))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS384", "HS512", "RS256", "", "../HS256", None, 5])
def test_token_cannot_choose_its_algorithm(algorithm: object) -> None:
    rejection(without_signature({"alg": algorithm, "typ": "JWT"}, GOOD))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_token_cannot_choose_another_hmac_algorithm(algorithm: str) -> None:
    rejection(
        jwt.encode(GOOD, SECRET + "x" * 64, algorithm=algorithm), check=SignedTokenCheck(Key("HS256", b"x" * 96))
    )
    rejection(
        jwt.encode(GOOD, SECRET * 4, algorithm=algorithm), check=SignedTokenCheck(Key("HS256", SECRET.encode() * 4))
    )


def test_public_key_is_not_accepted_as_a_secret(tmp_path: Path) -> None:
    """The classic attack: sign with HS256 and the public key, which is not secret."""
    _, public = pair(tmp_path, MAKERS["RS256"]())
    text = Path(public).read_bytes()
    for forged_with in (text, text.strip()):
        body = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded(GOOD)}"
        forged = f"{body}.{encoded(hmac.digest(forged_with, body.encode(), hashlib.sha256))}"
        rejection(forged, check=SignedTokenCheck(Key.public(public)))


def test_token_cannot_bring_its_own_key() -> None:
    forged = jwt.encode(
        GOOD, "y" * 32, headers={"jwk": {"kty": "oct", "k": encoded(b"y" * 32)}, "kid": "../../dev/null"}
    )
    rejection(forged)


def test_token_with_an_unknown_critical_header_is_rejected() -> None:
    """RFC 7515, 4.1.11."""
    rejection(jwt.encode(GOOD, SECRET, headers={"crit": ["only-on-sundays"], "only-on-sundays": True}))


def test_token_changed_after_signing_is_rejected() -> None:
    header, claims, signature = jwt.encode(GOOD | {"id": "door"}, SECRET).split(".")
    rejection(f"{header}.{encoded(GOOD)}.{signature}")
    rejection(f"{header}.{claims}.{signature[:-4]}")
    rejection(f"{header}.{claims}.")
    rejection(f"{header}.{claims}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "\ud800",
        "é.é.é",
        "x" * 8000,
        encoded(b"[" * 5000) + ".e30.e30",
        encoded(5) + "..",
    ],
)
def test_malformed_token_is_rejected_without_an_exception(token: str) -> None:
    rejection(token)


@given(st.text(max_size=300))
def test_any_text_as_a_token_is_rejected(token: str) -> None:
    rejection(token)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_header_in_a_token_is_rejected(header: object) -> None:
    rejection(f"{encoded(header)}.{encoded(GOOD)}.{encoded(b'x')}")


@given(st.text(alphabet="ab*", max_size=8), st.text(alphabet="ab", max_size=8))
def test_pattern_matches_like_a_regular_expression(pattern: str, name: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    assert matches(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["cam?", "cam[1]", "käm", "a b", "a/b", "x" * 65])
def test_pattern_has_only_characters_of_names(pattern: str) -> None:
    assert not matches(pattern, pattern)
    with pytest.raises(ConfigError, match="--id"):
        sign(KEY, room="", id=pattern, lifetime=60)


def test_token_without_an_id_cannot_be_signed() -> None:
    with pytest.raises(ConfigError, match="--id"):
        sign(KEY, room="", id="", lifetime=60)


def test_weak_or_wrong_keys_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 32 bytes"):
        Key.secret(secret(tmp_path, "short"))
    private, public = pair(tmp_path, MAKERS["ES256"]())
    with pytest.raises(ConfigError, match="a key, not a secret; use --jwt-key"):
        Key.secret(public)
    with pytest.raises(ConfigError, match=r"this is a private key.*-pubout"):
        Key.public(private)
    with pytest.raises(ConfigError, match="not a PEM private key"):
        Key.private(public)
    with pytest.raises(ConfigError, match="not a public key"):
        Key.public(secret(tmp_path))
    for weak in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(ConfigError, match="use P-256, Ed25519, or RSA of at least 2048 bits"):
            Key.public(pair(tmp_path, weak, "weak")[1])


async def test_peer_stays_when_its_token_expires_but_cannot_rejoin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = sign(KEY, room="", id="A", lifetime=360, now=time.time() - 300)
    async with relay(jwt_secret_file=secret(tmp_path)) as server, joined(server, "A", token=token) as a:
        monkeypatch.setattr(jwt_tokens, "LEEWAY", -120)  # as if it had expired a minute ago
        async with opened(server) as peer:
            await peer.send({"type": "join", "peerId": "A", "token": token})
            refusal = await peer.get()
        assert (refusal["code"], refusal["message"]) == ("unauthorized", "the token has expired")
        await a.barrier()


async def test_signed_token_admits_a_peer_over_a_socket(tmp_path: Path) -> None:
    async with relay(jwt_secret_file=secret(tmp_path)) as server:
        token = sign(KEY, room="attic", id="cam-*", lifetime=60)
        async with joined(server, "cam-1", room="attic", token=token), opened(server) as peer:
            await peer.send({"type": "join", "peerId": "door", "room": "attic", "token": token})
            assert (await peer.get())["code"] == "unauthorized"
            assert await peer.closed() == 4401
