"""Between the port's values and what Neo4j keeps: keys, rows and searches as parameters, and back. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

from knowledge.entities import grams, in_run, normal
from knowledge.mentions import APART, first_sentences, mention_weight
from knowledge.relations import Sighting
from knowledge.types import Mention, Name, PassageEntry, Target

STRIPES = 1024
"""Locks of writers; two tenants that share one by chance wait for each other and nothing more."""
LONGEST = 250
"""Characters of a surface that are kept as they are: an index of Neo4j holds keys of up to 8 kB."""
_BATCH, _BATCH_GRAMS = 128, 10_000
_MARK = "\ufdd0"  # no character: begins what is not the text itself

Value: TypeAlias = "str | int | float | list[Value] | dict[str, Value] | None"
"""What a parameter may hold."""


class SeenPassage(TypedDict):
    """A passage as MENTIONS returns it."""

    id: str
    title: str
    runs: str
    sentences: list[int]
    holds: list[str]


class TitleSurface(TypedDict):
    """A surface as MENTIONS returns it: its passages, each with its title and weight, and how many mention it."""

    text: str
    shared: int
    passages: list[str]
    titles: list[str]
    weights: list[float]


class NamedPassage(TypedDict):
    """A passage as SIGHTINGS returns it."""

    id: str
    names: list[str]
    sentences: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Passages that are added in one transaction."""

    entries: tuple[PassageEntry, ...]
    surfaces: tuple[str, ...]
    """Keys of their titles' surfaces and of all that may be one in their names, sorted."""

    def rows(self, known: Collection[str]) -> list[Value]:
        """Parameter `rows` of ADD; `known` are the keys that are surfaces, those of this batch included."""
        return [_row(at, entry, known) for at, entry in enumerate(self.entries)]


def batches(entries: Sequence[PassageEntry]) -> Iterator[Batch]:
    """The entries in pieces that one transaction takes in well under a second; of one passage the last entry counts."""
    last = {entry.passage: at for at, entry in enumerate(entries)}
    kept: list[PassageEntry] = []
    found: set[str] = set()
    for entry in (entries[at] for at in sorted(last.values())):
        own = {surface_key(gram) for name in entry.names for gram in grams(normal(name.text))}
        if kept and (len(kept) == _BATCH or len(found) + len(own) > _BATCH_GRAMS):
            yield _batch(kept, found)
            kept, found = [], set()
        kept.append(entry)
        found |= own
    if kept:
        yield _batch(kept, found)


def _batch(entries: Iterable[PassageEntry], found: Iterable[str]) -> Batch:
    kept = tuple(entries)
    titles = (surface_key(surface.text) for entry in kept for surface in entry.surfaces)
    return Batch(kept, tuple(sorted({*found, *titles})))


def _row(at: int, entry: PassageEntry, known: Collection[str]) -> dict[str, Value]:
    runs = [normal(name.text) for name in entry.names]
    holds = {key for run in dict.fromkeys(runs) for gram in grams(run) if (key := surface_key(gram)) in known}
    weights: dict[str, float] = {}
    for surface in entry.surfaces:
        weights.setdefault(surface_key(surface.text), surface.weight)
    return {
        "at": at,
        "id": to_stored(entry.passage),
        "title": normal(entry.title),
        "names": [_clean(name.text) for name in entry.names],
        "sentences": [name.sentence for name in entry.names],
        "runs": f" {APART.join(runs)} ",
        "surfaces": [{"text": text, "weight": weights[text]} for text in sorted(weights)],
        "holds": list[Value](sorted(holds)),
    }


def to_stored(text: str) -> str:
    """An id as Neo4j keeps it: with lone surrogates, which it cannot hold, written in hexadecimal."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _MARK + text.encode("utf-8", "surrogatepass").hex()
    return _MARK + text.encode().hex() if text.startswith(_MARK) else text


def from_stored(text: str) -> str:
    """The id that `to_stored` was given."""
    if text.startswith(_MARK):
        return bytes.fromhex(text.removeprefix(_MARK)).decode("utf-8", "surrogatepass")
    return text


def surface_key(text: str) -> str:
    """A surface as it is kept: itself, or a hash of it when it is long or cannot be written."""
    if len(text) <= LONGEST and not text.startswith(_MARK):
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _MARK + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _clean(text: str) -> str:
    """Without lone surrogates, as the embedded graph keeps names."""
    return text.encode("utf-8", "replace").decode()


def _hash(tenant: str) -> int:
    return int.from_bytes(hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def stripe(tenant: str) -> int:
    """Which lock the tenant's writers take."""
    return _hash(tenant) % STRIPES


def scope(tenant: str) -> str:
    """The tenant as one word of digits for the full-text index: never a part of another's, and no query syntax."""
    return str(_hash(tenant))


def search(tenant: str, surface: str) -> dict[str, Value]:
    """A surface with the full-text query and the phrase that find the passages whose names hold it."""
    text = _clean(surface)
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return {
        "text": surface_key(surface),
        "query": f'+scope:{scope(tenant)} +runs:"{quoted}"',
        "phrase": f" {text} ",
    }


def can_be_mentioned(surface: str) -> bool:
    """False for what holds joining words only ("of the"): no run of names is ever read as that."""
    return in_run(surface, (surface,)) == [surface]


def mentions(seen: Sequence[SeenPassage], surfaces: Iterable[TitleSurface]) -> dict[str, list[Mention]]:
    """What MENTIONS returned, as the port says it."""
    titled = {surface["text"]: surface for surface in surfaces}
    found: dict[str, list[Mention]] = {}
    for row in seen:
        held = frozenset(row["holds"])
        if not held:
            continue
        runs = list(zip(row["runs"][1:-1].split(APART), row["sentences"], strict=True))
        known = {gram for run, _ in runs for gram in grams(run) if surface_key(gram) in held}
        several: list[Mention] = []
        for surface, sentence in first_sentences(runs, known).items():
            about = titled.get(surface_key(surface))
            targets = _targets(about, row["title"]) if about is not None else ()
            if about is not None and targets:
                several.append(Mention(surface, sentence, mention_weight(surface, about["shared"]), targets))
        if several:
            found[from_stored(row["id"])] = several
    return found


def _targets(surface: TitleSurface, own: str) -> tuple[Target, ...]:
    rows = zip(surface["passages"], surface["titles"], surface["weights"], strict=True)
    return tuple(Target(from_stored(passage), weight) for passage, title, weight in rows if title != own)


def sightings(
    surfaces: Iterable[str], rows: Iterable[tuple[Sequence[NamedPassage], Sequence[NamedPassage]]]
) -> list[Sighting]:
    """What SIGHTINGS returned for each surface: the passages titled so, then those that name it."""
    found: dict[str, Sighting] = {}
    for surface, (titled, naming) in zip(surfaces, rows, strict=True):
        about = {row["id"] for row in titled}
        for row in (*titled, *naming):
            names = tuple(map(Name, row["names"], row["sentences"]))
            passage = from_stored(row["id"])
            found.setdefault(passage, Sighting(passage, names, surface if row["id"] in about else ""))
    return list(found.values())
