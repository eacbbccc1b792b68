# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""KnowledgeGraph on Neo4j; what is kept there is told in `neo4j_statements`.

A chat waits for the server at most READ_SECONDS, once: after that the breaker answers for it until the server is back.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import LiteralString, TypeVar

from neo4j import (
    AsyncDriver,
    AsyncGraphDatabase,
    AsyncManagedTransaction,
    AsyncSession,
    NotificationMinimumSeverity,
    Query,
    Record,
    RoutingControl,
    unit_of_work,
)
from neo4j.exceptions import ClientError, DriverError, Neo4jError, TransientError

from knowledge import neo4j_statements as cypher
from knowledge.entities import normal
from knowledge.graph import GraphUnavailable
from knowledge.mentions import COMMON
from knowledge.neo4j_rows import (
    Batch,
    Value,
    batches,
    can_be_mentioned,
    from_stored,
    mentions,
    scope,
    search,
    sightings,
    stripe,
    surface_key,
    to_stored,
)
from knowledge.neo4j_url import parse_url
from knowledge.relations import Sighting, names_beside, relations
from knowledge.types import Entity, Mention, PassageEntry, Target
from memory.breaker import Breaker

T = TypeVar("T")

READ_SECONDS, PING_SECONDS, WRITE_SECONDS, MIGRATE_SECONDS = 2.5, 5.0, 30.0, 120.0
RETRY_SECONDS = 1.5
PAUSE_SECONDS = 1.0
WRITERS, CONNECTIONS = 8, 50
"""Writers at once: each holds a connection while it waits for its tenant's lock, and readers need some too."""
OLDEST = (5, 26)
_FORGET_AT_ONCE = 500
_NEAR, _RING, _RING_PASSAGES = 80, 8, 6
_REACH = 2000
"""Passages that name one thing among which the earliest are looked for."""
_URL = "PARLEY_KNOWLEDGE_URL"
_REASONS = {
    "Neo.ClientError.Security.Unauthorized": f"refuses the user or password of {_URL}: set the right ones",
    "Neo.ClientError.Security.AuthenticationRateLimit": f"was given too many wrong passwords and refuses all for some "
    f"seconds: check the password of {_URL}",
    "Neo.ClientError.Security.CredentialsExpired": "wants its initial password changed first: ALTER CURRENT USER SET "
    "PASSWORD on its database `system`",
    "Neo.ClientError.Security.Forbidden": f"does not let the user of {_URL} do this: it needs to read, write and make "
    "indexes and constraints",
    "Neo.ClientError.Database.DatabaseNotFound": f"has no database of the name in {_URL}: create it, or correct it",
    "Neo.ClientError.Transaction.TransactionTimedOut": "took too long: try again, or give it more memory",
    "Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration": "took too long: try again, or give it more "
    "memory",
}


@dataclass(slots=True)
class _Client:
    """A driver with how many calls use it, so that one that hangs is left behind and closed after the last of them."""

    driver: AsyncDriver
    users: int = 0


class Neo4jGraph:
    """KnowledgeGraph in a Neo4j database of its own, version 5.26 or newer."""

    def __init__(self, url: str) -> None:
        """Connects on first use, and again by itself. ValueError: the URL has another form (see `parse_url`)."""
        self._address = parse_url(url)
        self._breaker = Breaker(PAUSE_SECONDS, READ_SECONDS)
        self._client: _Client | None = None
        self._prepared = self._closed = False
        self._migrating: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._writers = asyncio.Semaphore(WRITERS)

    async def add(self, tenant: str, document: str, version: str, entries: Sequence[PassageEntry]) -> None:
        """See KnowledgeGraph; what one batch adds is there as a whole or not at all."""
        for batch in await asyncio.to_thread(lambda: list(batches(entries))):
            await self._write(_adding(tenant, document, version, batch))

    async def forget(self, tenant: str, document: str, keep: str | None) -> None:
        """See KnowledgeGraph."""
        kept = None if keep is None else to_stored(keep)
        parameters = _of(tenant, stripe=stripe(tenant), document=to_stored(document), keep=kept, most=_FORGET_AT_ONCE)

        async def forget(transaction: AsyncManagedTransaction) -> int:
            found = await (await transaction.run(cypher.FORGET, parameters)).single()
            return int(found["gone"]) if found is not None else 0

        while await self._write(forget) == _FORGET_AT_ONCE:
            pass

    async def titles(self, tenant: str, surfaces: Sequence[str]) -> dict[str, list[Target]]:
        """See KnowledgeGraph; one round trip."""
        wanted = {surface_key(surface): surface for surface in surfaces}
        if not wanted:
            return {}
        rows = await self._read(cypher.TITLES, _of(tenant, surfaces=list[Value](wanted)))
        return {
            wanted[row["text"]]: list(map(Target, map(from_stored, row["passages"]), row["weights"])) for row in rows
        }

    async def mentions(self, tenant: str, passages: Sequence[str]) -> dict[str, list[Mention]]:
        """See KnowledgeGraph; surfaces that more than COMMON passages mention are left out. One round trip."""
        if not passages:
            return {}
        asked: list[Value] = [to_stored(passage) for passage in passages]
        (row,) = await self._read(cypher.MENTIONS, _of(tenant, passages=asked, common=COMMON))
        return mentions(row["seen"], row["surfaces"])

    async def entity(self, tenant: str, name: str, limit: int = 10) -> Entity | None:
        """See KnowledgeGraph; looks at up to 80 passages that name it and at a few of its neighbours'. Of a name in
        more than 2,000 passages it takes those that say most of it."""
        surface = normal(name)
        near = await self._sightings(tenant, [surface], _NEAR)
        if not near:
            return None
        beside = (await asyncio.to_thread(names_beside, surface, near))[:_RING]
        ring = await self._sightings(tenant, beside, _RING_PASSAGES)
        seen = {sighting.passage: sighting for sighting in (*ring, *near)}
        found = await asyncio.to_thread(relations, surface, name, list(seen.values()), limit)
        return Entity(name, tuple(sighting.passage for sighting in near[:limit]), tuple(found))

    async def close(self) -> None:
        """Closes the connections; every method then raises."""
        self._closed = True
        if self._migrating is not None:
            self._migrating.cancel()
            await asyncio.wait([self._migrating])
        self._leave()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _sightings(self, tenant: str, surfaces: Sequence[str], most: int) -> list[Sighting]:
        wanted = [surface for surface in surfaces if surface]
        if not wanted:
            return []
        names: list[Value] = [search(tenant, surface) for surface in wanted]
        rows = await self._read(cypher.SIGHTINGS, _of(tenant, names=names, most=most, reach=_REACH))
        return sightings(wanted, [(row["titled"], row["naming"]) for row in rows])

    async def _read(self, statement: LiteralString, parameters: dict[str, Value]) -> list[Record]:
        async with self._asking(READ_SECONDS) as driver:
            await self._ready(driver)
            return await self._ask(driver, statement, parameters, RoutingControl.READ, READ_SECONDS)

    async def _write(self, work: Callable[[AsyncManagedTransaction], Awaitable[T]]) -> T:
        async with self._asking(PING_SECONDS) as driver:  # it may wait long for its lock, but not for a dead server
            await self._ask(driver, cypher.PING, {}, RoutingControl.WRITE, PING_SECONDS)
        async with self._writers, self._asking(WRITE_SECONDS) as driver:
            await self._ready(driver)
            async with self._session(driver) as session:
                return await session.execute_write(unit_of_work(timeout=WRITE_SECONDS)(work))

    def _session(self, driver: AsyncDriver) -> AsyncSession:
        return driver.session(database=self._address.database, bookmark_manager=driver.execute_query_bookmark_manager)

    async def _ask(
        self,
        driver: AsyncDriver,
        statement: LiteralString,
        parameters: dict[str, Value],
        routing: RoutingControl,
        seconds: float,
    ) -> list[Record]:
        found = await driver.execute_query(
            Query(statement, timeout=seconds), parameters, routing_=routing, database_=self._address.database
        )
        return found.records

    @asynccontextmanager
    async def _asking(self, seconds: float) -> AsyncGenerator[AsyncDriver, None]:
        """The driver for one call of at most so many seconds; whatever fails in it is told to the breaker."""
        if self._closed:
            raise GraphUnavailable("the graph is closed")
        refusal = self._breaker.refusal()
        if refusal:
            raise GraphUnavailable(refusal)
        client = self._client = self._client or _Client(self._open())
        client.users += 1
        try:
            async with asyncio.timeout(seconds):
                yield client.driver
        except GraphUnavailable as error:
            self._breaker.failed(str(error))
            raise
        except TimeoutError as error:
            if self._migrating is not None and not self._migrating.done():
                raise self._failed("is being made ready for this version: try again in a moment") from error
            if client is self._client:
                self._leave()  # its other connections may hang as well
            raise self._failed("does not answer: is it running, and not overloaded?") from error
        except (DriverError, Neo4jError, OSError) as error:
            reason = _reason(error)
            if not reason:
                raise  # a bug: wrong Cypher
            raise self._failed(reason) from error
        finally:
            client.users -= 1
            self._close_unused(client)
        self._breaker.succeeded()

    def _failed(self, reason: str) -> GraphUnavailable:
        told = f"Neo4j at {self._address.place} {reason}"
        self._breaker.failed(told)
        return GraphUnavailable(told)

    def _open(self) -> AsyncDriver:
        address = self._address
        return AsyncGraphDatabase.driver(
            address.uri,
            auth=(address.user, address.password) if address.user else None,
            max_connection_pool_size=CONNECTIONS,
            connection_timeout=READ_SECONDS,
            connection_acquisition_timeout=WRITE_SECONDS,
            max_transaction_retry_time=RETRY_SECONDS,
            initial_retry_delay=0.1,
            notifications_min_severity=NotificationMinimumSeverity.OFF,
            telemetry_disabled=True,
            user_agent="parley",
        )

    def _leave(self) -> None:
        """New calls get a new driver; this one is closed when its last call has ended."""
        client, self._client = self._client, None
        if client is not None:
            self._close_unused(client)

    def _close_unused(self, client: _Client) -> None:
        if client.users or client is self._client:
            return
        closing = asyncio.create_task(_close(client.driver))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _ready(self, driver: AsyncDriver) -> None:
        """On first use: looks at the server's version and brings the schema up to ours."""
        if self._prepared:
            return
        agent = (await driver.get_server_info()).agent
        hit = re.match(r"Neo4j/(\d+)\.(\d+)", agent)
        if hit is None or (int(hit[1]), int(hit[2])) < OLDEST:
            raise GraphUnavailable(
                f"the server at {self._address.place} is {agent or 'unknown'}: Neo4j 5.26 or newer is needed"
            )
        rows = await self._ask(driver, cypher.VERSION, {}, RoutingControl.READ, READ_SECONDS)
        version = int(rows[0]["version"] or 0) if rows else 0
        _check_known(version)
        if version < len(cypher.MIGRATIONS):
            if self._migrating is None or self._migrating.done():
                self._migrating = asyncio.create_task(self._migrate())
                self._migrating.add_done_callback(_retrieve)
            await asyncio.shield(self._migrating)  # it goes on when this call gives up
        self._prepared = True

    async def _migrate(self) -> None:
        """Brings the schema to this version; replicas that start together do it one after the other."""
        async with asyncio.timeout(MIGRATE_SECONDS), self._open() as driver:
            await driver.execute_query(cypher.VERSION_KEY, database_=self._address.database)
            async with self._session(driver) as session, await session.begin_transaction() as holding:
                found = await (await holding.run(cypher.VERSION_LOCK)).single()
                version = int(found["version"]) if found is not None else 0
                _check_known(version)
                # statements on the schema and on data must not be in one transaction
                for step in cypher.MIGRATIONS[version:]:
                    for statement in step:
                        await driver.execute_query(statement, database_=self._address.database)
                await driver.execute_query(cypher.AWAIT_INDEXES, database_=self._address.database)
                await holding.run(cypher.VERSION_DONE, {"version": len(cypher.MIGRATIONS)})
                await holding.commit()


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


async def _close(driver: AsyncDriver) -> None:
    try:
        async with asyncio.timeout(READ_SECONDS):
            await driver.close()
    except (TimeoutError, DriverError, Neo4jError, OSError):
        return  # it was of no use any more


def _check_known(version: int) -> None:
    if version > len(cypher.MIGRATIONS):
        raise GraphUnavailable(
            f"the graph in Neo4j has schema {version} of a newer Parley, this one knows {len(cypher.MIGRATIONS)}: "
            "start the newer Parley, or use another database"
        )


def _of(tenant: str, **parameters: Value) -> dict[str, Value]:
    return {"tenant": to_stored(tenant), **parameters}


def _adding(
    tenant: str, document: str, version: str, batch: Batch
) -> Callable[[AsyncManagedTransaction], Awaitable[None]]:
    lock = stripe(tenant)
    passages: list[Value] = [to_stored(entry.passage) for entry in batch.entries]
    texts = {surface_key(surface.text): surface.text for entry in batch.entries for surface in entry.surfaces}

    asked = _of(tenant, stripe=lock, size=len(passages), passages=passages, surfaces=list[Value](batch.surfaces))

    async def add(transaction: AsyncManagedTransaction) -> None:
        found = await (await transaction.run(cypher.BEGIN, asked)).single(strict=True)
        known = {*found["known"]}
        new = sorted(key for key, text in texts.items() if key not in known and can_be_mentioned(text))
        if new:
            titles: list[Value] = [search(tenant, texts[key]) for key in new]
            await (await transaction.run(cypher.TITLE, _of(tenant, stripe=lock, titles=titles))).consume()
        left: set[str] = set()
        if found["olds"]:
            gone = _of(tenant, stripe=lock, passages=found["olds"])
            left = {*(await (await transaction.run(cypher.REMOVE, gone)).single(strict=True))["before"]} - texts.keys()
        held = frozenset(filter(can_be_mentioned, {*known, *texts}))
        parameters = _of(
            tenant,
            stripe=lock,
            scope=scope(tenant),
            document=to_stored(document),
            version=to_stored(version),
            first=int(found["first"]),
            rows=batch.rows(held),
        )
        await (await transaction.run(cypher.ADD, parameters)).consume()
        if left:
            swept = _of(tenant, stripe=lock, surfaces=list[Value](sorted(left)))
            await (await transaction.run(cypher.SWEEP, swept)).consume()

    return add


def _reason(error: DriverError | Neo4jError | OSError) -> str:
    """What to do about a failure; "" for one that only a bug can cause."""
    if not isinstance(error, Neo4jError):
        return "cannot be reached: is it running, and is the address in " + _URL + " right?"
    if error.code in _REASONS:
        return _REASONS[error.code]
    if isinstance(error, ClientError):
        return ""
    kind = "is busy" if isinstance(error, TransientError) else "has failed"
    return f"{kind} ({error.code}): try again; its log says more"
