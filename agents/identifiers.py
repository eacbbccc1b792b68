"""Identifiers: part numbers and versions that are joined by hyphens or dots (valve-2-5, KX-200-B, 2.5.1)."""

from __future__ import annotations

import re

_JOINED = re.compile(r"(?<![\w.‐‑-])\w+(?:[-‐‑.](?![A-Z][a-z])\w+)+")
_DIGIT, _INSIDE = re.compile(r"\d"), re.compile(r"[-.‐‑]\w")
_JOINT = re.compile(r"[-‐‑.]")
_OTHER = re.compile(
    r"\d[\d.]*(?:st|nd|rd|th|s)?[-‐‑][a-z]{2}|"  # 20-year-old, 19th-century
    r"\d+[-‐‑.]\d+[a-zA-Z]+$|"  # 2.5mm
    r"(?:mid|pre|post|early|late|circa|non|sub|under|over|top)[-‐‑]\d|"
    r"[^\W\d_]{2,}\.\d+$",  # the.2: a sentence's end and a note, No.2
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


def identifiers_in(text: str) -> list[str]:
    """The identifiers of a text as they stand there, in order."""
    return [found[0] for found in _JOINED.finditer(text) if _names_a_thing(found[0])] if _may_hold(text) else []


def with_words(text: str) -> str:
    """The text with each identifier as one word, its parts joined by "_", and after it the parts that are compounds."""
    return _JOINED.sub(_as_word, text) if _may_hold(text) else text


def is_identifier(word: str) -> bool:
    """Whether one of the words that `with_words` makes is an identifier."""
    return "_" in word and any(map(str.isdigit, word))


def without(text: str) -> str:
    """The text with no identifiers: their digits are no amounts."""
    if not _may_hold(text):
        return text
    return _JOINED.sub(lambda found: " " if _names_a_thing(found[0]) else found[0], text)


def _may_hold(text: str) -> bool:
    """A quick look that most texts do not pass."""
    return _DIGIT.search(text) is not None and _INSIDE.search(text) is not None


def _as_word(found: re.Match[str]) -> str:
    if not _names_a_thing(found[0]):
        return found[0]
    parts = _JOINT.split(found[0])
    return " ".join(("_".join(parts), *(part for part in parts if not _PLAIN.fullmatch(part))))


def _names_a_thing(word: str) -> bool:
    """Whether a joined word names a thing: it has digits, and is no decimal, range, amount or age.

    Without digits it cannot be told from a compound (well-known) or a sentence's end without a space.
    """
    if not any(map(str.isdigit, word)) or _OTHER.match(word):
        return False
    parts = _JOINT.split(word)
    return len(parts) > 2 or not all(map(str.isdigit, parts))
