"""Records as rows of Chroma: the words apart from the body, so that a word index is read without the texts."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from memory.chroma_door import Metadata, Rows
from memory.chroma_log import digest
from memory.records import LabelJson, label_json, label_of, terms_of
from memory.types import PartVectors, Record, Vector, Vectors


@dataclass(frozen=True, slots=True)
class Words:
    """A record's words, and what names it."""

    row: str
    """Its id in Chroma."""
    id: str
    source: str
    """By name."""
    length: int
    counts: dict[str, int]
    """Stem to how often it is there, the title's twice."""


class _WordsJson(TypedDict):
    id: str
    source: str
    length: int
    counts: dict[str, int]


class _BodyJson(TypedDict):
    id: str
    source: str
    title: str
    text: str
    payload: str
    label: LabelJson
    part_rows: str | None
    part_scales: str | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Records as an upsert takes them."""

    ids: list[str]
    vectors: Vectors
    metadatas: list[Metadata]
    bodies: list[str]


def row_id(generation: str, id: str) -> str:
    """A record's id in Chroma: staging it again replaces it."""
    return f"{generation}-{key_of(id)}"


def key_of(id: str) -> str:
    """A record's id as Chroma can filter by it."""
    return digest(id)[:24]


def generation_in(row: str) -> str:
    """The generation that a row belongs to, by its id."""
    return row.partition("-")[0]


def key_in(row: str) -> str:
    """A row's `key_of`, by its id."""
    return row.partition("-")[2]


def prepare(records: Sequence[Record], generation: str, source: str, base: str, at: float) -> Prepared:
    """The rows of records of one generation; the last of an id counts."""
    last = {record.id: record for record in records}
    ids = [row_id(generation, id) for id in last]
    metadatas: list[Metadata] = [
        {
            "generation": generation, "source": source, "base": base, "key": key_of(id), "at": at,
            "words": _words(record),
        }
        for id, record in last.items()
    ]  # fmt: skip
    vectors = np.stack([np.asarray(record.vector, np.float32) for record in last.values()])
    return Prepared(ids, vectors, metadatas, [_body(record) for record in last.values()])


def words_of(rows: Rows) -> list[Words]:
    """What `prepare` kept of the words of each row, read with its metadata."""
    found: list[Words] = []
    for row, metadata in zip(rows.ids, rows.metadatas, strict=True):
        kept: _WordsJson = json.loads(str(metadata["words"]))
        found.append(Words(row, kept["id"], kept["source"], kept["length"], kept["counts"]))
    return found


def records_in(rows: Rows) -> dict[str, Record]:
    """The record of each row, read with its body and vector."""
    assert rows.vectors is not None
    return {row: _record(body, vector) for row, body, vector in zip(rows.ids, rows.bodies, rows.vectors, strict=True)}


def _record(body: str, vector: Vector) -> Record:
    kept: _BodyJson = json.loads(body)
    rows, scales = kept["part_rows"], kept["part_scales"]
    return Record(
        id=kept["id"],
        source=kept["source"],
        title=kept["title"],
        text=kept["text"],
        vector=vector,
        label=label_of(kept["label"]),
        payload=kept["payload"],
        parts=None if rows is None or scales is None else _parts(rows, scales, len(vector)),
    )


def _words(record: Record) -> str:
    terms = terms_of(record)
    kept: _WordsJson = {
        "id": record.id,
        "source": record.source,
        "length": len(terms),
        "counts": dict(Counter(terms)),
    }
    return json.dumps(kept, separators=(",", ":"))  # ASCII: lone surrogates and NUL travel as escapes


def _body(record: Record) -> str:
    parts = record.parts
    kept: _BodyJson = {
        "id": record.id,
        "source": record.source,
        "title": record.title,
        "text": record.text,
        "payload": record.payload,
        "label": label_json(record.label),
        "part_rows": None if parts is None else _coded(np.ascontiguousarray(parts.rows, np.int8).tobytes()),
        "part_scales": None if parts is None else _coded(np.ascontiguousarray(parts.scales, "<f4").tobytes()),
    }
    return json.dumps(kept, separators=(",", ":"))


def _coded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _parts(rows: str, scales: str, dimensions: int) -> PartVectors:
    matrix = np.frombuffer(base64.b64decode(rows), np.int8).reshape(-1, dimensions)
    return PartVectors(matrix, np.frombuffer(base64.b64decode(scales), "<f4").astype(np.float32))
