"""Passages as blocks and units (sentences, list items, table rows), and the texts that are embedded for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import orjson

from knowledge.blocks import Piece, cells, is_divider, is_fence, item_start, scan
from knowledge.boundaries import sentences
from knowledge.inline import plain
from knowledge.types import Block, BlockKind, Passage, Unit, UnitKind

LONG_ITEM = 400
"""Characters from which a list item is taken apart into sentences."""
_LOCAL_LABEL = 120
_OPTION = re.compile(
    r"(?:[-*+] )?(?:`[^`]+`|--?[A-Za-z][\w-]*)(?:(?:[,/|]| or )\s*(?:`[^`]+`|--?[A-Za-z][\w-]*)){0,5}"
    r"(?:[ =]\S{1,30})?(?:\s*\([^()]{1,60}\))?:?"
)
_TASK = re.compile(r"\[[ xX]\][ \t]+")


class _Reader:
    """Walks over the blocks of one passage and gathers its units."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.blocks: list[Block] = []
        self.units: list[Unit] = []
        self.section = ""  # heading inside a passage that joins small sections
        self.local = ""
        self.local_left = 0
        self.fresh = 0  # units when the section began
        self.codes: list[int] = []  # code blocks of the section, by index

    def run(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if piece.kind == "heading":
                self._end_section()
                self.section, self.local_left, self.fresh = plain(piece.text), 0, len(self.units)
                continue
            self.blocks.append(Block(piece.kind, piece.start, piece.end))
            if piece.kind == "code":
                self._code(piece)
            elif piece.kind == "paragraph":
                self._paragraph(piece)
            elif piece.kind == "list":
                self._list(piece)
            else:
                self._table(piece)
        self._end_section()

    def _label(self) -> str:
        local = self.local if self.local_left > 0 else ""
        return " / ".join(part for part in (self.section, local) if part)

    def _add(self, kind: UnitKind, words: str, start: int, end: int) -> None:
        if any(map(str.isalpha if kind == "sentence" else str.isalnum, words)):
            self.units.append(Unit(kind, words, start, end, len(self.blocks) - 1, self._label()))

    def _end_section(self) -> None:
        """A section that is nothing but code has its code blocks as units; else they belong to the unit before."""
        if len(self.units) == self.fresh:
            self.local_left = 0
            for index in self.codes:
                block = self.blocks[index]
                words = code_text(self.text[block.start : block.end])
                if words.strip():
                    self.units.append(Unit("code", words, block.start, block.end, index, self._label()))
        self.codes = []

    def _code(self, piece: Piece) -> None:
        self.codes.append(len(self.blocks) - 1)
        words = code_text(self.text[piece.start : piece.end]).strip()
        self.local_left = 0
        if words and "\n" not in words and len(words) <= _LOCAL_LABEL:
            self.local, self.local_left = words, 2

    def _paragraph(self, piece: Piece) -> None:
        source = self.text[piece.start : piece.end]
        if len(source) <= _LOCAL_LABEL and _OPTION.fullmatch(source.strip().replace("**", "")):
            self.local_left = 0
            words = plain(source)
            self._add("sentence", words, piece.start, piece.end)
            self.local, self.local_left = words.rstrip(":"), 2
            return
        self._sentences("sentence", piece.start, piece.end)
        self.local_left -= 1

    def _sentences(self, kind: UnitKind, start: int, end: int) -> None:
        for first, last in sentences(self.text, start, end):
            self._add(kind, plain(self.text[first:last]), first, last)

    def _list(self, piece: Piece) -> None:
        for start, end in items(self.text, piece.start, piece.end):
            if end - start > LONG_ITEM:
                self._sentences("item", start, end)
            else:
                self._add("item", plain(self.text[start:end]), start, end)

    def _table(self, piece: Piece) -> None:
        header = piece.header
        rows = list(_lines(self.text, piece.start, piece.end))
        if not header and len(rows) > 1 and is_divider(self.text[rows[1][0] : rows[1][1]]):
            header = header_cells(self.text[rows[0][0] : rows[0][1]])
            rows = rows[2:] or rows[:1]
        for start, end in rows:
            line = self.text[start:end]
            if not is_divider(line):
                self._add("row", _row(header, cells(line)), start, end)


def _row(header: Sequence[str], values: Sequence[str]) -> str:
    parts: list[str] = []
    for index, value in enumerate(values):
        words = plain(value)
        name = header[index] if index < len(header) else ""
        if words:
            parts.append(f"{name}: {words}" if name and name != words else words)
    return "; ".join(parts)


def header_cells(row: str) -> tuple[str, ...]:
    """The readable names of a table's columns, each at most 80 characters."""
    return tuple(plain(cell[:400])[:80] for cell in cells(row))


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        if text[start:stop].strip():
            yield start, stop
        start = stop + 1


def items(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The items of the list text[start:end], marker and task box left out; nested items are items as well."""
    first = last = -1
    for line_start, line_end in _lines(text, start, end):
        line = text[line_start:line_end]
        words = item_start(line)
        if words >= 0:
            if first >= 0 and last > first:
                yield first, last
            box = _TASK.match(line, words)
            first = line_start + (box.end() if box else words)
        elif first < 0:
            first = line_start + len(line) - len(line.lstrip())
        last = line_start + len(line.rstrip())
    if first >= 0 and last > first:
        yield first, last


def code_text(block: str) -> str:
    """The code of a code block: without its fence, or without its indentation."""
    lines = block.split("\n")
    if is_fence(lines[0]):
        lines = lines[1:]
    if lines and is_fence(lines[-1]):
        lines = lines[:-1]
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] if line.strip() else "" for line in lines)


def units(text: str, pieces: Sequence[Piece] | None = None) -> tuple[tuple[Block, ...], tuple[Unit, ...]]:
    """The blocks and units of a passage's text; `pieces` when it was scanned before (offsets in `text`)."""
    reader = _Reader(text)
    reader.run(scan(text) if pieces is None else pieces)
    return tuple(reader.blocks), tuple(reader.units)


def label(passage: Passage) -> str:
    """Title and heading path, joined by " / "."""
    return " / ".join((passage.title, *passage.headings))


def embedding_texts(passage: Passage) -> list[str]:
    """What is embedded for each unit, in their order: "label / local label: words" (EXTRACTIVE section 2)."""
    whole = label(passage)
    return [f"{whole} / {unit.label}: {unit.text}" if unit.label else f"{whole}: {unit.text}" for unit in passage.units]


def passage_text(passage: Passage) -> str:
    """What is embedded for the passage as a whole: title, heading path and text (RETRIEVAL section 3, index step 1)."""
    return f"{label(passage)}\n{passage.text}"


_UNIT_KINDS: tuple[UnitKind, ...] = ("sentence", "item", "row", "code")
_Identity = tuple[str, str, int, str, list[str]]
_Body = tuple[str, int, int, int | None]
_Blocks = list[tuple[BlockKind, int, int]]
_Units = list[tuple[int, int, int, int, str, str | None]]


def dump(passage: Passage) -> str:
    """The passage as compact JSON, for a record's payload; `load` gives back an equal one."""
    text = passage.text
    return orjson.dumps(
        (
            (passage.id, passage.document, passage.index, passage.title, passage.headings),
            (text, passage.start, passage.end, passage.page),
            [(block.kind, block.start, block.end) for block in passage.blocks],
            [
                (
                    _UNIT_KINDS.index(unit.kind),
                    unit.start,
                    unit.end,
                    unit.block,
                    unit.label,
                    None if text[unit.start : unit.end] == unit.text else unit.text,
                )
                for unit in passage.units
            ],
        )
    ).decode()


def load(payload: str) -> Passage:
    """The passage that `dump` wrote.

    Raises:
        ValueError: the payload was written by something else.
    """
    parts: tuple[_Identity, _Body, _Blocks, _Units] = orjson.loads(payload)
    identity, body, blocks, rows = parts
    id, document, index, title, headings = identity
    text, start, end, page = body
    return Passage(
        id=id,
        document=document,
        index=index,
        title=title,
        headings=tuple(headings),
        text=text,
        start=start,
        end=end,
        page=page,
        blocks=tuple([Block(kind, first, last) for kind, first, last in blocks]),
        units=tuple(
            [
                Unit(_UNIT_KINDS[kind], text[first:last] if words is None else words, first, last, block, local)
                for kind, first, last, block, local, words in rows
            ]
        ),
    )
