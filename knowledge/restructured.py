"""reStructuredText as Markdown: headings, code, links and roles; what has no counterpart keeps its words."""

from __future__ import annotations

import re

_UNDERLINES = frozenset("=-~^\"'`#*+:._<>!$%&@")
_ROLE = re.compile(r":(?:[\w+-]+:)?[\w+-]+:`([^`]+)`")
_LITERAL = re.compile(r"``(.+?)``")
_NAMED_LINK = re.compile(r"`([^`<>]+?)\s*<([^`<>\s]+)>`__?")
_REFERENCE = re.compile(r"(?<!`)`([^`<>]+)`__?(?!\w)")
_WORD_REFERENCE = re.compile(r"(?<![\w`/:.])([A-Za-z][\w.-]*[A-Za-z0-9])_(?![\w`])")
_SUBSTITUTION = re.compile(r"\|([A-Za-z][\w .-]*)\|_?_?")
_DIRECTIVE = re.compile(r"([ \t]*)\.\. ([\w:+-]+)::[ \t]*(.*)$")
_OPTION = re.compile(r"[ \t]+:[\w-]+:(?:[ \t].*)?$")
_FIELD = re.compile(r":([\w -]+):(?:[ \t]+(.*))?$")
_CODE_DIRECTIVES = frozenset(
    "code code-block sourcecode highlight parsed-literal prompt doctest testcode ipython console".split()
)
_SILENT = frozenset(
    "image figure contents toctree include index highlight raw currentmodule module meta only tabularcolumns role "
    "default-role container class sectnum target-notes automodule autoclass autofunction literalinclude".split()
)


def _underline(line: str) -> str:
    bare = line.rstrip()
    return bare[0] if len(bare) >= 3 and bare[0] in _UNDERLINES and not bare.strip(bare[0]) else ""


def _inline(line: str) -> str:
    if "`" in line:
        line = _NAMED_LINK.sub(r"[\1](\2)", line)
        held = _LITERAL.split(line)
        for index in range(0, len(held), 2):
            words = _ROLE.sub(lambda match: f"`{_role_text(match[1])}`", held[index])
            held[index] = _REFERENCE.sub(r"\1", words)
        line = "".join(part if index % 2 == 0 else f"`{part}`" for index, part in enumerate(held))
    if "_" in line:
        line = _WORD_REFERENCE.sub(r"\1", line)
    return _SUBSTITUTION.sub(r"\1", line) if "|" in line and not line.lstrip().startswith(("|", "+")) else line


def _role_text(words: str) -> str:
    return words.split("<")[0].strip().lstrip("~!.") or words


class _Writer:
    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.out: list[str] = []
        self.levels: list[str] = []
        self.at = 0

    def run(self) -> str:
        while self.at < len(self.lines):
            if not (self._heading() or self._explicit() or self._grid()):
                self._plain()
        return "\n".join(self.out)

    def _peek(self, distance: int = 0) -> str:
        index = self.at + distance
        return self.lines[index] if index < len(self.lines) else ""

    def _heading(self) -> bool:
        over = _underline(self._peek()) if not self._peek()[:1].isspace() else ""
        if over and self._peek(1).strip() and _underline(self._peek(2)) == over:
            self._title(self._peek(1), over * 2, 3)
            return True
        line, sign = self._peek(), _underline(self._peek(1))
        fits = len(self._peek(1).rstrip()) >= min(len(line.strip()), 40)
        before = self.out[-1].strip() if self.out else ""
        if line.strip() and sign and fits and not line[0].isspace() and not before and not _underline(line):
            self._title(line, sign, 2)
            return True
        return False

    def _title(self, line: str, style: str, lines: int) -> None:
        if style not in self.levels:
            self.levels.append(style)
        level = min(self.levels.index(style) + 1, 6)
        self.out += ["", f"{'#' * level} {_inline(line.strip())}", ""]
        self.at += lines

    def _indented(self, margin: int) -> list[str]:
        """The lines from here on that are indented by more than `margin`, their common margin taken away."""
        block: list[str] = []
        while self.at < len(self.lines):
            line = self._peek()
            if line.strip() and len(line) - len(line.lstrip()) <= margin:
                break
            block.append(line)
            self.at += 1
        while block and not block[-1].strip():
            block.pop()
            self.at -= 1
        common = min((len(line) - len(line.lstrip()) for line in block if line.strip()), default=0)
        return [line[common:] for line in block]

    def _code(self, margin: int, language: str) -> None:
        while self.at < len(self.lines) and _OPTION.match(self._peek()):
            self.at += 1
        block = self._indented(margin)
        while block and not block[0].strip():
            block.pop(0)
        if block:
            self.out += ["", f"```{language}", *block, "```", ""]

    def _explicit(self) -> bool:
        line = self._peek()
        if not line.lstrip().startswith(".. ") and line.strip() != "..":
            return False
        margin = len(line) - len(line.lstrip())
        match = _DIRECTIVE.match(line)
        self.at += 1
        if not match:
            self._indented(margin)  # a comment, a link's target, a substitution
            return True
        name, argument = match[2].lower(), match[3].strip()
        if name in _CODE_DIRECTIVES:
            self._code(margin, argument)
        elif name in _SILENT:
            self._indented(margin)
        else:  # note, warning, function, versionadded: its words are text
            while self.at < len(self.lines) and _OPTION.match(self._peek()):
                self.at += 1
            block = self._indented(margin)
            heading = f"`{argument}`" if ":" in name or name in ("function", "class", "method", "option") else argument
            label = "" if heading.startswith("`") else name.replace("-", " ").capitalize()
            self.out += ["", " ".join(part for part in (f"**{label}:**" if label else "", heading) if part)]
            self.out += ["", *_Writer("\n".join(block)).run().split("\n"), ""]
        return True

    def _grid(self) -> bool:
        """A simple table of "====  ====" rules becomes a Markdown table; a grid of +---+ keeps its rows."""
        line = self._peek()
        if re.fullmatch(r"[ \t]*=+(?:[ ]+=+)+[ \t]*", line):
            return self._simple_table(line)
        if re.fullmatch(r"[ \t]*\+(?:[-=]+\+)+[ \t]*", line):
            return self._grid_table()
        return False

    def _simple_table(self, rule: str) -> bool:
        starts = [match.start() for match in re.finditer(r"=+", rule)]
        columns = list(zip(starts, [*starts[1:], None], strict=True))
        self.at += 1
        rows: list[list[str]] = []
        rules = 0
        while self.at < len(self.lines):
            line = self._peek()
            if re.fullmatch(r"[ \t]*=+(?:[ ]+=+)*[ \t]*", line):
                rules += 1
                following = self._peek(1).strip()
                self.at += 1
                if rules == 2 or not following:
                    break
                continue
            if not line.strip() and rules:
                self.at += 1
                continue
            if not line.strip():
                break
            values = [line[start:end].strip() for start, end in columns]
            if rows and not values[0]:
                rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], values, strict=True)]
            else:
                rows.append(values)
            self.at += 1
        self._table(rows)
        return True

    def _grid_table(self) -> bool:
        rows: list[list[str]] = []
        fresh = True
        while self.at < len(self.lines) and self._peek().strip()[:1] in ("+", "|"):
            line = self._peek().strip()
            self.at += 1
            if line[0] == "+":
                fresh = True
                continue
            values = [cell.strip() for cell in line.strip("|").split("|")]
            if fresh or len(values) != len(rows[-1]):
                rows.append(values)
            else:
                rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], values, strict=True)]
            fresh = False
        self._table(rows)
        return True

    def _table(self, rows: list[list[str]]) -> None:
        if rows:
            first, *rest = [" | ".join(_inline(value).replace("|", "\\|") for value in row) for row in rows]
            self.out += ["", f"| {first} |", "|" + " --- |" * len(rows[0]), *(f"| {row} |" for row in rest), ""]

    def _plain(self) -> None:
        line = self._peek()
        self.at += 1
        bare = line.rstrip()
        if bare.endswith("::"):
            margin = len(line) - len(line.lstrip())
            if bare.strip() != "::":
                self.out.append(_inline(bare[:-1]))
            while self.at < len(self.lines) and not self._peek().strip():
                self.at += 1
            self._code(margin, "")
        else:
            self.out.append(_inline(bare))


def to_markdown(text: str) -> tuple[str, str]:
    """The document as Markdown, plain words as they are, and the title of its field list ("" for none)."""
    title = ""
    lines = text.lstrip("\n").split("\n")
    if _FIELD.match(lines[0]):
        while lines and (_FIELD.match(lines[0]) or lines[0][:1].isspace()):
            match = _FIELD.match(lines.pop(0))
            if match and match[1].lower() == "title":
                title = match[2].strip()
        text = "\n".join(lines)
    return _Writer(text).run(), title
