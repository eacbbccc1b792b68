"""Markdown as blocks: headings, paragraphs, lists, tables and code with their offsets, in one pass over the lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from knowledge.types import BlockKind

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[^`]*$")
_ITEM = re.compile(r"([ \t]*)([-*+•]|\d{1,3}[.)])(?:[ \t]+(?=\S)|[ \t]*$)")
_RULE_SIGNS = frozenset("-*_ \t")
_DIVIDER_SIGNS = frozenset("|:-+ \t")


@dataclass(frozen=True, slots=True)
class Piece:
    """One block of a text; `start` and `end` count characters of that text, the last line's end left out."""

    kind: BlockKind | Literal["heading"]
    start: int
    end: int
    level: int = 0
    """1 to 6 for a heading."""
    text: str = ""
    """The words of a heading."""
    header: tuple[str, ...] = ()
    """Cells of the header row, where the piece goes on with a table that began before it."""


def item_start(line: str) -> int:
    """Offset of a list item's words in its first line, -1 when the line begins no item."""
    match = _ITEM.match(line)
    return match.end() if match else -1


def is_divider(line: str) -> bool:
    """Whether the line divides a table's header from its rows."""
    return "-" in line and "|" in line and _DIVIDER_SIGNS.issuperset(line)


def is_fence(line: str) -> bool:
    """Whether the line opens a fenced code block."""
    return _FENCE.match(line) is not None


def _indent(line: str) -> int:
    width = 0
    for sign in line:
        if sign == " ":
            width += 1
        elif sign == "\t":
            width += 4
        else:
            break
    return width


def _is_rule(line: str) -> bool:
    signs = set(line) - {" ", "\t"}
    return len(signs) == 1 and _RULE_SIGNS.issuperset(line) and len(line.replace(" ", "")) >= 3


def _underlines(line: str) -> int:
    """Level of the heading that the line makes of the one before it, 0 for none."""
    bare = line.strip()
    if len(bare) < 2 or bare[0] not in "=-" or bare.strip(bare[0]):
        return 0
    return 1 if bare[0] == "=" else 2


class _Scanner:
    """Reads line by line; `mode` is the kind of the open block, "" when none is open."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces: list[Piece] = []
        self.mode: BlockKind | Literal["", "comment"] = ""
        self.start = self.end = 0
        self.lines = 0
        self.fence = ""
        self.after_blank = True
        self.list_indent = -1  # where the words of the last list item begin; -1 outside lists
        self.may_comment = True

    def run(self) -> list[Piece]:
        lines = self.text.split("\n")
        offset = 0
        for number, line in enumerate(lines):
            self._line(line, offset, lines[number + 1] if number + 1 < len(lines) else "")
            offset += len(line) + 1
        self._close()
        return self.pieces

    def _close(self) -> None:
        if self.mode and self.mode != "comment":
            self.pieces.append(Piece(self.mode, self.start, self.end))
        self.mode = ""
        self.fence = ""

    def _open(self, mode: BlockKind, offset: int, line: str) -> None:
        self._close()
        self.mode, self.start, self.lines = mode, offset, 0
        self._take(offset, line)

    def _take(self, offset: int, line: str) -> None:
        self.end = offset + len(line.rstrip())
        self.lines += 1
        self.after_blank = False

    def _heading(self, start: int, end: int, level: int, words: str) -> None:
        self.mode = ""
        self.list_indent = -1
        self.after_blank = True
        self.pieces.append(Piece("heading", start, end, level, words))

    def _line(self, line: str, offset: int, following: str) -> None:
        if self.mode == "comment":
            if "-->" in line:
                self.mode = ""
            return
        if self.fence:
            self._take(offset, line)
            bare = line.strip()
            if bare.startswith(self.fence) and not bare.strip(self.fence[0]):
                self._close()
                self.after_blank = True
            return
        if not line.strip().lstrip(">"):
            self._blank()
            return
        indent = _indent(line) if line[0] in " \t" else 0
        if not (self._fence_opens(line, offset) or self._indented(line, offset, indent)):
            self._words(line, offset, following, indent)

    def _blank(self) -> None:
        if self.mode in ("paragraph", "table"):
            self._close()
        self.after_blank = True

    def _fence_opens(self, line: str, offset: int) -> bool:
        match = _FENCE.match(line)
        if not match:
            return False
        self._open("code", offset, line)
        self.fence = match[1]
        return True

    def _indented(self, line: str, offset: int, indent: int) -> bool:
        """Indented code: four columns after a blank line, or four more than the list item it stands in."""
        if indent < 4 or not (self.after_blank or self.mode == "code"):
            return False
        if self.list_indent >= 0 and indent < self.list_indent + 4:
            return False
        if self.mode == "code":
            self._take(offset, line)
        else:
            self._open("code", offset, line)
        return True

    def _words(self, line: str, offset: int, following: str, indent: int) -> None:
        if self.mode == "code":
            self._close()
        item = _ITEM.match(line)
        if item and _is_rule(line):
            item = None
        if indent < 4 and not item and self._heading_or_rule(line, offset):
            return
        if indent < 4 and line.lstrip().startswith("<!--") and self._comment(line, offset):
            return
        if self.mode == "table":
            if "|" in line:
                self._take(offset, line)
                return
            self._close()
        if "|" in line and is_divider(following) and not is_divider(line):
            self._open("table", offset, line)
        elif item and self._begins_item(item[2]):
            self.list_indent = _indent(line[: item.end()]) if item[1] else item.end()
            if self.mode == "list":
                self._take(offset, line)
            else:
                self._open("list", offset, line)
        else:
            self._text(line, offset, indent)

    def _begins_item(self, marker: str) -> bool:
        """A number that is wrapped to a paragraph's next line begins no list, unless it is 1."""
        return self.mode != "paragraph" or not marker[0].isdigit() or marker[:-1] == "1"

    def _text(self, line: str, offset: int, indent: int) -> None:
        if self.mode == "list" and (not self.after_blank or indent >= min(2, self.list_indent)):
            self._take(offset, line)
            return
        if self.after_blank and indent < 2:
            self.list_indent = -1
        if self.mode == "paragraph":
            self._take(offset, line)
        else:
            self._open("paragraph", offset, line)

    def _heading_or_rule(self, line: str, offset: int) -> bool:
        bare = line.strip()
        if bare[0] == "#":
            level = len(bare) - len(bare.lstrip("#"))
            words = bare[level:]
            if level <= 6 and (not words or words[0] in " \t"):
                self._close()
                closing = words.rstrip("#")
                words = closing if closing.endswith((" ", "\t")) else words
                self._heading(offset, offset + len(line.rstrip()), level, words.strip())
                return True
        level = _underlines(line)
        if level and self.mode == "paragraph" and self.lines == 1:
            words = self.text[self.start : self.end].strip()
            if not words.startswith((">", "<")):
                self._heading(self.start, offset + len(line.rstrip()), level, words)
                return True
        if _is_rule(line) or (len(bare) > 2 and not bare.strip("=")):
            self._close()
            self.list_indent = -1
            self.after_blank = True
            return True
        return False

    def _comment(self, line: str, offset: int) -> bool:
        end = self.text.find("-->", offset) if self.may_comment else -1
        if end < 0:
            self.may_comment = False  # none closes any more: words, not a comment
            return False
        if end < offset + len(line):
            if line.rstrip().endswith("-->") and line.count("-->") == 1:
                self._close()
                return True
            return False
        self._close()
        self.mode = "comment"
        return True


def scan(text: str) -> list[Piece]:
    """The blocks of a Markdown text in order; blank lines, rules and comments lie between them. Linear time."""
    return _Scanner(text).run()


def cells(row: str) -> list[str]:
    """The cells of a table row; an escaped bar belongs to its cell."""
    bare = row.strip()
    bare = bare[1:] if bare.startswith("|") else bare
    bare = bare[:-1] if bare.endswith("|") and not bare.endswith("\\|") else bare
    if "\\|" not in bare:
        return [cell.strip() for cell in bare.split("|")]
    return [cell.replace("\0", "|").strip() for cell in bare.replace("\\|", "\0").split("|")]
