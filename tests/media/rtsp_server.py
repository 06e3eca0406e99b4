"""A test RTSP server (RFC 2326) with one camera: test pattern as H.264 and test tone as PCMU, interleaved over TCP
or sent over UDP."""

from __future__ import annotations

import asyncio
import base64
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from fractions import Fraction

import av
import numpy as np

from peer.media.frames import media_time
from peer.media.test_pattern import Pattern, tone_frame

FPS = 25
SIZE = (320, 180)
FIRST_TIMESTAMP = {"track0": 3_000_000_000, "track1": 1_000_000}
"""RTP timestamps of the first packets, which should be random (RFC 3550, section 5.1). FFmpeg takes a 0 for a missing
one, and would start both tracks at their second packets, which are 20 ms apart."""


class Camera:
    """The camera that the server offers. ``cut()`` aborts its connections, like a pulled cable."""

    def __init__(self) -> None:
        self.url = ""
        self.microphone = True
        self.tcp = True
        """Whether the camera sends media over TCP."""
        self.credentials = ""
        """``name:password`` that the camera requires (RFC 7617), or empty."""
        self.connections = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.frozen_at = 0.0
        """Unix time at which it stopped sending on an open connection, which it does after 4 s."""
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height, encoder.pix_fmt = *SIZE, "yuv420p"
        encoder.time_base, encoder.framerate = Fraction(1, FPS), Fraction(FPS)
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "25"}
        pattern = Pattern(*SIZE, FPS)
        self.video: list[list[bytes]] = []
        for n in range(FPS * 4):
            frame = pattern.draw(n, n)
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            units = [unit for packet in encoder.encode(frame) for unit in _units(bytes(packet))]
            self.video.append(units)
        self.parameters = [unit for unit in self.video[0] if unit[0] & 31 in (7, 8)]

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    def sdp(self) -> str:
        sprop = ",".join(base64.b64encode(unit).decode() for unit in self.parameters)
        audio = "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track1\r\n" if self.microphone else ""
        return (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sprop}\r\na=control:track0\r\n"
            f"{audio}"
        )


@asynccontextmanager
async def serve(port: int = 0) -> AsyncIterator[Camera]:
    """Run a server with one camera on ``port`` of the loopback interface, 0 for a free one."""
    camera = Camera()
    server = await asyncio.start_server(lambda reader, writer: _talk(camera, reader, writer), "127.0.0.1", port)
    camera.url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/camera"
    try:
        yield camera
    finally:
        server.close()
        camera.cut()
        await server.wait_closed()


async def _talk(camera: Camera, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    camera.connections += 1
    camera.writers.add(writer)
    channels: dict[str, int] = {}
    ports: dict[str, int] = {}
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    try:
        async with asyncio.TaskGroup() as tasks:
            while True:
                method, url, headers = await _request(reader)
                answer, body, status = {"CSeq": headers["cseq"], "Session": "1"}, "", "200 OK"
                if camera.credentials and not _is_authorized(camera, headers):
                    status, answer["WWW-Authenticate"] = "401 Unauthorized", 'Basic realm="camera"'
                elif method == "DESCRIBE":
                    body = camera.sdp()
                    answer |= {"Content-Type": "application/sdp", "Content-Base": f"{camera.url}/"}
                elif method == "SETUP" and not camera.tcp and "tcp" in headers["transport"].lower():
                    status = "461 Unsupported Transport"
                elif method == "SETUP" and not camera.tcp:
                    client = headers["transport"].split("client_port=")[1].split("-")[0]
                    ports[url.rsplit("/", 1)[1]] = int(client)
                    own = udp.getsockname()[1]
                    answer["Transport"] = f"RTP/AVP;unicast;client_port={client}-{int(client) + 1};server_port={own}"
                elif method == "SETUP":
                    track = url.rsplit("/", 1)[1]
                    channels[track] = len(channels) * 2
                    first = channels[track]
                    answer["Transport"] = f"RTP/AVP/TCP;unicast;interleaved={first}-{first + 1}"
                elif method == "OPTIONS":
                    answer["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
                lines = [f"{name}: {value}" for name, value in answer.items()] + [f"Content-Length: {len(body)}"]
                writer.write((f"RTSP/1.0 {status}\r\n" + "\r\n".join(lines) + "\r\n\r\n" + body).encode())
                if method == "PLAY":
                    tasks.create_task(_play(camera, writer, channels, udp, ports))
    except* (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        udp.close()
        camera.writers.discard(writer)
        writer.close()


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]]:
    while (first := await reader.readexactly(1)) == b"$":  # the client's RTCP
        _, length = struct.unpack("!BH", await reader.readexactly(3))
        await reader.readexactly(length)
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in head[1:] if ": " in line)
    headers = {name.lower(): value for name, value in pairs}
    method, url, _ = head[0].split(" ")
    return method, url.rstrip("/"), headers


def _is_authorized(camera: Camera, headers: dict[str, str]) -> bool:
    expected = base64.b64encode(camera.credentials.encode()).decode()
    return headers.get("authorization") == f"Basic {expected}"


async def _play(
    camera: Camera,
    writer: asyncio.StreamWriter,
    channels: dict[str, int],
    udp: socket.socket,
    ports: dict[str, int],
) -> None:
    start = media_time()
    sequence = {"track0": 0, "track1": 0}

    def send(track: str, kind: int, stamp: int, payload: bytes, marker: bool) -> None:
        if writer.is_closing():
            return
        stamp += FIRST_TIMESTAMP[track]
        header = struct.pack("!BBHII", 0x80, kind | marker << 7, sequence[track], stamp, int(track[-1]) + 1)
        sequence[track] += 1
        if track in ports:
            udp.sendto(header + payload, ("127.0.0.1", ports[track]))
        elif track in channels:
            writer.write(struct.pack("!cBH", b"$", channels[track], 12 + len(payload)) + header + payload)

    for n, units in enumerate(camera.video):
        await asyncio.sleep(max(0.0, start + n / FPS - media_time()))
        payloads = [payload for unit in units for payload in _fragments(unit)]
        for payload in payloads:
            send("track0", 96, n * 90_000 // FPS, payload, payload is payloads[-1])
        for number in (2 * n, 2 * n + 1):
            send("track1", 0, number * 160, _ulaw(number), False)
        await writer.drain()
    camera.frozen_at = time.time()


def _units(stream: bytes) -> Iterator[bytes]:
    """Yield the NAL units of an Annex B stream."""
    for part in stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1"):
        if part:
            yield part


def _fragments(unit: bytes, limit: int = 1200) -> Iterator[bytes]:
    """Yield the RTP payloads of one NAL unit (RFC 6184: single unit, or FU-A)."""
    if len(unit) <= limit:
        yield unit
        return
    for start in range(1, len(unit), limit):
        edge = (start == 1) << 7 | (start + limit >= len(unit)) << 6
        yield bytes([unit[0] & 0x60 | 28, edge | unit[0] & 31]) + unit[start : start + limit]


def _ulaw(number: int) -> bytes:
    """Return 20 ms of the tone as PCMU (G.711), decimated from 48 to 8 kHz; the tone is far below half of that."""
    linear = tone_frame(number * 960).to_ndarray().reshape(-1, 2)[::6, 0].astype(int)
    sign, magnitude = (linear < 0) * 0x80, np.minimum(np.abs(linear), 32_635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(int) - 7
    mantissa = magnitude >> exponent + 3 & 15
    return bytes((~(sign | exponent << 4 | mantissa) & 255).astype(np.uint8))
