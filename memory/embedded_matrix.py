"""The embedded memory's vectors in memory: per scope a matrix that follows the file, read through fixed views."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.embedded_rows import ScopeRow
from memory.sqlite import from_sql
from memory.types import Scope, Vector, Vectors

_BLOCK = 4096
"""Rows of one block; blocks are never moved or copied when a matrix grows."""
_KEPT_QUERIES = 8


@dataclass(frozen=True, slots=True)
class View:
    """The live vectors of a scope at one revision; stays as it is while the matrix goes on."""

    revision: int
    blocks: tuple[Vectors, ...]
    rows: tuple[NDArray[np.int64], ...]
    """Row numbers of the file, block by block."""
    alive: NDArray[np.bool_]
    """One per position; its length is the number of positions."""
    places: dict[int, int]
    """Row number to position; shared with later views, so a position counts only if alive here."""
    names: list[tuple[str, str]]
    """(id, source) by position; shared with later views, which only add to it."""
    live: int
    """Number of live records."""

    def dense(self, query: Vector) -> NDArray[np.float32]:
        """Cosine of every position, -inf where it is not live."""
        scores = np.empty(len(self.alive), np.float32)
        for block, start in zip(self.blocks, range(0, len(scores), _BLOCK), strict=True):
            end = min(start + _BLOCK, len(scores))
            np.matmul(block[: end - start], query, out=scores[start:end])
        if self.live < len(scores):
            scores[~self.alive] = -np.inf
        return scores

    def best(self, scores: NDArray[np.float32], limit: int) -> list[int]:
        """Positions of the live records with the highest of `dense`'s scores, in no order."""
        limit = min(limit, self.live)
        if limit == 0:
            return []
        places: list[int] = np.argpartition(scores, -limit)[-limit:].tolist()
        return places

    def holds(self, row: int) -> bool:
        """Whether the record of this row number is live here."""
        at = self.places.get(row, len(self.alive))
        return at < len(self.alive) and bool(self.alive[at])

    def of(self, scores: NDArray[np.float32], rows: Sequence[int]) -> list[float]:
        """The score of each row."""
        found: list[float] = scores[[self.places[row] for row in rows]].tolist()
        return found


class Cosines:
    """The cosines of the last queries: a search asks for those of one query several times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int, bytes], NDArray[np.float32]] = OrderedDict()

    def of(self, scope: ScopeRow, view: View, query: Vector) -> NDArray[np.float32]:
        """See View.dense."""
        key = (scope.n, view.revision, query.tobytes())
        with self._lock:
            scores = self._kept.get(key)
        if scores is None:
            scores = view.dense(query)
            with self._lock:
                self._kept[key] = scores
                if len(self._kept) > _KEPT_QUERIES:
                    self._kept.popitem(last=False)
        return scores


class Matrix:
    """One scope's vectors; `lock` is held from before a snapshot is taken until its view has been made."""

    def __init__(self, dimensions: int) -> None:
        self.lock = threading.Lock()
        self._dimensions = dimensions
        self._clear()

    def _clear(self) -> None:
        self._blocks: list[Vectors] = []
        self._rows: list[NDArray[np.int64]] = []
        self._places: dict[int, int] = {}
        self._names: list[tuple[str, str]] = []
        self._sources: dict[str | bytes, tuple[int, int]] = {}
        self._view = View(0, (), (), np.empty(0, np.bool_), self._places, self._names, 0)
        self._whole = True

    @property
    def bytes(self) -> int:
        """Memory held, about."""
        return len(self._view.alive) * (self._dimensions * 4 + 400)

    def view(self, db: sqlite3.Connection, scope: ScopeRow) -> View:
        """The view of the snapshot that `db` reads: what changed since the last one is read from the file."""
        if self._view.revision < scope.forgotten or not self._whole:
            self._clear()
        if self._view.revision != scope.revision:
            self._whole = False  # until read to the end: the file may fail in the middle
            self._follow(db, scope)
            self._whole = True
        return self._view

    def _follow(self, db: sqlite3.Connection, scope: ScopeRow) -> None:
        since = self._view.revision
        alive = self._view.alive.copy()
        for (source,) in db.execute(
            "SELECT source FROM memory_sources WHERE scope = ? AND revision > ?", (scope.n, since)
        ):
            start, end = self._sources.pop(source, (0, 0))
            alive[start:end] = False
        size = len(alive)
        for source, row, id, vector in db.execute(
            "SELECT s.source, r.n, r.id, v.vector FROM memory_sources s"
            " CROSS JOIN memory_records r ON r.generation = s.live CROSS JOIN memory_vectors v ON v.n = r.n"
            " WHERE s.scope = ? AND s.revision > ?",
            (scope.n, since),
        ):
            self._put(size, row, (from_sql(id), from_sql(source)), np.frombuffer(vector, np.float32))
            start, _ = self._sources.get(source, (size, size))
            size += 1
            self._sources[source] = (start, size)
        alive = np.concatenate([alive, np.ones(size - len(alive), np.bool_)])
        self._show(scope.revision, alive)
        if len(alive) > 2 * self._view.live + _BLOCK:
            self._compact()

    def _put(self, at: int, row: int, name: tuple[str, str], vector: Vector) -> None:
        if at == len(self._blocks) * _BLOCK:
            self._blocks.append(np.empty((_BLOCK, self._dimensions), np.float32))  # untouched pages take no memory
            self._rows.append(np.empty(_BLOCK, np.int64))
        self._blocks[-1][at % _BLOCK] = vector
        self._rows[-1][at % _BLOCK] = row
        self._places[row] = at
        self._names.append(name)

    def _show(self, revision: int, alive: NDArray[np.bool_]) -> None:
        live = int(np.count_nonzero(alive))
        self._view = View(revision, tuple(self._blocks), tuple(self._rows), alive, self._places, self._names, live)

    def _compact(self) -> None:
        """Moves the live rows into new blocks; views already given out keep the old ones."""
        old, sources = self._view, self._sources
        self._clear()
        size = 0
        for source, (start, end) in sources.items():
            begin = size
            for at in range(start, end):
                block, place = divmod(at, _BLOCK)
                self._put(size, int(old.rows[block][place]), old.names[at], old.blocks[block][place])
                size += 1
            self._sources[source] = (begin, size)
        self._show(old.revision, np.ones(size, np.bool_))


class Matrices:
    """The matrices of the scopes used last, bounded in number and in bytes."""

    def __init__(self, dimensions: int, *, scopes: int, max_bytes: int) -> None:
        self._dimensions, self._scopes, self._max_bytes = dimensions, scopes, max_bytes
        self._kept: OrderedDict[Scope, Matrix] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, scope: Scope) -> Matrix:
        """The scope's matrix; those not used for longest make room for it."""
        with self._lock:
            matrix = self._kept.get(scope)
            if matrix is None:
                matrix = self._kept[scope] = Matrix(self._dimensions)
            self._kept.move_to_end(scope)
            while len(self._kept) > 1 and (
                len(self._kept) > self._scopes or sum(kept.bytes for kept in self._kept.values()) > self._max_bytes
            ):
                self._kept.popitem(last=False)
            return matrix
