"""Data of the memory layer: who may see a text, where it lives, what is stored and what is found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
"""One embedding: float32, shape (dimensions,), length 1."""
Vectors = NDArray[np.float32]
"""Embeddings as rows: float32, shape (n, dimensions), each of length 1."""

TRUST_NONE, TRUST_TYPED, TRUST_SYSTEM, TRUST_USER = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Label:
    """Who wrote a text and how far it may be trusted (SAFETY: labels)."""

    tenant: str
    """Exactly one; joining two tenants is an error."""
    origin: str
    """"user", "system", "tool:<server>/<tool>", "doc:<id>#<n>", "memory:<id>" or "model"."""
    trust: int
    """3 user or plan literal, 2 unique system value, 1 typed system value, 0 anything a third party could write."""
    readers: frozenset[str] = frozenset()
    """Principals who may see it; empty means everyone of the tenant."""
    secret: bool = False
    sources: frozenset[str] = frozenset()
    """Ids of all that it was made from."""


def join_labels(labels: Iterable[Label]) -> Label:
    """The label of a text made by a model from others: least trust, common readers, all sources.

    Raises:
        ValueError: no label was given, or they belong to different tenants.
    """
    given = list(labels)
    if not given:
        raise ValueError("a derived text needs at least one label")
    if len({label.tenant for label in given}) != 1:
        raise ValueError("texts of different tenants must not be joined")
    restricted = [label.readers for label in given if label.readers]
    readers: frozenset[str] = restricted[0].intersection(*restricted[1:]) if restricted else frozenset()
    if restricted and not readers:
        readers = frozenset({""})  # nobody: an empty set would mean everyone
    return Label(
        tenant=given[0].tenant,
        origin="model",
        trust=min(label.trust for label in given),
        readers=readers,
        secret=any(label.secret for label in given),
        sources=frozenset[str]().union(*(label.sources | {label.origin} for label in given)),
    )


@dataclass(frozen=True, slots=True)
class Scope:
    """One closed room of the memory; nothing is ever found across two scopes."""

    tenant: str
    collection: str
    """"passages" (of documents) or "memories" (of conversations)."""
    user: str = ""
    """Set for personal collections only."""


@dataclass(frozen=True, slots=True)
class PartVectors:
    """Vectors of a record's sentences, beside it: int8 rows with one scale each (EXTRACTIVE section 2)."""

    rows: NDArray[np.int8]
    """Shape (parts, dimensions)."""
    scales: NDArray[np.float32]
    """Shape (parts,); row * scale is the vector."""


@dataclass(frozen=True, slots=True)
class Record:
    """One text that can be found by meaning and by words."""

    id: str
    """Unique in its scope; the same id replaces."""
    source: str
    """What it came from, for example a document id; published, replaced and deleted together."""
    title: str
    """Counts twice among the words."""
    text: str
    vector: Vector
    label: Label
    payload: str = ""
    """JSON of the layer above; never looked into here."""
    parts: PartVectors | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A question to the memory, in words and as a vector."""

    text: str
    vector: Vector


class Score(NamedTuple):
    """How well one record fits a query: raw, not yet normalised."""

    dense: float
    """Cosine of the query vector and the record's vector."""
    words: float
    """BM25 over title and text, 0 when no query word is in it or it is outside the ranked words."""


class Hit(NamedTuple):
    """One record that was found."""

    id: str
    source: str
    score: Score


@dataclass(frozen=True, slots=True)
class Statistics:
    """Word counts of one scope, for weighting words by rarity."""

    records: int
    frequency: dict[str, int] = field(default_factory=dict[str, int])
    """Word as asked to the number of records that hold it (by its stem)."""
