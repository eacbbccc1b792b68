"""What holds for every answer, whatever the documents and the question are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.quote import Quoted
from knowledge.types import Found
from memory.embedding import HashEmbedder, HashWords
from tests.agents.library import Library, check_marks, open_library

pytestmark = pytest.mark.no_cover

WORDS = (
    "the tide lamp server key 1871 port `max_size` Ada Lund it This however [3] don't *a* a|b zażółć 港 --quiet".split()
)


@pytest.fixture(scope="module")
async def library(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Library]:
    async with open_library(tmp_path_factory.mktemp("library"), HashEmbedder(), HashWords()) as opened:
        yield opened


def sentences() -> st.SearchStrategy[str]:
    words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
    return st.tuples(words, st.sampled_from([".", ":", "?", "!", ""])).map("".join)


def paragraphs() -> st.SearchStrategy[str]:
    return st.lists(sentences(), min_size=1, max_size=4).map(" ".join)


def blocks() -> st.SearchStrategy[str]:
    item = st.tuples(st.sampled_from(["- ", "  - ", "1. ", "* "]), sentences()).map("".join)
    row = st.tuples(sentences(), sentences()).map(lambda cells: f"| {cells[0]} | {cells[1]} |")
    return st.one_of(
        paragraphs(),
        st.lists(item, min_size=1, max_size=15).map("\n".join),
        st.lists(row, min_size=2, max_size=15).map(lambda rows: "\n".join((rows[0], "|---|---|", *rows[1:]))),
        st.lists(sentences(), min_size=1, max_size=18).map(lambda lines: "```\n" + "\n".join(lines) + "\n```"),
        sentences().map(lambda words: f"## {words}"),
    )


DOCUMENTS = st.one_of(st.lists(blocks(), min_size=1, max_size=8).map("\n\n".join), st.text(max_size=300))
QUESTIONS = st.one_of(
    st.text(max_size=60),
    st.tuples(
        st.sampled_from(["How do I", "List", "What does", "Is", "When", "Who", "What is the default of", "Where", ""]),
        sentences(),
    ).map(" ".join),
)


def check(quoted: Quoted, found: list[Found], text: str) -> None:
    assert quoted.outcome == (
        "answered" if quoted.confidence >= 0 else "uncertain" if quoted.confidence >= -1 else "not_found"
    )
    assert bool(quoted.citations) == (quoted.outcome != "not_found")
    check_marks(quoted)
    passages = {one.passage.id for one in found}
    for cited in quoted.citations:
        assert cited.quote == text[cited.start : cited.end]
        assert cited.quote.strip()
        assert cited.passage in passages
    for span in quoted.spans:
        assert quoted.text[span.start : span.end] == f"[{span.index}]"
    if quoted.outcome != "not_found":
        assert not re.sub(r"(\[\d+\])+$", "", quoted.text).rstrip().endswith(":")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=DOCUMENTS, question=QUESTIONS, language=st.sampled_from(["en", "de", "ja"]))
async def test_every_quote_is_a_verbatim_slice_and_every_mark_has_its_span(
    library: Library, text: str, question: str, language: str
) -> None:
    found = await library.found("Handbook", text)
    check(await library.quote(question, found, language=language), found, text)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=DOCUMENTS, pick=st.integers(0, 50), prefix=st.sampled_from(["How do I ", "List ", "What does ", ""]))
async def test_a_question_made_of_a_unit_of_the_document_is_answered_from_it(
    library: Library, text: str, pick: int, prefix: str
) -> None:
    found = await library.found("Handbook", text)
    units = [unit.text for one in found for unit in one.passage.units]
    question = prefix + units[pick % len(units)] if units else prefix
    check(await library.quote(question, found), found, text)
