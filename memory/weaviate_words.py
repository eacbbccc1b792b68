"""Words in Weaviate: the ranking by BM25 over our stems, and how many records hold a stem."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from memory.weaviate_connection import together
from memory.weaviate_rooms import Rooms, seen
from memory.weaviate_rows import SAMPLES, Room, Where
from memory.weaviate_state import State
from memory.weaviate_store import MOST
from memory.words import index_terms

RANKED = 250
"""Records that get a word score for one query; all others have 0."""
_FRESH_SECONDS = 90.0
"""How long after a publication objects may still lie in Weaviate's memory only. There 1.35.2 ranks by words no
more objects than it was asked for, the oldest ones (its upper bounds are 0): more must be asked for than there are."""
_POSTINGS = 1000
"""Sum of the records that a query's words stand in, beyond which the commoner ones are left out while that is so."""
_EXACT = 2000
"""Words in more records are counted in a sample, and counted anew when a hundredth of the records has changed."""
_TERMS = 64
_KEPT_RANKS, _KEPT_COUNTS = 64, 50_000


class _Count(NamedTuple):
    rows: int
    records: int
    seen: object


class Words:
    """Ranks and counts; keeps the last rankings, and counts that are still right or nearly so."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms, self._server = rooms, rooms.server
        self._ranks: OrderedDict[tuple[Room, object, str], tuple[int, dict[str, float]]] = OrderedDict()
        self._counts: dict[tuple[Room, str], _Count] = {}

    async def ranked(self, room: Room, state: State, text: str, size: int) -> dict[str, float]:
        """The uuids of the objects that fit the words of a text best, best first: some more than `size`, where there
        are. What was stored a moment ago and is not yet to be seen may be among them."""
        terms = list(dict.fromkeys(index_terms(text)))[:_TERMS]
        if not terms:
            return {}
        key = (room, (state.seen, state.hidden), " ".join(terms))
        kept = self._ranks.get(key)
        if kept is None or kept[0] < size:
            limit = more(size)
            if time.time() - state.at < _FRESH_SECONDS:
                records = await self.records(room, state)
                if records > limit:
                    terms, limit = await self._telling(room, state, terms, records, limit)
            kept = size, await self._server.bm25(self._rooms.place(room), " ".join(terms), seen(room, state), limit)
            self._ranks[key] = kept
            if len(self._ranks) > _KEPT_RANKS:
                self._ranks.popitem(last=False)
        self._ranks.move_to_end(key)
        return kept[1]

    async def records(self, room: Room, state: State, *more: Where) -> int:
        """Number of visible objects that meet the conditions."""
        place = self._rooms.place(room)
        total = await self._server.count(place, room.where(*more))
        if total and state.hidden:
            total -= await self._server.count(place, room.where(*more, Where("generation", sorted(state.hidden))))
        return total

    async def frequencies(
        self, room: Room, state: State, stems: Sequence[str], records: int, *, lag: float = 0.0
    ) -> dict[str, int]:
        """In how many of the visible objects each stem stands; common ones may lag by a hundredth, all by `lag`."""
        asked = list(dict.fromkeys(stems))
        found = await together(*(self._frequency(room, state, stem, records, lag) for stem in asked))
        return dict(zip(asked, found, strict=True))

    async def _frequency(self, room: Room, state: State, stem: str, records: int, lag: float) -> int:
        known = self._counts.get((room, stem))
        if known is not None:
            allowed = max(lag, 0.01 if known.rows > _EXACT else 0.0)
            if known.seen == state.seen or abs(known.records - records) < allowed * records:
                return min(known.rows, records)
        held, rows = Where("words", [stem]), 0
        if records > 2 * _EXACT:
            rows = SAMPLES * await self.records(room, state, held, Where("sample", ["0"]))
        if rows <= _EXACT:
            rows = await self.records(room, state, held)
        if len(self._counts) >= _KEPT_COUNTS:
            self._counts.clear()
        self._counts[room, stem] = _Count(rows, records, state.seen)
        return min(rows, records)

    async def _telling(
        self, room: Room, state: State, terms: Sequence[str], records: int, limit: int
    ) -> tuple[list[str], int]:
        """The rarest terms, and a limit that all objects in which they stand are within."""
        counts = await self.frequencies(room, state, terms, records, lag=0.1)
        rarest = sorted(terms, key=lambda term: (counts[term], term))
        chosen, postings = [rarest[0]], counts[rarest[0]]
        for term in rarest[1:]:
            if postings + counts[term] > max(_POSTINGS, limit):
                break
            chosen.append(term)
            postings += counts[term]
        return chosen, min(MOST, max(limit, postings + postings // 8))


def more(limit: int) -> int:
    """So many are asked for that those which turn out not to be visible leave enough, and few ties are cut."""
    return min(MOST, limit + max(limit // 4, 64))
