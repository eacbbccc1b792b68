"""Units of a passage: sentences, items, rows and code, with the labels and texts that are embedded."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge.sentences import dump, embedding_texts, label, load, passage_text, units
from knowledge.types import Block, Passage, Unit

MARKDOWN = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(
            ["\n", "\n\n", "# ", "- ", "1. ", "| a | b |\n|---|---|\n", "| x | y |\n", "```\n", "~~~", "    ", "**",
             "`", "[a](b)", "<!--", "-->", "\n---\n", "===\n", "Dr. ", "A. B. ", "end. Next", "`code. X`", "> ",
             "&amp;", "\\*"]
        ),
    ),
    max_size=30,
).map("".join)  # fmt: skip


def texts(text: str) -> list[str]:
    return [unit.text for unit in units(text)[1]]


def passage(text: str, headings: tuple[str, ...] = ()) -> Passage:
    blocks, found = units(text)
    return Passage("d.v.0", "d", 0, "Title", headings, text, 0, len(text), None, blocks, found)


@given(MARKDOWN)
@settings(max_examples=300, deadline=None)
def test_any_text_gives_units_that_lie_in_order_inside_their_blocks(text: str) -> None:
    blocks, found = units(text)
    assert all(0 <= block.start < block.end <= len(text) for block in blocks)
    assert [block.start for block in blocks] == sorted(block.start for block in blocks)
    for unit in found:
        block = blocks[unit.block]
        assert block.start <= unit.start < unit.end <= block.end
        assert unit.text
        assert unit.text == unit.text.strip() or unit.kind == "code"


@given(MARKDOWN, st.lists(st.text(), max_size=3), st.one_of(st.none(), st.integers(1, 9)))
@settings(max_examples=100, deadline=None)
def test_a_passage_comes_back_from_its_payload_as_it_was(text: str, headings: list[str], page: int | None) -> None:
    blocks, found = units(text)
    given_passage = Passage("d.v.3", "d", 3, 'Ti"tle', tuple(headings), text, 7, 7 + len(text), page, blocks, found)
    assert load(dump(given_passage)) == given_passage


def test_a_payload_is_little_longer_than_its_text() -> None:
    one = passage("This sentence is of the usual length for an encyclopaedia, as one can see. " * 18)
    assert len(dump(one)) < len(one.text) + 1500


def test_a_sentence_ends_before_a_capital_or_a_digit_only() -> None:
    text = "It is 3.5 m long. 12 men built it! Was it version 2.0.1 of foo.bar? yes, it was. So there."
    assert texts(text) == [
        "It is 3.5 m long.",
        "12 men built it!",
        "Was it version 2.0.1 of foo.bar? yes, it was.",
        "So there.",
    ]


def test_abbreviations_and_initials_end_no_sentence() -> None:
    text = (
        "Dr. Smith met J. R. R. Tolkien, e.g. Sunday, in St. Louis vs. Boston. See Fig. 3 and No. 5. "
        "He came from the U.S. The end was near, etc. and so on. She said no. Then he left. Jane Doe et al. 2012 agree."
    )
    assert texts(text) == [
        "Dr. Smith met J. R. R. Tolkien, e.g. Sunday, in St. Louis vs. Boston.",
        "See Fig. 3 and No. 5.",
        "He came from the U.S.",
        "The end was near, etc. and so on.",
        "She said no.",
        "Then he left.",
        "Jane Doe et al. 2012 agree.",
    ]


def test_numbers_of_sections_stay_with_their_words() -> None:
    assert texts("See 7.2. Detected errors. It was 1999. Then it went.") == [
        "See 7.2. Detected errors.",
        "It was 1999.",
        "Then it went.",
    ]


def test_quotation_marks_and_brackets_belong_to_the_sentence_they_close() -> None:
    assert texts('He asked: "Why?" "Because." (It was so.) Then it ended.') == [
        'He asked: "Why?"',
        '"Because."',
        "(It was so.)",
        "Then it ended.",
    ]


def test_sentences_of_scripts_without_capitals_end_as_well() -> None:
    assert texts("これは本です。それは犬です。") == ["これは本です。", "それは犬です。"]
    assert texts("هذا كتاب. وهذا كلب.") == ["هذا كتاب.", "وهذا كلب."]


def test_marks_go_and_code_stays() -> None:
    text = (
        'See [the **guide**](http://x.org/a_(b) "t"), ![pic](y.png)*really*, __do__ `rm -rf *_x*`, snake_case_name, '
        "2 * 3 * 4, <https://a.b>, a &lt; b, \\*stars\\*, ~~old~~ <b>bold</b> and use <version> [^1] [ref][1]."
    )
    assert texts(text) == [
        "See the guide, really, do rm -rf *_x*, snake_case_name, 2 * 3 * 4, https://a.b, a < b, *stars*, old bold and "
        "use <version> ref."
    ]


def test_a_link_whose_words_are_code_becomes_the_code() -> None:
    assert texts("Use [`Vec<T>`](../vec.html) or {py:func}`foo.bar`.") == ["Use Vec<T> or foo.bar."]


def test_emphasis_over_two_sentences_leaves_no_marks() -> None:
    assert texts("Then **bold one. Bold two** went.") == ["Then bold one.", "Bold two went."]


def test_a_full_stop_inside_code_ends_nothing() -> None:
    assert texts("Call `a. B` first. Then wait.") == ["Call a. B first.", "Then wait."]


def test_quotes_notes_and_html_wrappers_are_plain_paragraphs() -> None:
    assert texts("> [!NOTE]\n> Quoted text. More\n> of it.") == ["Quoted text.", "More of it."]
    assert texts('<p align="center">Centred words<br>here</p>') == ["Centred words here"]
    assert texts("[![Build](a.svg)](b)\n\n---\n\n***") == []


def test_comments_hold_no_units_and_an_open_one_is_text() -> None:
    assert texts("<!-- hidden\nlines -->\nShown.") == ["Shown."]
    assert texts("<!-- one line -->\nShown.") == ["Shown."]
    assert texts("<!-- a --> Words after it.") == ["Words after it."]
    assert texts("<!-- never closed\n\nShown.")[-1] == "Shown."


def test_a_list_item_is_one_unit_with_its_verbatim_place() -> None:
    text = (
        "Steps:\n\n- first one. It has two sentences.\n  and a second line\n- [x] done **well**\n"
        "  1. nested\n\n  more of nested\n"
    )
    blocks, found = units(text)
    assert [block.kind for block in blocks] == ["paragraph", "list"]
    assert [unit.kind for unit in found] == ["sentence", "item", "item", "item"]
    assert found[1].text == "first one. It has two sentences. and a second line"
    assert text[found[2].start : found[2].end] == "done **well**"
    assert found[3].text == "nested more of nested"


def test_a_long_item_is_taken_apart_into_sentences() -> None:
    found = units("- " + "This is a sentence of an item that goes on and on. " * 10)[1]
    assert len(found) == 10
    assert {unit.kind for unit in found} == {"item"}


def test_a_wrapped_number_begins_no_list() -> None:
    assert texts("It was in the year\n1986. A good year.") == ["It was in the year 1986.", "A good year."]
    assert [block.kind for block in units("Text\n1. one\n2. two")[0]] == ["paragraph", "list"]


def test_a_row_names_its_columns() -> None:
    text = "| Name | `Age` | |\n|:--|--:|---|\n| Ann \\| Bo | **33** | x |\n| Cy | | |\n"
    blocks, found = units(text)
    assert [block.kind for block in blocks] == ["table"]
    assert [unit.text for unit in found] == ["Name: Ann | Bo; Age: 33; x", "Name: Cy"]
    assert {unit.kind for unit in found} == {"row"}
    assert text[found[0].start : found[0].end] == "| Ann \\| Bo | **33** | x |"


def test_a_table_of_nothing_but_a_header_is_found_by_it() -> None:
    assert texts("| Name | Age |\n|---|---|\n") == ["Name; Age"]


def test_a_table_ends_where_the_bars_do() -> None:
    blocks, found = units("a | b\n--|--\n1 | 2\nWords below.")
    assert [block.kind for block in blocks] == ["table", "paragraph"]
    assert [unit.text for unit in found] == ["a: 1; b: 2", "Words below."]


def test_code_belongs_to_the_unit_before_it() -> None:
    blocks, found = units("Run this:\n\n```sh\nmake\nmake test\n```\n\nThat is all.\n\n    indented\n\n    code\n")
    assert [block.kind for block in blocks] == ["paragraph", "code", "paragraph", "code"]
    assert [unit.text for unit in found] == ["Run this:", "That is all."]


def test_a_passage_of_nothing_but_code_has_it_as_units() -> None:
    found = units("```py\n  x = 1\n    y = 2\n```\n\n~~~\nz\n~~~")[1]
    assert found == (
        Unit("code", "x = 1\n  y = 2", 0, 27, 0),
        Unit("code", "z", 29, 38, 1),
    )
    assert units("```\n\n```") == ((Block("code", 0, 8),), ())


def test_code_inside_a_list_item_does_not_end_the_list() -> None:
    text = "1. First do\n\n   ```\n   make\n   ```\n\n   and wait.\n\n2. Then go\n\n       deep code\n\nAfter.\n"
    blocks, found = units(text)
    assert [block.kind for block in blocks] == ["list", "code", "paragraph", "list", "code", "paragraph"]
    assert [unit.text for unit in found] == ["First do", "and wait.", "Then go", "After."]


def test_a_line_of_code_labels_the_two_paragraphs_after_it() -> None:
    found = units("```\ntool --all\n```\n\nIf passed, all go.\n\nTwice so.\n\nNo more.")[1]
    assert [unit.label for unit in found] == ["tool --all", "tool --all", ""]


def test_an_option_line_labels_what_follows_it() -> None:
    found = units(
        "`--page-size` (integer)\n\nThe size of a page. Default: 10.\n\n**-v**, **--verbose**:\n\nMore words."
    )[1]
    assert [(unit.text, unit.label) for unit in found] == [
        ("--page-size (integer)", ""),
        ("The size of a page.", "--page-size (integer)"),
        ("Default: 10.", "--page-size (integer)"),
        ("-v, --verbose:", ""),
        ("More words.", "-v, --verbose"),
    ]


def test_texts_to_embed_carry_title_headings_and_local_label() -> None:
    one = passage("```\ntool --all\n```\n\nAll go. Yes.", ("Usage", "Flags"))
    assert label(one) == "Title / Usage / Flags"
    assert embedding_texts(one) == [
        "Title / Usage / Flags / tool --all: All go.",
        "Title / Usage / Flags / tool --all: Yes.",
    ]
    assert passage_text(one) == f"Title / Usage / Flags\n{one.text}"
    assert embedding_texts(passage("Bare words")) == ["Title: Bare words"]


def test_what_goes_on_without_an_end_is_cut() -> None:
    found = units("word " * 400)[1]
    assert max(unit.end - unit.start for unit in found) <= 600
    assert " ".join(unit.text for unit in found) == ("word " * 400).strip()
    assert len(units("x" * 1500)[1]) == 3
    lines = units(("a line without an end\n" * 60).strip())[1]
    assert all(unit.text.endswith("end") for unit in lines)
    clauses = units("one clause that is rather long, as clauses go; " * 20)[1]
    assert all(unit.text.endswith(";") for unit in clauses)


def test_a_unit_without_letters_is_none() -> None:
    assert texts("1234. 5678.\n\n- 42\n\n| a |\n|---|\n| 7 |") == ["42", "a: 7"]
