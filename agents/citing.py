"""Citing: the markers in a model's answer, renumbered and checked as they stream, each with the sentence it means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from agents.types import Citation, CitationSpan, Evidence
from memory.words import content_words, stem

_TOKEN = re.compile(r"`+|\n| ?\[")
_MARKER = re.compile(r" ?\[\^?(?P<numbers>\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*)\]")
_OPEN = re.compile(r" ?\[\^?[\d\s,;–-]{0,30}$")
_RANGE = re.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")
_SPLIT = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9À-Þ])|\n+|(?<=[。！？])")
_EDGES = " \t\n|*#>-•"
RECENT = 500
"""Characters of the answer that are looked at to find what a marker stands for."""


class CitationFilter:
    """Takes evidence numbers, gives citation numbers in order of first appearance.

    Holds back nothing but an open "[" that may become a marker. Markers in code and the texts of links stay as they
    are, markers that point to no document are dropped."""

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        self._evidence = {item.index: item for item in evidence if item.document}
        self._numbers: dict[int, int] = {}
        self._held = ""
        self._space = False
        self._ticks = 0
        self._code = 0
        self._recent = ""
        self._length = 0
        self.citations: list[Citation] = []
        self.spans: list[CitationSpan] = []

    def add(self, evidence: Sequence[Evidence]) -> None:
        """More evidence, with numbers of its own."""
        self._evidence.update({item.index: item for item in evidence if item.document})

    def feed(self, text: str) -> list[str | Citation]:
        """What may go out after the next piece: text, and each citation right before its first marker."""
        if (
            not self._held
            and not self._ticks
            and "[" not in text
            and "`" not in text
            and not (self._code and "\n" in text)
        ):
            self._passed(text)
            return [text] if text else []
        return self._taken(self._held + text, final=False)

    def finish(self) -> list[str | Citation]:
        """The end of the answer: what was held back."""
        return self._taken(self._held, final=True)

    def _taken(self, text: str, *, final: bool) -> list[str | Citation]:
        self._held = ""
        if self._ticks and (final or (text and text[0] != "`")):
            self._fence()
        out: list[str | Citation] = []
        place = 0
        while place < len(text):
            token = _TOKEN.search(text, place)
            if token is None:
                break
            self._put(out, text[place : token.start()])
            place = self._token(token, text, out, final=final)
            if place < 0:
                return out
        self._put(out, text[place:])
        return out

    def _token(self, token: re.Match[str], text: str, out: list[str | Citation], *, final: bool) -> int:
        """Handles one sign; returns where to go on, or -1 when the rest is held back."""
        if token[0][0] == "`":
            self._put(out, token[0])
            self._ticks += len(token[0])
            if token.end() < len(text) or final:
                self._fence()
            return token.end()
        if token[0] == "\n" and self._code < 3:
            self._code = 0  # inline code ends with its line
        if token[0] == "\n" or self._code:
            self._put(out, token[0])
            return token.end()
        marker = _MARKER.match(text, token.start())
        if marker and marker.end() == len(text) and not final:
            self._held = text[token.start() :]  # "(" may follow: a link
            return -1
        if marker and text[marker.end() : marker.end() + 1] != "(":
            self._cite(marker, out)
            return marker.end()
        if not final and _OPEN.match(text, token.start()):
            self._held = text[token.start() :]
            return -1
        self._put(out, token[0])
        return token.end()

    def _fence(self) -> None:
        ticks, self._ticks = self._ticks, 0
        if not self._code:
            self._code = ticks
        elif ticks == self._code or (self._code >= 3 and ticks >= self._code):
            self._code = 0

    def _cite(self, marker: re.Match[str], out: list[str | Citation]) -> None:
        known = [number for number in _expanded(marker["numbers"]) if number in self._evidence]
        self._space = self._space or marker[0][0] == " "  # goes with a marker that is dropped, if it came with it
        if known and self._space:
            self._put(out, " ")
        for number in dict.fromkeys(known):
            if number not in self._numbers:
                self._numbers[number] = len(self._numbers) + 1
                citation = cited(self._evidence[number], self._numbers[number], self._claim())
                self.citations.append(citation)
                out.append(citation)
            shown = f"[{self._numbers[number]}]"
            self.spans.append(CitationSpan(self._numbers[number], self._length, self._length + len(shown)))
            self._put(out, shown)

    def _claim(self) -> str:
        """The sentence that was being written; the one before when it has just ended."""
        pieces = [self._recent[start:end] for start, end in sentences(self._recent)]
        return next((piece for piece in reversed(pieces) if content_words(piece)), "")

    def _put(self, out: list[str | Citation], text: str) -> None:
        if text:
            self._passed(text)
            out.append(text)

    def _passed(self, text: str) -> None:
        self._space = False
        self._length += len(text)
        self._recent = (self._recent + text)[-RECENT:]


def cited(evidence: Evidence, index: int, claim: str) -> Citation:
    """The citation of a piece of evidence for a claim: quotes the sentence that has most words in common with it."""
    start, end = _best(evidence.text, claim)
    return Citation(
        index=index,
        document=evidence.document,
        passage=evidence.passage,
        title=evidence.title,
        path=evidence.path,
        quote=evidence.text[start:end],
        page=evidence.page,
        heading=" > ".join(evidence.headings),
        start=evidence.start + start,
        end=evidence.start + end,
        url=evidence.url,
    )


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence or line of a text, spaces and list signs at its edges left out."""
    start = 0
    for match in (*_SPLIT.finditer(text), None):
        end = match.start() if match else len(text)
        piece = text[start:end]
        left, right = len(piece) - len(piece.lstrip(_EDGES)), len(piece.rstrip(" \t\n|"))
        if left < right:
            yield start + left, start + right
        start = match.end() if match else end


def stems(text: str) -> set[str]:
    """The stems of a text's content words."""
    return {stem(word) for word in content_words(text)}


def _best(text: str, claim: str) -> tuple[int, int]:
    wanted = stems(claim)
    ranges = list(sentences(text))
    if not ranges:
        return 0, len(text)
    return max(ranges, key=lambda span: _overlap(wanted, stems(text[span[0] : span[1]])))


def _overlap(wanted: set[str], had: set[str]) -> float:
    return len(wanted & had) / (len(had) + 4) ** 0.5 if had else 0.0


def _expanded(numbers: str) -> list[int]:
    found: list[int] = []
    for match in _RANGE.finditer(numbers):
        first, last = int(match[1]), int(match[2] or match[1])
        found.extend(range(first, min(last, first + 10) + 1))
    return found
