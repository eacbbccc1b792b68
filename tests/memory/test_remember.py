from __future__ import annotations

import pytest

from memory.remember import EVERYTHING, forgets, worth_keeping


@pytest.mark.parametrize(
    "text",
    [
        "My name is Ada.",
        "Hi, my name is Ada Lovelace.",
        "Call me Bo.",
        "I'm a nurse in Leeds.",
        "I am the maintainer of the billing service.",
        "I work at Acme as a data engineer.",
        "I live in Lisbon.",
        "I prefer short answers.",
        "I really like green tea.",
        "I don't eat meat.",
        "I'm allergic to peanuts.",
        "I am 42 years old.",
        "I have two daughters.",
        "My favourite language is OCaml.",
        "Our team uses Postgres 16.",
        "We deploy on Fridays.",
        "I was born in Oslo.",
        "I speak Finnish, and I never use tabs.",
    ],
)
def test_lasting_things_said_in_the_first_person_are_kept_as_they_are(text: str) -> None:
    assert worth_keeping(text) == [text]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Remember that the demo is on Monday.", "the demo is on Monday."),
        ("Please remember: invoices go to Kim", "invoices go to Kim"),
        ("Don't forget that the key hangs behind the door!", "the key hangs behind the door!"),
        ("Keep in mind that nobody works on the 24th.", "nobody works on the 24th."),
        ("Could you remember that I moved to Rome.", "I moved to Rome."),
    ],
)
def test_what_the_user_asks_to_remember_is_kept_without_the_asking(text: str, kept: str) -> None:
    assert worth_keeping(text) == [kept]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is the capital of France?",
        "Do you remember my name?",
        "I work at which company?",
        "I am tired.",
        "I'm a bit lost.",
        "I have a question about leases.",
        "I would like to know the price.",
        "I think it rains.",
        "If I am a tenant, the rent is due on the first.",
        "Suppose my name is Bob.",
        "The manual says that users like buttons.",
        "My password is hunter2.",
        "Remember that my PIN is 4711.",
        "My card is 4111 1111 1111 1111.",
        "I like " + "very " * 80 + "long sentences.",
    ],
)
def test_questions_moods_suppositions_and_secrets_are_not_kept(text: str) -> None:
    assert worth_keeping(text) == []


def test_only_the_sentences_worth_it_are_taken_from_a_message() -> None:
    text = "I live in Bonn. Which trains go to Cologne?\nI prefer the slow ones! It is raining."
    assert worth_keeping(text) == ["I live in Bonn.", "I prefer the slow ones!"]


def test_first_person_of_a_long_pasted_text_is_not_the_users() -> None:
    pasted = "I live in Bonn. " * 400
    assert worth_keeping(pasted) == []
    assert worth_keeping("Remember that I live in Bonn.\n" + pasted) == ["I live in Bonn."]


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("Forget that I like tea.", "I like tea"),
        ("Please forget about my old address!", "my old address"),
        ("forget my birthday", "my birthday"),
        ("Stop remembering what I said about Kim.", "Kim"),
        ("Please delete what you know about my children.", "my children"),
        ("Forget everything you know about me.", EVERYTHING),
        ("forget me", EVERYTHING),
        ("Forget everything.", EVERYTHING),
    ],
)
def test_what_is_to_be_forgotten_is_named_as_the_user_named_it(text: str, topic: str) -> None:
    assert forgets(text) == [topic]


@pytest.mark.parametrize(
    "text", ["Forget it.", "Don't forget that I like tea.", "I forgot my keys.", "Forget the last question.", "forget"]
)
def test_turns_of_speech_with_forget_forget_nothing(text: str) -> None:
    assert forgets(text) == []
