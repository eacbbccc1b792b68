# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""PDF, office files, books and web pages as Markdown documents; runs in the worker. The door of xberg."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterable

import orjson
import xberg

from knowledge.archives import check_archive
from knowledge.characters import clean, declared_charset, decode
from knowledge.kinds import Kind, ParseFailed
from knowledge.pdf import pdf_pages
from knowledge.slides import slide_notes
from knowledge.titles import headings_of, page_title, readable, sensible, top_headings
from knowledge.types import ParsedDocument
from knowledge.web_pages import EXCLUDED, read_page, tidy, without_surroundings

_CELLS = 5_000_000
_TYPES: dict[Kind, str] = {
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "epub": "application/epub+zip",
    "html": "text/html",
}
_NUMBER = re.compile(r"\d+")
_LEADERS = re.compile(r"[ \t]*(?:[.·…][ \t]?){5,}[ \t]*")
_RUNNING = 100  # characters of a line that may be a running head
_PICTURE = re.compile(r"!\[[^\[\]]*\]\([^()]*\)")


def _extract(data: bytes, kind: Kind) -> xberg.ExtractedDocument:
    config = xberg.ExtractionConfig(
        output_format="markdown",
        use_cache=False,
        disable_ocr=True,
        escape_markdown=False,
        pages=xberg.PageConfig(extract_pages=True),
        html_options=xberg.ConversionOptions(extract_metadata=False, exclude_selectors=list(EXCLUDED)),
        security_limits=xberg.SecurityLimits(max_table_cells=_CELLS),
    )
    given = xberg.ExtractInput(kind="bytes", bytes=data, mime_type=_TYPES[kind])

    async def run() -> xberg.ExtractionResult:
        return await xberg.extract(given, config)

    return asyncio.run(run()).results[0]


def _title(document: xberg.ExtractedDocument) -> str:
    """The title in the file's metadata; xberg leaves that of DOCX in the core properties."""
    metadata = document.metadata
    if metadata.title:
        return sensible(metadata.title)
    details: dict[str, dict[str, str | None] | None] = orjson.loads(str(metadata.format)) if metadata.format else {}
    core = details.get("core_properties") or {}
    return sensible(core.get("title"))


def _joined(pages: Iterable[tuple[int, str]]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The pages as one text, and where each that holds something starts."""
    parts: list[str] = []
    starts: list[tuple[int, int]] = []
    offset = 0
    for number, content in pages:
        text = _PICTURE.sub("", clean(content)).strip()
        if text:
            starts.append((offset, number))
            parts.append(text + "\n\n")
            offset += len(parts[-1])
    return "".join(parts), tuple(starts)


def _form(line: str) -> str:
    """A line with its numbers made equal; not so a heading or a block of several lines."""
    return line if line.startswith("#") or "\n" in line else _NUMBER.sub("\0", line)


def _without_running(pages: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The pages without the lines at head and foot that come back page after page, numbers aside."""
    blocks = [(number, content.strip().split("\n\n")) for number, content in pages]
    seen = Counter(_form(page[at]) for _, page in blocks for at in {0, len(page) - 1})
    kept: list[tuple[int, str]] = []
    for number, page in blocks:
        for at in sorted({0, len(page) - 1}, reverse=True):
            form = _form(page[at])
            often = seen[form] * 2 > len(blocks) or "\0" in form
            if often and seen[form] > 2 and len(form) <= _RUNNING:
                del page[at]
        kept.append((number, _LEADERS.sub(" – ", "\n\n".join(page))))
    return kept


def _named(text: str, metadata: str, name: str) -> str:
    """A heading that stands alone at the top, else the title that the file's maker set, else the first heading."""
    tops, leads = top_headings(text)
    if len(tops) == 1 and leads:
        return tops[0]
    return metadata or next(iter(tops), "") or readable(name)


def _pdf(data: bytes, name: str) -> ParsedDocument:
    if b"%PDF-" not in data[:1024]:
        raise ParseFailed("broken PDF: it does not begin like one")
    title = ""
    text, starts = "", ()
    try:
        document = _extract(data, "pdf")
        title = _title(document)
        text, starts = _joined(_without_running([(page.page_number, page.content) for page in document.pages or ()]))
    except RuntimeError as error:
        if "encrypted" in str(error) or "password" in str(error):
            raise ParseFailed("the PDF is encrypted and needs a password") from error
    if not text:
        text, starts = _joined(_without_running(list(pdf_pages(data))))
    if not text:
        raise ParseFailed("no text in this PDF (scanned pages?)")
    return ParsedDocument(_named(text, title, name), text, starts)


def _html(data: bytes, name: str) -> ParsedDocument:
    source = decode(data, declared_charset(data))
    if not source.strip():
        raise ParseFailed("empty file")
    page = read_page(source)
    content = _extract(page.source.encode(), "html").content
    text = clean(tidy(without_surroundings(source, content)))
    if not text.strip():
        raise ParseFailed("no text in this page")
    tops, _ = top_headings(text)
    title = sensible(page_title(page.title, headings_of(text)))
    title = tops[0] if len(tops) == 1 else title or next(iter(tops), "") or readable(name)
    return ParsedDocument(title, text, url=page.url)


def _slides(data: bytes, name: str) -> ParsedDocument:
    document = _extract(data, "pptx")
    notes = slide_notes(data)
    pages = {page.page_number: page.content for page in document.pages or ()}
    numbers = sorted(pages.keys() | notes.keys())
    text, starts = _joined(
        (number, f"{pages.get(number, '').rstrip()}\n\n{'Notes: ' if number in notes else ''}{notes.get(number, '')}")
        for number in numbers
    )
    return ParsedDocument(_named(text, _title(document), name), text, starts)


def _office(data: bytes, name: str, kind: Kind) -> ParsedDocument:
    document = _extract(data, kind)
    text = clean(_PICTURE.sub("", document.content))
    title = _title(document)
    return ParsedDocument(readable(name) if kind == "xlsx" and not title else _named(text, title, name), text)


def convert(data: bytes, name: str, kind: Kind, expanded: int) -> ParsedDocument:
    """The document of a file that needs a parser; an archive may expand to `expanded` bytes.

    Raises:
        ParseFailed: it is broken, encrypted, without text, or a zip bomb.
    """
    if kind == "pdf":
        return _pdf(data, name)
    if kind != "html":
        check_archive(data, expanded)
    try:
        if kind == "html":
            return _html(data, name)
        document = _slides(data, name) if kind == "pptx" else _office(data, name, kind)
    except RuntimeError as error:
        raise ParseFailed(f"broken file: {' '.join(str(error).split())[:200]}") from error
    if not document.text.strip():
        raise ParseFailed("no text in this file")
    return document
