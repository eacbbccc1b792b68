# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The words of a PDF page by page, for files that xberg cannot read. The door of pypdfium2."""

from __future__ import annotations

from collections.abc import Iterator

from knowledge.kinds import ParseFailed


def pdf_pages(data: bytes) -> Iterator[tuple[int, str]]:
    """Page number from 1 and text, in order.

    Raises:
        ParseFailed: it is no PDF that can be opened.
    """
    import pypdfium2  # seldom needed

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise ParseFailed("broken PDF") from error
    with document:
        for number in range(len(document)):
            try:
                page = document[number]
                text = page.get_textpage()
                yield number + 1, text.get_text_bounded()
            except pypdfium2.PdfiumError:
                continue  # one page that cannot be read; the others can
