"""Which titles a passage mentions and what a mention weighs; the same for every KnowledgeGraph. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable

from knowledge.entities import in_run

COMMON = 200
"""A surface that more passages mention than this says too little to be followed."""

APART = " \ue000 "
"""What stands between the runs of a passage where they are kept as one text: a word of its own, of private use,
so no word of a text holds it and no search crosses it."""


def first_sentences(runs: Iterable[tuple[str, int]], known: Container[str]) -> dict[str, int]:
    """The known surfaces in a passage's runs (as `normal` writes them, each with its sentence), the longest of each
    place, with the first sentence that holds it."""
    first: dict[str, int] = {}
    for run, sentence in runs:
        for surface in in_run(run, known):
            first.setdefault(surface, sentence)
    return first


def mention_weight(surface: str, passages: int) -> float:
    """s / (1 + m / 5): s = 1 for several words, .8 for one; m passages mention the surface."""
    return (1.0 if " " in surface else 0.8) / (1 + passages / 5)
