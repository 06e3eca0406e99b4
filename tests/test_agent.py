"""Agents in one process with a real relay and real media, through the interface that programs use."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from peer import Agent, CallFailed, ConfigError, JoinRefused, MediaError, ServerUnreachable
from peer import events as ev
from peer.call import State
from peer.signaling import message_json, messages
from server.config import RelayConfig
from server.relay import Relay
from tests.waiting import until

SMALL: dict[str, Any] = {"video": "test", "size": (320, 240), "fps": 15}


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    relay = Relay(RelayConfig(port=0))
    await relay.start()
    yield relay
    await relay.stop()


def url(relay: Relay) -> str:
    return f"ws://127.0.0.1:{relay.port}/ws"


class EventLog:
    """All events of an agent, in order."""

    def __init__(self, agent: Agent) -> None:
        self.events: list[ev.Event] = []
        self._changed = asyncio.Event()
        self._reader = agent.events()
        self._task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for event in self._reader:
            self.events.append(event)
            self._changed.set()

    def of(self, kind: type[ev.Event], peer: str | None = None) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind) and peer in (None, getattr(e, "peer", None))]

    async def until(
        self, kind: type[ev.Event], peer: str | None = None, *, count: int = 1, timeout: float = 10
    ) -> Any:
        async with asyncio.timeout(timeout):
            while len(self.of(kind, peer)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(kind, peer)[count - 1]


@asynccontextmanager
async def agents(relay: Relay, *ids: str, **options: Any) -> AsyncIterator[list[Agent]]:
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(Agent(id_, server=url(relay), **options)) for id_ in ids]
        for agent in made:
            for other in ids:
                if other != agent.id:
                    await agent.wait_for(other, timeout=5)
        yield made


class ScriptedPeer:
    """A scripted peer: a WebSocket that sends and receives messages."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, message: messages.Message) -> None:
        await self.socket.send(message_json.dump(message))

    async def until(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(5):
            while True:
                message = message_json.parse(str(await self.socket.recv()))
                if isinstance(message, kind):
                    return message


@asynccontextmanager
async def scripted_peer(relay: Relay, id_: str) -> AsyncIterator[ScriptedPeer]:
    async with connect(url(relay)) as socket:
        made = ScriptedPeer(socket)
        await made.send(messages.Join(id_))
        yield made


async def test_five_phases_of_the_original_specification(relay: Relay) -> None:
    async with agents(relay, "A", "B", "C", **SMALL) as (a, b, c):
        assert a.peers == {"B": State.AVAILABLE, "C": State.AVAILABLE}  # phase 1: joining starts no call
        ab = a.call("B")  # phase 2
        assert a.peers["B"] is State.CALLING
        await ab.connected()
        assert a.peers == {"B": State.CONNECTED, "C": State.AVAILABLE}
        await asyncio.gather(c.call("A").connected(), c.call("B").connected())  # phases 3 to 5
        for agent in (a, b, c):
            await until(lambda agent=agent: set(agent.peers.values()) == {State.CONNECTED})  # type: ignore[misc]
            assert len(agent.calls) == 2
        firsts = [call.first_frame(10) for agent in (a, b, c) for call in agent.calls.values()]
        assert [(f.width, f.height, f.codec) for f in await asyncio.gather(*firsts)] == [(320, 240, "vp8")] * 6
        await ab.hang_up()
        assert a.peers == {"B": State.AVAILABLE, "C": State.CONNECTED}
        await until(lambda: b.peers == {"A": State.AVAILABLE, "C": State.CONNECTED})


async def test_hang_up_ends_both_sides_and_allows_a_new_call(relay: Relay) -> None:
    async with agents(relay, "a", "b") as (a, b):
        for caller, callee, ender in [(a, b, a), (a, b, b), (b, a, a), (b, a, b)]:
            call = caller.call(callee.id)
            await call.connected()
            await until(lambda callee=callee, caller=caller: callee.peers[caller.id] is State.CONNECTED)  # type: ignore[misc]
            other = b if ender is a else a
            mine, theirs = ender.calls[other.id], other.calls[ender.id]
            await mine.hang_up()
            async with asyncio.timeout(1):
                assert await theirs.ended() == "remote-hang-up"
            assert mine.reason == "hang-up"


async def test_simultaneous_calls_become_one_call(relay: Relay) -> None:
    async with agents(relay, "a", "b") as (a, b):
        for _ in range(3):
            calls = [a.call("b"), b.call("a")]
            await asyncio.gather(*(call.connected() for call in calls))
            assert [len(a.calls), len(b.calls)] == [1, 1]
            assert calls == [a.calls["b"], b.calls["a"]]
            await calls[0].hang_up()
            await calls[1].ended()


async def test_calling_again_returns_the_existing_call(relay: Relay) -> None:
    async with agents(relay, "a", "b") as (a, _):
        call = a.call("b")
        assert a.call("b") is call
        await call.connected()
        assert a.call("b") is call


async def test_restarted_remote_ends_its_call_and_calls_again(relay: Relay) -> None:
    async with Agent("node", server=url(relay)) as node:
        log = EventLog(node)
        async with Agent("cam", server=url(relay), key="k") as first:
            await first.wait_for("node", 5)
            await first.call("node").connected()
            old = node.calls["cam"]
            async with Agent("cam", server=url(relay), key="k") as second:
                await second.wait_for("node", 5)
                await second.call("node").connected()
                assert await old.ended() == "peer-left"
                await log.until(ev.Connected, count=2)
                assert node.calls["cam"] is not old
                with pytest.raises(JoinRefused, match="replaced"):
                    await first.closed()


async def test_calls_continue_while_the_relay_is_away(relay: Relay) -> None:
    async with agents(relay, "a", "b", **SMALL) as (a, b):
        log = EventLog(a)
        call = a.call("b")
        await call.first_frame(10)
        port = relay.port
        await relay.stop()
        await log.until(ev.ServerLost)
        seen = call.media.video.counters.frames
        await until(lambda: call.media.video.counters.frames > seen + 5)
        assert a.peers == {"b": State.CONNECTED}
        again = Relay(RelayConfig(port=port))
        await again.start()
        try:
            await log.until(ev.ServerBack, timeout=20)
            await asyncio.gather(a.wait_for("b", 20), b.wait_for("a", 20))
            assert call.state is State.CONNECTED
            await call.hang_up()
            await until(lambda: b.peers == {"a": State.AVAILABLE})
        finally:
            await again.stop()


async def test_peer_that_left_keeps_its_call_while_media_flows(relay: Relay) -> None:
    async with agents(relay, "a", **SMALL) as (a,), scripted_peer(relay, "z") as mirror:
        await mirror.until(messages.PeerList)
        async with Agent("b", server=url(relay), **SMALL) as b:
            await a.wait_for("b", 5)
            call = a.call("b")
            await call.first_frame(10)
            assert b._room._client._socket is not None
            log = EventLog(a)
            await b._room._client._socket.close()  # code 1000: it leaves the room at once
            await log.until(ev.PeerLeft, "b")
            seen = call.media.video.counters.frames
            await until(lambda: call.media.video.counters.frames > seen + 5)
            assert call.state is State.CONNECTED
            await a.wait_for("b", 10)
            assert call.state is State.CONNECTED


async def test_call_rejected_by_policy_ends_as_declined(relay: Relay) -> None:
    async with Agent("door", server=url(relay), accept=lambda peer: peer == "friend") as door:
        async with Agent("friend", server=url(relay)) as friend, Agent("stranger", server=url(relay)) as stranger:
            with pytest.raises(CallFailed, match="declined"):
                async with stranger.call("door"):
                    pass
            async with friend.call("door"):
                assert list(door.calls) == ["friend"]


async def test_call_unanswered_ends_at_its_timeout(relay: Relay) -> None:
    async with scripted_peer(relay, "mute") as mute, Agent("a", server=url(relay)) as a:
        await a.wait_for("mute", 5)
        call = a.call("mute", timeout=0.3)
        await mute.until(messages.Offer)
        assert await call.ended() == "no-answer"
        assert (await mute.until(messages.HangUp)).reason == "no-answer"


async def test_call_to_absent_peer_ends_as_peer_left(relay: Relay) -> None:
    async with Agent("a", server=url(relay)) as a:
        log = EventLog(a)
        assert await a.call("ghost").ended() == "peer-left"
        assert (await log.until(ev.Error)).code == "peer-not-found"


async def test_nonsense_offer_is_declined_and_agent_works_on(relay: Relay) -> None:
    async with scripted_peer(relay, "odd") as odd, Agent("a", server=url(relay)) as a:
        for nonsense in ("v=0", "m=video", "\r\n" * 10, "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"):
            await odd.send(messages.Offer("odd", "a", nonsense))
            assert (await odd.until(messages.HangUp)).reason == "declined"
        await until(lambda: a.calls == {})
        async with Agent("b", server=url(relay)) as b:
            await b.wait_for("a", 5)
            async with b.call("a"):
                pass


async def test_invalid_candidates_do_not_fail_the_call(relay: Relay) -> None:
    async with agents(relay, "a", "b") as (a, b):
        call = a.call("b")
        remote = a._calls.remotes["b"]
        connection = next(iter(remote.connections.values()))
        for line in ("", "candidate:", "candidate:x y z", "candidate:1 1 udp 1 no-such.local 9 typ host", "\0" * 99):
            connection.add_candidate(messages.IceCandidate(line, "0", 0))
        await call.connected()
        del b


async def test_leaving_hangs_up_all_calls(relay: Relay) -> None:
    async with Agent("b", server=url(relay)) as b:
        async with Agent("a", server=url(relay)) as a:
            await a.wait_for("b", 5)
            await a.call("b").connected()
            theirs = b.calls["a"]
        async with asyncio.timeout(1):
            assert await theirs.ended() == "remote-hang-up"


async def test_exception_of_the_program_is_not_wrapped(relay: Relay) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Agent("a", server=url(relay)):
            raise ZeroDivisionError


async def test_leaving_ends_all_tasks(relay: Relay) -> None:
    before = asyncio.all_tasks()
    async with agents(relay, "a", "b", **SMALL) as (a, _):
        await a.call("b").first_frame(10)
    await until(lambda: asyncio.all_tasks() <= before | {t for t in asyncio.all_tasks() if "relay" in t.get_name()})


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_call_hung_up_during_setup_closes_its_sockets(relay: Relay, steps: int) -> None:
    """Hangs up after ``steps`` turns of the event loop: in createOffer, while gathering, offered, or connecting."""
    async with agents(relay, "a", "b") as (a, b):
        before = len(os.listdir("/proc/self/fd"))
        call = a.call("b")
        for _ in range(steps):
            await asyncio.sleep(0)
        await call.hang_up()
        await until(lambda: not a.calls and not b.calls)
        await until(lambda: not a._calls.remotes["b"].connections and len(os.listdir("/proc/self/fd")) <= before)


async def test_entering_without_relay_raises_after_join_timeout() -> None:
    with pytest.raises(ServerUnreachable, match="is `peer serve` running"):
        async with Agent("a", server="ws://127.0.0.1:9/ws", join_timeout=0.2):
            pass


async def test_entering_with_permanent_error_raises_at_once(relay: Relay) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(ServerUnreachable, match="404 Not Found; the path of a relay is /ws"):
            async with Agent("a", server=url(relay).replace("/ws", "/here"), join_timeout=60):
                pass


async def test_permanent_error_without_timeout_is_logged_once(relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    node = Agent("a", server=url(relay).replace("/ws", "/here"))
    entering = asyncio.ensure_future(node.__aenter__())
    try:
        await until(lambda: caplog.text.count("next try") >= 3)
    finally:
        entering.cancel()
        await asyncio.wait([entering])
    hints = [record for record in caplog.records if "the path of a relay is /ws" in record.getMessage()]
    assert len(hints) == 1
    assert "no connection to the relay yet" not in caplog.text, "it does not help to wait"


async def test_entering_with_taken_id_raises_join_refused(relay: Relay) -> None:
    async with Agent("a", server=url(relay), key="one"):
        with pytest.raises(JoinRefused, match="id-taken"):
            async with Agent("a", server=url(relay), key="two", join_timeout=10):
                pass


async def test_missing_source_raises_before_joining(relay: Relay) -> None:
    with pytest.raises(MediaError, match=r"no-such\.mkv"):
        async with Agent("a", server=url(relay), video="no-such.mkv"):
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"id": "no spaces"},
        {"id": "a", "server": "http://example"},
        {"id": "a", "video_codec": ("av2",)},
        {"id": "a", "ice_servers": ("stun",)},
        {"id": "a", "video": ""},
    ],
    ids=str,
)
def test_wrong_argument_raises_at_once(options: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, MediaError)):
        Agent(**options)


async def test_calling_invalid_or_own_id_raises(relay: Relay) -> None:
    async with Agent("a", server=url(relay)) as a:
        for peer in ("a", "", "no spaces"):
            with pytest.raises(ConfigError):
                a.call(peer)


async def test_unread_video_is_neither_decoded_nor_stored(relay: Relay) -> None:
    async with agents(relay, "a", "b", **SMALL) as (a, _):
        call = a.call("b")
        await call.first_frame(10)
        counters = call.media.video.counters
        await until(lambda: counters.frames > 20)
        gc.collect()
        tracemalloc.start()
        try:
            decoded, seen, size = counters.decoded, counters.frames, tracemalloc.get_traced_memory()[0]
            await until(lambda: counters.frames > seen + 45)
            assert counters.decoded <= decoded + 1
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - size < 2_000_000
        finally:
            tracemalloc.stop()


async def test_record_snapshot_and_stats_return_their_events(relay: Relay, tmp_path: Path) -> None:
    import av

    async with agents(relay, "a", "b", audio="test", **SMALL) as (a, _):
        async with a.call("b") as call:
            recorded, taken, stats = await asyncio.gather(
                call.record(tmp_path / "b.mkv", seconds=2), call.snapshot(tmp_path / "b.png"), call.stats()
            )
    assert 1.5 <= recorded.seconds <= 3
    with av.open(recorded.path) as container:
        assert {s.type: s.codec_context.name for s in container.streams} == {"video": "vp8", "audio": "opus"}
        assert sum(1 for _ in container.decode(video=0)) >= 20
    with av.open(taken.path) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (320, 240)
    assert stats.video["fps"] > 5 and stats.video["kbps"] > 0 and stats.audio["codec"] == "opus"


async def test_cancelled_recording_is_closed_and_published(relay: Relay, tmp_path: Path) -> None:
    import av

    async with agents(relay, "a", "b", **SMALL) as (a, _):
        log = EventLog(a)
        async with a.call("b") as call:
            recording = asyncio.create_task(call.record(tmp_path / "b.mkv"))
            await log.until(ev.FirstFrame)
            async with asyncio.timeout(10):
                while not (tmp_path / "b.mkv").exists() or not (tmp_path / "b.mkv").stat().st_size:
                    await asyncio.sleep(0.02)
            recording.cancel()
            recorded = await log.until(ev.Recorded)
            with pytest.raises(asyncio.CancelledError):
                await recording
    assert recorded.path == str(tmp_path / "b.mkv")
    with av.open(recorded.path) as container:
        assert sum(1 for _ in container.decode(video=0)) > 0
    assert len(log.of(ev.Recorded)) == 1


async def test_recording_counts_packets_lost_on_the_network(relay: Relay, tmp_path: Path) -> None:
    async with agents(relay, "a", "b", audio="test", **SMALL) as (a, _):
        async with a.call("b") as call:
            await call.first_frame(10)
            call.media.audio.report_loss(7)
            recording = asyncio.create_task(call.record(tmp_path / "b.mkv"))
            await until(lambda: call.media.encoded.readers)
            call.media.audio.report_loss(3)
            await until(lambda: os.path.getsize(tmp_path / "b.mkv") > 0)
        recorded = await recording
    assert recorded.dropped == 3


async def test_ended_call_can_neither_record_nor_snapshot(relay: Relay, tmp_path: Path) -> None:
    async with Agent("a", server=url(relay)) as a, Agent("b", server=url(relay), **SMALL):
        await a.wait_for("b", 5)
        async with a.call("b") as call:
            pass
        for keep in (call.record(tmp_path / "b.mkv"), call.snapshot(tmp_path / "b.png")):
            with pytest.raises(CallFailed, match="b"):
                await keep
    assert not os.listdir(tmp_path)


async def test_h264_preferred_is_negotiated(relay: Relay) -> None:
    async with agents(relay, "a", "b", video_codec=("h264", "vp8"), **SMALL) as (a, _):
        assert (await a.call("b").first_frame(10)).codec == "h264"


async def test_call_without_common_codec_is_declined(relay: Relay) -> None:
    async with (
        Agent("a", server=url(relay), video_codec=("h264",), **SMALL) as a,
        Agent("b", server=url(relay), video_codec=("vp8",), **SMALL),
    ):
        await a.wait_for("b", 5)
        with pytest.raises(CallFailed, match="declined"):
            async with a.call("b"):
                pass
