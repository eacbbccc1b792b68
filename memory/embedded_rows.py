"""The embedded memory's tables: staging, publishing and sweeping of records, and reading them back."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory.records import label_json, label_of, terms_of
from memory.sqlite import from_sql, to_sql
from memory.store import IncompleteSource, OtherEmbedder
from memory.types import PartVectors, Record, Scope

SCHEMA = """
CREATE TABLE IF NOT EXISTS memory_scopes (
  n INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, collection TEXT NOT NULL, user TEXT NOT NULL,
  embedder TEXT NOT NULL, dimensions INTEGER NOT NULL,
  revision INTEGER NOT NULL DEFAULT 0, forgotten INTEGER NOT NULL DEFAULT 0, UNIQUE (tenant, collection, user));
CREATE TABLE IF NOT EXISTS memory_generations (
  n INTEGER PRIMARY KEY AUTOINCREMENT, scope INTEGER NOT NULL, source TEXT NOT NULL, version TEXT NOT NULL,
  staged_at REAL);
CREATE INDEX IF NOT EXISTS memory_generations_by_source ON memory_generations (scope, source);
CREATE INDEX IF NOT EXISTS memory_generations_staged ON memory_generations (staged_at) WHERE staged_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS memory_sources (
  scope INTEGER NOT NULL, source TEXT NOT NULL, live INTEGER, revision INTEGER NOT NULL,
  PRIMARY KEY (scope, source)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS memory_sources_by_revision ON memory_sources (scope, revision);
CREATE INDEX IF NOT EXISTS memory_sources_gone ON memory_sources (scope, revision) WHERE live IS NULL;
CREATE TABLE IF NOT EXISTS memory_records (
  n INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER NOT NULL, scope INTEGER NOT NULL, id TEXT NOT NULL,
  title TEXT NOT NULL, text TEXT NOT NULL, label TEXT NOT NULL, payload TEXT NOT NULL,
  part_rows BLOB, part_scales BLOB, UNIQUE (generation, id));
CREATE INDEX IF NOT EXISTS memory_records_by_id ON memory_records (scope, id);
CREATE TABLE IF NOT EXISTS memory_vectors (n INTEGER PRIMARY KEY, vector BLOB NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS memory_words USING fts5 (scope, body, tokenize = "ascii tokenchars '_'");
CREATE VIRTUAL TABLE IF NOT EXISTS memory_vocabulary USING fts5vocab (memory_words, row);
"""
"""A generation is one version of a source on its way: staged_at is when it was last added to, 0 when it may be
swept, NULL when it is the live one. A source's row tells since which revision of its scope it is as it is; that of
a removed source (live NULL) is kept for the last removals and then forgotten."""

SWEEP_AFTER = 3600.0
"""Seconds after which records that were staged and never published are taken for a dead process's."""
ROWS_AT_ONCE = 48
"""Records written or deleted in one transaction, about 10 ms."""
_TOMBSTONES = 1000


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """One scope as stored."""

    n: int
    revision: int
    """Grows with every publish."""
    forgotten: int
    """Removals up to this revision are no longer listed."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record as its columns, made outside of the transaction since it takes longer than writing it."""

    id: str | bytes
    columns: tuple[str | bytes | None, ...]
    vector: bytes
    words: str


def prepare(records: Sequence[Record]) -> list[Prepared]:
    """The columns and words of records that were checked."""
    return [_prepare(record) for record in records]


def _prepare(record: Record) -> Prepared:
    vector = np.ascontiguousarray(record.vector, np.float32)
    parts = record.parts
    columns = (
        to_sql(record.title),
        to_sql(record.text),
        json.dumps(label_json(record.label)),
        to_sql(record.payload),
        None if parts is None else np.ascontiguousarray(parts.rows, np.int8).tobytes(),
        None if parts is None else np.ascontiguousarray(parts.scales, np.float32).tobytes(),
    )
    return Prepared(to_sql(record.id), columns, vector.tobytes(), " ".join(terms_of(record)))


def find_scope(db: sqlite3.Connection, scope: Scope, embedder: str, dimensions: int) -> ScopeRow | None:
    """The scope's row, None when nothing was ever stored in it.

    Raises:
        OtherEmbedder: its vectors were made by another embedder.
    """
    found = _any_scope(db, scope)
    if found is None:
        return None
    row, maker, size = found
    if (maker, size) != (embedder, dimensions):
        raise OtherEmbedder(
            f"the collection {scope.collection!r} was made with the embedder {maker} ({size} dimensions), not with"
            f" {embedder} ({dimensions}): use the Parley that made it, or remove all its documents"
            " (parley documents remove) and ingest them anew"
        )
    return row


def _any_scope(db: sqlite3.Connection, scope: Scope) -> tuple[ScopeRow, str, int] | None:
    """The scope's row, whichever embedder made it, with that embedder's name and dimensions."""
    row = db.execute(
        "SELECT n, revision, forgotten, embedder, dimensions FROM memory_scopes"
        " WHERE tenant = ? AND collection = ? AND user = ?",
        (to_sql(scope.tenant), to_sql(scope.collection), to_sql(scope.user)),
    ).fetchone()
    return None if row is None else (ScopeRow(row[0], row[1], row[2]), row[3], row[4])


def _make_scope(db: sqlite3.Connection, scope: Scope, embedder: str, dimensions: int) -> ScopeRow:
    """The scope's row, made when missing; one that holds nothing any more takes the present embedder."""
    key = (to_sql(scope.tenant), to_sql(scope.collection), to_sql(scope.user))
    db.execute(
        "INSERT INTO memory_scopes (tenant, collection, user, embedder, dimensions) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET embedder = excluded.embedder, dimensions = excluded.dimensions"
        " WHERE NOT EXISTS (SELECT 1 FROM memory_generations g WHERE g.scope = memory_scopes.n)",
        (*key, embedder, dimensions),
    )
    row = find_scope(db, scope, embedder, dimensions)
    assert row is not None
    return row


def stage(
    db: sqlite3.Connection,
    scope: Scope,
    source: str,
    version: str,
    embedder: str,
    dimensions: int,
    records: Sequence[Prepared],
) -> None:
    """Adds records to the staged generation of (source, version), made when there is none."""
    at = _make_scope(db, scope, embedder, dimensions).n
    generation = _staged(db, at, source, version)
    if generation is None:
        generation = db.execute(
            "INSERT INTO memory_generations (scope, source, version, staged_at) VALUES (?, ?, ?, ?)",
            (at, to_sql(source), to_sql(version), time.time()),
        ).lastrowid
    else:
        db.execute("UPDATE memory_generations SET staged_at = ? WHERE n = ?", (time.time(), generation))
    for record in records:
        old = db.execute("SELECT n FROM memory_records WHERE generation = ? AND id = ?", (generation, record.id))
        _delete(db, [n for (n,) in old.fetchall()])
        n = db.execute(
            "INSERT INTO memory_records (generation, scope, id, title, text, label, payload, part_rows, part_scales)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (generation, at, record.id, *record.columns),
        ).lastrowid
        db.execute("INSERT INTO memory_vectors (n, vector) VALUES (?, ?)", (n, record.vector))
        db.execute("INSERT INTO memory_words (rowid, scope, body) VALUES (?, ?, ?)", (n, str(at), record.words))


def publish(
    db: sqlite3.Connection, scope: Scope, source: str, version: str | None, embedder: str, dimensions: int, count: int
) -> None:
    """Makes one generation of the source the live one (None: none) and gives every other free for sweeping.

    Raises:
        IncompleteSource: it does not hold exactly `count` records.
        OtherEmbedder: another embedder made the vectors that it would stand beside.
    """
    if version is not None and count:
        at = _make_scope(db, scope, embedder, dimensions)
        target = _staged(db, at.n, source, version) or _live(db, at.n, source, version)
    else:
        found = _any_scope(db, scope)  # nothing is shown, so that it matters not who made the vectors
        if found is None:
            return
        at, _, _ = found
        target = None if version is None else _staged(db, at.n, source, version)
    (have,) = db.execute("SELECT count(*) FROM memory_records WHERE generation = ?", (target,)).fetchone()
    if have != count:
        raise IncompleteSource(f"{have} of {count} records of {source!r} are staged; stage the source again")
    if count == 0:
        target = None
    was = db.execute(
        "SELECT live FROM memory_sources WHERE scope = ? AND source = ?", (at.n, to_sql(source))
    ).fetchone()
    db.execute(
        "UPDATE memory_generations SET staged_at = CASE WHEN n IS ? THEN NULL ELSE 0 END"
        " WHERE scope = ? AND source = ?",
        (target, at.n, to_sql(source)),
    )
    if (target,) == (was or (None,)):
        return
    revision = at.revision + 1
    db.execute("UPDATE memory_scopes SET revision = ? WHERE n = ?", (revision, at.n))
    db.execute(
        "INSERT INTO memory_sources (scope, source, live, revision) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET live = excluded.live, revision = excluded.revision",
        (at.n, to_sql(source), target, revision),
    )
    if target is None:
        _forget_removals(db, at.n, revision)
    else:
        _replace_elsewhere(db, at.n, target, to_sql(source), revision)


def _staged(db: sqlite3.Connection, scope: int, source: str, version: str) -> int | None:
    row = db.execute(
        "SELECT n FROM memory_generations WHERE scope = ? AND source = ? AND version = ? AND staged_at > 0",
        (scope, to_sql(source), to_sql(version)),
    ).fetchone()
    return None if row is None else row[0]


def _live(db: sqlite3.Connection, scope: int, source: str, version: str) -> int | None:
    row = db.execute(
        "SELECT n FROM memory_generations WHERE scope = ? AND source = ? AND version = ? AND staged_at IS NULL",
        (scope, to_sql(source), to_sql(version)),
    ).fetchone()
    return None if row is None else row[0]


def _replace_elsewhere(db: sqlite3.Connection, scope: int, generation: int, source: str | bytes, revision: int) -> None:
    """An id is unique in its scope: takes it from the source that showed it until now."""
    clashes = db.execute(
        "SELECT old.n, g.source FROM memory_records new JOIN memory_records old"
        " ON old.scope = new.scope AND old.id = new.id JOIN memory_generations g ON g.n = old.generation"
        " WHERE new.generation = ? AND g.staged_at IS NULL AND g.source <> ?",
        (generation, source),
    ).fetchall()
    _delete(db, [n for n, _ in clashes])
    for other in {other for _, other in clashes}:
        db.execute("UPDATE memory_sources SET revision = ? WHERE scope = ? AND source = ?", (revision, scope, other))


def _forget_removals(db: sqlite3.Connection, scope: int, revision: int) -> None:
    """Keeps only the last removals listed; a process that is further behind reads its scope anew."""
    until = revision - _TOMBSTONES
    gone = db.execute(
        "DELETE FROM memory_sources WHERE scope = ? AND live IS NULL AND revision <= ?", (scope, until)
    ).rowcount
    if gone:
        db.execute("UPDATE memory_scopes SET forgotten = ? WHERE n = ?", (until, scope))


def _delete(db: sqlite3.Connection, rows: Sequence[int]) -> None:
    for table, key in (("memory_words", "rowid"), ("memory_vectors", "n"), ("memory_records", "n")):
        db.executemany(f"DELETE FROM {table} WHERE {key} = ?", [(n,) for n in rows])


def to_sweep(db: sqlite3.Connection) -> int | None:
    """A generation whose rows may go: replaced or removed, or staged long ago and never published."""
    row = db.execute(
        "SELECT n FROM memory_generations WHERE staged_at < ? ORDER BY staged_at LIMIT 1", (time.time() - SWEEP_AFTER,)
    ).fetchone()
    return None if row is None else row[0]


def sweep(db: sqlite3.Connection) -> None:
    """Deletes some rows of such generations."""
    room = ROWS_AT_ONCE
    while room > 0 and (generation := to_sweep(db)) is not None:
        rows = db.execute("SELECT n FROM memory_records WHERE generation = ? LIMIT ?", (generation, room)).fetchall()
        _delete(db, [n for (n,) in rows])
        if len(rows) < room:
            db.execute("DELETE FROM memory_generations WHERE n = ?", (generation,))
        room -= len(rows) + 1


def numbers(db: sqlite3.Connection, scope: int, ids: Sequence[str]) -> dict[str, int]:
    """The row numbers of the live records among `ids`."""
    rows = db.execute(
        "SELECT r.id, r.n FROM memory_records r JOIN memory_generations g ON g.n = r.generation"
        f" WHERE r.scope = ? AND r.id IN ({_marks(ids)}) AND g.staged_at IS NULL",
        (scope, *map(to_sql, ids)),
    )
    return {from_sql(id): n for id, n in rows}


def records(db: sqlite3.Connection, scope: int, ids: Sequence[str], dimensions: int) -> dict[str, Record]:
    """The live records among `ids`."""
    rows = db.execute(
        "SELECT r.id, g.source, r.title, r.text, r.label, r.payload, r.part_rows, r.part_scales, v.vector"
        " FROM memory_records r JOIN memory_generations g ON g.n = r.generation JOIN memory_vectors v ON v.n = r.n"
        f" WHERE r.scope = ? AND r.id IN ({_marks(ids)}) AND g.staged_at IS NULL",
        (scope, *map(to_sql, ids)),
    )
    found: dict[str, Record] = {}
    for id, source, title, text, label, payload, part_rows, part_scales, vector in rows:
        found[from_sql(id)] = Record(
            id=from_sql(id),
            source=from_sql(source),
            title=from_sql(title),
            text=from_sql(text),
            vector=np.frombuffer(vector, np.float32),
            label=label_of(json.loads(label)),
            payload=from_sql(payload),
            parts=None if part_rows is None else _parts(part_rows, part_scales, dimensions),
        )
    return found


def _parts(rows: bytes, scales: bytes, dimensions: int) -> PartVectors:
    matrix: NDArray[np.int8] = np.frombuffer(rows, np.int8).reshape(-1, dimensions)
    return PartVectors(matrix, np.frombuffer(scales, np.float32))


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
