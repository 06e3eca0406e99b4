"""Fan-outs: drop policy, closing while a reader waits, and callbacks that use the fan-out again."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.media.fanout import Fanout, Reader


async def _rest(reader: Reader[int]) -> list[int]:
    """Read until the reader ends."""
    async with asyncio.timeout(5):
        return [item async for item in reader]


async def _waiting(reader: Reader[int]) -> asyncio.Task[int]:
    """Return a task that waits for an item of ``reader``."""
    task = asyncio.ensure_future(reader.get())
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_fanout_put_reaches_every_reader() -> None:
    fanout: Fanout[int] = Fanout()
    first, second = fanout.read(), fanout.read()
    fanout.put(1)
    assert (await first.get(), await second.get()) == (1, 1)
    assert fanout.readers == 2


async def test_fanout_put_without_reader_is_lost() -> None:
    fanout: Fanout[int] = Fanout()
    fanout.put(1)
    assert fanout.read().get_nowait() is None


async def test_reader_get_waits_for_the_next_item() -> None:
    fanout: Fanout[int] = Fanout()
    task = await _waiting(fanout.read())
    fanout.put(7)
    assert await task == 7


async def test_slow_reader_drops_its_oldest_and_counts_them() -> None:
    fanout: Fanout[int] = Fanout()
    slow, fast = fanout.read(2), fanout.read(5)
    for item in range(5):
        fanout.put(item)
    assert (slow.dropped, fast.dropped) == (3, 0)
    fanout.close()
    assert await _rest(slow) == [3, 4]
    assert await _rest(fast) == [0, 1, 2, 3, 4]


async def test_slow_reader_drops_its_oldest_beyond_the_bytes() -> None:
    fanout: Fanout[bytes] = Fanout(size_of=len, max_bytes=10)
    reader = fanout.read(100, [bytes(4)])
    for size in (3, 3, 5, 2):
        fanout.put(bytes(size))
    assert reader.dropped == 2
    assert [len(await reader.get()) for _ in range(3)] == [3, 5, 2]
    fanout.put(bytes(99))
    assert len(await reader.get()) == 99, "a single item is never dropped"
    assert reader.dropped == 2 and reader._bytes == 0


async def test_reader_starts_with_given_items() -> None:
    fanout: Fanout[int] = Fanout()
    reader = fanout.read(3, [1, 2])
    fanout.put(3)
    assert [reader.get_nowait() for _ in range(4)] == [1, 2, 3, None]


async def test_reader_close_ends_a_waiting_get() -> None:
    fanout: Fanout[int] = Fanout()
    reader = fanout.read()

    async def read_all() -> list[int]:
        return [item async for item in reader]

    task = asyncio.ensure_future(read_all())
    await asyncio.sleep(0)
    reader.close()
    async with asyncio.timeout(5):
        assert await task == []
    assert fanout.readers == 0


async def test_reader_closed_yields_queued_items_and_gets_no_more() -> None:
    fanout: Fanout[int] = Fanout()
    reader = fanout.read(5)
    fanout.put(1)
    reader.close()
    fanout.put(2)
    assert await _rest(reader) == [1]
    with pytest.raises(StopAsyncIteration):
        await reader.get()


async def test_reader_used_in_with_is_closed() -> None:
    fanout: Fanout[int] = Fanout()
    with fanout.read() as reader:
        assert fanout.readers == 1
    assert reader.closed and fanout.readers == 0


async def test_reader_get_cancelled_loses_no_item() -> None:
    fanout: Fanout[int] = Fanout()
    reader = fanout.read()
    task = await _waiting(reader)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    fanout.put(1)
    assert await reader.get() == 1


async def test_reader_get_cancelled_after_put_loses_no_item() -> None:
    fanout: Fanout[int] = Fanout()
    reader = fanout.read()
    task = await _waiting(reader)
    fanout.put(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reader.get_nowait() == 1


async def test_fanout_close_ends_readers_after_their_items() -> None:
    fanout: Fanout[int] = Fanout()
    full, empty = fanout.read(), fanout.read()
    fanout.put(1)
    assert empty.get_nowait() == 1
    fanout.close()
    fanout.close()
    fanout.put(2)
    assert (await _rest(full), await _rest(empty), fanout.readers) == ([1], [], 0)


async def test_fanout_close_ends_every_waiting_get() -> None:
    fanout: Fanout[int] = Fanout()
    tasks = [asyncio.ensure_future(_rest(fanout.read())) for _ in range(3)]
    await asyncio.sleep(0)
    fanout.close()
    assert await asyncio.gather(*tasks) == [[], [], []]


async def test_closed_fanout_reader_ends_after_given_items() -> None:
    calls: list[str] = []
    fanout: Fanout[int] = Fanout(lambda: calls.append("first"), lambda: calls.append("last"))
    fanout.close()
    assert await _rest(fanout.read(2, [1])) == [1]
    assert (calls, fanout.readers) == ([], 0)


async def test_callbacks_run_for_first_and_last_reader_only() -> None:
    calls: list[str] = []
    fanout: Fanout[int] = Fanout(lambda: calls.append("first"), lambda: calls.append("last"))
    one, two = fanout.read(), fanout.read()
    assert calls == ["first"]
    one.close()
    one.close()
    assert calls == ["first"]
    two.close()
    assert calls == ["first", "last"]
    fanout.read()
    fanout.close()
    assert calls == ["first", "last", "first", "last"]


async def test_on_first_may_put_an_item() -> None:
    fanout: Fanout[int] = Fanout(on_first=lambda: fanout.put(5))
    assert fanout.read().get_nowait() == 5


async def test_on_first_may_add_a_reader() -> None:
    others: list[Reader[int]] = []
    fanout: Fanout[int] = Fanout(on_first=lambda: others.append(fanout.read()))
    reader = fanout.read()
    fanout.put(1)
    assert (reader.get_nowait(), others[0].get_nowait(), len(others)) == (1, 1, 1)


async def test_on_first_may_close_the_fanout() -> None:
    fanout: Fanout[int] = Fanout(on_first=lambda: fanout.close())
    assert await _rest(fanout.read()) == []
    assert fanout.readers == 0


async def test_on_last_may_add_a_reader() -> None:
    new: list[Reader[int]] = []
    calls: list[str] = []

    def on_last() -> None:
        calls.append("last")
        if not new:
            new.append(fanout.read())

    fanout: Fanout[int] = Fanout(lambda: calls.append("first"), on_last)
    fanout.read().close()
    assert (calls, fanout.readers) == (["first", "last", "first"], 1)
    fanout.put(1)
    assert new[0].get_nowait() == 1


async def test_on_last_of_closing_fanout_gets_an_ended_reader() -> None:
    new: list[Reader[int]] = []
    fanout: Fanout[int] = Fanout(on_last=lambda: new.append(fanout.read()))
    fanout.read()
    fanout.close()
    assert [reader.closed for reader in new] == [True]
    assert await _rest(new[0]) == []


async def test_reader_may_close_others_while_items_arrive() -> None:
    fanout: Fanout[int] = Fanout()
    first, second = fanout.read(), fanout.read()

    async def read_one() -> int:
        item = await first.get()
        second.close()
        return item

    task = asyncio.ensure_future(read_one())
    await asyncio.sleep(0)
    fanout.put(1)
    fanout.put(2)
    assert await task == 1
    fanout.put(3)
    assert await _rest(second) == [1, 2]
    assert [first.get_nowait() for _ in range(3)] == [2, 3, None]


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=40))
def test_reader_keeps_the_newest_items(size: int, puts: list[bool]) -> None:
    """Against a list: ``True`` puts an item, ``False`` reads one."""
    fanout: Fanout[int] = Fanout()
    reader, expected, dropped = fanout.read(size), [], 0
    for number, put in enumerate(puts):
        if put:
            fanout.put(number)
            expected.append(number)
            if len(expected) > size:
                del expected[0]
                dropped += 1
        else:
            assert reader.get_nowait() == (expected.pop(0) if expected else None)
        assert reader.dropped == dropped
