"""The cluster's ledger in Redis, as calls. The only module that uses redis, whose errors it translates."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from typing import Any, Final

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from peer.errors import ConfigError

from ..errors import RedisUnavailable
from . import messages
from .address import OPTION, Address
from .batch_queue import Batch

logger = logging.getLogger("server.cluster")

VERSION: Final = "v1"
"""Version of the ledger's script and keys. Relays with another version form another cluster."""
_READ_TIMEOUT: Final = 0.5
"""Maximum time of one wait for inbox entries, in seconds. A broken connection is noticed after it."""


class Unregistered(Exception):
    """The ledger does not know the node under its current name."""


class ScriptFailed(RedisUnavailable):
    """The ledger's script failed, after it executed an unknown part of its batch."""


class RedisLedger:
    """The ledger in the Redis at ``address``.

    Args:
        lease: how long a node may be silent before the ledger drops it, in seconds.
        timeout: maximum time to connect, and to wait for an answer, in seconds.
    """

    def __init__(self, address: Address, lease: float, timeout: float) -> None:
        self._address = address
        self._lease = lease
        self._timeout = timeout
        self._script = (files(__package__) / "ledger.lua").read_text()
        self._policy_checked = False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LedgerConnection]:
        """Connect to Redis and load the script, until the context is left.

        Raises:
            RedisUnavailable: it cannot be used.
            ConfigError: the file of CA certificates cannot be used.
        """
        where = self._address
        tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": where.cacert} if where.tls else {}
        client = redis.Redis(
            host=where.host,
            port=where.port,
            db=where.db,
            username=where.username,
            password=where.password,
            protocol=2,
            socket_connect_timeout=self._timeout,
            socket_timeout=self._timeout,
            retry=Retry(NoBackoff(), 0),  # the link repeats batches, with their number
            client_name="peer-relay",
            **tls,
        )
        with translated_errors(where):
            async with client:
                server = await client.info("server")
                if server.get("redis_mode") == "cluster":
                    raise RedisUnavailable(str(where), "it is a Redis Cluster; use a single Redis")
                await self._check_policy(client)
                script = await client.script_load(self._script)
                yield LedgerConnection(
                    client,
                    server["run_id"],
                    script=script,
                    address=where,
                    lease_ms=int(self._lease * 1000),
                    block_ms=max(1, int(min(_READ_TIMEOUT, self._timeout / 2) * 1000)),
                )

    async def _check_policy(self, client: redis.Redis) -> None:
        policy = (await client.info("memory")).get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and not self._policy_checked:
            logger.warning("! Redis may evict keys (maxmemory-policy %s); set it to noeviction", policy)
        self._policy_checked = True


class LedgerConnection:
    """The connections to one run of Redis: one for batches, one for the inbox, as ``redis`` pools them.

    Both methods raise the errors of ``RedisLedger.connect``.
    """

    def __init__(
        self, client: redis.Redis, run_id: str, *, script: str, address: Address, lease_ms: int, block_ms: int
    ) -> None:
        self.run_id = run_id
        """Changes when Redis restarts."""
        self._client = client
        self._script = script
        self._address = address
        self._prefix = f"{address.prefix}:{VERSION}:"
        self._lease_ms = lease_ms
        self._block_ms = block_ms

    async def execute(self, node: str, batch: Batch, *, entries_read: int, bytes_read: int) -> int:
        """Execute ``batch`` of ``node``, which has read so much of its inbox. Return the number of nodes.

        Raises:
            Unregistered: the ledger does not know ``node``.
            ScriptFailed: the script failed.
        """
        with translated_errors(self._address):
            status, nodes = await self._client.evalsha(
                self._script,
                1,
                self._prefix,
                self.run_id,
                node,
                str(batch.number),
                "1" if batch.number == 1 else "0",
                str(self._lease_ms),
                str(entries_read),
                str(bytes_read),
                str(messages.MAX_INBOX_ENTRIES),
                str(messages.MAX_INBOX_BYTES),
                *batch.words,
            )
        if status != b"ok":
            raise Unregistered
        return int(nodes)

    async def read_inbox(self, node: str, after: int) -> list[messages.Entry]:
        """Wait up to half a second for the entries of ``node``'s inbox behind number ``after``; at most
        ``READ_COUNT``."""
        with translated_errors(self._address):
            found: Any = await self._client.xread(
                {f"{self._prefix}in:{node}": f"{after}-0"}, count=messages.READ_COUNT, block=self._block_ms
            )
        entries = found[0][1] if found else ()
        return [
            messages.Entry(int(id.partition(b"-")[0]), fields[b"h"], fields.get(b"t"), fields.get(b"i"))
            for id, fields in entries
        ]


@contextmanager
def translated_errors(address: Address) -> Iterator[None]:
    """Raise errors of the library and of the operating system as ``RedisUnavailable`` or ``ConfigError``."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise _translated(error, address) from error


def _translated(error: RedisError | OSError, address: Address) -> RedisUnavailable | ConfigError:
    if isinstance(error, AuthenticationError):
        return RedisUnavailable(str(address), "it rejects this user and password")
    if type(error) is ResponseError:  # its subclasses, such as NoScriptError, are raised before the script runs
        return ScriptFailed(str(address), str(error))
    cause = _cause(error)
    if address.cacert and (
        isinstance(cause, FileNotFoundError | PermissionError | IsADirectoryError)
        or (isinstance(cause, ssl.SSLError) and cause.library != "SSL")  # "SSL": in the handshake, not in the file
    ):
        return ConfigError(f"{address.cacert}: {_reason(error)}", where=OPTION)
    return RedisUnavailable(str(address), _reason(error))


def _cause(error: BaseException) -> BaseException | None:
    """Return the operating system's error behind an error of the library."""
    return error if isinstance(error, OSError) else error.__cause__ or error.__context__


def _reason(error: BaseException) -> str:
    """Return the operating system's text where there is one: the library's text repeats the address."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLError):
        return str(cause)
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return str(error) or type(error).__name__
