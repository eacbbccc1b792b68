"""BM25 over one scope's visible records, in memory: Chroma ranks by vectors only."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memory.chroma_records import Words
from memory.words import index_terms

_TERMS, _ASKED = 64, 256
"""Distinct terms of a query that are ranked by, the rarest; and how many are looked at."""
_K1, _B = 1.2, 0.75
_COUNT_BITS = 6
_MOST = (1 << _COUNT_BITS) - 1
"""A term that stands in a record more often counts as this often."""
_AT_ONCE = 200


class WordIndex:
    """Which records hold a term, by their position; positions are only added, and read up to a size.

    Used from several threads: a reader copies what it needs, a writer adds a few records at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._postings: dict[str, array[int]] = {}
        self._lengths = array("I")
        self.size = 0
        """Number of positions."""
        self.postings = 0
        """Number of entries, four bytes each."""

    def add(self, records: Sequence[Words]) -> None:
        """Gives each record the next position."""
        for start in range(0, len(records), _AT_ONCE):
            with self._lock:
                for record in records[start : start + _AT_ONCE]:
                    self._lengths.append(record.length)
                    for term, count in record.counts.items():
                        coded = self.size << _COUNT_BITS | min(count, _MOST)
                        found = self._postings.get(term)
                        if found is None:
                            self._postings[term] = array("I", (coded,))
                        else:
                            found.append(coded)
                    self.size += 1
                    self.postings += len(record.counts)

    def scores(self, text: str, alive: NDArray[np.bool_]) -> NDArray[np.float64]:
        """BM25 of every position below len(alive), 0 where it holds no term of the text or is not alive.

        Term rarity and mean length are those of the records alive. The constants are SQLite FTS5's.
        """
        size, live = len(alive), int(np.count_nonzero(alive))
        total = np.zeros(size, np.float64)
        asked = list(dict.fromkeys(index_terms(text)))[:_ASKED]
        with self._lock:
            lengths = np.array(self._lengths, np.float64)[:size]
            held = [np.array(self._postings[term], np.uint32) for term in asked if term in self._postings]
        if not held or not live:
            return total
        norms = _K1 * (1 - _B + _B * lengths / max(float(lengths[alive].mean()), 1e-9))
        matches = [_visible(coded, alive) for coded in held]
        for places, counts in sorted((each for each in matches if len(each[0])), key=lambda each: len(each[0]))[
            :_TERMS
        ]:
            rarity = max(math.log((live - len(places) + 0.5) / (len(places) + 0.5)), 1e-6)
            total[places] += rarity * counts * (_K1 + 1) / (counts + norms[places])
        return total

    def frequency(self, word: str, alive: NDArray[np.bool_]) -> int:
        """Number of records alive that hold the word's stem."""
        terms = index_terms(word)
        if not terms:
            return 0
        with self._lock:
            coded = np.array(self._postings.get(terms[0], ()), np.uint32)
        return len(_visible(coded, alive)[0])

    def without(self, dead: NDArray[np.bool_]) -> WordIndex:
        """A copy in which the dead positions are gone and the others have closed up."""
        keep = ~dead
        places = np.cumsum(keep, dtype=np.uint32) - np.uint32(1)
        new = WordIndex()
        with self._lock:
            for term, coded in self._postings.items():
                held = np.array(coded, np.uint32)
                held = held[keep[held >> _COUNT_BITS]]
                if len(held):
                    moved = places[held >> _COUNT_BITS] << np.uint32(_COUNT_BITS) | held & np.uint32(_MOST)
                    new._postings[term] = array("I", moved.astype(np.uint32).tobytes())
                    new.postings += len(held)
            new._lengths = array("I", np.array(self._lengths, np.uint32)[keep].tobytes())
        new.size = len(new._lengths)
        return new


def _visible(coded: NDArray[np.uint32], alive: NDArray[np.bool_]) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """Positions that are alive, and how often the term stands there."""
    places = coded >> _COUNT_BITS
    coded = coded[places < len(alive)]
    coded = coded[alive[coded >> _COUNT_BITS]]
    return coded >> np.uint32(_COUNT_BITS), (coded & np.uint32(_MOST)).astype(np.float64)
