"""Plain files as documents, without any parser: Markdown, text, reST, CSV and code."""

from __future__ import annotations

import csv
import io
import re
from itertools import chain, islice
from pathlib import PurePath

from knowledge.characters import decode
from knowledge.kinds import Kind, ParseFailed, language_of
from knowledge.restructured import to_markdown
from knowledge.titles import readable, sensible, top_headings
from knowledge.types import ParsedDocument

PLAIN: frozenset[Kind] = frozenset(("markdown", "text", "rest", "csv", "code"))
"""Kinds that `read` takes."""
_FIELD = re.compile(r"(title|url|source|canonical|permalink)[ \t]*[:=][ \t]*(.+?)[ \t]*$", re.IGNORECASE)
_FRONT_MATTER_END = re.compile(r"^(?:---|\.\.\.|\+\+\+)[ \t]*$", re.MULTILINE)
_REST = re.compile(r"^\.\. (?:[\w-]+::|_[^:\n]{1,80}:|\[\w+\] )", re.MULTILINE)
_INDENTED = re.compile(r"(?:^(?: {4}|\t)[^\n]*\S[^\n]*(?:\n|\Z))+", re.MULTILINE)
_TICKS = re.compile(r"`{3,}")


def read(data: bytes, name: str, kind: Kind) -> ParsedDocument:
    """The document of a plain file.

    Raises:
        ParseFailed: it is empty or no text.
    """
    text = decode(data)
    if not text.strip():
        raise ParseFailed("empty file")
    if kind == "code":
        fence = "`" * max([3, *(len(run) + 1 for run in _TICKS.findall(text))])
        code = f"{fence}{language_of(name)}\n{text.strip(chr(10))}\n{fence}\n"
        return ParsedDocument(PurePath(name).name, code)
    if kind == "csv":
        return ParsedDocument(readable(name), _table(text))
    fields: dict[str, str] = {}
    if kind == "text" and not _REST.search(text):
        text = _INDENTED.sub(_flush_prose, text)
    elif kind in ("text", "rest"):
        text, fields["title"] = to_markdown(text)
    elif kind == "markdown":
        text, fields = _front_matter(text)
        if not text.strip() and not fields:
            raise ParseFailed("empty file")
    title = next(iter(top_headings(text)[0]), "")
    title = sensible(fields.get("title")) or title or readable(name)
    address = next((fields[key] for key in ("url", "source", "canonical", "permalink") if key in fields), "")
    return ParsedDocument(title, text, url=address if address.startswith(("http://", "https://")) else "")


def _flush_prose(block: re.Match[str]) -> str:
    """An indented block of a plain text without its indentation where it reads like prose; it is no code then."""
    lines = [line.strip() for line in block[0].split("\n")]
    words = " ".join(lines)
    letters = sum(map(str.isalpha, words)) + words.count(" ")
    prose = letters > 0.9 * len(words) and len(words.split()) >= 5 * (len(lines) - 1) and len(words) > 60
    return "\n".join(lines) if prose else block[0]


def _front_matter(text: str) -> tuple[str, dict[str, str]]:
    """The text without its YAML or TOML header, and the header's title and addresses."""
    if not text.startswith(("---\n", "+++\n")):
        return text, {}
    end = _FRONT_MATTER_END.search(text, 4, 20000)
    header = text[4 : end.start()] if end else ""
    if not end or (header.strip() and not re.search(r"^[\w.-]+[ \t]*[:=]", header, re.MULTILINE)):
        return text, {}
    fields: dict[str, str] = {}
    for line in header.split("\n"):
        match = _FIELD.match(line)
        if match:
            fields.setdefault(match[1].lower(), match[2].strip("\"'"))
    return text[end.end() :].lstrip("\n"), fields


def _table(text: str) -> str:
    """Comma, semicolon or tab separated values as a Markdown table."""
    sample = text[:8192]
    delimiter = max(",;\t|", key=sample.split("\n", 1)[0].count)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        filled = (row for row in rows if any(value.strip() for value in row))
        first = list(islice(filled, 1))
        lines = [_line(row) for row in chain(first, filled)]
    except csv.Error as error:
        raise ParseFailed(f"broken CSV: {error}") from error
    if not lines:
        raise ParseFailed("empty file")
    return "\n".join([lines[0], "|" + " --- |" * len(first[0]), *lines[1:]]) + "\n"


def _line(row: list[str]) -> str:
    cells = (" ".join(value.split()).replace("\\", "\\\\").replace("|", "\\|") for value in row)
    return f"| {' | '.join(cells)} |"
