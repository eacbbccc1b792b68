"""Citation markers in a stream, and the sentences of an answer that nothing supports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.check import check, unsupported
from agents.citing import CitationFilter
from agents.types import Citation, Draft, Evidence
from memory.types import Label
from tests.agents.world import TENANT, World

LABEL = Label(TENANT, "doc:d#1", 0)
TOWER = Evidence(
    1,
    "# Tower\n\nThe tower was finished in 1871. It is 34 metres tall, and its lamp burned oil until 1902.",
    LABEL,
    document="d1",
    passage="d1.v.0",
    title="Tower",
    path="/docs/tower.md",
    headings=("History", "Dates"),
    page=3,
    start=100,
    url="https://example.org/tower",
)
FERRY = Evidence(2, "The ferry carries 12 cars. It runs every twenty minutes.", LABEL, document="d2", passage="d2.v.0")
MEMORY = Evidence(3, "Ann likes ferries.", Label(TENANT, "memory:m", 3))
EVIDENCE = (TOWER, FERRY, MEMORY)


def play(text: str, size: int) -> tuple[str, CitationFilter, list[Citation]]:
    """The text that leaves the filter when it comes in pieces of a size, the filter, the citations in order."""
    filter = CitationFilter(EVIDENCE)
    out: list[str | Citation] = []
    for start in range(0, len(text), size):
        out.extend(filter.feed(text[start : start + size]))
    out.extend(filter.finish())
    shown = "".join(piece for piece in out if isinstance(piece, str))
    for span in filter.spans:
        assert shown[span.start : span.end] == f"[{span.index}]"
    return shown, filter, [piece for piece in out if isinstance(piece, Citation)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("text", "shown", "documents"),
    [
        (
            "It carries cars [2]. It was built [1]. Cars [2].",
            "It carries cars [1]. It was built [2]. Cars [1].",
            ["d2", "d1"],
        ),
        ("Both [1, 2].", "Both [1][2].", ["d1", "d2"]),
        ("Both [1][2] and [1-2] and [2–2].", "Both [1][2] and [1][2] and [2].", ["d1", "d2"]),
        ("Footnote[^2].", "Footnote[1].", ["d2"]),
        ("Nothing [7], a memory [3], both [7][1].", "Nothing, a memory, both [1].", ["d1"]),
        ("A list [a], a[i], [12 months], [ ] and [", "A list [a], a[i], [12 months], [ ] and [", []),
        ("See [1](https://example.org) and [the site](x).", "See [1](https://example.org) and [the site](x).", []),
        ("Code `x[1]` and ``y`[2]`` then [1]", "Code `x[1]` and ``y`[2]`` then [1]", ["d1"]),
        ("```py\nx[1] = `y[2]`\n```\nSo [2].", "```py\nx[1] = `y[2]`\n```\nSo [1].", ["d2"]),
        ("An open ` tick\nends with its line [1].", "An open ` tick\nends with its line [1].", ["d1"]),
        ("Ends in code `x[1]", "Ends in code `x[1]", []),
        ("Ends in ticks ``", "Ends in ticks ``", []),
        ("", "", []),
    ],
)
def test_markers_are_renumbered_and_lead_somewhere(text: str, shown: str, documents: list[str], size: int) -> None:
    out, filter, citations = play(text, size)
    assert out.replace(" ,", ",") == shown
    assert [citation.document for citation in citations] == documents
    assert [citation.index for citation in citations] == list(range(1, len(documents) + 1))
    assert filter.citations == citations


def test_text_without_markers_leaves_at_once_and_an_open_bracket_waits() -> None:
    filter = CitationFilter(EVIDENCE)
    assert filter.feed("The tower") == ["The tower"]
    assert filter.feed(" [") == []
    assert filter.feed("1") == []
    assert filter.feed("]") == []
    assert [type(piece) for piece in filter.feed(".")] == [str, Citation, str, str]
    assert filter.feed("[x") == ["[", "x"]


def test_a_citation_quotes_the_sentence_that_it_stands_for() -> None:
    _, _, [citation] = play("The tower is 34 metres tall [1].", 4)
    assert citation.quote == "It is 34 metres tall, and its lamp burned oil until 1902."
    assert TOWER.text[citation.start - TOWER.start : citation.end - TOWER.start] == citation.quote
    assert (citation.heading, citation.page, citation.path, citation.url) == (
        "History > Dates", 3, "/docs/tower.md", "https://example.org/tower",
    )  # fmt: skip
    _, _, [other] = play("It was finished in 1871. [1]", 4)
    assert other.quote == "The tower was finished in 1871."
    filter = CitationFilter([replace(FERRY, text="")])
    assert [piece.quote for piece in [*filter.feed("x [2]"), *filter.finish()] if isinstance(piece, Citation)] == [""]


def test_evidence_that_comes_later_can_be_cited_too() -> None:
    filter = CitationFilter([TOWER])
    filter.add([FERRY])
    pieces = [*filter.feed("Cars [2]."), *filter.finish()]
    assert [piece.document for piece in pieces if isinstance(piece, Citation)] == ["d2"]


def test_sentences_that_no_words_support_are_named() -> None:
    text = (
        "The tower was finished in 1871 [1]. The keeper owned seven black cats named after sailors. "
        "I hope that this helps you a lot! The passages do not mention the price of tickets.\n"
        "```\nmake a wonderful unrelated program run\n```\nThe tower is 35 metres tall."
    )
    named = [note.text for note in unsupported(text, EVIDENCE)]
    assert len(named) == 2
    assert "black cats" in named[0]
    assert "35 metres" in named[1]


async def test_meaning_speaks_for_a_sentence_that_words_do_not(world: World) -> None:
    ctx = world.turn("x").ctx
    own = Evidence(1, "Dogs must be kept on a lead in the park.", LABEL, document="d", passage="p")
    draft = Draft(
        "Hounds have to stay leashed inside the park. The committee adored opera singers.",
        "answered",
        "stop",
        "some-model",
    )
    notes = await check(draft, [own], ctx)
    assert [note.code for note in notes] == ["unsupported"]
    assert "opera" in notes[0].text
    assert await check(replace(draft, model="extractive"), [own], ctx) == ()
    assert await check(draft, [], ctx) == ()
    assert await check(replace(draft, text="Dogs must be kept on a lead."), [own], ctx) == ()
    empty = [replace(own, text="of the and")]
    assert len(await check(replace(draft, text="The committee adored opera singers."), empty, ctx)) == 1
