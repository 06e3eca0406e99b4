"""Any legal offer with a supported section within the limits is answered, and completely."""

from __future__ import annotations

import re

from aiortc.sdp import SessionDescription
from hypothesis import HealthCheck, given, settings

from peer.rtc.answer import mirror
from peer.rtc.remote_description import MAX_SECTIONS, RemoteDescription, normalize_offer
from peer.rtc.sdp_transports import merge_answers, restrict, split_transports

from .descriptions import SUPPORTED, engine_answer
from .sdp_grammar import Offer, offers


def check_sections(offer: Offer, remote: RemoteDescription) -> None:
    """Check that the engine gets the codecs and the direction of each accepted section."""
    parsed = SessionDescription.parse(remote.text)
    for one, media in zip(remote.accepted, parsed.media, strict=True):
        section = offer.sections[one.index]
        assert section.usable and media.kind == section.kind
        assert [codec.payloadType for codec in media.rtp.codecs] == section.usable_types
        assert media.direction == (section.direction or offer.direction or "sendrecv")
        assert media.ice.usernameFragment and media.dtls is not None and media.dtls.fingerprints
        assert section.mid is None or media.rtp.muxId == section.mid


def check_answer(offer: Offer, answer: str, accepted: set[int], kept: set[int]) -> None:
    """Check that ``answer`` has the shape of the offer (RFC 3264 6, RFC 8843 7.3, RFC 5888 9)."""
    head, *sections = re.split(r"^(?=m=)", answer, flags=re.MULTILINE)
    assert len(sections) == len(offer.sections)
    for index, (text, section) in enumerate(zip(sections, offer.sections, strict=True)):
        kind, port, protocol = text.split()[:3]
        assert (kind, protocol) == (f"m={section.kind}", section.protocol)
        assert (port != "0") is (index in accepted | kept)
        assert re.findall(r"^a=mid:(.*?)\r?$", text, re.MULTILINE) == ([] if section.mid is None else [section.mid])
    mids = {offer.sections[index].mid for index in accepted | kept}
    for group in re.findall(r"^a=group:BUNDLE(.*?)\r?$", head, re.MULTILINE):
        members = group.split()
        assert set(members) <= mids and any(set(members) <= set(offered) for offered in offer.groups)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(offers())
def test_legal_offer_is_answered_in_all_its_kinds(offer: Offer) -> None:
    usable = [index for index, section in enumerate(offer.sections) if section.usable][:MAX_SECTIONS]
    parts = split_transports(offer.text, SUPPORTED)
    texts = [restrict(offer.text, part.indexes) for part in parts] or [offer.text]
    remotes = [normalize_offer(text, SUPPORTED) for text in texts]
    for remote in remotes:
        check_sections(offer, remote)
    accepted = {one.index for remote in remotes for one in remote.accepted}
    assert {offer.sections[index].kind for index in accepted} == {offer.sections[index].kind for index in usable}
    if any(all(offer.sections[index].mid in group for index in usable) for group in offer.groups):
        assert accepted == set(usable), "all that share a transport"
    kept = {remote.kept.index for remote in remotes if remote.kept is not None}
    answers = [mirror(engine_answer(remote), remote) for remote in remotes]
    check_answer(offer, merge_answers(parts, answers) if parts else answers[0], accepted, kept)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(offers(max_sections=3))
def test_offer_is_read_alike_with_both_line_ends(offer: Offer) -> None:
    lines = [line.removesuffix("\r") for line in offer.text.split("\n")]
    first, second = (normalize_offer(end.join(lines), SUPPORTED) for end in ("\n", "\r\n"))
    assert first == second
