"""Part numbers, versions, keys of entries and times of day: what looks like several words and is one thing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agents.expected import expected_answer
from agents.forms import form_of
from agents.identifiers import identifiers_in
from agents.scoring import question_words
from tests.agents.library import Library, open_library
from tests.agents.world import World


@pytest.fixture(scope="module")
async def library(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Library]:
    folder = tmp_path_factory.mktemp("parts")
    async with open_library(folder, world.deps.embedder, world.deps.words) as opened:
        yield opened


STOCK = (
    "# Stock\n\n| Part | Bin | In stock | Price |\n|---|---|---|---|\n"
    "| valve-2-1 | A4 | 17 | 3.10 |\n| valve-2-2 | A7 | 5 | 2.75 |\n| valve-2-3 | B1 | 40 | 4.00 |\n"
    "| valve-2-4 | B3 | 9 | 1.20 |\n| valve-2-5 | C2 | 23 | 6.45 |\n| valve-2-6 | C5 | 0 | 2.10 |\n"
    "| valve-2-7 | D1 | 12 | 3.35 |\n| valve-2-8 | D2 | 8 | 5.00 |\n| valve-2-9 | E6 | 31 | 7.25 |\n"
)
PUMPS = (
    "# Pumps\n\nThe pumps differ in their housing:\n\n- KX-100-A: brass housing, 2 bar\n"
    "- KX-100-B: steel housing, 4 bar\n- KX-200-A: brass housing, 6 bar\n"
    "- KX-200-B: steel housing, 9 bar\n- KX-200-C: nylon housing, 3 bar\n\n"
    "The KX-200 is the plain model and is sold with a bronze housing. Firmware 2.5.1 fits the KX-200-B only. "
    "Firmware 2.5.2 fits all pumps but one.\n"
)
BATHS = (
    "# Opening hours of the Weir Street Baths\n\nThe Weir Street Baths are open six days a week.\n\n"
    "- Monday to Friday: 7:00 to 21:00\n- Saturday: 9:30 to 18:00\n- Sunday: closed\n\n"
    "In July the baths close at 16:00 on all weekdays.\n"
)


@pytest.mark.parametrize(
    ("question", "starts"),
    [
        ("How many valve-2-5 parts are in stock?", "Part: valve-2-5; Bin: C2; In stock: 23;"),
        ("How many valve-2-2 parts are in stock?", "Part: valve-2-2; Bin: A7; In stock: 5;"),
        ("What does valve-2-6 cost?", "Part: valve-2-6; Bin: C5;"),
        ("In which bin is valve-2-9?", "Part: valve-2-9; Bin: E6;"),
    ],
)
async def test_the_row_of_the_part_that_is_asked_for_is_quoted_with_its_header(
    library: Library, question: str, starts: str
) -> None:
    quoted = await library.ask(question, STOCK)
    assert quoted.outcome == "answered"
    assert quoted.text.startswith(starts)
    assert quoted.citations[0].quote.startswith("| Part | Bin | In stock | Price |")


@pytest.mark.parametrize(
    ("question", "holds"),
    [
        ("Which housing has the KX-100-A?", "KX-100-A: brass"),
        ("Which housing has the KX-200-C?", "KX-200-C: nylon"),
        ("Which housing has the kx-100-b?", "KX-100-B: steel"),
        ("Which housing does the KX-200 have?", "The KX-200 is the plain model"),
        ("What does firmware 2.5.1 fit?", "Firmware 2.5.1 fits the KX-200-B"),
        ("What does firmware 2.5.2 fit?", "Firmware 2.5.2 fits all pumps"),
    ],
)
async def test_an_identifier_is_not_another_one_that_begins_or_ends_like_it(
    library: Library, question: str, holds: str
) -> None:
    quoted = await library.ask(question, PUMPS)
    assert quoted.outcome == "answered"
    assert holds in quoted.citations[0].quote


@pytest.mark.parametrize(
    ("question", "text"),
    [("How many valve-2-12 parts are in stock?", STOCK), ("Which housing has the KX-300-B?", PUMPS)],
)
async def test_what_is_said_of_other_parts_is_no_answer(library: Library, question: str, text: str) -> None:
    quoted = await library.ask(question, text)
    assert quoted.outcome == "uncertain"


@pytest.mark.parametrize(
    ("question", "quote"),
    [
        ("When are the baths open on Saturday?", "Saturday: 9:30 to 18:00"),
        ("When do the baths open on Monday?", "Monday to Friday: 7:00 to 21:00"),
        ("When are the baths open on Wednesday?", "Monday to Friday: 7:00 to 21:00"),
        ("Are the baths open on Sunday?", "Sunday: closed"),
        ("At what time do the baths close in July?", "In July the baths close at 16:00 on all weekdays."),
    ],
)
async def test_when_asks_for_the_hours_of_the_day_that_is_named(library: Library, question: str, quote: str) -> None:
    quoted = await library.ask(question, BATHS)
    assert quoted.outcome == "answered"
    assert quoted.citations[0].quote == quote


async def test_an_entry_answers_for_each_name_in_its_key(library: Library) -> None:
    text = (
        "# Meadow cafe\n\nThe cafe is open six days a week.\n\n- Wed-Fri: 9:00 to 18:00\n"
        "- Saturday and Sunday: 10:00 to 20:00\n- Monday: 9:00 to 17:00\n"
    )
    for day, entry in (("Sunday", "Saturday and Sunday"), ("Thursday", "Wed-Fri"), ("Monday", "Monday")):
        quoted = await library.ask(f"When is the cafe open on {day}?", text)
        assert quoted.citations[0].quote.startswith(entry)


async def test_a_range_of_days_may_pass_the_weeks_end(library: Library) -> None:
    text = "# Meadow cafe\n\nThe cafe is open every day.\n\n- Sat to Mon: 9:00 to 18:00\n- Tue to Fri: 7:00 to 9:00\n"
    quoted = await library.ask("When is the cafe open on Sunday?", text)
    assert quoted.citations[0].quote == "Sat to Mon: 9:00 to 18:00"


async def test_the_subject_of_the_page_is_no_key(library: Library) -> None:
    text = "# Tern Server\n\n- Server: a tall grey box\n- Power switch: press it on the back of the box\n"
    quoted = await library.ask("Where is the power switch of the server?", text)
    assert quoted.citations[0].quote.startswith("Power switch")


@pytest.mark.parametrize(
    ("text", "identifiers"),
    [
        ("Order valve-2-5 and KX-200-B.", ["valve-2-5", "KX-200-B"]),
        ("Version 2.5.1 of X.25, made on 2031-05-12", ["2.5.1", "X.25", "2031-05-12"]),
        ("a well-known follow-up at example.org", []),
        ("3.5 of 10-12 in 1914-1918", []),
        ("a 20-year-old 19th-century 2.5mm 12-volt part", []),
        ("mid-1990s, pre-1914 and post-2000", []),
        ("It ended.2 Then No.7 came in 1971.The rest", []),
    ],
)
def test_what_counts_as_an_identifier(text: str, identifiers: list[str]) -> None:
    assert identifiers_in(text) == identifiers


def test_an_identifier_is_one_word_with_its_parts() -> None:
    assert question_words("Where is valve-2-5?") == ["valve_2_5", "valve", "2", "5"]
    assert question_words("Where is KX200-B9?") == ["kx200_b9", "kx", "200", "b", "9", "kx200", "b9"]
    assert form_of("What is the default of KX-200?").identifiers == ("kx-200",)


@pytest.mark.parametrize(
    ("question", "text", "value"),
    [
        ("When does the mill open?", "The mill opens at 9:30.", 1.0),
        ("When does the mill open?", "The mill opens at 9 a.m. sharp.", 1.0),
        ("When does the mill open?", "The mill opens at noon.", 1.0),
        ("When does the mill open at 9:30?", "The mill opens at 9:30.", 0.0),
        ("What time does the mill open?", "The mill opens at ten o'clock or 10 o'clock.", 1.0),
        ("What year did the mill open?", "The mill opened at 9:30.", 0.0),
        ("How many valves are there?", "See valve-2-5 for more.", 0.0),
        ("How many valves are there?", "See valve-2-5 for 14 more.", 0.8),
    ],
)
def test_times_are_dates_and_an_identifiers_digits_are_no_amounts(question: str, text: str, value: float) -> None:
    assert expected_answer(question).value(text) == pytest.approx(value)
