"""What a document is called: its own heading, a title that its maker set, or its file's name."""

from __future__ import annotations

import re
from pathlib import PurePath

from knowledge.blocks import Piece, scan
from knowledge.inline import plain

LONGEST = 200
_HEAD = 20000  # characters in which a title is looked for
_NO_TITLE = re.compile(
    r"(?:untitled|unknown|no title|title|document|presentation|powerpoint presentation|microsoft word|slide|sheet|book|"
    r"new document|index|readme|home|page|\(anonymous\)|\(unspecified\)|none|null)[\s\d.-]*$|"
    r"microsoft (?:word|powerpoint|excel) - |.*\.(?:docx?|pptx?|xlsx?|pdf|dvi|tex|indd|html?|rtf|odt|ps)$",
    re.IGNORECASE,
)
_GENERIC = frozenset("readme index license licence changelog changes news install notice authors copying main".split())


def readable(name: str) -> str:
    """A file's name as a title: without extension, words apart; one that says little gets its folder in front."""
    path = PurePath(name)
    words = re.sub(r"[_\s]+|(?<=[a-z])-(?=[a-z])", " ", path.stem).strip() or path.name
    if path.stem.lower() in _GENERIC and path.parent.name:
        words = f"{path.parent.name} {words}"
    return words[:LONGEST]


def sensible(title: str | None) -> str:
    """A title from a file's metadata, "" when it is a program's filler or a file's name."""
    words = " ".join((title or "").split())
    if not 3 <= len(words) <= LONGEST or _NO_TITLE.match(words) or not any(map(str.isalpha, words)):
        return ""
    return words


def page_title(words: str, headings: list[str]) -> str:
    """A web page's title without the name of its site: the part that stands as a heading in the page, or all of it."""
    parts = [part.strip() for part in re.split(r"\s+[|–—·»:-]+\s+", words)]
    known = {heading.casefold() for heading in headings}
    return next((part for part in parts if part.casefold() in known), words)


def headings_of(text: str) -> list[str]:
    """The headings near the beginning."""
    return [words_of(piece) for piece in scan(text[:_HEAD]) if piece.kind == "heading"]


def top_headings(text: str) -> tuple[list[str], bool]:
    """The headings of the first level near the beginning, and whether nothing stands before the first."""
    pieces = scan(text[:_HEAD])
    tops = [piece for piece in pieces if piece.kind == "heading" and piece.level == 1 and words_of(piece)]
    return [words_of(piece) for piece in tops], bool(tops) and pieces[0] is tops[0]


def words_of(heading: Piece) -> str:
    """A heading's words as a title."""
    return plain(heading.text[:1000])[:LONGEST].strip()
