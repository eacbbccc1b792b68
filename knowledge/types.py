"""Data of the knowledge layer: documents, their passages and units, names, and what a search found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from memory.types import Label, PartVectors, Vector

UnitKind = Literal["sentence", "item", "row", "code"]
BlockKind = Literal["paragraph", "list", "table", "code"]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a tenant; (tenant, path) is unique, equal content at two paths is two documents."""

    id: str
    tenant: str
    path: str
    """As the user knows it: absolute for files, the given name for uploads. Never sent in a citation's url."""
    title: str
    sha256: str
    """Hash of the file's bytes and of the version of parser, splitter and embedder: equal means unchanged."""
    bytes: int
    passages: int
    updated_at: str
    """RFC 3339, UTC."""
    url: str = ""
    """The source's own address, when the document names one."""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A file as Markdown text; every offset of the product counts characters of `text`."""

    title: str
    text: str
    pages: tuple[tuple[int, int], ...] = ()
    """(offset where the page starts, page number from 1), ascending; empty when the file has no pages."""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list, table or code block of a passage; offsets count from the passage's start."""

    kind: BlockKind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Unit:
    """What quoting and citing work on: a sentence, a list item or a table row (EXTRACTIVE section 2)."""

    kind: UnitKind
    text: str
    """Readable: markers stripped, a row as "header: cell; header: cell"."""
    start: int
    end: int
    """Offsets from the passage's start; text[start:end] is the verbatim source."""
    block: int
    """Index into the passage's blocks."""
    label: str = ""
    """Local label that joins title and headings, for example the one-line code block before an option."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of one document that is embedded, found and shown as a whole; text == document text[start:end]."""

    id: str
    """"<document id>.<version>.<index>": never reused for another text."""
    document: str
    index: int
    title: str
    """The document's title."""
    headings: tuple[str, ...]
    """Heading path below the title, outermost first."""
    text: str
    start: int
    end: int
    page: int | None = None
    blocks: tuple[Block, ...] = ()
    units: tuple[Unit, ...] = ()


@dataclass(frozen=True, slots=True)
class Name:
    """A run of capitalised words in a passage: what may mention a title."""

    text: str
    sentence: int
    """Index of the unit that holds it."""


@dataclass(frozen=True, slots=True)
class Surface:
    """A way in which texts name a passage's subject."""

    text: str
    """Lower case, words joined by one space."""
    weight: float
    """1 whole title, .9 without "(...)", .6 the part before a comma (RETRIEVAL section 3)."""


@dataclass(frozen=True, slots=True)
class PassageEntry:
    """What the graph keeps of one passage."""

    passage: str
    title: str
    surfaces: tuple[Surface, ...]
    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A passage that a surface names."""

    passage: str
    weight: float


@dataclass(frozen=True, slots=True)
class Mention:
    """A title that a passage mentions."""

    surface: str
    sentence: int
    weight: float
    """s / (1 + m / 5): s = 1 for several words, .8 for one; m passages mention that surface."""
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """Two names that stand in one sentence of a passage, with how often and where."""

    subject: str
    object: str
    weight: float
    passages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entity:
    """What the graph knows of one name."""

    name: str
    passages: tuple[str, ...]
    """Those titled so first, then those that mention it."""
    relations: tuple[Relation, ...]
    """Strongest first."""


@dataclass(frozen=True, slots=True)
class Found:
    """One passage that answers a search, with its document, its score and how the score came about."""

    document: Document
    passage: Passage
    score: float
    parts: dict[str, float]
    """The score's parts by name: dense, words, link, hop, sentence."""
    label: Label
    vectors: PartVectors | None
    """One row per unit of the passage, in their order."""
    via: str = ""
    """Id of the passage whose mention led here, when it was found by the hop."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A question to the knowledge."""

    text: str
    vector: Vector
    history: str = ""
    """The user's earlier turns of this conversation, oldest first, one a line; weighs .4 (RETRIEVAL section 3)."""
    history_vector: Vector | None = None
    """Vector of "previous user turn + question"; set when `history` is."""


@dataclass(slots=True)
class IngestReport:
    """What one ingestion did."""

    new: int = 0
    unchanged: int = 0
    updated: int = 0
    removed: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list["Failure"])
    passages: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be taken in, and why, in words a person understands."""

    path: str
    reason: str
