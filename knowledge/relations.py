"""Which names belong together: co-mention in a sentence, ranked by personalised PageRank. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from knowledge.entities import core
from knowledge.types import Name, Relation
from memory.words import STOP_WORDS

_APART = re.compile(r"[,;:/]\s+|\s+(?:and|or)\s+|[()\"“”]")
_DAMPING, _ROUNDS = 0.5, 8
_SENTENCE_NAMES = 12
"""Names of one sentence that are put together; a longer list says little about any two of them."""


@dataclass(frozen=True)
class Sighting:
    """A passage seen from one name."""

    passage: str
    names: tuple[Name, ...]
    subject: str = ""
    """The surface that the passage's title is, when it is about the name: then it stands in every sentence."""

    @cached_property
    def sentences(self) -> list[dict[str, str]]:
        """Per sentence its names, as surface to readable text."""
        found: dict[int, dict[str, str]] = {}
        for name in self.names:
            for part in _APART.split(name.text):
                text, surface = core(part)
                if any(map(str.isalpha, surface)) and not STOP_WORDS.issuperset(surface.split()):
                    found.setdefault(name.sentence, {}).setdefault(surface, text)
        for names in found.values():
            if self.subject:
                names.setdefault(core(self.subject)[1], self.subject)
        return [dict(list(names.items())[-_SENTENCE_NAMES:]) for names in found.values()]


def _about(surface: str, names: dict[str, str]) -> dict[str, str]:
    """The names with those that hold the surface as whole words standing for it."""
    return {surface if f" {surface} " in f" {name} " else name: text for name, text in names.items()}


def names_beside(surface: str, sightings: Sequence[Sighting]) -> list[str]:
    """The names that stand in a sentence with this one, the most frequent first."""
    surface = core(surface)[1]
    counted: Counter[str] = Counter()
    for sighting in sightings:
        for names in sighting.sentences:
            folded = _about(surface, names)
            if surface in folded:
                counted.update(name for name in folded if name != surface)
    return [name for name, _ in counted.most_common()]


def relations(surface: str, name: str, sightings: Sequence[Sighting], limit: int) -> list[Relation]:
    """The names in one sentence with this one, by personalised PageRank from it, strongest first."""
    surface = core(surface)[1]
    edges: Counter[tuple[str, str]] = Counter()
    where: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for sighting in sightings:
        for names in sighting.sentences:
            folded = _about(surface, names)
            edges.update((a, b) for a, b in combinations(sorted(folded), 2))
            for other, text in folded.items():
                if surface in folded and other != surface:
                    shown.setdefault(other, text)
                    places = where.setdefault(other, [])
                    if sighting.passage not in places:
                        places.append(sighting.passage)
    if not edges:
        return []
    rank = page_rank(edges, surface)
    best = sorted(where, key=lambda other: (-rank.get(other, 0.0), other))[:limit]
    return [Relation(name, shown[other], rank.get(other, 0.0), tuple(where[other])) for other in best]


def page_rank(edges: Counter[tuple[str, str]], start: str) -> dict[str, float]:
    """Personalised PageRank over an undirected weighted graph (Haveliwala 2002), by power iteration."""
    nodes = sorted({node for edge in edges for node in edge} | {start})
    place = {node: index for index, node in enumerate(nodes)}
    one = np.array([(place[a], place[b]) for a, b in edges], dtype=np.int64)
    source, target = np.concatenate([one[:, 0], one[:, 1]]), np.concatenate([one[:, 1], one[:, 0]])
    weight = np.tile(np.array(list(edges.values()), dtype=np.float64), 2)
    share = weight / np.bincount(source, weight, len(nodes))[source]
    home = np.zeros(len(nodes))
    home[place[start]] = 1.0
    rank = home
    for _ in range(_ROUNDS):
        rank = (1 - _DAMPING) * home + _DAMPING * np.bincount(target, share * rank[source], len(nodes))
    return dict(zip(nodes, rank.tolist(), strict=True))
