"""Names in texts and titles: what counts as a name, and which known titles stand in a text."""

from __future__ import annotations

import pytest

from knowledge.entities import grams, in_question, in_run, names, normal, question_grams, surfaces
from knowledge.sentences import units
from knowledge.types import Passage


def passage(text: str) -> Passage:
    blocks, found = units(text)
    return Passage("d.v.0", "d", 0, "T", (), text, 0, len(text), None, blocks, found)


def test_names_are_the_runs_of_capitalised_words_of_each_sentence() -> None:
    found = names(passage("Orla Venn wrote the Song of the Marsh in 1911. It was sung by Tam Okoro."))
    assert [(name.text, name.sentence) for name in found] == [
        ("Orla Venn", 0),
        ("the Song of the Marsh in 1911", 0),
        ("It", 1),
        ("by Tam Okoro", 1),
    ]


def test_a_name_goes_on_over_a_comma_but_not_over_a_common_word() -> None:
    found = names(passage("Ulric, Duke of Marrow lived near Lake Sill."))
    assert [name.text for name in found] == ["Ulric, Duke of Marrow", "Lake Sill"]


def test_code_holds_no_names() -> None:
    assert names(passage("```python\nClass = Thing\n```")) == ()


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Orla Venn", {"orla venn": 1.0}),
        ("Venn (diagram)", {"venn diagram": 1.0, "venn": 0.9}),
        ("Ulric, Duke of Marrow", {"ulric duke of marrow": 1.0, "ulric": 0.6}),
        ("Marsh's End", {"marsh end": 1.0}),
        ("???", {}),
        (" ".join("word" for _ in range(15)), {}),
    ],
)
def test_a_title_is_named_whole_without_parentheses_or_up_to_its_comma(title: str, expected: dict[str, float]) -> None:
    assert {surface.text: surface.weight for surface in surfaces(title)} == expected


def test_the_longest_known_surface_of_a_run_wins_and_its_words_are_used_once() -> None:
    run = normal("Ulric, Duke of Marrow")
    assert in_run(run, {"ulric", "duke of marrow", "ulric duke of marrow", "marrow"}) == ["ulric duke of marrow"]
    assert in_run(run, {"ulric", "duke of marrow", "marrow"}) == ["duke of marrow", "ulric"]


def test_small_joining_words_alone_name_nothing() -> None:
    assert in_run("song of the marsh", {"of the", "the"}) == []


def test_every_part_of_a_run_may_be_a_surface() -> None:
    assert set(grams("duke of marrow")) == {"duke", "of", "marrow", "duke of", "of marrow", "duke of marrow"}
    assert len(grams(" ".join(map(str, range(40))))) == sum(40 - size + 1 for size in range(1, 15))


def test_a_question_names_a_title_only_with_a_capital_that_is_not_its_first_word() -> None:
    known = {"who", "song of the marsh", "marsh", "river"}
    assert in_question("Who wrote the Song of the Marsh?", known) == ["song of the marsh"]
    assert in_question("Who wrote about the river?", known) == []
    assert "river" not in question_grams("Who wrote about the river?")
    assert question_grams("marshes") == []
