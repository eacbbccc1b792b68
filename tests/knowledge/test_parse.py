# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Files of every kind as documents, through the parser's own door; and why a file cannot be taken in."""

from __future__ import annotations

import io
import os
import signal
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import docx
import openpyxl
import pptx
import psutil
import pypdf
import pytest
from ebooklib import epub
from hypothesis import given, settings
from hypothesis import strategies as st
from pptx.shapes.placeholder import SlidePlaceholder
from pypdf.generic import NameObject
from reportlab.lib import colors
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, PageBreak, Paragraph, SimpleDocTemplate, Table

from knowledge.chunk import split
from knowledge.parse import EXTENSIONS, ParseFailed, Parser, supported
from knowledge.types import ParsedDocument

pytestmark = [pytest.mark.anyio, pytest.mark.measured]


@pytest.fixture(scope="module")
async def parser() -> AsyncIterator[Parser]:
    opened = Parser(seconds=60)
    yield opened
    await opened.close()


async def reason(parser: Parser, data: bytes, name: str) -> str:
    with pytest.raises(ParseFailed) as failure:
        await parser.parse(data, name)
    return str(failure.value)


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def pdf(parts: list[Flowable], title: str = "") -> bytes:
    return saved(lambda file: SimpleDocTemplate(file, title=title or None).build(parts))


def report() -> bytes:
    """Three pages with a heading, text and a table each."""
    styles = getSampleStyleSheet()
    parts: list[Flowable] = []
    for number, city in enumerate(("Oslo", "Bergen", "Tromso")):
        parts += [
            Paragraph(f"Office in {city}", styles["Heading1"]),
            Paragraph(f"The office in {city} was opened long ago. " * 12, styles["BodyText"]),
            Table([["Room", "Seats"], [f"Hall {number}", "40"]], style=[("GRID", (0, 0), (-1, -1), 1, colors.black)]),
            PageBreak(),
        ]
    return pdf(parts, "Offices of the North")


def bomb(size: int = 3_000_000, copies: int = 300) -> bytes:
    """A DOCX whose parts are nothing but zeros: small, and enormous when expanded."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        for number in range(copies):
            archive.writestr(f"word/part{number}.xml", bytes(size))
    return file.getvalue()


def zipped(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


# --- plain kinds ---------------------------------------------------------------------------------------------------


async def test_markdown_keeps_its_text_and_is_called_by_its_first_heading(parser: Parser) -> None:
    document = await parser.parse(b"Intro\n\n# The *real* title\n\nText.\n", "notes.md")
    assert document == ParsedDocument("The real title", "Intro\n\n# The *real* title\n\nText.\n")


async def test_front_matter_is_cut_off_and_gives_title_and_address(parser: Parser) -> None:
    data = b'---\ntitle: "A better name"\nsource: https://example.org/a\ntags: [x]\n---\n\n# Heading\n\nText.\n'
    document = await parser.parse(data, "a.md")
    assert (document.title, document.url) == ("A better name", "https://example.org/a")
    assert document.text == "# Heading\n\nText.\n"


async def test_a_rule_at_the_top_is_no_front_matter(parser: Parser) -> None:
    text = "---\n\nSome words here.\n\n---\n\nMore.\n"
    assert (await parser.parse(text.encode(), "a.md")).text == text
    assert (await parser.parse(b"---\nnever closed: yes\n", "a.md")).text == "---\nnever closed: yes\n"


async def test_an_address_that_is_none_is_not_taken(parser: Parser) -> None:
    assert (await parser.parse(b"---\nurl: javascript:alert(1)\n---\nText", "a.md")).url == ""


async def test_a_document_without_a_title_is_called_by_its_file(parser: Parser) -> None:
    assert (await parser.parse(b"Text.", "/data/annual_report-of-sales.txt")).title == "annual report of sales"
    assert (await parser.parse(b"Text.", "/src/requests/README")).title == "requests README"
    assert (await parser.parse(b"```\n# not this\n```\n", "v-2.md")).title == "v-2"


async def test_a_plain_text_may_be_restructured_text_and_indented_prose_is_no_code(parser: Parser) -> None:
    document = await parser.parse(b"Tool\n====\n\nSee it_.\n\n.. _it: http://a.org\n\nEnd.\n", "README")
    assert document.text == "\n# Tool\n\n\nSee it.\n\n\nEnd.\n"
    prose = "    It was written a long time ago, and nobody remembers\n    why it is indented as it is on this page.\n"
    code = "    x = run(1)\n    y = {}\n"
    document = await parser.parse(f"Notes:\n\n{prose}\nThen:\n\n{code}".encode(), "notes.txt")
    units = [unit.text for one in split(document, document_id="d", version="v") for unit in one.units]
    assert units[1].startswith("It was written")
    assert code in document.text


async def test_broken_bytes_of_a_file_name_stay_out_of_the_title(parser: Parser) -> None:
    assert (await parser.parse(b"Text.", "caf\udce9.txt")).title == "caf?"
    assert (await parser.parse(b"<p>Text.</p>", "caf\udce9.html")).title == "caf?"


async def test_code_is_kept_as_it_is_in_a_fence(parser: Parser) -> None:
    code = "def f():\n    return '```'\n"
    document = await parser.parse(code.encode(), "src/tool.py")
    assert document.title == "tool.py"
    assert document.text == f"````python\n{code}````\n"
    passages = split(document, document_id="d", version="v")
    assert [unit.text for unit in passages[0].units] == [code.strip()]
    assert (await parser.parse(b"all:\n\tgo\n", "Makefile")).text.startswith("```makefile\n")


async def test_csv_becomes_a_table_whatever_its_separator(parser: Parser) -> None:
    text = (await parser.parse(b'name;note\n"Ann; B";"a|b\nc"\n\nBo;\n', "people.csv")).text
    assert text == "| name | note |\n| --- | --- |\n| Ann; B | a\\|b c |\n| Bo |  |\n"
    assert (await parser.parse(b"a\tb\n1\t2\n", "x.tsv")).text.startswith("| a | b |")
    assert "broken CSV" in await reason(parser, b'a,b\n"' + b"x" * 200_000 + b'",1\n', "x.csv")
    assert await reason(parser, b",,\n,,\n", "x.csv") == "empty file"


async def test_restructured_text_becomes_markdown(parser: Parser) -> None:
    data = b"""
:title: Field title
:author: somebody
   of note

=====
Guide
=====

See `the site <https://a.org>`_, ``code`` and :func:`~pkg.run`, or `Other`_ and word_.

Install
-------

Type::

    pip install x

.. code-block:: python
   :linenos:

   import x

.. comment that nobody sees
   at all

.. note:: Mind the gap.

   It is wide.

.. option:: --all

   Take everything.

.. image:: pic.png

=====  =====
Name   Age
=====  =====
Ann    33
       old
=====  =====

+------+-----+
| Key  | Val |
+======+=====+
| k    | v   |
|      | w   |
+------+-----+

Deeper
~~~~~~

- one

Last
----

::

    bare code
"""
    document = await parser.parse(data, "guide.rst")
    assert document.title == "Field title"
    for part in (
        "# Guide\n", "## Install\n", "### Deeper\n", "## Last\n", "[the site](https://a.org)",
        "`code` and `pkg.run`, or Other and word.",
        "Type:\n\n```\npip install x\n```", "```python\nimport x\n```", "**Note:** Mind the gap.", "It is wide.",
        "`--all`", "Take everything.", "| Name | Age |\n| --- | --- |\n| Ann | 33 old |",
        "| Key | Val |\n| --- | --- |\n| k | v w |",
        "```\nbare code\n```",
    ):  # fmt: skip
        assert part in document.text, part
    assert "nobody sees" not in document.text
    assert "pic.png" not in document.text


async def test_restructured_text_of_odd_shapes_keeps_its_words(parser: Parser) -> None:
    data = b"""
Above
   ::

      code

.. py:function:: run(a)
   :module: pkg

   Runs it. |name| is put in.

.. raw:: html

   <b>never</b>

..
   also a comment

.. code-block:: sh

====  ====
One   Two
----  ----

=== ==
a   b
c   d

+---+
| x |
+---+
| y | z |
+---+

End::
"""
    text = (await parser.parse(data, "odd.rst")).text
    for part in ("Above", "`run(a)`", "Runs it. name is put in.", "```\ncode\n```", "| a | b |", "| x |", "End:"):
        assert part in text, part
    assert "never" not in text
    assert "comment" not in text


@given(st.text(max_size=300), st.sampled_from(["a.rst", "a.md", "a.txt", "a.py"]))
@settings(max_examples=200, deadline=None)
async def test_any_text_gives_a_document_or_a_reason(text: str, name: str) -> None:
    try:
        document = await Parser().parse(text.encode(), name)
    except ParseFailed:
        return
    assert document.title
    document.text.encode()
    split(document, document_id="d", version="v")


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
async def test_any_bytes_give_a_document_or_a_reason(data: bytes) -> None:
    try:
        document = await Parser().parse(data, "a.txt")
    except ParseFailed:
        return
    assert "\0" not in document.text
    document.text.encode()


async def test_ten_megabytes_of_text_are_read(parser: Parser) -> None:
    document = await parser.parse("Ein längerer Satz über nichts. ".encode() * 330_000, "long.txt")
    assert len(document.text) > 9_000_000


# --- characters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "Größe: naïve café".encode("utf-8-sig"),
        "Größe: naïve café".encode("utf-16"),
        b"\xfe\xff" + "Größe: naïve café".encode("utf-16-be"),
        "Größe: naïve café".encode("utf-16-le"),
        "Größe: naïve café".encode("utf-16-be"),
        "Größe: naïve café".encode("utf-32"),
        "Größe: nai\u0308ve cafe\u0301".encode(),
        "Größe:\u200b na\u00adïve\u202e\U000e0041 café\x07".encode(),
    ],
)
async def test_text_of_any_encoding_comes_out_clean(parser: Parser, data: bytes) -> None:
    assert (await parser.parse(data, "a.txt")).text == "Größe: naïve café"


async def test_text_in_an_old_encoding_is_guessed(parser: Parser) -> None:
    text = "Die Größe der Häuser über den Dächern war für alle Bürger schön anzusehen. " * 5
    assert "Größe der Häuser" in (await parser.parse(text.encode("cp1252"), "a.txt")).text


async def test_a_few_broken_bytes_do_not_change_the_encoding(parser: Parser) -> None:
    data = ("Größe und mehr Wörter. " * 200).encode() + b"\xff\xfe."
    text = (await parser.parse(data, "a.txt")).text
    assert text.startswith("Größe")
    assert text.endswith("\ufffd\ufffd.")


async def test_line_ends_are_one_sign(parser: Parser) -> None:
    assert (await parser.parse("a\r\nb\rc\u2028d\x0ce \ufb01".encode(), "a.txt")).text == "a\nb\nc\nd\ne fi"


@pytest.mark.parametrize(
    "data", [bytes(range(256)) * 40, b"\x00\x01\x02rest", b"abc\x01\x02\x03\x04" * 50, os.urandom(5000)]
)
async def test_a_binary_file_is_no_text(parser: Parser, data: bytes) -> None:
    assert await reason(parser, data, "a.txt") == "not text: looks binary"


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.py", "a.csv", "a.html", "a.pdf", "a.docx", "a.epub"])
async def test_an_empty_file_says_so(parser: Parser, name: str) -> None:
    assert await reason(parser, b"", name) == "empty file"


async def test_a_file_of_blanks_is_empty(parser: Parser) -> None:
    for name in ("a.md", "a.txt", "a.py", "a.html"):
        assert await reason(parser, b" \n\t\n", name) == "empty file"
    assert await reason(parser, b"---\n---\n \n", "a.md") == "empty file"


def test_kinds_are_told_by_the_name() -> None:
    assert all(supported(f"x/y{extension}") for extension in EXTENSIONS)
    assert supported("README")
    assert supported("A.PDF")
    assert not supported("a.exe")
    assert not supported("binary")


async def test_an_unknown_kind_and_a_huge_file_are_refused(parser: Parser) -> None:
    assert "kind" in await reason(parser, b"x", "a.exe")
    assert "larger than" in await reason(parser, bytes(200_000_001), "a.txt")


# --- kinds that need a parser --------------------------------------------------------------------------------------


async def test_a_pdf_keeps_headings_tables_and_pages(parser: Parser) -> None:
    document = await parser.parse(report(), "x.pdf")
    assert document.title == "Offices of the North"
    assert [number for _, number in document.pages] == [1, 2, 3]
    for offset, number in document.pages:
        assert document.text[offset:].startswith(f"# Office in {('Oslo', 'Bergen', 'Tromso')[number - 1]}")
    passages = split(document, document_id="d", version="v")
    assert [one.page for one in passages] == [1, 2, 3]
    assert "Room: Hall 1; Seats: 40" in [unit.text for unit in passages[1].units]


async def test_running_heads_and_page_numbers_of_a_pdf_are_left_out(parser: Parser) -> None:
    file = io.BytesIO()
    canvas = Canvas(file)
    for number in range(1, 6):
        canvas.drawString(72, 800, f"Annual report {number}")
        for line in range(8):
            canvas.drawString(72, 700 - 14 * line, f"Line {line} of what was written about year {number}.")
        canvas.drawString(290, 30, str(number))
        canvas.showPage()
    canvas.save()
    text = (await parser.parse(file.getvalue(), "x.pdf")).text
    assert "Annual report" not in text
    assert text.count("Line 3 of what") == 5


async def test_an_encrypted_pdf_says_so(parser: Parser) -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(report()))
    writer.encrypt("secret", algorithm="RC4-128")
    assert "the PDF is encrypted" in await reason(parser, saved(writer.write), "x.pdf")


async def test_a_pdf_that_opens_without_password_is_read(parser: Parser) -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(report()))
    writer.encrypt("", "owner", algorithm="RC4-128")
    assert "office in Bergen" in (await parser.parse(saved(writer.write), "x.pdf")).text


async def test_a_broken_pdf_says_so(parser: Parser) -> None:
    whole = report()
    for data in (b"no pdf at all", whole[: len(whole) // 3], b"%PDF-1.7\n" + os.urandom(4000)):
        assert "broken PDF" in await reason(parser, data, "x.pdf")


async def test_a_pdf_with_a_page_that_cannot_be_read_gives_the_others_with_their_numbers(parser: Parser) -> None:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(report()))
    writer.pages[1][NameObject("/Type")] = NameObject("/Font")
    document = await parser.parse(saved(writer.write), "x.pdf")
    assert [number for _, number in document.pages] == [1, 3]
    assert "Bergen" not in document.text
    assert "Tromso" in document.text[document.pages[1][0] :]


async def test_a_pdf_of_pictures_says_that_it_has_no_text(parser: Parser) -> None:
    file = io.BytesIO()
    canvas = Canvas(file)
    canvas.rect(10, 10, 100, 100)
    canvas.showPage()
    canvas.save()
    assert "no text" in await reason(parser, file.getvalue(), "x.pdf")


async def test_a_word_document_keeps_headings_lists_and_tables(parser: Parser) -> None:
    made = docx.Document()
    made.core_properties.title = "Handbook of Things"
    made.add_heading("Part one", 1)
    made.add_paragraph("A first paragraph.")
    made.add_paragraph("one", style="List Bullet")
    table = made.add_table(2, 2)
    for cell, text in zip(
        (cell for row in table.rows for cell in row.cells), ("Name", "Age", "Ann", "33"), strict=True
    ):
        cell.text = text
    made.add_heading("Part two", 1)
    made.add_paragraph("The end.")
    document = await parser.parse(saved(made.save), "h.docx")
    assert document.title == "Handbook of Things"
    units = [unit.text for one in split(document, document_id="d", version="v") for unit in one.units]
    assert units == ["A first paragraph.", "one", "Name: Ann; Age: 33", "The end."]


async def test_a_presentation_keeps_slides_and_what_the_speaker_notes(parser: Parser) -> None:
    made = pptx.Presentation()
    for number, notes in enumerate(("Say hello first.\nThen smile.", ""), 1):
        slide = made.slides.add_slide(made.slide_layouts[1])
        assert slide.shapes.title is not None
        slide.shapes.title.text = f"Slide number {number}"
        body = slide.placeholders[1]
        assert isinstance(body, SlidePlaceholder)
        body.text_frame.text = f"Bullet of {number}"
        if notes:
            frame = slide.notes_slide.notes_text_frame
            assert frame is not None
            frame.text = notes
    document = await parser.parse(saved(made.save), "sales_deck.pptx")
    assert [number for _, number in document.pages] == [1, 2]
    second = document.pages[1][0]
    assert "Notes: Say hello first.\n\nThen smile." in document.text[:second]
    assert document.text[second:].startswith("## Slide number 2\n\nBullet of 2")
    assert "Notes" not in document.text[second:]


async def test_a_workbook_gives_a_table_for_each_sheet(parser: Parser) -> None:
    book = openpyxl.Workbook()
    people = book.active
    assert people is not None
    people.title = "People"
    people.append(["Name", "Age"])
    people.append(["Ann", 33])
    prices = book.create_sheet("Prices")
    prices.append(["Thing", "Price"])
    prices.append(["Cup", 4.5])
    document = await parser.parse(saved(book.save), "my_book.xlsx")
    assert document.title == "my book"
    found = [(one.headings, unit.text) for one in split(document, document_id="d", version="v") for unit in one.units]
    assert (("Name: Ann; Age: 33") in [text for _, text in found]) and (
        "Thing: Cup; Price: 4.5" in [text for _, text in found]
    )


async def test_a_book_gives_its_chapters(parser: Parser, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = epub.EpubBook()
    made.set_title("A Winter Book")
    made.set_identifier("id")
    made.set_language("en")
    chapters = [epub.EpubHtml(title=name, file_name=f"{name}.xhtml") for name in ("One", "Two")]
    for chapter in chapters:
        chapter.content = f"<h1>Chapter {chapter.title}</h1><p>Snow fell in chapter {chapter.title}.</p>"
        made.add_item(chapter)
    made.spine = [*chapters]
    made.add_item(epub.EpubNcx())
    made.add_item(epub.EpubNav())
    path = tmp_path_factory.mktemp("book") / "b.epub"
    epub.write_epub(str(path), made)
    document = await parser.parse(path.read_bytes(), "b.epub")
    assert document.title == "A Winter Book"
    assert "# Chapter Two\n\nSnow fell in chapter Two." in document.text


PAGE = """<html><head><meta charset="CHARSET"><title>Settings &amp; more | The Site</title>
<link href="https://example.org/s?a=1&amp;b=2" rel="canonical"><script>var x = "</p>";</script></head><body>
<nav><a href="/">Home</a></nav><MAIN><h1>Settings <a class="headerlink" href="#s">¶</a></h1>
<p>Größe of <code>port</code>, see <a href="other.html">the other page</a> and <a href="https://a.org/x">this</a>.</p>
<h2>Table</h2><table><tr><th>Name</th><th>Default</th></tr><tr><td>port</td><td>80</td></tr></table>
<pre><code class="language-sh">run it</code></pre><ul><li>one</li><li>two</li></ul>
<img src="data:image/png;base64,AAAA" alt="x">
</MAIN><footer>Copyright nobody</footer></body></html>"""


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "made-up"])
@pytest.mark.parametrize("main", ["main", "div"])
async def test_a_web_page_keeps_its_text_and_drops_what_is_around_it(parser: Parser, charset: str, main: str) -> None:
    source = PAGE.replace("CHARSET", charset).replace("MAIN", main)
    document = await parser.parse(source.encode("utf-8" if charset == "made-up" else charset), "s.html")
    assert document.title == "Settings"
    assert document.url == "https://example.org/s?a=1&b=2"
    for part in (
        "# Settings\n",
        "Größe of `port`, see the other page and [this](https://a.org/x).",
        "## Table",
        "- one",
        "run it",
    ):
        assert part in document.text, part
    for part in ("Home", "Copyright", "base64", "¶", "var x"):
        assert part not in document.text, part
    assert "Name: port; Default: 80" in [
        unit.text for one in split(document, document_id="d", version="v") for unit in one.units
    ]


async def test_a_page_without_marked_text_loses_its_menus_and_nothing_else(parser: Parser) -> None:
    menu = "".join(f'<li><a href="/p{n}">Menu entry {n}</a></li>' for n in range(20))
    body = "".join(
        f"<p>Paragraph {n} tells a good deal about the matter at hand, and in many words.</p>" for n in range(12)
    )
    source = (
        f"<html><head><title>News | S</title></head><body><div class='menu'><ul>{menu}</ul></div>"
        f"<aside>Ads here</aside><div><h1>The news</h1>{body}</div></body></html>"
    )
    document = await parser.parse(source.encode(), "n.html")
    assert document.title == "The news"
    assert "Menu entry" not in document.text
    assert all(f"Paragraph {n} tells" in document.text for n in range(12))


async def test_a_page_without_a_heading_is_called_by_its_title_without_the_site(parser: Parser) -> None:
    page = "<title>Crypto | Site</title><p>Words of it.</p><h2>Crypto</h2><p>More.</p>"
    assert (await parser.parse(page.encode(), "c.html")).title == "Crypto"
    assert (await parser.parse(b"<p>Only words.</p>", "my_page.html")).title == "my page"
    assert await reason(parser, b"<html><body><script>1</script></body></html>", "c.html") == "no text in this page"


# --- files that mean harm, and workers that break ------------------------------------------------------------------


async def test_a_zip_bomb_is_refused_before_it_is_expanded() -> None:
    parser = Parser(expanded=50, megabytes=400)
    assert await reason(parser, bomb(3_000_000, 20), "bomb.docx") == "expands to more than 50 MB (zip bomb?)"
    assert "times its size (zip bomb?)" in await reason(parser, bomb(30_000_000, 1), "bomb.xlsx")
    nested = zipped({"word/embed.docx": zipped({"a.zip": bomb(3_000_000, 10)}), "b": os.urandom(20_000)})
    assert "zip bomb" in await reason(parser, nested, "nested.docx")
    many = zipped({str(number): b"" for number in range(20_001)})
    assert "zip bomb" in await reason(parser, many, "many.pptx")
    deep = b"innermost"
    for _ in range(6):
        deep = zipped({"a.zip": deep})
    assert "zip bomb" in await reason(parser, deep, "deep.epub")
    assert parser.worker is not None
    await parser.close()


async def test_office_files_that_are_none_say_so(parser: Parser) -> None:
    assert "encrypted" in await reason(parser, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "x.docx")
    for name in ("x.docx", "x.pptx", "x.xlsx", "x.epub"):
        assert "broken" in await reason(parser, b"PK\x03\x04 no zip", name)
        assert "broken" in await reason(parser, zipped({"a.txt": b"hello"}), name)
    encrypted = bytearray(zipped({"a.txt": b"hello"}))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    assert await reason(parser, bytes(encrypted), "x.docx") == "the file is encrypted"


async def test_a_damaged_archive_says_so(parser: Parser) -> None:
    outer = bytearray(zipped({"word/embed.bin": os.urandom(2000)}))
    outer[60] ^= 255
    assert "broken file" in await reason(parser, bytes(outer), "x.docx")
    pretender = zipped({"word/embed.bin": b"PK\x03\x04 begins like an archive", "a": b"abc", "empty": b""})
    assert "broken" in await reason(parser, pretender, "x.docx")


async def test_a_document_without_words_says_so(parser: Parser) -> None:
    assert await reason(parser, saved(docx.Document().save), "x.docx") == "no text in this file"


async def test_a_file_that_takes_too_long_fails_and_the_next_one_is_read() -> None:
    parser = Parser(seconds=0.01)
    assert await reason(parser, report(), "slow.pdf") == "took longer than 0.01 s"
    assert parser.worker is None
    await parser.close()


@pytest.mark.parametrize(("megabytes", "paragraphs"), [(60, 1), (130, 500_000)])
async def test_a_file_that_needs_too_much_memory_fails(megabytes: int, paragraphs: int) -> None:
    parser = Parser(megabytes=megabytes)
    page = b"<html><body>" + b"<p>Words and more words, without an end to them.</p>" * paragraphs
    assert f"{megabytes} MB of memory" in await reason(parser, page, "big.html")
    assert parser.worker is None
    await parser.close()


async def test_a_worker_that_crashes_fails_its_file_only() -> None:
    parser = Parser()
    page = b"<h1>Title</h1><p>Words.</p>"
    async with anyio.create_task_group() as tasks:

        async def crashed() -> None:
            assert "the parser crashed on this file (status -9" in await reason(parser, page, "a.html")

        tasks.start_soon(crashed)
        while parser.worker is None:
            await anyio.lowlevel.checkpoint()
        os.kill(parser.worker, signal.SIGKILL)
    assert (await parser.parse(page, "a.html")).title == "Title"
    await parser.close()


async def test_a_worker_that_ended_while_it_was_idle_is_replaced() -> None:
    parser = Parser()
    page = b"<h1>Title</h1><p>Words.</p>"
    assert (await parser.parse(page, "a.html")).title == "Title"
    first = parser.worker
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert (await parser.parse(page, "a.html")).title == "Title"
    assert parser.worker not in (None, first)
    await parser.close()
    assert parser.worker is None


async def test_an_idle_worker_ends_by_itself() -> None:
    parser = Parser(idle=0.05)
    assert (await parser.parse(b"<p>Words.</p>", "a.html")).text
    with anyio.fail_after(30):
        while parser.worker is not None:
            await anyio.lowlevel.checkpoint()
    assert (await parser.parse(b"<p>Words.</p>", "a.html")).text
    await parser.close()


async def test_a_worker_that_holds_much_memory_after_a_file_is_not_kept() -> None:
    parser = Parser(megabytes=200)
    assert (await parser.parse(report(), "x.pdf")).text
    assert parser.worker is None
    await parser.close()


async def test_a_cancelled_file_takes_its_worker_with_it() -> None:
    parser = Parser()
    with anyio.move_on_after(0.01) as scope:
        await parser.parse(report(), "x.pdf")
    assert scope.cancelled_caught
    assert parser.worker is None
    assert (await parser.parse(report(), "x.pdf")).pages
    await parser.close()


async def test_closing_ends_a_worker_in_the_middle_of_a_file() -> None:
    parser = Parser()
    async with anyio.create_task_group() as tasks:

        async def ended() -> None:
            assert "crashed" in await reason(parser, report(), "x.pdf")

        tasks.start_soon(ended)
        while parser.worker is None:
            await anyio.lowlevel.checkpoint()
        await parser.close()


async def test_a_worker_ends_with_its_parent() -> None:
    script = (
        "import asyncio, os; from knowledge.parse import Parser\n"
        "async def main():\n p = Parser(); await p.parse(b'<p>Words.</p>', 'a.html')\n"
        " print(p.worker, flush=True); os._exit(0)\nasyncio.run(main())"
    )
    done = await anyio.run_process([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    worker = int(done.stdout)
    with anyio.fail_after(30):
        while alive(worker):
            await anyio.lowlevel.checkpoint()


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits for nobody to ask counts as gone."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_worker_sees_no_secrets() -> None:
    os.environ["PARLEY_TEST_KEY"] = "secret"
    parser = Parser()
    try:
        await parser.parse(b"<p>Words.</p>", "a.html")
        assert parser.worker is not None
        assert not [name for name in psutil.Process(parser.worker).environ() if name.startswith("PARLEY")]
    finally:
        del os.environ["PARLEY_TEST_KEY"]
        await parser.close()
