"""Examples: labelled sentences with their vectors, the cheap way to recognise an intent or a moderation category."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import orjson
from anyio import to_thread

from memory.embedding import Embedder
from memory.types import Vector, Vectors

_FOLDER = Path(__file__).parent / "data"
FILES = {"intent": "intents.jsonl", "moderation": "moderation.jsonl"}
"""Kind of examples to its data file: one {"label", "text"} a line, our own sentences."""
NEAREST = 2
"""Examples of a label that its score is the mean of: one is chance, many punish labels of many sides."""


@dataclass(frozen=True, slots=True)
class Match:
    """The best label for a vector."""

    label: str
    score: float
    """Mean cosine to the nearest examples of that label."""
    margin: float
    """Distance to the next label's score."""


@dataclass(frozen=True, slots=True)
class _Example:
    kind: str
    label: str
    text: str


class Examples:
    """Labelled examples of the data files, embedded once."""

    def __init__(self, rows: dict[str, dict[str, Vectors]]) -> None:
        self._rows = rows

    @classmethod
    async def open(cls, embedder: Embedder, cache: Path | None = None) -> Examples:
        """Reads the examples and their vectors. Those of the embedder that Parley comes with lie beside them; those of
        another are made, which takes about 2 s, and with a `cache` folder a later start reads them from there.

        A cache that cannot be read or written is done without."""
        examples, digest = await to_thread.run_sync(_read)
        key = hashlib.sha256(f"{embedder.name} {embedder.dimensions} {digest}".encode()).hexdigest()[:24]
        name, shape = f"examples-{key}.npy", (len(examples), embedder.dimensions)
        vectors = await to_thread.run_sync(_load, _FOLDER / name, shape)
        if vectors is None and cache:
            vectors = await to_thread.run_sync(_load, cache / name, shape)
        if vectors is None:
            vectors = await embedder.embed([example.text for example in examples])
            if cache:
                await to_thread.run_sync(_save, cache / name, vectors)
        return cls(_grouped(examples, vectors))

    @staticmethod
    async def write(embedder: Embedder) -> None:
        """Puts the vectors that this embedder makes beside the examples, in the place of those that lie there."""
        for old in _FOLDER.glob("examples-*.npy"):
            old.unlink()
        await Examples.open(embedder, _FOLDER)

    def nearest(self, kind: str, vector: Vector) -> Match:
        """The label ("question", "violence" ...) of a kind of examples ("intent", "moderation") nearest to a vector."""
        scores = sorted(((_score(rows, vector), label) for label, rows in self._rows[kind].items()), reverse=True)
        (best, label), (second, _) = scores[0], scores[1]
        return Match(label, best, best - second)


def _score(rows: Vectors, vector: Vector) -> float:
    cosines = rows @ vector
    return float(np.sort(cosines)[-NEAREST:].mean())


def _read() -> tuple[list[_Example], str]:
    examples: list[_Example] = []
    digest = hashlib.sha256()
    for kind, name in FILES.items():
        data = (_FOLDER / name).read_bytes()
        digest.update(data)
        for line in data.splitlines():
            if line.strip():
                row = cast(dict[str, str], orjson.loads(line))
                examples.append(_Example(kind, row["label"], row["text"]))
    return examples, digest.hexdigest()


def _load(file: Path, shape: tuple[int, int]) -> Vectors | None:
    try:
        vectors = cast(Vectors, np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.shape == shape else None


def _save(file: Path, vectors: Vectors) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.glob("examples-*.npy"):
            old.unlink(missing_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as out:
            np.save(out, vectors, allow_pickle=False)
        part.replace(file)
    except OSError:
        return  # a full or read-only disk costs half a second at the next start, nothing else


def _grouped(examples: Sequence[_Example], vectors: Vectors) -> dict[str, dict[str, Vectors]]:
    places: dict[str, dict[str, list[int]]] = {}
    for place, example in enumerate(examples):
        places.setdefault(example.kind, {}).setdefault(example.label, []).append(place)
    return {
        kind: {label: np.ascontiguousarray(vectors[rows]) for label, rows in labels.items()}
        for kind, labels in places.items()
    }
