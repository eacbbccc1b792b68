# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What is asked of Weaviate: its objects as rows, its queries, its collections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from weaviate import WeaviateAsyncClient
from weaviate.classes.config import Configure, DataType, Property, StopwordsPreset, Tokenization, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter, FilterReturn, MetadataQuery

from memory.store import MemoryUnavailable, OtherEmbedder
from memory.types import Vector
from memory.weaviate_address import Address
from memory.weaviate_connection import Connection, heard, together
from memory.weaviate_rows import Object, Row, Where

_STREAMS = (1, 36)
"""Version of the server from which on it takes a stream of objects."""
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
_OTHER_SIZE = ("vector lengths don't match", "vector dimensions")


class Place(NamedTuple):
    """One tenant's part of a collection, which is named by its own name or by an alias."""

    collection: str
    tenant: str


class Server(Connection):
    """One Weaviate, as what is asked of it. Reading a tenant that is not there finds nothing; writing makes it."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._abandoned: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Waits for what is being stored, then closes the connections; may be called again."""
        await self.quiet()
        await super().close()

    async def fetch(
        self, place: Place, where: Sequence[Where], limit: int, names: Sequence[str], *, vectors: bool = False
    ) -> list[Row]:
        """Objects that meet all conditions, at most `limit` of them, with these properties."""

        async def ask(client: WeaviateAsyncClient) -> list[Row]:
            found = await _of(client, place).query.fetch_objects(
                filters=_filter(where), limit=limit, return_properties=list(names), include_vector=vectors
            )
            return [Row(str(o.uuid), _values(o.properties), 0.0, _vector(o.vector)) for o in found.objects]

        return await self.read(ask, [])

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
            page = await self.read(ask, nothing)
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

        return await self.read(ask, [])

    async def bm25(self, place: Place, words: str, where: Sequence[Where], limit: int) -> dict[str, float]:
        """The uuids of the objects that fit these stems best, with how well, best first.

        No properties: for one of them 1.35.2 parses all of each object, which takes three times as long as the search.
        """

        async def ask(client: WeaviateAsyncClient) -> dict[str, float]:
            found = await _of(client, place).query.bm25(
                words, query_properties=["words"], filters=_filter(where), limit=limit, return_properties=[],
                return_metadata=MetadataQuery(score=True),
            )  # fmt: skip
            scores = {str(o.uuid): o.metadata.score or 0.0 for o in found.objects}
            return dict(sorted(scores.items(), key=lambda each: (-each[1], each[0])))

        nothing: dict[str, float] = {}
        return await self.read(ask, nothing)

    async def count(self, place: Place, where: Sequence[Where]) -> int:
        """Number of objects that meet all conditions; takes 7 µs for each of them, nothing without conditions."""

        async def ask(client: WeaviateAsyncClient) -> int:
            found = await _of(client, place).aggregate.over_all(filters=_filter(where), total_count=True)
            return found.total_count or 0

        return await self.read(ask, 0)

    async def insert(self, place: Place, objects: Sequence[Object]) -> None:
        """Stores objects, which replace those with their uuids; all are stored when it returns.

        Raises:
            OtherEmbedder: the tenant's vectors have another size.
        """
        if self.version >= _STREAMS and len(objects) >= _MANY:
            await self.insert_by_stream(place, objects)
            return
        batches = _batches(objects)

        async def work() -> None:
            for batch in batches:
                storing = asyncio.create_task(
                    self.write(lambda client, batch=batch: self._insert(client, place, batch))
                )
                storing.add_done_callback(heard)
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

        await self.write(ask)

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

            if not await self.write(ask, False):
                return

    async def tenants(self, collection: str) -> list[str]:
        """The tenants of a collection."""

        async def ask(client: WeaviateAsyncClient) -> list[str]:
            return list(await client.collections.use(collection).tenants.get())

        return await self.read(ask, [])

    async def remove_tenant(self, collection: str, tenant: str) -> None:
        """Removes a tenant with all that it holds; `collection` must be no alias."""

        async def ask(client: WeaviateAsyncClient) -> None:
            await client.collections.use(collection).tenants.remove([tenant])

        await self.write(ask)

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

        await self.write(ask, None, known=("already exists",))

    async def drop(self, collection: str) -> None:
        """Removes a collection with all that it holds."""
        await self.write(lambda client: client.collections.delete(collection))

    async def aliases(self) -> dict[str, str]:
        """Our aliases, and what each stands for. A starting server answers when it knows."""

        async def ask(client: WeaviateAsyncClient) -> dict[str, str]:
            found = await client.alias.list_all()
            return {name: each.collection for name, each in found.items() if name.startswith(self.address.prefix)}

        return await self.read(ask, {})

    async def create_alias(self, alias: str, collection: str) -> bool:
        """Makes the alias stand for this collection; False when it is there already, unchanged."""

        async def ask(client: WeaviateAsyncClient) -> bool:
            await client.alias.create(alias_name=alias, target_collection=collection)
            return True

        return await self.write(ask, False, known=("already exists",))

    async def move_alias(self, alias: str, collection: str) -> None:
        """Makes an alias that is there stand for another collection, at once."""
        await self.write(lambda client: client.alias.update(alias_name=alias, new_target_collection=collection))

    async def drop_alias(self, alias: str) -> None:
        """Removes an alias; what it stood for stays."""
        await self.write(lambda client: client.alias.delete(alias_name=alias))


_EXACT = ("key", "room", "source_key", "generation", "sample")
_KEPT = ("record", "source", "version", "title", "text", "label", "payload")
_NAMED = ["record", "source", "generation"]


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
