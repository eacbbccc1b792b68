"""The terms that rank sentences: each in a pair of sentences that differ in little else."""

from __future__ import annotations

import numpy as np
import pytest

from agents.expected import expected_answer
from agents.forms import form_of
from agents.scoring import Scored, question_words, rank, read_question
from knowledge.types import Found
from memory.embedding import HashEmbedder, HashWords
from memory.minilm import MiniLMWords
from memory.types import PartVectors, Statistics
from tests.agents.library import found_in
from tests.agents.world import World

SILENT = np.zeros(64, np.float32)
"""A question vector that is like nothing: the other eight terms decide."""


async def one(title: str, text: str) -> Found:
    """The only passage of a document, with vectors of the hash twin."""
    (found,) = await found_in(HashEmbedder(), title, text)
    return found


def ranked(question: str, *found: Found, common: dict[str, int] | None = None) -> list[Scored]:
    read = read_question(question, Statistics(100, common or {}))
    return rank(read, SILENT, found, HashWords())


async def best(question: str, title: str, text: str, common: dict[str, int] | None = None) -> str:
    found = await one(title, text)
    return found.passage.units[ranked(question, found, common=common)[0].unit].text


async def test_the_vector_of_label_and_sentence_counts_most() -> None:
    found = await one("Owls", "Barn owls hunt at dusk. Snowy owls nest on the ground.")
    assert found.vectors is not None
    scale = found.vectors.scales[1]
    vector = (found.vectors.rows[1] * scale).astype(np.float32)
    scored = rank(read_question("zzz", Statistics(10)), vector, [found], HashWords())
    assert [each.unit for each in scored] == [1, 0]
    assert scored[0].score - scored[1].score > 3


async def test_a_rare_word_outweighs_a_common_one() -> None:
    text = "The boat needs tar. The boat needs care."
    common = {"boat": 90, "needs": 90, "tar": 1, "care": 60}
    assert await best("boat care tar?", "Quay", text, common) == "The boat needs tar."


async def test_a_word_that_the_collection_lacks_lowers_the_confidence() -> None:
    found = await one("Quay", "The boat needs tar.")
    known = ranked("Does the boat need tar?", found, common={"boat": 5, "tar": 5, "need": 5})[0]
    unknown = ranked("Does the boat need glorpium?", found, common={"boat": 5, "need": 5})[0]
    assert unknown.confidence < known.confidence - 2


async def test_related_words_match_softly(world: World) -> None:
    found = await one("Quay", "They caught a shark. They erected a warehouse.")
    read = read_question("constructed", Statistics(10))
    scored = rank(read, SILENT, [found], MiniLMWords())
    assert found.passage.units[scored[0].unit].text == "They erected a warehouse."


async def test_the_relation_counts_more_than_the_name() -> None:
    text = "Mira Holt lived in a lighthouse. The bridge was painted by students."
    assert await best("Who painted the bridge, Mira Holt?", "Notes", text) == "The bridge was painted by students."


async def test_what_stands_in_the_label_need_not_stand_in_the_sentence() -> None:
    named = await one("Copper bridge", "It was painted green.")
    other = await one("Sheds", "A shed was painted green.")
    scored = ranked("Was the copper bridge painted green?", named, other)
    assert scored[0].found == 0


async def test_a_pronoun_carries_the_sentence_before() -> None:
    carried = await one(
        "", "Dorte Lund sailed alone. She reached the cape in winter. Gulls reached the cape in winter."
    )
    scored = ranked("When did Dorte Lund reach the cape?", carried)
    assert carried.passage.units[scored[0].unit].text == "She reached the cape in winter."


async def test_words_side_by_side_count_more_than_words_apart() -> None:
    text = "Oil is kept beside the lamp. The lamp oil is kept cold."
    assert await best("lamp oil", "Store", text) == "The lamp oil is kept cold."


async def test_the_passage_that_speaks_of_all_of_it_is_preferred() -> None:
    whole = await one("A", "The cellar is dry. Barley, malt and hops are stored.")
    part = await one("B", "The cellar is dry. Ropes and sails are sold.")
    scored = ranked("cellar dry barley malt hops", part, whole)
    dry = [each.found for each in scored if each.unit == 0]
    assert dry == [1, 0]


async def test_of_equal_sentences_the_earlier_is_preferred() -> None:
    found = await one("Log", " ".join(["Fog came in."] * 14))
    scored = ranked("fog came", found)
    assert [each.unit for each in scored[:3]] == [0, 1, 2]
    assert scored[-1].score == pytest.approx(scored[-2].score)


@pytest.mark.parametrize(
    ("question", "text", "value"),
    [
        ("When did the mill burn?", "It burned in 1688.", 1.0),
        ("When did the mill burn in 1688?", "The mill burned in 1688.", 0.0),
        ("What year did it open?", "It opened in May.", 0.7),
        ("In which century was it built?", "It was built in the 9th century.", 0.7),
        ("When was it built?", "It was built by hand.", 0.0),
        ("How many islands are there?", "There are 14 rocky islands.", 1.0),
        ("How many islands are there?", "There are 14 rocks.", 0.8),
        ("How many islands are there?", "There are fourteen rocks.", 0.6),
        ("How many islands are there?", "There are seven islands.", 1.0),
        ("How many islands are there?", "It was in 1920.", 0.0),
        ("How tall is the tower?", "The tower rises 31 metres.", 1.0),
        ("What is the population of Odden?", "It has 812 inhabitants.", 1.0),
        ("How much money was spent?", "It cost 40 euros.", 1.0),
        ("How much money was spent beyond 40 euros?", "It cost 40 euros.", 0.6),
        ("How much money was spent?", "There were 40 donors.", 0.6),
        ("What percentage of the sea is ice?", "About 12 % is ice.", 1.0),
        ("How long did the siege last?", "It lasted three weeks.", 1.0),
        ("How long did the siege last?", "It lasted long.", 0.0),
        ("Who built the mill?", "The mill was built by Jonas Fehr.", 1.0),
        ("Who built the mill?", "The mill was built by Fehr.", 0.8),
        ("Who built the mill?", "The mill was built by an engineer.", 0.5),
        ("Who built the mill?", "The mill was built of oak.", 0.0),
        ("Which king founded Odden?", "Odden was founded by Harald Skov.", 1.0),
        ("Where is the mill?", "The mill is in Odden.", 1.0),
        ("Where is Odden?", "Its people speak Norse.", 0.6),
        ("Where in Odden is the mill?", "The mill is in Odden.", 0.3),
        ("Where is the mill?", "The mill is old.", 0.0),
        ("Which city has the mill?", "The mill stands near Odden.", 1.0),
        ("Why did it close?", "It closed because of rain.", 1.0),
        ("Why did it close?", "It closed to save coal.", 0.4),
        ("Why did it close?", "It closed.", 0.0),
        ("What is the hook for?", "The hook is there to hold ropes.", 0.4),
        ("How is salt won?", "Salt is won by boiling brine.", 1.0),
        ("How is salt won?", "Salt is won slowly.", 0.3),
        ("What is a sluice?", "A sluice is a gate for water.", 1.0),
        ("What is a sluice?", "He opened the sluice.", 0.0),
        ("What is the bell called?", 'The bell is called "Old Tom".', 1.0),
        ("What is the bell called?", "The bell is called Trudy by all.", 1.0),
        ("What is the bell called?", "The bell is loud.", 0.0),
        ("Is the mill open?", "The mill is open.", 0.5),
        ("", "", 0.5),
    ],
)
def test_the_expected_kind_of_answer_is_valued(question: str, text: str, value: float) -> None:
    assert expected_answer(question).value(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("question", "form"),
    [
        ("How do I start the server?", "howto"),
        ("How to start the server", "howto"),
        ("How is the server started?", "fact"),
        ("List the commands", "list"),
        ("Which options are supported?", "list"),
        ("Which protocol does it use?", "fact"),
        ("What are the allowed values?", "list"),
        ("Can two servers run?", "yesno"),
        ("What does max_size do?", "option"),
        ("What does --quiet do?", "option"),
        ("What is the default port?", "option"),
        ("What does the harbour master do?", "fact"),
        ("Who runs the ferry?", "fact"),
    ],
)
def test_the_form_of_a_question(question: str, form: str) -> None:
    assert form_of(question).name == form


async def test_an_identifier_and_the_default_that_is_asked_for_are_found() -> None:
    text = "`max_size` limits the store. The store may grow. The default is 9. Larger stores use `max_size` too."
    assert await best("What does `max_size` do?", "Store", text) == "max_size limits the store."
    assert await best("What is the default size?", "Store", text) == "The default is 9."


async def test_commas_make_a_list_and_a_bare_name_of_code_is_no_answer() -> None:
    text = "`colours`\n\nThe colours are nice. The colours are red, blue, green and black."
    assert await best("List the colours", "Paint", text) == "The colours are red, blue, green and black."


async def test_an_imperative_answers_a_how_to() -> None:
    text = "The lid was opened by the crew. Open the lid with the brass key. You can see the lid."
    assert await best("How do I open the lid?", "Crate", text) == "Open the lid with the brass key."


async def test_a_limit_in_the_sentence_answers_yes_or_no() -> None:
    text = "Sockets are copied by some. Sockets are not copied here."
    assert await best("Are sockets copied?", "Copier", text) == "Sockets are not copied here."


def test_common_words_of_the_language_are_no_words_of_the_question() -> None:
    assert question_words("Wer hat den Turm erbaut?", "de") == ["turm", "erbaut"]
    assert question_words("What does DropBasket do?") == ["dropbasket", "drop", "basket"]


async def test_vectors_that_do_not_fit_the_units_are_refused() -> None:
    found = await one("Owls", "Barn owls hunt at dusk. Snowy owls nest on the ground.")
    assert found.vectors is not None
    wrong = Found(
        found.document,
        found.passage,
        1.0,
        {},
        found.label,
        PartVectors(found.vectors.rows[:1], found.vectors.scales[:1]),
    )
    with pytest.raises(ValueError, match="other vectors"):
        ranked("owls", wrong)


LONG = " ".join(
    f"Ship {number} of the fleet carried salt and timber to the northern ports every year." for number in range(26)
)
"""A paragraph of 26 sentences: two passages."""


async def places(title: str, text: str) -> list[float]:
    """What the place of each passage's first unit costs, against its last: the units differ in nothing else."""
    found = await found_in(HashEmbedder(), title, text)
    scored = {(each.found, each.unit): each.score for each in ranked("", *found)}
    return [scored[place, 0] - scored[place, len(one.passage.units) - 1] for place, one in enumerate(found)]


async def test_a_sentence_from_the_middle_of_a_long_paragraph_does_not_rank_as_an_opening_one() -> None:
    assert await places("Fleet", LONG) == pytest.approx([1.2, 0.0])


async def test_a_paragraph_of_its_own_begins_anew() -> None:
    paragraphs = LONG[: LONG.index("Ship 13")].rstrip() + "\n\n" + LONG[LONG.index("Ship 13") :]
    assert await places("Fleet", paragraphs) == pytest.approx([1.2, 1.2])


async def test_a_later_part_that_was_found_without_the_one_before_begins_anew() -> None:
    _, later = await found_in(HashEmbedder(), "Fleet", LONG)
    scored = {each.unit: each.score for each in ranked("", later)}
    assert scored[0] - scored[len(later.passage.units) - 1] == pytest.approx(1.2)
