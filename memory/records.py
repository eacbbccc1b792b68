"""What every memory does alike with a record: checks it, keeps its label as JSON, and takes its words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from memory.types import Label, Record
from memory.words import index_terms


class LabelJson(TypedDict):
    """A label as it is stored beside its record."""

    tenant: str
    origin: str
    trust: int
    readers: list[str]
    secret: bool
    sources: list[str]


def label_json(label: Label) -> LabelJson:
    """The label as JSON can hold it, the same for equal labels."""
    return {
        "tenant": label.tenant,
        "origin": label.origin,
        "trust": label.trust,
        "readers": sorted(label.readers),
        "secret": label.secret,
        "sources": sorted(label.sources),
    }


def label_of(kept: LabelJson) -> Label:
    """The label that `label_json` kept."""
    return Label(
        tenant=kept["tenant"],
        origin=kept["origin"],
        trust=kept["trust"],
        readers=frozenset(kept["readers"]),
        secret=kept["secret"],
        sources=frozenset(kept["sources"]),
    )


def terms_of(record: Record) -> list[str]:
    """The words that a record is found by, in order: its title's twice, then its text's."""
    title = index_terms(record.title)
    return [*title, *title, *index_terms(record.text)]


def check(records: Sequence[Record], source: str, tenant: str, dimensions: int) -> None:
    """Refuses records that must not be stored together.

    Raises:
        ValueError: one of another source or tenant, with a vector or parts of another size, or not finite.
    """
    for record in records:
        if record.source != source or record.label.tenant != tenant:
            raise ValueError(
                f"record {record.id!r} belongs to source {record.source!r} of tenant {record.label.tenant!r},"
                f" not to {source!r} of {tenant!r}"
            )
        vector = np.asarray(record.vector, np.float32)
        if vector.shape != (dimensions,):
            raise ValueError(f"record {record.id!r} has a vector of shape {vector.shape}, not ({dimensions},)")
        if not np.isfinite(vector).all():
            raise ValueError(f"record {record.id!r} has a vector that is not finite")
        parts = record.parts
        if parts is not None and parts.rows.shape != (len(parts.scales), dimensions):
            raise ValueError(
                f"record {record.id!r} has part vectors of shape {parts.rows.shape}, not (n, {dimensions})"
            )
