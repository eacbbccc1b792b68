"""Understanding: intents by rules, by examples and by a model, and questions that lean on the conversation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.examples import Examples
from agents.language import detect
from agents.rewrite import rewrite
from agents.scripted import ScriptedModel, says
from agents.types import Message
from agents.understand import by_rules, understand
from memory.embedding import Embedder
from memory.types import Label, Vector, Vectors
from tests.agents.world import TENANT, Heard, World, conversation

DESIGNED = "Gull Point Lighthouse was designed by the engineer Ada Marlowe. [1]\n\n[1] Gull Point Lighthouse"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Hello there!", "smalltalk"),
        ("hi, how are you doing?", "smalltalk"),
        ("Thanks a lot, bye!", "smalltalk"),
        ("Who are you? What can you do?", "smalltalk"),
        ("Guten Tag", "smalltalk"),
        ("Merci beaucoup !", "smalltalk"),
        ("¿Qué puedes hacer?", "smalltalk"),
        ("👋", "smalltalk"),
        ("What is 15% of 80?", "tool"),
        ("Convert 5 miles to km", "tool"),
        ("How many feet are in a mile?", "tool"),
        ("What time is it in Tokyo?", "tool"),
        ("How many days until Christmas?", "tool"),
        ("Wie spät ist es?", "tool"),
        ("What did I just ask?", "conversation"),
        ("Summarise our conversation so far.", "conversation"),
        ("What was your first answer?", "conversation"),
        ("Please repeat your last answer", "conversation"),
        ("Was habe ich dich gerade gefragt?", "conversation"),
    ],
)
def test_rules_settle_what_is_plain(text: str, kind: str) -> None:
    intent = by_rules(conversation(text))
    assert intent is not None
    assert (intent.kind, intent.by) == (kind, "rules")


@pytest.mark.parametrize(
    "text",
    [
        "Hello, when was the lighthouse finished?",
        "What is the capital of France?",
        "How many people live in Bristol?",
        "What time is it in the story?",
        "Summarise the annual report",
        "What did the committee say?",
        "What is RFC 2616?",
        "Which day was the battle fought?",
        "Thank the engineer for me " + "very " * 40,
        "",
    ],
)
def test_rules_leave_everything_else_alone(text: str) -> None:
    assert by_rules(conversation(text)) is None


def test_rules_know_that_nothing_was_said_and_that_a_tool_result_goes_on() -> None:
    assert by_rules(()) is None
    result = Message("tool", "12 degrees", Label(TENANT, "user", 0), tool_call_id="c1")
    intent = by_rules((*conversation("Is it cold?", "I look."), result))
    assert intent is not None
    assert (intent.kind, intent.question) == ("task", "Is it cold?")


@pytest.mark.parametrize(
    ("said", "question"),
    [
        (
            ("Who designed the Eiffel Tower?", "Maurice Koechlin did.", "When was it finished?"),
            "When was the Eiffel Tower finished?",
        ),
        (("Who designed the Eiffel Tower?", "He did.", "And its height?"), "What is the Eiffel Tower's height?"),
        (("Who designed Gull Point?", DESIGNED, "When was she born?"), "When was Ada Marlowe born?"),
        (("Who was Marie Curie?", "She was born in Warsaw.", "When did she die?"), "When did Marie Curie die?"),
        (
            ("What is the capital of France?", "Paris is the capital.", "What is its population?"),
            "What is Paris's population?",
        ),
        (("Which river flows through Vienna?", "The Danube does.", "How long is it?"), "How long is the Danube?"),
        (("What is the population of Paris?", "Two million.", "What about Lyon?"), "What is the population of Lyon?"),
        (("What is the population of Paris?", "Two million.", "and Lyon?"), "What is the population of Lyon?"),
        (("What does the Pro plan cost?", "20 dollars.", "And the Team plan?"), "What does the Team plan cost?"),
        (("Is copper a good conductor?", "Yes.", "Why?"), "Why is copper a good conductor?"),
        (("When was the tower finished?", "In 1889.", "Why?"), "Why was the tower finished?"),
        (("How tall is the Eiffel Tower?", "330 m.", "Who built this tower?"), "Who built the Eiffel Tower?"),
        (
            ("How tall is the Eiffel Tower?", "330 m.", "How many people work there?"),
            "How many people work in the Eiffel Tower?",
        ),
        (("How tall is the Eiffel Tower?", "330 m.", "What is that?"), "What is the Eiffel Tower?"),
        (
            ("What is the refund policy?", "30 days.", "Does it apply to books?"),
            "Does the refund policy apply to books?",
        ),
        (("What are vector databases?", "Stores.", "How do they work?"), "How do vector databases work?"),
        (("Which port does Tern use?", "7070.", "Can I change it?"), "Can I change the port of Tern?"),
        (("Which port does Tern use?", "7070.", "Tell me more"), "Which port does Tern use?"),
        (
            ("How long is the X200 warranty?", "Two years.", "Does this also cover batteries?"),
            "Does the X200 also cover batteries?",
        ),
        (
            ("Who designed the Eiffel Tower?", "A man.", "When was it finished?", "1889.", "And how tall is it?"),
            "And how tall is the Eiffel Tower?",
        ),
        (("How do I install it?", "So.", "What is the default port?"), "What is the default port?"),
        (("Where is Rome?", "Italy.", "How does the server store its data?"), "How does the server store its data?"),
        (("Where is Rome?", "Italy.", "Did Einstein publish his paper?"), "Did Einstein publish his paper?"),
        (("Where is Rome?", "Italy.", "Is it possible to export a list?"), "Is it possible to export a list?"),
        (("Who built the Louvre?", "A king.", "thanks!", "Welcome.", "Where is it?"), "Where is the Louvre?"),
        (("hello", "Hi.", "Who designed the Eiffel Tower?"), "Who designed the Eiffel Tower?"),
    ],
)
def test_a_question_that_leans_on_the_conversation_stands_alone_after(said: tuple[str, ...], question: str) -> None:
    rewriting = rewrite(conversation(*said))
    assert rewriting.question == question
    assert rewriting.sure


@pytest.mark.parametrize(
    "said",
    [
        ("Compare iron and copper.", "Iron rusts.", "What about the second one?"),
        ("Who designed the tower and the bridge?", "Two men: Adam Smith, Bert Jones.", "When did they start?"),
        ("What is it?", "Fine.", "How big is it?"),
        ("Wer hat den Eiffelturm entworfen?", "Ein Ingenieur.", "Wann wurde er fertiggestellt?"),
    ],
)
def test_a_rewriting_that_guesses_says_so(said: tuple[str, ...]) -> None:
    assert not rewrite(conversation(*said)).sure


def test_other_languages_get_the_subject_in_brackets() -> None:
    said = conversation("Wer hat den Eiffelturm entworfen?", "Ein Ingenieur.", "Wann wurde er fertiggestellt?")
    assert rewrite(said).question == "Wann wurde er fertiggestellt (Eiffelturm)?"
    alone = conversation("Wer hat den Eiffelturm entworfen?", "Ein Mann.", "Wo liegt der Bodensee?")
    assert rewrite(alone).question == "Wo liegt der Bodensee?"


def test_a_long_message_and_no_message_are_left_as_they_are() -> None:
    long = "Explain it. " * 60
    assert rewrite(conversation("Who?", "He.", long)).question == " ".join(long.split())
    assert rewrite(()).question == ""


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Who designed the tower?", "en"),
        ("Wer hat den Turm gebaut?", "de"),
        ("Quand a-t-elle été finie ?", "fr"),
        ("¿Cuándo se terminó?", "es"),
        ("Chi ha costruito la torre?", "it"),
        ("Quem construiu a torre?", "pt"),
        ("Hoe hoog is de toren?", "nl"),
        ("Кто построил башню?", "ru"),
        ("誰が塔を設計しましたか", "ja"),
        ("谁建造了塔", "zh"),
        ("What does the letter Ω mean?", "en"),
        ("7070", "en"),
        ("ᚠᚢᚦ", "en"),
    ],
)
def test_the_language_is_told_from_script_and_common_words(text: str, language: str) -> None:
    assert detect(text) == language


async def _understood(heard: Heard) -> tuple[str, str, str]:
    messages = heard.ctx.turn.messages
    vector = (await heard.ctx.deps.embedder.embed([messages[-1].content]))[0]
    intent = await understand(messages, vector, heard.ctx)
    return intent.kind, intent.question, intent.by


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Who founded the shipping company?", "question"),
        ("How do I change the port of the server?", "question"),
        ("I would love to hear what your hobbies are", "smalltalk"),
        ("Could you remind me which questions I asked you earlier on?", "conversation"),
        ("Write a limerick about a fox", "task"),
        ("Translate good morning into Danish", "task"),
        ("Why did the lighthouse close?", "question"),
        ("Where do I live?", "question"),
        ("What is my name?", "question"),
        ("Where do you live?", "smalltalk"),
    ],
)
async def test_examples_recognise_other_wordings(world: World, text: str, kind: str) -> None:
    understood = await _understood(world.turn(text))
    assert understood[0] == kind


async def test_a_model_is_not_asked_about_a_plain_question(world: World) -> None:
    model = ScriptedModel(says("never"))
    assert (await _understood(world.turn("Who designed the Gull Point Lighthouse?", model=model)))[0] == "question"
    said = ("Who designed the Eiffel Tower?", "A man.", "When was it finished?")
    assert (await _understood(world.turn(*said, model=model)))[1] == "When was the Eiffel Tower finished?"
    assert model.requests == []


async def test_a_model_settles_what_rules_are_unsure_of(world: World) -> None:
    model = ScriptedModel(says('{"kind": "question", "question": "What about copper?", "language": "en"}'))
    said = ("Compare iron and copper.", "Iron rusts.", "What about the second one?")
    assert await _understood(world.turn(*said, model=model)) == ("question", "What about copper?", "model")
    shown = model.requests[0].messages[0].content
    assert '<message role="user">\nWhat about the second one?\n</message>' in shown


async def test_one_repair_is_asked_for_and_then_the_guess_stands(world: World) -> None:
    said = ("Compare iron and copper.", "Iron rusts.", "What about the second one?")
    good = '{"kind": "question", "question": "What about copper?", "language": "en"}'
    repaired = ScriptedModel(says("Sure! I think so."), says(f"```json\n{good}\n```"))
    assert (await _understood(world.turn(*said, model=repaired)))[2] == "model"
    assert "required form" in repaired.requests[1].messages[-1].content
    hopeless = ScriptedModel(says('{"kind": "poem"}'))
    kind, question, by = await _understood(world.turn(*said, model=hopeless))
    assert (kind, len(hopeless.requests)) == ("question", 2)
    assert by != "model"
    assert "second one" in question


class Renamed:
    """The embedder under another name, so that no vectors come with Parley; counts what is embedded."""

    def __init__(self, inner: Embedder) -> None:
        self._inner, self.embedded = inner, 0

    @property
    def name(self) -> str:
        return f"{self._inner.name} by another name"

    @property
    def dimensions(self) -> int:
        return self._inner.dimensions

    async def embed(self, texts: Sequence[str]) -> Vectors:
        self.embedded += len(texts)
        return await self._inner.embed(texts)

    async def embed_query(self, text: str) -> Vector:
        return await self._inner.embed_query(text)


async def test_vectors_of_the_examples_are_read_from_the_cache(world: World, tmp_path: Path) -> None:
    embedder = Renamed(world.deps.embedder)
    first = await Examples.open(embedder, tmp_path)
    [file] = list(tmp_path.iterdir())
    made = embedder.embedded
    again = await Examples.open(embedder, tmp_path)
    assert embedder.embedded == made > 0
    vector = (await embedder.embed(["Hello, how are you?"]))[0]
    assert again.nearest("intent", vector) == first.nearest("intent", vector)
    assert again.nearest("intent", vector).label == "smalltalk"
    file.write_bytes(b"broken")
    assert (await Examples.open(embedder, tmp_path)).nearest("intent", vector).label == "smalltalk"
    nowhere = tmp_path / "file"
    nowhere.write_text("not a folder")
    assert (await Examples.open(embedder, nowhere)).nearest("intent", vector).label == "smalltalk"


async def test_the_vectors_that_come_with_the_examples_are_theirs(world: World, tmp_path: Path) -> None:
    shipped = await Examples.open(world.deps.embedder, tmp_path)
    assert list(tmp_path.iterdir()) == [], "run `make examples`: the examples or the embedder changed"
    made = await Examples.open(Renamed(world.deps.embedder))
    for text in ("Hello, how are you?", "Who built the mill?", "I will kill you."):
        vector = await world.deps.embedder.embed_query(text)
        for kind in ("intent", "moderation"):
            one, other = shipped.nearest(kind, vector), made.nearest(kind, vector)
            assert one.label == other.label
            assert one.score == pytest.approx(other.score, abs=1e-4)
