"""The embedded memory's words: BM25 of SQLite FTS5 over stems, the commonest words left out of the match."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from memory.embedded_matrix import View
from memory.embedded_rows import ScopeRow
from memory.words import index_terms

RANKED = 250
"""Records that get a word score for one query; all others have 0."""
_POSTINGS = 2000
"""Sum of the rows that a query's words stand in, beyond which the commoner ones are left out."""
_TERMS = 64
_ASKED = 256
_COUNTED = 2000
_KEPT_COUNTS, _KEPT_RANKS = 50_000, 16


@dataclass(frozen=True, slots=True)
class _Count:
    """How many rows hold a term, and how large the whole was when they were counted."""

    rows: int
    at: int
    revision: int = 0


class Words:
    """Ranks by words; keeps counts of terms, which may lag behind for common ones, and the last rankings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._everywhere: dict[str, _Count] = {}
        self._visible: dict[tuple[int, str], _Count] = {}
        self._ranks: OrderedDict[tuple[int, int, str, int], dict[int, float]] = OrderedDict()

    def ranked(self, db: sqlite3.Connection, scope: ScopeRow, view: View, text: str, limit: int) -> dict[int, float]:
        """BM25 by row number of the live records that fit best, best first: RANKED of them, or `limit` if more."""
        limit = max(limit, RANKED)
        key = (scope.n, view.revision, text, limit)
        with self._lock:
            if key in self._ranks:
                self._ranks.move_to_end(key)
                return self._ranks[key]
        (size,) = db.execute("SELECT ifnull(max(n), 0) FROM memory_records").fetchone()
        terms = self._telling(db, text, size)
        match = _words(terms) if 2 * view.live > size else _expression(scope, terms)
        found = _match(db, match, view, limit) if terms else {}
        with self._lock:
            self._ranks[key] = found
            if len(self._ranks) > _KEPT_RANKS:
                self._ranks.popitem(last=False)
        return found

    def frequency(self, db: sqlite3.Connection, scope: ScopeRow, view: View, word: str) -> int:
        """Number of visible records that hold the word's stem; for common words it may lag by some records."""
        terms = index_terms(word)
        if not terms or view.live == 0:
            return 0
        key = (scope.n, terms[0])
        known = self._visible.get(key)
        if known is not None and (
            known.revision == view.revision or (known.rows > _COUNTED and abs(known.at - view.live) * 100 <= view.live)
        ):
            return min(known.rows, view.live)
        match = _expression(scope, terms[:1])
        rows = db.execute("SELECT rowid FROM memory_words WHERE memory_words MATCH ? LIMIT ?", (match, _COUNTED + 1))
        count = sum(1 for (row,) in rows.fetchall() if view.holds(row))
        if count > _COUNTED:
            (count,) = db.execute("SELECT count(*) FROM memory_words WHERE memory_words MATCH ?", (match,)).fetchone()
        with self._lock:
            if len(self._visible) >= _KEPT_COUNTS:
                self._visible.clear()
            self._visible[key] = _Count(count, view.live, view.revision)
        return min(count, view.live)

    def _telling(self, db: sqlite3.Connection, text: str, size: int) -> list[str]:
        """The query's terms, rarest first, without those that nothing holds and the commonest ones.

        Never all: the rarest term stays, however common it is.
        """
        asked = list(dict.fromkeys(index_terms(text)))[:_ASKED]
        counts = sorted((count, term) for term in asked if (count := self._rows(db, term, size)))
        terms: list[str] = []
        postings = 0
        for count, term in counts[:_TERMS]:
            postings += count
            if terms and postings > _POSTINGS:
                break
            terms.append(term)
        return terms

    def _rows(self, db: sqlite3.Connection, term: str, size: int) -> int:
        """Rows of any scope that hold the term, counted anew when the table has grown by a tenth."""
        known = self._everywhere.get(term)
        if known is not None and known.rows and known.at * 1.1 + 100 >= size:
            return known.rows
        row = db.execute("SELECT doc FROM memory_vocabulary WHERE term = ?", (term,)).fetchone()
        count: int = row[0] if row else 0
        with self._lock:
            if len(self._everywhere) >= _KEPT_COUNTS:
                self._everywhere.clear()
            self._everywhere[term] = _Count(count, size)
        return count


def _expression(scope: ScopeRow, terms: Sequence[str]) -> str:
    """The match: the scope as one word of digits in a column of its own (a name would match in parts)."""
    return f"scope : {scope.n} AND {_words(terms)}"


def _words(terms: Sequence[str]) -> str:
    """The match in all scopes: a third cheaper, for a scope that holds most of what there is."""
    words = " OR ".join(f'"{term}"' for term in terms)
    return f"body : ({words})" if any(map(str.isdigit, terms)) else words


def _match(db: sqlite3.Connection, match: str, view: View, limit: int) -> dict[int, float]:
    """The best live rows; asks again for more when rows that are not visible have taken their places."""
    ask = limit + limit // 4
    while True:
        rows = db.execute(
            "SELECT rowid, bm25(memory_words, 0, 1) AS fit FROM memory_words WHERE memory_words MATCH ?"
            " ORDER BY fit LIMIT ?",
            (match, ask),
        ).fetchall()
        live = {row: -fit for row, fit in rows if view.holds(row)}
        if len(live) >= limit or len(rows) < ask:
            return dict(list(live.items())[:limit])
        ask *= 8
