"""Questions of users about themselves, by their form."""

from __future__ import annotations

import pytest

from agents.oneself import about_oneself, heard


@pytest.mark.parametrize(
    "text",
    [
        "What is my name?", "Who am I?", "where do I work", "How many children do I have?", "When is our anniversary?",
        "Do you know my name?", "Can you remind me of my address?", "Please tell me where I live.", "What's my job?",
        "In which town do I live?", "For whom do I work?",
    ],
)  # fmt: skip
def test_what_is_asked_about_the_writer_is_recognised(text: str) -> None:
    assert about_oneself(text)


@pytest.mark.parametrize(
    "text",
    [
        "What is your name?", "Where do you live?", "How do I reset my password?", "Can I bring my dog?",
        "Who founded it?", "My name is Ann.", "I am tired today.", "What can you do for me?",
        "What did I tell you of it?", "Tell me about the castle.", "What is in here? " + "I say a lot. " * 20,
    ],
)  # fmt: skip
def test_what_is_asked_about_something_else_is_not(text: str) -> None:
    assert not about_oneself(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("My name is Ann. I work in a bakery.", "I will remember that."),
        ("Please remember that I like green tea.", "I will remember that."),
        ("Please forget my name.", "I will forget that."),
        ("My name is Ann. Who founded the mill?", ""),
        ("The weather is grey.", ""),
    ],
)
def test_what_is_only_told_is_acknowledged(text: str, answer: str) -> None:
    assert heard(text) == answer
