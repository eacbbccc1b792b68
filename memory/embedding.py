"""Embedder and WordTable, the ports that turn text into vectors, and their deterministic hash twins."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import numpy as np

from memory.types import Vector, Vectors
from memory.words import content_words, stem, tokens


class Embedder(Protocol):
    """Turns texts into vectors of length 1 whose dot product is their likeness.

    Short calls (a question) never wait behind long ones (ingestion). Cancelling a call frees the caller at
    once; work already handed to a thread may finish unseen.
    """

    @property
    def name(self) -> str:
        """Model and the precision of `embed`, for example "all-MiniLM-L6-v2/fp32"; a collection keeps it and refuses
        another."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row per text, in order; shape (0, dimensions) for none.

        Raises:
            MemoryUnavailable: the embedder cannot be reached.
        """
        ...

    async def embed_query(self, text: str) -> Vector:
        """The vector of a question, to be compared with those that `embed` made and not to be stored: it may be made
        faster and a little less exactly.

        Raises:
            MemoryUnavailable: the embedder cannot be reached.
        """
        ...


class WordTable(Protocol):
    """Static vectors of single words: a model's input word table, no model pass (EXTRACTIVE section 2)."""

    def vectors(self, words: Sequence[str]) -> Vectors:
        """One row of length 1 per word, the table's mean taken off; a zero row for a word without pieces.
        Cached, safe from any thread, fast enough to call inside a request."""
        ...


class HashEmbedder:
    """The Embedder's twin: words hashed into signed buckets, so that texts that share stems are alike.

    Deterministic and fast, knows nothing of meaning (feature hashing, Weinberger et al. 2009).
    """

    def __init__(self, dimensions: int = 64) -> None:
        self._dimensions = dimensions

    @property
    def name(self) -> str:
        """The method, with its version."""
        return "hash/1"

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._dimensions

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row per text; stop words count only where there is nothing else."""
        rows = np.zeros((len(texts), self._dimensions), np.float32)
        for at, text in enumerate(texts):
            words = content_words(text) or tokens(text) or [""]
            rows[at] = _hashed([stem(word) for word in words], self._dimensions)
        return rows

    async def embed_query(self, text: str) -> Vector:
        """The same vector as `embed` makes."""
        return (await self.embed([text]))[0]


class HashWords:
    """The WordTable's twin: a word's letter trigrams hashed into signed buckets, so that like spellings are alike."""

    def __init__(self, dimensions: int = 64) -> None:
        self._dimensions = dimensions

    def vectors(self, words: Sequence[str]) -> Vectors:
        """One row per word; a zero row for a word without letters or digits."""
        rows = np.zeros((len(words), self._dimensions), np.float32)
        for at, word in enumerate(words):
            if any(sign.isalnum() for sign in word):
                marked = f"^{word.lower()}$"
                rows[at] = _hashed([marked[start : start + 3] for start in range(len(marked) - 2)], self._dimensions)
        return rows


def _hashed(features: Sequence[str], dimensions: int) -> Vector:
    """Sum of the features' signed buckets, at length 1."""
    row = np.zeros(dimensions, np.float32)
    for feature in features:
        number = int.from_bytes(blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        row[(number >> 1) % dimensions] += 1 if number & 1 else -1
    if not row.any():  # signs that cancel out
        row[0] = 1
    return row / np.float32(np.linalg.norm(row))
