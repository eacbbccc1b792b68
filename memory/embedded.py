"""EmbeddedMemory, the MemoryStore in the one SQLite file: FTS5 for words, exact cosine in memory for meaning."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import numpy as np

from memory import embedded_rows as rows
from memory.embedded_matrix import Cosines, Matrices, View
from memory.embedded_words import Words
from memory.records import check
from memory.sql import DatabaseUnavailable
from memory.sqlite import Database
from memory.store import MemoryUnavailable
from memory.types import Hit, Query, Record, Scope, Score, Statistics, Vector

T = TypeVar("T")

SCHEMA = rows.SCHEMA
"""DDL to open the Database with."""
_LANES = 2
"""Searches at one time; the other reader threads stay free for conversations."""
_SCOPES, _MAX_BYTES = 64, 512 * 1024 * 1024


class EmbeddedMemory:
    """Records, words and vectors in one transaction; any number of processes.

    `stage` and `publish` may be called inside `database.transaction()`: they then raise at its exit, as
    DatabaseUnavailable instead of MemoryUnavailable, and one `stage` should bring no more than 48 records.
    """

    def __init__(
        self,
        database: Database,
        embedder_name: str,
        dimensions: int,
        *,
        max_scopes: int = _SCOPES,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        """`max_scopes` and `max_bytes` bound the matrices kept in memory; one scope is always kept."""
        self._database, self._embedder, self._dimensions = database, embedder_name, dimensions
        self._matrices = Matrices(dimensions, scopes=max_scopes, max_bytes=max_bytes)
        self._words = Words()
        self._cosines = Cosines()
        self._lanes = asyncio.Semaphore(_LANES)

    async def stage(self, scope: Scope, source: str, version: str, records: Sequence[Record]) -> None:
        """Stores records invisibly, 48 to a transaction; see MemoryStore."""
        await asyncio.to_thread(check, records, source, scope.tenant, self._dimensions)
        for start in range(0, len(records), rows.ROWS_AT_ONCE):
            batch = records[start : start + rows.ROWS_AT_ONCE]
            prepared = await asyncio.to_thread(rows.prepare, batch)

            def write(db: sqlite3.Connection, prepared: Sequence[rows.Prepared] = prepared) -> None:
                rows.stage(db, scope, source, version, self._embedder, self._dimensions, prepared)

            with _as_memory():
                await self._database.write(write, bulk=True)

    async def publish(self, scope: Scope, source: str, version: str | None, count: int) -> None:
        """Shows a version at once; the old one's rows are deleted after it, little by little; see MemoryStore."""
        with _as_memory():
            await self._database.write(
                lambda db: rows.publish(db, scope, source, version, self._embedder, self._dimensions, count)
            )
            await self._database.after_commit(self._sweep)

    async def search(self, scope: Scope, query: Query, limit: int) -> list[Hit]:
        """Hybrid search; see MemoryStore."""
        vector = self._vector(query)

        def find(db: sqlite3.Connection) -> list[Hit]:
            at, view = self._view(db, scope)
            if at is None or limit <= 0:
                return []
            words = self._words.ranked(db, at, view, query.text, limit)
            cosines = self._cosines.of(at, view, vector)
            fits = {view.places[row]: fit for row, fit in words.items()}
            found = list({*view.best(cosines, limit), *islice(fits, limit)})
            distances: list[float] = (-cosines[found]).tolist()
            names, fit = [view.names[at] for at in found], [fits.get(at, 0.0) for at in found]
            best_first = sorted(zip(distances, names, fit, strict=True))
            return [Hit(id, source, Score(-distance, fit)) for distance, (id, source), fit in best_first]

        return await self._read(find)

    async def foresee(self, scope: Scope, text: str) -> None:
        """Ranks by words ahead of the search; see MemoryStore."""

        def rank(db: sqlite3.Connection) -> None:
            at, view = self._view(db, scope)
            if at is not None:
                self._words.ranked(db, at, view, text, 0)

        await self._read(rank)

    async def scores(self, scope: Scope, query: Query, ids: Sequence[str]) -> dict[str, Score]:
        """Scores of given records; see MemoryStore."""
        vector = self._vector(query)

        def score(db: sqlite3.Connection) -> dict[str, Score]:
            at, view = self._view(db, scope)
            if at is None or not ids:
                return {}
            found = rows.numbers(db, at.n, ids)
            words = self._words.ranked(db, at, view, query.text, 0)
            dense = view.of(self._cosines.of(at, view, vector), list(found.values()))
            return {
                id: Score(cosine, words.get(row, 0.0)) for (id, row), cosine in zip(found.items(), dense, strict=True)
            }

        return await self._read(score)

    async def get(self, scope: Scope, ids: Sequence[str]) -> list[Record]:
        """Whole records; see MemoryStore."""

        def fetch(db: sqlite3.Connection) -> list[Record]:
            at = rows.find_scope(db, scope, self._embedder, self._dimensions)
            if at is None:
                return []
            found = rows.records(db, at.n, ids, self._dimensions)
            return [found[id] for id in ids if id in found]

        with _as_memory():
            return await self._database.read(fetch)

    async def statistics(self, scope: Scope, words: Sequence[str]) -> Statistics:
        """Word counts; see MemoryStore. Stop words, which are not indexed, count as held by no record."""

        def count(db: sqlite3.Connection) -> Statistics:
            at, view = self._view(db, scope)
            if at is None:
                return Statistics(0, dict.fromkeys(words, 0))
            return Statistics(view.live, {word: self._words.frequency(db, at, view, word) for word in words})

        return await self._read(count)

    async def close(self) -> None:
        """Nothing: the database is closed by who opened it."""

    def _view(self, db: sqlite3.Connection, scope: Scope) -> tuple[rows.ScopeRow | None, View]:
        """The scope and its vectors, both of the snapshot that the first statement here takes."""
        matrix = self._matrices.of(scope)
        with matrix.lock:  # so that no older snapshot comes after a newer view
            at = rows.find_scope(db, scope, self._embedder, self._dimensions)
            return at, matrix.view(db, at or rows.ScopeRow(0, 0, 0))

    def _vector(self, query: Query) -> Vector:
        vector = np.ascontiguousarray(query.vector, np.float32)
        if vector.shape != (self._dimensions,):
            raise ValueError(f"the query's vector has shape {vector.shape}, not ({self._dimensions},)")
        return vector

    async def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        with _as_memory():
            async with self._lanes:
                return await self._database.read(fn)

    async def _sweep(self) -> None:
        """Deletes what is no longer visible, in small transactions that let a chat through."""
        while await self._database.read(rows.to_sweep) is not None:
            await self._database.write(rows.sweep, bulk=True)


@contextmanager
def _as_memory() -> Generator[None]:
    """The file's exception as the port's."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise MemoryUnavailable(str(error)) from error
