"""The embedded twin of KnowledgeGraph: titles as rows, names as FTS5 words, in the one SQLite file.

Mentions are worked out when they are asked for, so documents may come and go in any order.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import orjson

from knowledge.entities import grams, normal
from knowledge.graph import GraphUnavailable
from knowledge.mentions import APART, COMMON, first_sentences, mention_weight
from knowledge.relations import Sighting, names_beside, relations
from knowledge.types import Entity, Mention, Name, PassageEntry, Target
from memory.sql import DatabaseUnavailable
from memory.sqlite import Database, to_sql

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS graph_passages (
  n INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, passage TEXT NOT NULL, document TEXT NOT NULL,
  version TEXT NOT NULL, title TEXT NOT NULL, names TEXT NOT NULL, UNIQUE (tenant, passage));
CREATE INDEX IF NOT EXISTS graph_passages_by_document ON graph_passages (tenant, document);
CREATE TABLE IF NOT EXISTS graph_titles (
  tenant TEXT NOT NULL, surface TEXT NOT NULL, n INTEGER NOT NULL REFERENCES graph_passages ON DELETE CASCADE,
  weight REAL NOT NULL, PRIMARY KEY (tenant, surface, n)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS graph_titles_by_passage ON graph_titles (n);
CREATE VIRTUAL TABLE IF NOT EXISTS graph_names USING fts5 (
  scope, runs, tokenize = 'unicode61 remove_diacritics 0', columnsize = 0);
CREATE TRIGGER IF NOT EXISTS graph_passages_gone AFTER DELETE ON graph_passages BEGIN
  DELETE FROM graph_names WHERE rowid = old.n; END;
"""

_BATCH = 64
_NEAR, _RING, _RING_PASSAGES = 80, 8, 6


@dataclass(frozen=True, slots=True)
class _Runs:
    """A passage's names as surfaces are written, each with its sentence."""

    passage: str
    title: str
    runs: list[tuple[str, int]]


class EmbeddedGraph:
    """KnowledgeGraph in the shared database; open that with SCHEMA."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, tenant: str, document: str, version: str, entries: Sequence[PassageEntry]) -> None:
        """See KnowledgeGraph."""
        for start in range(0, len(entries), _BATCH):
            await self._write(_adding(tenant, document, version, entries[start : start + _BATCH]))

    async def forget(self, tenant: str, document: str, keep: str | None) -> None:
        """See KnowledgeGraph."""

        def old(connection: sqlite3.Connection) -> list[int]:
            rows = connection.execute(
                "SELECT n FROM graph_passages WHERE tenant = ? AND document = ? AND version IS NOT ?",
                (to_sql(tenant), document, keep),
            )
            return [n for (n,) in rows]

        numbers = await self._read(old)
        for start in range(0, len(numbers), _BATCH):
            await self._write(_deleting(numbers[start : start + _BATCH]))

    async def titles(self, tenant: str, surfaces: Sequence[str]) -> dict[str, list[Target]]:
        """See KnowledgeGraph."""
        return await self._read(lambda connection: _titles(connection, tenant, surfaces))

    async def mentions(self, tenant: str, passages: Sequence[str]) -> dict[str, list[Mention]]:
        """See KnowledgeGraph; surfaces that more than COMMON passages mention are left out."""
        return await self._read(lambda connection: _mentions(connection, tenant, passages))

    async def entity(self, tenant: str, name: str, limit: int = 10) -> Entity | None:
        """See KnowledgeGraph; looks at up to 80 passages that name it and at a few of its neighbours'."""
        surface = normal(name)
        near = await self._read(lambda connection: _sightings(connection, tenant, [surface], _NEAR))
        if not near:
            return None
        beside = (await asyncio.to_thread(names_beside, surface, near))[:_RING]
        ring = await self._read(lambda connection: _sightings(connection, tenant, beside, _RING_PASSAGES))
        seen = {sighting.passage: sighting for sighting in (*ring, *near)}
        found = await asyncio.to_thread(relations, surface, name, list(seen.values()), limit)
        return Entity(name, tuple(sighting.passage for sighting in near[:limit]), tuple(found))

    async def close(self) -> None:
        """Nothing of its own is open: the database is closed by who opened it."""

    async def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.read(fn)
        except DatabaseUnavailable as error:
            raise GraphUnavailable(str(error)) from error

    async def _write(self, fn: Callable[[sqlite3.Connection], None]) -> None:
        try:
            await self._database.write(fn, bulk=True)
        except DatabaseUnavailable as error:
            raise GraphUnavailable(str(error)) from error


def _scope(tenant: str) -> str:
    """The tenant as one word of digits: it is never a part of another's, and no query syntax."""
    return str(int.from_bytes(hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).digest()[:8], "big"))


def _phrase(tenant: str, surface: str) -> str:
    return f'scope : {_scope(tenant)} AND runs : "{surface}"'


def _adding(
    tenant: str, document: str, version: str, entries: Sequence[PassageEntry]
) -> Callable[[sqlite3.Connection], None]:
    scope, owner = _scope(tenant), to_sql(tenant)

    def add(connection: sqlite3.Connection) -> None:
        for entry in entries:
            connection.execute("DELETE FROM graph_passages WHERE tenant = ? AND passage = ?", (owner, entry.passage))
            names = orjson.dumps([(_clean(name.text), name.sentence) for name in entry.names]).decode()
            (n,) = connection.execute(
                "INSERT INTO graph_passages (tenant, passage, document, version, title, names) "
                "VALUES (?, ?, ?, ?, ?, ?) RETURNING n",
                (owner, entry.passage, document, version, normal(entry.title), names),
            ).fetchone()
            connection.executemany(
                "INSERT OR IGNORE INTO graph_titles (tenant, surface, n, weight) VALUES (?, ?, ?, ?)",
                [(owner, surface.text, n, surface.weight) for surface in entry.surfaces],
            )
            runs = APART.join(normal(name.text) for name in entry.names)
            connection.execute("INSERT INTO graph_names (rowid, scope, runs) VALUES (?, ?, ?)", (n, scope, runs))

    return add


def _deleting(numbers: Sequence[int]) -> Callable[[sqlite3.Connection], None]:
    def delete(connection: sqlite3.Connection) -> None:
        connection.executemany("DELETE FROM graph_passages WHERE n = ?", [(n,) for n in numbers])

    return delete


def _clean(text: str) -> str:
    """Without lone surrogates, which neither JSON nor SQLite can hold; no name is made of them."""
    return text.encode("utf-8", "replace").decode()


def _json(values: Iterable[str]) -> str:
    given = list(values)
    try:
        return orjson.dumps(given).decode()
    except orjson.JSONEncodeError:  # a lone surrogate: no stored value holds one
        return orjson.dumps([_clean(value) for value in given]).decode()


def _titles(connection: sqlite3.Connection, tenant: str, surfaces: Sequence[str]) -> dict[str, list[Target]]:
    found: dict[str, list[Target]] = {}
    for surface, passage, weight in connection.execute(
        "SELECT t.surface, p.passage, t.weight FROM graph_titles t JOIN graph_passages p USING (n) "
        "WHERE t.tenant = ? AND t.surface IN (SELECT value FROM json_each(?)) ORDER BY t.weight DESC, t.n",
        (to_sql(tenant), _json(surfaces)),
    ):
        found.setdefault(surface, []).append(Target(passage, weight))
    return found


def _known(connection: sqlite3.Connection, tenant: str, surfaces: Iterable[str]) -> set[str]:
    rows = connection.execute(
        "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM graph_titles WHERE tenant = ? AND surface = value)",
        (_json(surfaces), to_sql(tenant)),
    )
    return {surface for (surface,) in rows}


def _runs(connection: sqlite3.Connection, tenant: str, passages: Sequence[str]) -> list[_Runs]:
    rows = connection.execute(
        "SELECT p.passage, p.title, p.names, f.runs FROM graph_passages p JOIN graph_names f ON f.rowid = p.n "
        "WHERE p.tenant = ? AND p.passage IN (SELECT value FROM json_each(?))",
        (to_sql(tenant), _json(passages)),
    )
    found: list[_Runs] = []
    for passage, title, names, runs in rows:
        pairs: list[tuple[str, int]] = orjson.loads(names)
        sentences = [sentence for _, sentence in pairs]
        found.append(_Runs(passage, title, list(zip(runs.split(APART), sentences, strict=True)) if pairs else []))
    return found


def _names(stored: str) -> tuple[Name, ...]:
    pairs: list[tuple[str, int]] = orjson.loads(stored)
    return tuple(Name(text, sentence) for text, sentence in pairs)


def _count(connection: sqlite3.Connection, tenant: str, surface: str) -> int:
    (count,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM graph_names WHERE graph_names MATCH ? LIMIT ?)",
        (_phrase(tenant, surface), COMMON + 1),
    ).fetchone()
    return int(count)


def _mentions(connection: sqlite3.Connection, tenant: str, passages: Sequence[str]) -> dict[str, list[Mention]]:
    rows = _runs(connection, tenant, passages)
    found_in = {run: grams(run) for row in rows for run, _ in row.runs}
    known = _known(connection, tenant, {gram for several in found_in.values() for gram in several})
    holding = {run for run, several in found_in.items() if not known.isdisjoint(several)}
    named = {row.passage: first_sentences([each for each in row.runs if each[0] in holding], known) for row in rows}
    titled = _titled(connection, tenant, {surface for first in named.values() for surface in first})
    counts: dict[str, int] = {}
    found: dict[str, list[Mention]] = {}
    for row in rows:
        for surface, sentence in named[row.passage].items():
            targets = tuple(target for title, target in titled.get(surface, ()) if title != row.title)
            if not targets:
                continue
            if surface not in counts:
                counts[surface] = _count(connection, tenant, surface)
            if counts[surface] <= COMMON:
                weight = mention_weight(surface, counts[surface])
                found.setdefault(row.passage, []).append(Mention(surface, sentence, weight, targets))
    return found


def _titled(
    connection: sqlite3.Connection, tenant: str, surfaces: Iterable[str]
) -> dict[str, list[tuple[str, Target]]]:
    """Per surface the passages that it is a title of, each with that title."""
    found: dict[str, list[tuple[str, Target]]] = {}
    for surface, title, passage, weight in connection.execute(
        "SELECT t.surface, p.title, p.passage, t.weight FROM graph_titles t JOIN graph_passages p USING (n) "
        "WHERE t.tenant = ? AND t.surface IN (SELECT value FROM json_each(?)) ORDER BY t.n",
        (to_sql(tenant), _json(surfaces)),
    ):
        found.setdefault(surface, []).append((title, Target(passage, weight)))
    return found


def _sightings(connection: sqlite3.Connection, tenant: str, surfaces: Sequence[str], limit: int) -> list[Sighting]:
    """For each surface the passages titled so, then those that name it, up to the limit."""
    found: dict[str, Sighting] = {}
    for surface in filter(None, surfaces):
        titled = connection.execute(
            "SELECT p.passage, p.names FROM graph_titles t JOIN graph_passages p USING (n) "
            "WHERE t.tenant = ? AND t.surface = ? ORDER BY t.weight DESC, t.n LIMIT ?",
            (to_sql(tenant), surface, limit),
        ).fetchall()
        naming = connection.execute(
            "SELECT p.passage, p.names FROM graph_names f JOIN graph_passages p ON p.n = f.rowid "
            "WHERE graph_names MATCH ? ORDER BY f.rowid LIMIT ?",
            (_phrase(tenant, surface), limit),
        ).fetchall()
        about = {passage for passage, _ in titled}
        for passage, names in dict([*titled, *naming][: 2 * limit]).items():
            found.setdefault(passage, Sighting(passage, _names(names), surface if passage in about else ""))
    return list(found.values())
