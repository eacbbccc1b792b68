"""Which messages plainly ask for a tool, and which only sound so."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from tools import dates
from tools.recognise import Wish, recognise

TODAY = date(2026, 11, 21)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("What is 15% of 80?", "15% of 80"),
        ("what's 12 * (3+4)", "12 * (3+4)"),
        ("Can you calculate sqrt(2)", "sqrt(2)"),
        ("7 times 6 =", "7 times 6"),
        ("Wie viel ist 3 + 4?", "3 + 4"),
        ("How many feet are in a mile?", "1 mile in feet"),
        ("How many minutes are there in 2 hours?", "2 hours in minutes"),
        ("Convert 5 miles to km", "5 miles in km"),
        ("How much is 5 kg in pounds?", "5 kg in pounds"),
        ("what is a mile in km?", None),
        ("how many metres per second is 3 knots", None),
    ],
)
def test_sums_and_conversions(text: str, expression: str | None) -> None:
    assert recognise(text) == (Wish("calculate", {"expression": expression}) if expression else None)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("What time is it?", {"operation": "now"}),
        ("what time is it in new york right now?", {"operation": "now", "zone": "new york"}),
        ("What's the date today?", {"operation": "now"}),
        ("¿Qué hora es?", {"operation": "now"}),
        ("Que horas são?", {"operation": "now"}),
        ("What day of the week was 14 July 1789?", {"operation": "weekday", "date": "14 July 1789"}),
        ("How many days until Christmas?", {"operation": "difference", "date": "today", "other": "Christmas"}),
        (
            "How many days have passed since 1 May 2020?",
            {"operation": "difference", "date": "today", "other": "1 May 2020"},
        ),
        ("How long is it since 1 May 2020?", {"operation": "difference", "date": "today", "other": "1 May 2020"}),
        (
            "How many days are between 2024-01-01 and 1 March 2024?",
            {"operation": "difference", "date": "2024-01-01", "other": "1 March 2024"},
        ),
        ("What date will it be in 45 days?", {"operation": "add", "date": "today", "days": 45}),
        ("What day was 3 weeks ago?", {"operation": "add", "date": "today", "days": -21}),
        ("What date is 10 days before Christmas?", {"operation": "add", "date": "Christmas", "days": -10}),
        ("Which day is 2 days after now?", {"operation": "add", "date": "today", "days": 2}),
    ],
)
def test_dates_and_times(text: str, arguments: dict[str, str | int] | None) -> None:
    assert recognise(text) == (Wish("date_and_time", {**arguments}) if arguments else None)


@pytest.mark.parametrize(
    "text",
    [
        "How many people live in Paris?",
        "How many km is it from Paris to Lyon?",
        "How many employees are in 3 offices?",
        "What happened in 2024-2025?",
        "2024-01-01",
        "Call 555-1234",
        "What is 42?",
        "What is RFC 2616?",
        "What time is it in the story?",
        "What is the date in the contract?",
        "How long is it until the release?",
        "Which day was the battle of Hastings?",
        "What date is 3 days after the launch?",
        "How many days between the two launches?",
        "What is 1 + 1? " * 20,
    ],
)
def test_what_only_sounds_so_is_left_alone(text: str) -> None:
    assert recognise(text) is None


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-11-21", date(2026, 11, 21)),
        ("21.11.2026", date(2026, 11, 21)),
        ("21st of November 2026", date(2026, 11, 21)),
        ("Nov 21, 2026", date(2026, 11, 21)),
        ("tomorrow", date(2026, 11, 22)),
        ("Christmas", date(2026, 12, 25)),
        ("New Year's Day", date(2027, 1, 1)),
        ("1 March", date(2027, 3, 1)),
        ("December 3rd", date(2026, 12, 3)),
        ("29 February", date(2028, 2, 29)),
        ("31 February 2026", None),
        ("30 February", None),
        ("soon", None),
    ],
)
def test_dates_are_read_as_people_write_them(text: str, day: date | None) -> None:
    assert dates.read(text, TODAY) == day


def test_places_have_their_time() -> None:
    instant = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)
    assert dates.now("Tokyo", instant) == "In Asia/Tokyo it is 08:30 on Friday, 2 January 2026 (UTC+09:00)."
    assert "America/New_York it is 18:30 on Thursday" in dates.now("NYC", instant)
    assert "(UTC-05:00)" in dates.now("america/new_york", instant)
    assert "In UTC it is 23:30" in dates.now("", instant)
    with pytest.raises(dates.DateError, match="not a time zone"):
        dates.now("Atlantis", instant)


def test_differences_and_shifts_are_told_in_sentences() -> None:
    assert dates.difference(TODAY, date(2026, 12, 25)).endswith("it is 34 days (4 weeks and 6 days).")
    assert dates.difference(TODAY, date(2026, 11, 22)).endswith("it is 1 day.")
    assert dates.difference(TODAY, date(2026, 12, 5)).endswith("it is 14 days (2 weeks).")
    assert dates.shifted(TODAY, -1) == "1 day before Saturday, 21 November 2026 is Friday, 20 November 2026."
    with pytest.raises(dates.DateError, match="years 1 to 9999"):
        dates.shifted(TODAY, 4_000_000)
