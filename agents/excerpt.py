"""Excerpt: a piece of a passage as Markdown to be shown; marks are taken off, code stays as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from knowledge.blocks import cells, is_divider, is_fence
from knowledge.inline import plain
from knowledge.sentences import code_text, items
from knowledge.types import Passage

SHOWN = 12
"""Items, rows or lines that are shown of a block that is longer than it may be."""
MOST_ITEMS, MOST_LINES = 12, 15
"""Items and rows, or lines of code, up to which a block is shown whole."""

_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_HELD = re.compile("\ue100(\\d{1,6})\ue101")
_FOOTNOTES = re.compile(r"(?<=[\w.,;:!?\"”’')%])(?:\[[1-9]\d{0,2}\])+(?![(\w])")
_MARK = re.compile(r"\[(\d+)\]")


def readable(source: str) -> str:
    """A verbatim piece of Markdown on one line: links, emphasis and footnote marks off, `code` untouched.

    A number in brackets that is left is escaped: only the answer's own marks look like "[1]".
    """
    codes: list[str] = []

    def hold(found: re.Match[str]) -> str:
        codes.append(" ".join(found[0].split()))
        return f"\ue100{len(codes) - 1}\ue101"

    text = plain(_FOOTNOTES.sub("", _CODE.sub(hold, source.replace("\ue100", "").replace("\ue101", ""))))
    text = escaped(text)
    return _HELD.sub(lambda found: codes[int(found[1])], text)


def escaped(words: str) -> str:
    """Plain words in which no number in brackets looks like one of the answer's own marks."""
    return _MARK.sub(r"\\[\1\\]", words)


def closed(text: str) -> str:
    """What leads to something that is not shown ends openly, never on ":"."""
    return re.sub(r"\s*:$", " …", text)


def block_text(passage: Passage, index: int, spans: Sequence[tuple[int, int]] | None = None) -> str:
    """A list, table or code block as Markdown; a long one as its beginning and "n more".

    `spans` are the items to show, all of them when left out.
    """
    block = passage.blocks[index]
    source = passage.text[block.start : block.end]
    if block.kind == "code":
        return _code(source)
    if block.kind == "table":
        return _table(passage, index, source)
    return _list(passage, list(spans or items(passage.text, block.start, block.end)))


def _code(source: str) -> str:
    first = source.split("\n", 1)[0].strip()
    language = first.lstrip("`~").strip() if is_fence(first) else ""
    lines = code_text(source).strip("\n").split("\n")
    longest = max((len(run) for run in re.findall(r"`{3,}", source.strip("`"))), default=0)
    fence = "`" * max(3, longest + 1)
    kept = lines if len(lines) <= MOST_LINES else lines[:SHOWN]
    return "\n".join((fence + language, *kept, fence)) + _more(len(lines) - len(kept), "line")


def _list(passage: Passage, spans: Sequence[tuple[int, int]]) -> str:
    lines: list[str] = []
    kept = spans if len(spans) <= MOST_ITEMS else spans[:SHOWN]
    for start, end in kept:
        marker = passage.text[passage.text.rfind("\n", 0, start) + 1 : start]
        indent = len(marker.expandtabs(4)) - len(marker.expandtabs(4).lstrip())
        words = readable(passage.text[start:end])
        lines.append(f"{' ' * indent}{marker.strip() or '-'} {words}")
    margin = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    return closed("\n".join(line[margin:] for line in lines)) + _more(len(spans) - len(kept), "item")


def _table(passage: Passage, index: int, source: str) -> str:
    lines = [line for line in source.split("\n") if line.strip()]
    if len(lines) < 3 or not is_divider(lines[1]):  # goes on from another passage: its header is in the rows' words
        rows = [f"- {escaped(unit.text)}" for unit in passage.units if unit.block == index]
        kept = rows if len(rows) <= MOST_ITEMS else rows[:SHOWN]
        return closed("\n".join(kept)) + _more(len(rows) - len(kept), "row")
    rows = [_row(line) for line in lines[2:]]
    kept = rows if len(rows) <= MOST_ITEMS else rows[:SHOWN]
    return "\n".join((_row(lines[0]), lines[1].strip(), *kept)) + _more(len(rows) - len(kept), "row")


def _row(line: str) -> str:
    return f"| {' | '.join(readable(cell).replace('|', chr(92) + '|') for cell in cells(line))} |"


def _more(count: int, noun: str) -> str:
    return f"\n\n{count} more {noun}{'s' if count > 1 else ''}" if count > 0 else ""
