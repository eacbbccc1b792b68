"""Question sets: the question answering data as collections of Markdown files, and what a right answer is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict, cast

MOSTLY = 0.6
"""Share of a right sentence that a quote must hold: splitters differ on where a sentence ends."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to one collection."""

    text: str
    file: str = ""
    """Name of the file that answers it."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where the right sentences or answers stand in that file."""
    share: float = 1.0
    """How much of a span a quote must hold."""
    holds: tuple[str, ...] = ()
    """Instead of spans: a right sentence holds one of these."""
    answer_holds: tuple[tuple[str, ...], ...] = ()
    """The whole answer holds one of each group."""
    form: str = ""
    kind: Literal["own", "paraphrased", "foreign", "near miss"] = "own"

    def right(self, path: str, start: int, end: int, quote: str) -> bool:
        """Whether `quote`, the range of the document at `path`, is an answer."""
        if self.holds:
            return any(words in _bare(quote) for words in self.holds)
        return Path(path).name == self.file and any(
            min(end, last) - max(start, first) >= self.share * (last - first) for first, last in self.spans
        )

    def complete(self, text: str) -> bool:
        """Whether an answer's text holds all that it must."""
        bare = _bare(text)
        return all(any(words in bare for words in group) for group in self.answer_holds)


@dataclass(slots=True)
class Collection:
    """Markdown files and the questions about them."""

    name: str
    files: dict[str, str] = field(default_factory=dict[str, str])
    questions: list[Question] = field(default_factory=list[Question])

    def title(self, file: str) -> str:
        """The title of a file: its first heading."""
        return self.files[file].partition("\n")[0].removeprefix("# ")

    def write(self, folder: Path) -> None:
        """Writes the files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")


class _Span(TypedDict):
    start: int
    text: str


class _SquadPassage(TypedDict):
    id: str
    title: str
    text: str


class _SquadQuestion(TypedDict):
    question: str
    passage: str
    impossible: bool
    answers: list[_Span]


class _Selqa(TypedDict):
    question: str
    article: str
    section: str
    paraphrase: bool
    sentences: list[str]
    answers: list[int]


class _Block(TypedDict):
    kind: Literal["para", "item", "code", "row"]
    text: str


class _Section(TypedDict):
    title: str
    headings: list[str]
    blocks: list[_Block]


class _DocsQuestion(TypedDict):
    form: str
    question: str
    sentence: list[str]
    answer_holds: list[list[str]]


def squad(folder: Path) -> Collection:
    """SQuAD 2.0: one file a passage; the answerable questions, right where a quote holds the answer."""
    collection = Collection("squad")
    starts: dict[str, int] = {}
    for passage in cast(Iterable[_SquadPassage], _lines(folder / "squad2-passages.jsonl")):
        head = f"# {passage['title']}\n\n"
        starts[passage["id"]] = len(head)
        collection.files[f"{passage['id']}.md"] = f"{head}{passage['text']}\n"
    for asked in cast(Iterable[_SquadQuestion], _lines(folder / "squad2-questions.jsonl")):
        if not asked["impossible"]:
            offset = starts[asked["passage"]]
            spans = [
                (offset + answer["start"], offset + answer["start"] + len(answer["text"]))
                for answer in asked["answers"]
            ]
            collection.questions.append(Question(asked["question"], f"{asked['passage']}.md", tuple(spans)))
    return collection


def selqa(folder: Path) -> Collection:
    """SelQA: one file a section; right where a quote holds (most of) one of the right sentences."""
    collection = Collection("selqa")
    names: dict[str, str] = {}
    for asked in cast(Iterable[_Selqa], _lines(folder / "selqa.jsonl")):
        head = f"# {asked['article']}\n\n"
        if asked["section"] != "Abstract":
            head += f"## {asked['section']}\n\n"
        text = f"{head}{' '.join(asked['sentences'])}\n"
        name = names.setdefault(text, f"s{len(names)}.md")
        collection.files[name] = text
        spans: list[tuple[int, int]] = []
        at = len(head)
        for index, sentence in enumerate(asked["sentences"]):
            if index in asked["answers"]:
                spans.append((at, at + len(sentence)))
            at += len(sentence) + 1
        kind = "paraphrased" if asked["paraphrase"] else "own"
        collection.questions.append(Question(asked["question"], name, tuple(spans), MOSTLY, kind=kind))
    return collection


def docs(folder: Path) -> Collection:
    """Manuals, one file each with its sections, lists, tables and code as Markdown."""
    collection = Collection("docs")
    manuals: dict[str, list[_Section]] = {}
    for section in cast(Iterable[_Section], _lines(folder / "docs-passages.jsonl")):
        manuals.setdefault(section["title"], []).append(section)
    for title, sections in manuals.items():
        collection.files[f"{re.sub(r'[^a-z0-9]+', '-', title.lower())}.md"] = _manual(title, sections)
    for asked in cast(Iterable[_DocsQuestion], _lines(folder / "docs-questions.jsonl")):
        kind = {"none": "foreign", "nearnone": "near miss"}.get(asked["form"], "own")
        collection.questions.append(
            Question(
                asked["question"],
                holds=tuple(_bare(words) for words in asked["sentence"]),
                answer_holds=tuple(tuple(_bare(words) for words in group) for group in asked["answer_holds"]),
                form=asked["form"],
                kind=cast(Literal["own", "foreign", "near miss"], kind),
            )
        )
    return collection


def _lines(path: Path) -> Iterator[object]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _bare(text: str) -> str:
    """Words only: labels and quotes are compared without marks and line ends."""
    return " ".join(re.sub(r"[`*\\]", "", text).split())


def _manual(title: str, sections: Sequence[_Section]) -> str:
    parts = [f"# {title}\n"]
    above: list[str] = []
    for section in sections:
        path = section["headings"]
        path = path[1:] if path[:1] == [title] else path
        for depth, heading in enumerate(path):
            if path[: depth + 1] != above[: depth + 1]:
                parts.append(f"\n{'#' * min(depth + 2, 6)} {heading}\n")
        above = path
        parts.append(_blocks(section["blocks"]))
    return "".join(parts)


def _blocks(blocks: Sequence[_Block]) -> str:
    text = ""
    before = ""
    for block in blocks:
        kind, words = block["kind"], block["text"]
        header = ""
        if kind == "code":
            fence = "````" if "```" in words else "```"
            words = f"{fence}\n{words}\n{fence}"
        elif kind == "item":
            words = "- " + " ".join(words.split())
        elif kind == "row":
            cells = [cell.partition(": ") for cell in words.split("; ")]
            if all(cell for _, _, cell in cells):
                header = f"| {' | '.join(name for name, _, _ in cells)} |"
                row = f"| {' | '.join(cell.replace('|', chr(92) + '|') for _, _, cell in cells)} |"
                words = row if before == header else f"{header}\n|{'---|' * len(cells)}\n{row}"
        together = header or ("item" if kind == "item" else "")
        text += ("" if together and together == before else "\n") + words + "\n"
        before = together
    return text
