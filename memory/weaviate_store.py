# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The door to Weaviate: its client behind bounds in time and number, its errors as ours, its objects as rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar, cast

import numpy as np
from weaviate import WeaviateAsyncClient
from weaviate.classes.config import Configure, DataType, Property, StopwordsPreset, Tokenization, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.classes.query import Filter, FilterReturn, MetadataQuery
from weaviate.connect import ConnectionParams
from weaviate.exceptions import (
    InsufficientPermissionsError,
    UnexpectedStatusCodeError,
    WeaviateBaseError,
    WeaviateClosedClientError,
    WeaviateConnectionError,
    WeaviateGRPCUnavailableError,
    WeaviateQueryError,
    WeaviateRetryError,
    WeaviateStartUpError,
    WeaviateTimeoutError,
)

from memory.store import MemoryUnavailable, OtherEmbedder
from memory.types import Vector
from memory.weaviate_address import Address
from memory.weaviate_breaker import Breaker
from memory.weaviate_rows import Object, Row, Where

T = TypeVar("T")

AT_ONCE = 8
"""Requests at one time: more make a server of few cores slower, not faster."""
CONNECT_SECONDS, READ_SECONDS, WRITE_SECONDS = 1.7, 15.0, 60.0
_SILENCE, _PING_SECONDS, _PING_BESIDE_SECONDS = 0.5, 1.2, 5.0
"""A busy server may take its time: after so long it is asked whether it still lives, and must say so in that time;
in the last one on the connection that carries the request, where a slow network makes it wait behind other data."""
_PAUSE, _ATTEMPTS = 0.1, 12
_OLDEST, _STREAMS = (1, 35), (1, 36)
"""Versions of the server: the oldest that works, and the first that takes a stream of objects."""
_MANY = 2000
"""Objects of one call from which on a stream, which takes a second to set up, is the faster way."""
_BATCH_OBJECTS, _BATCH_BYTES = 256, 16 * 1024 * 1024
_WRITERS = 2
"""Batches under way for one call; Weaviate uses all of its cores for each."""
_PAGE = 1000
MOST = 10_000
"""What one query gives and one deletion deletes at most (QUERY_MAXIMUM_RESULTS)."""
_RESCORED = 400
"""Candidates of a search whose exact score is taken, where fewer are asked for."""
_STARTING = (
    "could not find class",
    "non-existing index",
    "no read replica found",
    "leader not found",
    "shutting down",
    "shutdown",
)
_NO_TENANT = "tenant not found"
_OTHER_SIZE = ("vector lengths don't match", "vector dimensions")


class Place(NamedTuple):
    """One tenant's part of a collection, which is named by its own name or by an alias."""

    collection: str
    tenant: str


class Server:
    """One Weaviate. Connects on first use, and anew after every failure.

    Every method raises MemoryUnavailable when the server is gone, starting, not ours to use or too old. Reading a
    tenant that is not there finds nothing; writing makes it.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connections = 0
        """How often it has connected."""
        self._breaker = Breaker()
        self._lanes = asyncio.Semaphore(AT_ONCE)
        self._connecting = asyncio.Lock()
        self._client: WeaviateAsyncClient | None = None
        self._retired: list[WeaviateAsyncClient] = []
        self._abandoned: set[asyncio.Task[None]] = set()
        self._version: tuple[int, ...] = (0, 0)

    async def close(self) -> None:
        """Closes the connections; may be called again."""
        await self.quiet()
        self._retire()
        await self._close_retired()

    async def fetch(
        self, place: Place, where: Sequence[Where], limit: int, names: Sequence[str], *, vectors: bool = False
    ) -> list[Row]:
        """Objects that meet all conditions, at most `limit` of them, with these properties."""

        async def ask(client: WeaviateAsyncClient) -> list[Row]:
            found = await _of(client, place).query.fetch_objects(
                filters=_filter(where), limit=limit, return_properties=list(names), include_vector=vectors
            )
            return [Row(str(o.uuid), _values(o.properties), 0.0, _vector(o.vector)) for o in found.objects]

        return await self._read(ask, [])

    async def listing(self, place: Place) -> dict[str, float]:
        """All objects: uuid to the time of the last change, in seconds since 1970."""
        found: dict[str, float] = {}
        after: str | None = None
        while True:

            async def ask(client: WeaviateAsyncClient, after: str | None = after) -> dict[str, float]:
                page = await _of(client, place).query.fetch_objects(
                    after=after, limit=_PAGE, return_properties=[], return_metadata=MetadataQuery(last_update_time=True)
                )
                changed = {str(o.uuid): o.metadata.last_update_time for o in page.objects}
                return {uuid: time.timestamp() if time else 0.0 for uuid, time in changed.items()}

            nothing: dict[str, float] = {}
            page = await self._read(ask, nothing)
            found.update(page)
            if len(page) < _PAGE:
                return found
            after = list(page)[-1]

    async def near(self, place: Place, vector: Vector, where: Sequence[Where], limit: int) -> list[Row]:
        """The objects with the highest dot products, best first, with their ids, sources and generations."""

        async def ask(client: WeaviateAsyncClient) -> list[Row]:
            found = await _of(client, place).query.near_vector(
                vector.tolist(), filters=_filter(where), limit=limit, return_properties=_NAMED,
                return_metadata=MetadataQuery(distance=True),
            )  # fmt: skip
            return [Row(str(o.uuid), _values(o.properties), -(o.metadata.distance or 0.0)) for o in found.objects]

        return await self._read(ask, [])

    async def bm25(self, place: Place, words: str, where: Sequence[Where], limit: int) -> list[Row]:
        """The objects that fit these stems best, best first, as `near` gives them."""

        async def ask(client: WeaviateAsyncClient) -> list[Row]:
            found = await _of(client, place).query.bm25(
                words, query_properties=["words"], filters=_filter(where), limit=limit, return_properties=_NAMED,
                return_metadata=MetadataQuery(score=True),
            )  # fmt: skip
            return [Row(str(o.uuid), _values(o.properties), o.metadata.score or 0.0) for o in found.objects]

        return await self._read(ask, [])

    async def count(self, place: Place, where: Sequence[Where]) -> int:
        """Number of objects that meet all conditions; takes 7 µs for each of them, nothing without conditions."""

        async def ask(client: WeaviateAsyncClient) -> int:
            found = await _of(client, place).aggregate.over_all(filters=_filter(where), total_count=True)
            return found.total_count or 0

        return await self._read(ask, 0)

    async def insert(self, place: Place, objects: Sequence[Object]) -> None:
        """Stores objects, which replace those with their uuids; all are stored when it returns.

        Raises:
            OtherEmbedder: the tenant's vectors have another size.
        """
        if self._version >= _STREAMS and len(objects) >= _MANY:
            await self.insert_by_stream(place, objects)
            return
        batches = _batches(objects)

        async def work() -> None:
            for batch in batches:
                storing = asyncio.create_task(
                    self._write(lambda client, batch=batch: self._insert(client, place, batch))
                )
                try:
                    await asyncio.shield(storing)
                except asyncio.CancelledError:
                    self._abandoned.add(storing)
                    storing.add_done_callback(self._abandoned.discard)
                    raise

        await together(*(work() for _ in range(_WRITERS if len(objects) > _BATCH_OBJECTS else 1)))

    async def quiet(self) -> None:
        """Waits for batches whose caller has given up: Weaviate stores whole what it was sent."""
        await asyncio.gather(*self._abandoned, return_exceptions=True)

    async def insert_by_stream(self, place: Place, objects: Sequence[Object]) -> None:
        """As `insert`, at the speed that the server asks for; takes a second at least."""

        async def ask(client: WeaviateAsyncClient) -> None:
            done = await _of(client, place).data.ingest(map(_data, objects))
            _raise_first([each.message for each in done.errors.values()])

        await self._write(ask)

    async def _insert(self, client: WeaviateAsyncClient, place: Place, batch: Sequence[Object]) -> None:
        done = await _of(client, place).data.insert_many([_data(each) for each in batch])
        _raise_first([each.message for each in done.errors.values()])

    async def delete(self, place: Place, where: Sequence[Where]) -> None:
        """Deletes all objects that meet the conditions."""
        while True:

            async def ask(client: WeaviateAsyncClient) -> bool:
                chosen = _filter(where)
                assert chosen is not None
                done = await _of(client, place).data.delete_many(where=chosen)
                if done.failed:
                    raise MemoryUnavailable(f"Weaviate could not delete {done.failed} objects: see its log")
                return done.matches > done.successful

            if not await self._write(ask, False):
                return

    async def tenants(self, collection: str) -> list[str]:
        """The tenants of a collection."""

        async def ask(client: WeaviateAsyncClient) -> list[str]:
            return list(await client.collections.use(collection).tenants.get())

        return await self._read(ask, [])

    async def remove_tenant(self, collection: str, tenant: str) -> None:
        """Removes a tenant with all that it holds; `collection` must be no alias."""

        async def ask(client: WeaviateAsyncClient) -> None:
            await client.collections.use(collection).tenants.remove([tenant])

        await self._write(ask)

    async def create(self, collection: str, *, searchable: bool) -> None:
        """Makes a collection; one that is there stays as it is.

        Args:
            searchable: with vectors and words; otherwise it only keeps.
        """
        properties = [
            Property(name=name, data_type=DataType.TEXT, tokenization=Tokenization.FIELD, index_searchable=False)
            for name in (_EXACT if searchable else ("room",))
        ]
        kept = _KEPT if searchable else ("what", "body")
        properties += [
            Property(name=name, data_type=DataType.TEXT, index_filterable=False, index_searchable=False)
            for name in kept
        ]
        if searchable:
            properties += [
                Property(name="words", data_type=DataType.TEXT, tokenization=Tokenization.WHITESPACE),
                Property(name="parts", data_type=DataType.BLOB),
            ]
        index = Configure.VectorIndex.hnsw(
            distance_metric=VectorDistances.DOT,  # of vectors of length 1 the cosine; stored as they were given
            quantizer=Configure.VectorIndex.Quantizer.rq(bits=8, rescore_limit=_RESCORED),
        )

        async def ask(client: WeaviateAsyncClient) -> None:
            await client.collections.create(
                collection,
                properties=properties,
                vector_config=Configure.Vectors.self_provided(vector_index_config=index),
                inverted_index_config=Configure.inverted_index(stopwords_preset=StopwordsPreset.NONE),
                multi_tenancy_config=Configure.multi_tenancy(
                    enabled=True, auto_tenant_creation=True, auto_tenant_activation=True
                ),
            )

        await self._write(ask, None, known=("already exists",))

    async def drop(self, collection: str) -> None:
        """Removes a collection with all that it holds."""
        await self._write(lambda client: client.collections.delete(collection))

    async def aliases(self) -> dict[str, str]:
        """Our aliases, and what each stands for. A starting server answers when it knows."""

        async def ask(client: WeaviateAsyncClient) -> dict[str, str]:
            found = await client.alias.list_all()
            return {name: each.collection for name, each in found.items() if name.startswith(self.address.prefix)}

        return await self._read(ask, {})

    async def create_alias(self, alias: str, collection: str) -> bool:
        """Makes the alias stand for this collection; False when it is there already, unchanged."""

        async def ask(client: WeaviateAsyncClient) -> bool:
            await client.alias.create(alias_name=alias, target_collection=collection)
            return True

        return await self._write(ask, False, known=("already exists",))

    async def move_alias(self, alias: str, collection: str) -> None:
        """Makes an alias that is there stand for another collection, at once."""
        await self._write(lambda client: client.alias.update(alias_name=alias, new_target_collection=collection))

    async def drop_alias(self, alias: str) -> None:
        """Removes an alias; what it stood for stays."""
        await self._write(lambda client: client.alias.delete(alias_name=alias))

    async def _read(self, ask: Callable[[WeaviateAsyncClient], Awaitable[T]], empty: T) -> T:
        return await self._call(ask, READ_SECONDS, empty, (_NO_TENANT,))

    async def _write(
        self,
        ask: Callable[[WeaviateAsyncClient], Awaitable[T]],
        empty: T | None = None,
        *,
        known: Sequence[str] = (_NO_TENANT,),
    ) -> T:
        return await self._call(ask, WRITE_SECONDS, cast(T, empty), known)

    async def _call(
        self, ask: Callable[[WeaviateAsyncClient], Awaitable[T]], seconds: float, empty: T, known: Sequence[str]
    ) -> T:
        """One request, within bounds; `empty` when the server's error is one of the known ones."""
        await self._connect()
        async with self._lanes:
            trying = self._breaker.enter()
            try:
                client = self._client
                if client is None:  # a call beside this one has given it up
                    raise self._lost("the connection was lost")
                async with asyncio.timeout(seconds):
                    work = self._patiently(lambda: ask(client), empty, known)
                    result = await self._while_alive(client, work, writing=seconds == WRITE_SECONDS)
            except TimeoutError:
                raise self._lost("it does not answer in time") from None
            except WeaviateBaseError as error:
                raise self._failure(error) from error
            finally:
                self._breaker.leave(trying)
        self._breaker.works()
        return result

    async def _patiently(self, ask: Callable[[], Awaitable[T]], empty: T, known: Sequence[str]) -> T:
        """Asks again while the server is starting: it knows of a collection a little later than it answers."""
        attempts = 1
        while True:
            try:
                return await ask()
            except WeaviateBaseError as error:
                told = str(error)
                if any(sign in told for sign in known):
                    return empty
                if attempts == _ATTEMPTS or not any(sign in told.lower() for sign in _STARTING):
                    raise
            attempts += 1
            await asyncio.sleep(_PAUSE)

    async def _while_alive(self, client: WeaviateAsyncClient, work: Awaitable[T], *, writing: bool) -> T:
        """The work's result, unless the server stops answering meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                done, _ = await asyncio.wait([task], timeout=_SILENCE)
                if done:
                    return task.result()
                async with asyncio.timeout(_PING_SECONDS):
                    await client.get_meta()
                if not (writing or task.done()):
                    async with asyncio.timeout(_PING_BESIDE_SECONDS):
                        await self._ping(client)
        finally:
            task.cancel()

    async def _ping(self, client: WeaviateAsyncClient) -> None:
        """Asks by gRPC for what is not there: being told so will do."""
        try:
            await _of(client, Place(f"{self.address.prefix}Changes", "nobody")).query.fetch_objects(limit=1)
        except WeaviateQueryError as error:
            if any(sign in str(error) for sign in _CUT):
                raise

    async def _connect(self) -> None:
        async with self._connecting:
            if self._client is not None:
                return
            trying = self._breaker.enter()
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    self._client = await self._open()
            except TimeoutError:
                raise self._lost("it does not answer in time") from None
            except WeaviateBaseError as error:
                raise self._failure(error) from error
            finally:
                self._breaker.leave(trying)
            self._breaker.works()
            self.connections += 1
            await self._close_retired()

    async def _open(self) -> WeaviateAsyncClient:
        at = self.address
        client = WeaviateAsyncClient(
            ConnectionParams.from_params(at.host, at.port, at.secure, at.host, at.grpc, at.secure),
            auth_client_secret=Auth.api_key(at.key) if at.key else None,
            additional_config=AdditionalConfig(timeout=Timeout(init=2, query=WRITE_SECONDS, insert=WRITE_SECONDS)),
            skip_init_checks=True,  # they ask the package index, and wait longer than we do
        )
        try:
            await client.connect()
            meta = cast(Mapping[str, object], await client.get_meta())
            version = str(meta["version"])
        except BaseException:
            await client.close()
            raise
        self._version = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
        if self._version < _OLDEST:
            await client.close()
            oldest = ".".join(map(str, _OLDEST))
            raise MemoryUnavailable(f"this is Weaviate {version}: Parley needs {oldest} or newer, upgrade the server")
        return client

    def _failure(self, error: WeaviateBaseError) -> MemoryUnavailable:
        """What the client's exception means to a caller."""
        text = str(error)
        status = error.status_code if isinstance(error, UnexpectedStatusCodeError) else 0
        if status == 401 or "UNAUTHENTICATED" in text or "unauthorized" in text.lower():
            return MemoryUnavailable(
                "Weaviate refuses the key: put the right one into MEMORY_URL (weaviate://:KEY@HOST:PORT?grpc=PORT)"
            )
        if status == 403 or isinstance(error, InsufficientPermissionsError):
            return MemoryUnavailable("Weaviate denies the key of MEMORY_URL what Parley needs: give it more rights")
        if "is not supported. Please use Weaviate version" in text:
            return MemoryUnavailable(
                f"this Weaviate is too old: Parley needs {'.'.join(map(str, _OLDEST))} or newer, upgrade the server"
            )
        if any(sign in text.lower() for sign in _STARTING):
            return self._lost("it does not know our collections, as while it starts")
        if isinstance(error, _AWAY) or any(sign in text for sign in _CUT):
            return self._lost("it cannot be reached")
        return MemoryUnavailable(f"Weaviate could not do it: {text.replace(self.address.key or chr(0), '***')[:300]}")

    def _lost(self, why: str) -> MemoryUnavailable:
        """Gives the connection up: the next call makes a new one."""
        self._retire()
        at = self.address
        reason = f"Weaviate at {at.host}, ports {at.port} and {at.grpc}: {why}; start it or correct MEMORY_URL"
        self._breaker.failed(reason)
        return MemoryUnavailable(reason)

    def _retire(self) -> None:
        if self._client is not None:
            self._retired.append(self._client)  # others may still be waiting for it to answer
            self._client = None

    async def _close_retired(self) -> None:
        while self._retired:
            await self._retired.pop().close()


_AWAY = (
    WeaviateConnectionError, WeaviateTimeoutError, WeaviateStartUpError, WeaviateRetryError,
    WeaviateGRPCUnavailableError, WeaviateClosedClientError,
)  # fmt: skip
_CUT = ("UNAVAILABLE", "Deadline Exceeded", "DEADLINE_EXCEEDED", "connection", "Socket closed")
_EXACT = ("key", "room", "source_key", "generation", "sample")
_KEPT = ("record", "source", "version", "title", "text", "label", "payload")
_NAMED = ["record", "source", "generation"]


async def together(*work: Coroutine[object, None, T]) -> list[T]:
    """The results of all; the first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def _of(client: WeaviateAsyncClient, place: Place):
    return client.collections.use(place.collection).with_tenant(place.tenant)


def _filter(where: Sequence[Where]) -> FilterReturn | None:
    conditions: list[FilterReturn] = []
    for each in where:
        chosen = Filter.by_id() if each.name == "uuid" else Filter.by_property(each.name)
        values = list(each.values)
        conditions.append(chosen.contains_any(values) if each.wanted else chosen.contains_none(values))
    return Filter.all_of(conditions) if conditions else None


def _values(properties: Mapping[str, object]) -> dict[str, str]:
    return {name: value for name, value in properties.items() if isinstance(value, str)}


def _vector(vectors: Mapping[str, object]) -> Vector | None:
    found = vectors.get("default")
    return None if found is None else np.asarray(found, np.float32)


def _data(each: Object) -> DataObject[Mapping[str, str], None]:
    vector = None if each.vector is None else each.vector.tolist()
    return DataObject(uuid=each.uuid, properties=dict(each.properties), vector=vector)


def _batches(objects: Sequence[Object]) -> Iterator[list[Object]]:
    """The objects in pieces of bounded number and size."""
    batch: list[Object] = []
    size = 0
    for each in objects:
        weight = sum(map(len, each.properties.values()))
        weight += 0 if each.vector is None else each.vector.nbytes
        if batch and (len(batch) == _BATCH_OBJECTS or size + weight > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += weight
    if batch:
        yield batch


def _raise_first(errors: Sequence[str]) -> None:
    for message in errors:
        if any(sign in message for sign in _OTHER_SIZE):
            raise OtherEmbedder(
                "Weaviate holds vectors of another size for this tenant: use the embedder that made them, or remove"
                " all that was stored with it and ingest it anew"
            )
        raise MemoryUnavailable(f"Weaviate could not store an object: {message[:300]}")
