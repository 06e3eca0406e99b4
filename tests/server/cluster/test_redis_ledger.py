"""The ledger in Redis, as calls: batches, the inbox, and the translation of the library's errors."""

from __future__ import annotations

import ssl

import pytest
from redis import exceptions

from peer.errors import ConfigError
from server.cluster import messages
from server.cluster.address import parse_address
from server.cluster.batch_queue import Batch
from server.cluster.redis_ledger import RedisLedger, ScriptFailed, Unregistered, translated_errors
from server.errors import RedisUnavailable
from tests.redis_server import RedisServer

ADDRESS = parse_address("rediss://me:secret@redis.example/0?cacert=/ca.pem")


def caused(error: Exception, cause: Exception) -> Exception:
    """``error`` as the library raises it, with the operating system's error behind it."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "why"),
    [
        (exceptions.AuthenticationError("WRONGPASS"), RedisUnavailable, "it rejects this user and password"),
        (exceptions.ResponseError("script: boom"), ScriptFailed, "script: boom"),
        (exceptions.NoScriptError("NOSCRIPT"), RedisUnavailable, "NOSCRIPT"),
        (exceptions.TimeoutError(), RedisUnavailable, "TimeoutError"),
        (ConnectionRefusedError(111, "Connect call failed"), RedisUnavailable, "Connection refused"),
        (
            caused(exceptions.ConnectionError("Error 113 at redis.example"), OSError(113, "x")),
            RedisUnavailable,
            "No route to host",
        ),
    ],
)
def test_error_of_redis_is_translated(error: Exception, kind: type[RedisUnavailable], why: str) -> None:
    with pytest.raises(RedisUnavailable) as raised, translated_errors(ADDRESS):
        raise error
    assert type(raised.value) is kind and raised.value.why == why
    assert "secret" not in str(raised.value) and raised.value.__cause__ is error


def no_certificate() -> ssl.SSLError:
    """The error of OpenSSL for a file without a certificate."""
    with pytest.raises(ssl.SSLError) as raised:
        ssl.create_default_context(cafile=__file__)
    return raised.value


@pytest.mark.parametrize("cause", [FileNotFoundError(2, "x"), PermissionError(13, "x"), no_certificate()])
def test_unusable_ca_file_is_a_configuration_error(cause: OSError) -> None:
    with pytest.raises(ConfigError, match=r"--cluster: /ca\.pem: "), translated_errors(ADDRESS):
        raise caused(exceptions.ConnectionError("Error"), cause)


def test_missing_file_without_ca_file_is_not_blamed_on_it() -> None:
    with pytest.raises(RedisUnavailable), translated_errors(parse_address("redis://redis.example/0")):
        raise FileNotFoundError(2, "x")


def test_bug_is_not_translated() -> None:
    with pytest.raises(ZeroDivisionError), translated_errors(ADDRESS):
        raise ZeroDivisionError


async def test_batch_of_an_unknown_node_raises(ledger_redis: RedisServer) -> None:
    ledger = RedisLedger(parse_address(ledger_redis.url), lease=5.0, timeout=5.0)
    async with ledger.connect() as connection:
        with pytest.raises(Unregistered):
            await connection.execute("stranger", Batch(2, [], 0), entries_read=0, bytes_read=0)


async def test_registered_node_reads_its_first_entry(ledger_redis: RedisServer) -> None:
    ledger = RedisLedger(parse_address(ledger_redis.url), lease=5.0, timeout=5.0)
    async with ledger.connect() as connection:
        assert await connection.execute("a.1", Batch(1, [], 0), entries_read=0, bytes_read=0) == 1
        (entry,) = await connection.read_inbox("a.1", 0)
        assert (entry.number, entry.text) == (1, None) and isinstance(messages.read_event(entry), messages.Entered)
