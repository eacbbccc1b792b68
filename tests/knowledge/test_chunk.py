"""Documents as passages: headings, sizes, joins, cuts, pages and offsets."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.chunk import LONGEST, split
from knowledge.types import ParsedDocument, Passage

LINES = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=60),
        st.sampled_from(
            ["", "# One", "## Two", "### Three", "Under\n===", "- item", "  - inner", "1. first",
             "| a | b |\n|---|---|", "| x | y |", "```", "    code", "> quote", "word " * 100, "A sentence. " * 60,
             "- " + "long item " * 300, "| cell |" * 300, "x" * 2500, "**", "---"]
        ),
    ),
    max_size=40,
).map("\n".join)  # fmt: skip


def passages(text: str, title: str = "Title", pages: tuple[tuple[int, int], ...] = ()) -> list[Passage]:
    return split(ParsedDocument(title, text, pages), document_id="doc", version="v1")


@given(LINES)
@settings(max_examples=300, deadline=None)
def test_passages_of_any_text_are_exact_slices_in_order_and_not_too_long(text: str) -> None:
    found = passages(text)
    end = 0
    for number, one in enumerate(found):
        assert one.text == text[one.start : one.end]
        assert one.start >= end
        end = one.end
        assert len(one.text) <= LONGEST + 50
        assert (one.id, one.index, one.document) == (f"doc.v1.{number}", number, "doc")
        assert all(0 <= unit.start < unit.end <= len(one.text) for unit in one.units)


@given(LINES)
@settings(max_examples=200, deadline=None)
def test_every_word_that_is_no_heading_is_in_a_passage(text: str) -> None:
    marked = re.sub(r"^(\s*)(#{1,6}\s.*|.*\n[=-]{2,}\s*)$", "", text, flags=re.MULTILINE)
    found = " ".join(one.text for one in passages(text))
    for word in ("item", "inner", "first", "quote", "sentence", "cell", "code"):
        if re.search(rf"\b{word}\b", marked):
            assert word in found


def test_a_passage_follows_its_heading_and_keeps_the_path_without_the_title() -> None:
    body = "Words about it. " * 20
    found = passages(
        f"# My Tool\n\n{body}\n\n## Install\n\n{body}\n\n### Linux ###\n\n{body}\n\nUsage\n-----\n{body}", "my tool"
    )
    assert [one.headings for one in found] == [(), ("Install",), ("Install", "Linux"), ("Usage",)]
    assert all("#" not in one.text and one.text.startswith("Words") for one in found)


def test_a_heading_that_is_not_the_title_stays_in_the_path() -> None:
    assert [one.headings for one in passages("# Part\n\nText of part.")] == [("Part",)]


def test_a_paragraph_of_an_encyclopaedia_stays_one_passage() -> None:
    text = ("It was founded in the year of a long war between two towns. " * 29).strip()
    assert 1700 < len(text) < LONGEST
    assert [one.text for one in passages(f"# Town\n\n{text}\n", "Town")] == [text]


def test_a_long_section_is_cut_at_its_paragraphs_into_even_parts() -> None:
    paragraphs = [f"Paragraph {number} says something. " + "It goes on for a while. " * 20 for number in range(9)]
    found = passages("## Long\n\n" + "\n\n".join(paragraphs))
    assert all(one.text.startswith("Paragraph") for one in found)
    assert {one.headings for one in found} == {("Long",)}
    sizes = [len(one.text) for one in found]
    assert max(sizes) <= LONGEST
    assert min(sizes) > 600


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    found = passages("This is one sentence of very many. " * 300)
    assert len(found) > 5
    assert all(one.text.startswith("This is") and one.text.endswith("many.") for one in found)


def test_a_list_stays_with_the_paragraph_that_leads_to_it() -> None:
    filler = "Some words that fill the page up to here. " * 30
    found = passages(f"{filler}\n\nThe colours are:\n\n" + "\n".join(f"- colour number {n}" for n in range(30)))
    last = found[-1]
    assert last.text.startswith("The colours are:")
    assert len(last.units) == 31


def test_a_long_list_is_cut_between_items() -> None:
    found = passages("\n".join(f"- item {n} " + "has words " * 8 for n in range(80)))
    assert len(found) > 3
    assert all(one.text.startswith("- item") for one in found)
    assert sum(len(one.units) for one in found) == 80


def test_a_long_table_is_cut_between_rows_which_keep_their_header() -> None:
    rows = "\n".join(f"| {n} | person {n} |" for n in range(300))
    found = passages(f"| Id | Name |\n|----|------|\n{rows}\n")
    units = [unit for one in found for unit in one.units]
    assert len(found) > 3
    assert len(units) == 300
    assert units[-1].text == "Id: 299; Name: person 299"
    assert not any("Id | Name" in one.text for one in found[1:])


def test_long_code_is_cut_at_blank_lines_and_stays_code() -> None:
    functions = "\n\n".join(f"def f{n}():\n" + "    work()\n" * 10 + f"    return {n}" for n in range(40))
    found = passages(f"```python\n{functions}\n```\n")
    assert len(found) > 3
    assert all(unit.kind == "code" for one in found for unit in one.units)
    assert all(one.units and one.units[0].text.startswith("def f") for one in found)
    assert "```" not in "".join(unit.text for one in found for unit in one.units)


def test_a_single_line_that_is_too_long_is_cut_all_the_same() -> None:
    for text in (
        "x" * 5000,
        "- " + "item without end " * 400,
        "| a |\n|---|\n| " + "cell " * 800 + "|",
        "```\n" + "y" * 4000,
    ):
        found = passages(text)
        assert all(len(one.text) <= LONGEST for one in found)
        assert sum(len(one.text.replace(" ", "")) for one in found) >= len(text.replace(" ", "")) - 20


def test_small_neighbours_under_one_parent_come_together_with_their_headings_as_labels() -> None:
    terms = "### Cat\n\nAn animal.\n\n### Dog\n\nAnother.\n\n### Empty\n\n### Cow\n\nA third.\n\n"
    text = f"## Terms\n\n{terms}## Other\n\nWords"
    found = passages(text)
    assert [one.headings for one in found] == [("Terms",), ("Other",)]
    assert [(unit.text, unit.label) for unit in found[0].units] == [
        ("An animal.", "Cat"),
        ("Another.", "Dog"),
        ("A third.", "Cow"),
    ]


def test_a_small_section_of_code_among_small_sections_keeps_its_own_unit() -> None:
    found = passages("## Build\n\nRun make.\n\n## Install\n\n```\npip install x\n```\n\n## Test\n\nRun it.")
    assert [(unit.kind, unit.label) for unit in found[0].units] == [
        ("sentence", "Build"),
        ("code", "Install"),
        ("sentence", "Test"),
    ]


def test_a_joined_passage_does_not_grow_without_end() -> None:
    found = passages("\n\n".join(f"## Term {n}\n\nIt means the number {n}, no more." for n in range(100)))
    assert len(found) > 3
    assert max(len(one.text) for one in found) <= 1000
    assert sum(len(one.units) for one in found) == 100


def test_a_text_of_headings_only_can_still_be_found() -> None:
    found = passages("# Meeting on Friday\n\n## In room seven\n", "Meeting on Friday")
    assert [unit.text for one in found for unit in one.units] == ["Meeting on Friday", "In room seven"]
    assert found[0].text == "Meeting on Friday\n\n## In room seven"


def test_a_text_of_nothing_has_no_passages() -> None:
    assert passages("") == []
    assert passages(" \n\n---\n\n***\n\n<!-- no -->\n") == []
    assert passages("#\n\n##\n") == []


def test_a_passage_knows_the_page_where_it_starts() -> None:
    first, second = "First page words. " * 60, "Second page words. " * 60
    text = f"{first}\n\n# Two\n\n{second}"
    found = passages(text, pages=((0, 1), (len(first) + 2, 4)))
    assert [one.page for one in found] == [1, 4]
    assert passages("Words.")[0].page is None


def test_a_long_text_is_split_as_many_short_ones_are() -> None:
    part = "# Part\n\nA sentence of words. Another one, with `code` and **marks**.\n\n- one item\n- two items\n\n"
    assert len(passages(part * 8000)) == 40 * len(passages(part * 200))


@pytest.mark.parametrize(
    "sign", ["[", "`", "<!-- \n", "**", "> ", "|", "```\n", "(", "_a", "# \n", "a\n-", "<", "\\", "![", "&"]
)
def test_repeated_openings_that_never_close_are_split(sign: str) -> None:
    text = sign * (100_000 // len(sign))
    assert all(one.text == text[one.start : one.end] for one in passages(text))
