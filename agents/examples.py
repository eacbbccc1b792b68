"""Examples: labelled sentences with their vectors, the cheap way to recognise an intent or a moderation category."""

from __future__ import annotations

from dataclasses import dataclass

from memory.types import Vector


@dataclass(frozen=True, slots=True)
class Match:
    """The best label for a vector."""

    label: str
    score: float
    """Mean cosine to the nearest examples of that label."""
    margin: float
    """Distance to the next label's score."""


class Examples:
    """Labelled examples of the data files, embedded once."""

    def nearest(self, kind: str, vector: Vector) -> Match:
        """The label ("question", "violence" ...) of a kind of examples ("intent", "moderation") nearest to a vector."""
        raise NotImplementedError
