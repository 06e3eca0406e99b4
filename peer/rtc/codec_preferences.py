"""Order of the video codecs in a description (W3C ``setCodecPreferences``). Pure.

The first codec in the offer that both sides support is the one that is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ..media.sources import passthrough


class CodecCapability(Protocol):
    """The part of W3C RTCRtpCodecCapability that is read here."""

    @property
    def mimeType(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any]: ...


Capability = TypeVar("Capability", bound=CodecCapability)


def default_codecs(profile_level_id: str | None) -> tuple[str, ...]:
    """Return the codecs if the user named none: H.264 first if the source delivers it, otherwise VP8 first.

    Passthrough of H.264 costs no CPU time and no quality.
    """
    return ("vp8", "h264") if profile_level_id is None else ("h264", "vp8")


def preferred_codecs(
    known: Sequence[Capability], codecs: Sequence[str], profile_level_id: str | None = None
) -> list[Capability]:
    """Return the capabilities in ``known`` whose codec is named in ``codecs``, in that order, followed by RTX.

    ``profile_level_id`` is that of the H.264 that the source delivers. H.264 capabilities with the same profile come
    first, then those whose decoders also accept this profile, then the rest. Those in packetization-mode 0 come last
    in any case: mode 1 needs fewer slices and packets.
    """
    if profile_level_id is not None:
        name = passthrough.profile(profile_level_id)

        def rank(capability: Capability) -> tuple[bool, bool, bool]:
            accepted = str(capability.parameters.get("profile-level-id", ""))
            return (
                str(capability.parameters.get("packetization-mode", "0")) == "0",
                passthrough.profile(accepted) != name,
                not passthrough.decodes(accepted, profile_level_id),
            )

        known = sorted(known, key=rank)
    wanted = [f"video/{codec}".lower() for codec in codecs] + ["video/rtx"]
    return [one for mime_type in wanted for one in known if one.mimeType.lower() == mime_type]
