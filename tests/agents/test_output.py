"""The screen on what goes out: secrets and personal numbers stay in, everything else leaves at once."""

from __future__ import annotations

import pytest

from agents.output import OutputScreen
from agents.types import Verdict

KEY = "sk-proj-" + "a8F3kd92LmQ7xZ1pT5vR0bN6"
TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.x"


def play(text: str, size: int, said: str = "", evidence: str = "") -> tuple[str, Verdict | None, int, int]:
    """What goes out of a text in pieces of a size, the verdict, where the stored text is cut, most held back."""
    screen = OutputScreen(lambda: (said, evidence))
    out, fed, held = "", 0, 0
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        screened = screen.feed(piece)
        out, fed = out + screened.text, fed + len(piece)
        if screened.verdict is not None:
            return out, screened.verdict, screened.cut, held
        held = max(held, fed - len(out))
    last = screen.finish()
    return out + last.text, last.verdict, last.cut, held


SECRETS = (
    f"Hello. Your key is {KEY}, keep it.",
    "Set AKIAQ3EGRXJ4LD7WZ9TK as the id.",
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8 is the token",
    f"Send {TOKEN} along.",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
    "Use postgres://bob:hunter22x@db.prod.acme.io/main for it.",
    "api_key = Zx81kQp02LmVt7YwAa",
    "The password is Xk93mvQ8821zPq.",
)
PERSONAL = (
    "Card: 4111 1111 1111 1111. Done",
    "Card 5500-0055-5555-5559",
    "Pay to DE89 3704 0044 0532 0130 00 today",
    "SSN 123-45-6789.",
)
HARMLESS = (
    "Card 4111 1111 1111 1112 is not one.",
    "DE89 3704 0044 0532 0130 01 is not one.",
    "The key sk-xxxxxxxxxxxxxxxxxxxxxxxx is a placeholder, as is AKIAIOSFODNN7EXAMPLE.",
    "postgres://user:password@db.acme.io/main and redis://a:s3cret99@localhost:6379 and http://x.org/a:b@c",
    "The password is required for login. The token is optional: password = your_password_here1",
    "Order 2024-1111-2222-3333-4444, phone +49 30 1234567, 2025-11-21, version 1.2.3, ISBN 978-3-16-148410-0.",
    "Please ask the skipper; it asks: is SG a code? DE is one, and so is ES. Say hello -- or --- goodbye",
    "`-----BEGIN CERTIFICATE-----` is public",
    'He said: "well"... 3.14159, 7,799,401 and 12:30!',
)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_never_leaves(text: str, size: int) -> None:
    out, verdict, _, held = play(text, size)
    assert verdict is not None
    assert (verdict.category, verdict.allowed) == ("secret", False)
    assert verdict.withheld
    assert held <= 64
    for secret in (KEY[:20], "Q3EGRXJ4", "B2c3D4", "IkpXVCJ9.eyJ", "PRIVATE", "hunter22", "Zx81k", "Xk93m"):
        assert secret not in out


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("text", PERSONAL)
def test_a_personal_number_leaves_only_when_it_was_given(text: str, size: int) -> None:
    out, verdict, _, _ = play(text, size)
    assert verdict is not None
    assert verdict.category == "personal_data"
    assert not any(sign.isdigit() for sign in out)
    assert play(text, size, said=f"My data: {text}")[:2] == (text, None)
    assert play(text, size, evidence=text.replace(" ", ""))[1] is None


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("text", HARMLESS)
def test_everything_else_leaves_unchanged(text: str, size: int) -> None:
    out, verdict, _, held = play(text, size)
    assert (out, verdict) == (text, None)
    assert held <= 64 + size


def test_what_the_user_wrote_may_be_said_back_but_a_secret_of_the_documents_may_not() -> None:
    text = f"Your key is {KEY}."
    assert play(text, 4, said=f"I use {KEY}")[:2] == (text, None)
    assert play(text, 4, evidence=f"KEY={KEY}")[1] is not None


def test_the_stored_text_ends_before_the_sentence_with_the_secret() -> None:
    text = f"It works like this. Set the key to {KEY} and go."
    for size in (1, 6, 1000):
        _, verdict, cut, _ = play(text, size)
        assert verdict is not None
        assert text[:cut] == "It works like this. "
        assert verdict.withheld.startswith("Set the key to sk-")


def test_ordinary_words_leave_at_once() -> None:
    screen = OutputScreen(lambda: ("", ""))
    for piece in ("The", " tower", " was", " finished,", " they", " say", ", by", " Ada", ".", " So\n", "it goes"):
        assert screen.feed(piece).text == piece


def test_a_sentence_with_a_word_of_a_category_is_handed_over_once_it_has_ended() -> None:
    screen = OutputScreen(lambda: ("", ""))
    pieces = ("All is", " well. A bomb", " fell", ".", " Then", " a kill")
    doubtful = [sentence for piece in pieces for sentence in screen.feed(piece).doubtful]
    assert [(sentence.text, sentence.start) for sentence in doubtful] == [("A bomb fell. ", 13)]
    assert [sentence.text for sentence in screen.finish().doubtful] == ["Then a kill"]
