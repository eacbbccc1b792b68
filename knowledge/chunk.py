"""Documents as passages: one a section, long sections cut at blocks, small neighbours joined."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from knowledge.blocks import Piece, is_fence, item_start, scan
from knowledge.boundaries import sentences
from knowledge.inline import plain
from knowledge.sentences import header_cells, units
from knowledge.types import ParsedDocument, Passage

VERSION = "1"
"""Changes whenever the same document would give other passages: files then count as changed."""
LONGEST = 1800
"""Characters of the longest passage: an encyclopaedia paragraph stays whole."""
_AIM = 1400  # characters of the pieces of a section that is cut
_TINY = 200  # characters of a section that may join its neighbour
_JOINED = 1000  # characters of joined sections


@dataclass(slots=True)
class _Section:
    """What stands below one heading, up to the next."""

    path: tuple[str, ...]
    heading: Piece | None
    body: list[Piece]

    @property
    def start(self) -> int:
        return self.body[0].start if self.body else self.end

    @property
    def end(self) -> int:
        assert self.body or self.heading
        return self.body[-1].end if self.body or not self.heading else self.heading.end

    @property
    def whole_start(self) -> int:
        return self.heading.start if self.heading else self.start

    @property
    def size(self) -> int:
        return self.end - self.start if self.body else 0


def _sections(text: str, title: str) -> Iterator[_Section]:
    stack: list[tuple[int, str]] = []
    current = _Section((), None, [])
    for piece in scan(text):
        if piece.kind != "heading":
            current.body.append(piece)
            continue
        if current.body or current.heading:
            yield current
        while stack and stack[-1][0] >= piece.level:
            stack.pop()
        stack.append((piece.level, plain(piece.text[:300])))
        path = [words for _, words in stack if words]
        if path and path[0].casefold() == title.casefold():
            path = path[1:]
        current = _Section(tuple(path), piece, [])
    if current.body or current.heading:
        yield current


def _groups(sections: Iterator[_Section]) -> Iterator[list[_Section]]:
    """Small neighbours under one parent come together."""
    group: list[_Section] = []
    for section in sections:
        last = group[-1] if group else None
        joins = (
            last is not None
            and last.path[:-1] == section.path[:-1]
            and bool(last.path and section.path)
            and last.size < _TINY
            and section.size < _TINY
            and section.end - group[0].whole_start <= _JOINED
        )
        if group and not joins:
            yield group
            group = []
        group.append(section)
    if group:
        yield group


def _atoms(text: str, piece: Piece) -> Iterator[tuple[int, int]]:
    """Where a block may be cut: its sentences, items, rows or paragraphs of code, none longer than a passage."""
    if piece.kind == "paragraph":
        yield from sentences(text, piece.start, piece.end)
        return
    start = stop = piece.start
    held = 2 if piece.kind == "table" else 0  # header and divider stay with the first row
    before = ""
    for line_start, line_end in _lines(text, piece.start, piece.end):
        line = text[line_start:line_end]
        if held:
            held -= 1
        elif line_start > start and _may_part(piece.kind, before, line, stop - start):
            yield from _hard(text, start, stop)
            start = line_start
        before, stop = line, line_end
    yield from _hard(text, start, piece.end)


def _may_part(kind: str, before: str, line: str, size: int) -> bool:
    if kind == "table":
        return True
    if kind == "list":
        return item_start(line) >= 0 or size > LONGEST // 2
    return not is_fence(line) and (not before.strip() or size > LONGEST // 2)


def _hard(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A single line may still be longer than a passage."""
    if end - start <= LONGEST:
        yield start, end
    else:
        yield from sentences(text, start, end)


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start <= end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        yield start, stop
        start = stop + 1


def _cut(text: str, piece: Piece) -> Iterator[Piece]:
    """The parts of a block that is longer than a passage; the rows of a table keep its header."""
    header: tuple[str, ...] = ()
    if piece.kind == "table":
        header = header_cells(text[piece.start : text.find("\n", piece.start, piece.end)])
    for start, end in _packed(list(_atoms(text, piece))):
        begins_row = start > piece.start and text[start - 1] == "\n"
        yield replace(piece, start=start, end=end, header=header if begins_row else ())


def _packed(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Neighbours brought together to pieces of about equal size."""
    start, end = spans[0]
    aim = _aim(spans[-1][1] - start)
    for first, last in spans[1:]:
        if last - start > LONGEST or end - start >= aim:
            yield start, end
            start = first
        end = last
    yield start, end


def _aim(size: int) -> float:
    return size if size <= LONGEST else size / ceil(size / _AIM)


def _parts(text: str, body: Sequence[Piece]) -> Iterator[list[Piece]]:
    """The body of one section as passages; a list, a table or code stays with the paragraph before it if it fits."""
    if body[-1].end - body[0].start <= LONGEST:
        yield list(body)
        return
    groups: list[list[Piece]] = []
    for piece in body:
        for part in _cut(text, piece) if piece.end - piece.start > LONGEST else (piece,):
            leads = groups and groups[-1][-1].kind == "paragraph" and part.kind != "paragraph"
            if leads and part.end - groups[-1][0].start <= LONGEST:
                groups[-1].append(part)
            else:
                groups.append([part])
    by_start = {group[0].start: group for group in groups}
    current: list[Piece] = []
    ends = iter(_packed([(group[0].start, group[-1].end) for group in groups]))
    end = next(ends)[1]
    for group in by_start.values():
        if group[-1].end > end:
            yield current
            current = []
            end = next(ends)[1]
        current.extend(group)
    yield current


def _whole(sections: Sequence[_Section]) -> Iterator[Piece]:
    for section in sections:
        if section.heading:
            yield section.heading
        yield from section.body


def _contents(text: str, title: str) -> Iterator[tuple[tuple[str, ...], list[Piece]]]:
    """Heading path and blocks of each passage; a text of headings only is taken as paragraphs."""
    headings: list[Piece] = []
    found = False
    for group in _groups(_sections(text, title)):
        if not found:
            headings.extend(section.heading for section in group if section.heading and section.heading.text)
        while group and not group[-1].body:
            group.pop()
        if len(group) > 1:
            found = True
            yield group[0].path[:-1], list(_whole(group))
        elif group:
            found = True
            for part in _parts(text, group[0].body):
                yield group[0].path, part
    if not found and headings:
        starts = [(heading, text.find(heading.text, heading.start)) for heading in headings]
        lines = [Piece("paragraph", start, start + len(heading.text)) for heading, start in starts]
        for part in _parts(text, lines):
            yield (), part


def split(document: ParsedDocument, *, document_id: str, version: str) -> list[Passage]:
    """The passages of a document in order, at most about 1,800 characters each, with their blocks and units.

    They follow the headings, whose path they keep without the document's title; `passage.text` is exactly
    `document.text[start:end]`; a heading belongs to no unit, except where there is nothing else. Linear time.
    """
    text = document.text
    page_starts = [offset for offset, _ in document.pages]
    passages: list[Passage] = []
    for path, pieces in _contents(text, document.title):
        start, end = pieces[0].start, pieces[-1].end
        body = text[start:end]
        if not any(map(str.isalnum, body)):
            continue
        page = bisect_right(page_starts, start) - 1
        blocks, found = units(
            body, [replace(piece, start=piece.start - start, end=piece.end - start) for piece in pieces]
        )
        passages.append(
            Passage(
                id=f"{document_id}.{version}.{len(passages)}",
                document=document_id,
                index=len(passages),
                title=document.title,
                headings=path,
                text=body,
                start=start,
                end=end,
                page=document.pages[page][1] if page >= 0 else None,
                blocks=blocks,
                units=found,
            )
        )
    return passages
