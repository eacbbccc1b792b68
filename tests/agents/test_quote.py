"""Answers without a model: which sentence is quoted first, when nothing is, and how it reads."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agents.types import Citation
from tests.agents.library import Library, check_marks, open_library
from tests.agents.world import World


@pytest.fixture(scope="module")
async def library(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Library]:
    folder = tmp_path_factory.mktemp("library")
    async with open_library(folder, world.deps.embedder, world.deps.words) as opened:
        yield opened


HARROW = """# Harrow Isle

Harrow Isle is a small island in the Velden Sea. It was settled in 1640 by herring fishers from Marstal. Today about
four hundred people live there. The only village, Odden, lies on the sheltered southern shore. The island was cut off
from the mainland for nine weeks because a storm destroyed the pier. Islanders keep warm by burning dried seaweed.
"""
MILL = """# Oakrun Mill

Oakrun Mill grinds spelt and rye. It was built by the carpenter Jonas Fehr for the abbey. The mill wheel turned until
a flood broke it. It was called "the old lady" by the monks. The mill has three storeys and a slate roof.
"""
KESTREL = """# Kestrel

Kestrel copies folders between machines.

## Installation

Kestrel needs a working compiler. To install Kestrel, fetch the package:

```sh
fetch-tool add kestrel
kestrel --version
```

Then restart the shell.

## Options

Kestrel understands these options:

- `max_copies` - How many copies are made at the same time. The default is 4.
- `keep_links` - Copies links as links instead of what they point to.
- `dry` - Shows what would be done and does nothing.

## Ports

The daemon listens on several ports:

| Service | Port | Protocol |
|---|---|---|
| transfer | 7311 | TCP |
| discovery | 7312 | UDP |
| metrics | 7313 | TCP |

## Limits

Kestrel does not copy sockets. Two daemons cannot share one folder.
"""


def sentence(citation: Citation) -> str:
    return " ".join(citation.quote.split())


@pytest.mark.parametrize(
    ("question", "holds"),
    [
        ("When was Harrow Isle settled?", "settled in 1640"),
        ("How many people live on Harrow Isle?", "four hundred people"),
        ("Where is the village of Odden?", "southern shore"),
        ("Why was the island cut off from the mainland?", "a storm destroyed the pier"),
        ("How do the islanders keep warm?", "burning dried seaweed"),
        ("What is Harrow Isle?", "is a small island"),
        ("Who constructed the mill?", "Jonas Fehr"),
        ("What did the monks name the mill?", "the old lady"),
        ("What stopped the mill wheel?", "a flood broke it"),
    ],
)
async def test_the_sentence_that_answers_is_quoted_first(library: Library, question: str, holds: str) -> None:
    quoted = await library.ask(question, HARROW, MILL)
    assert quoted.outcome == "answered"
    assert holds in sentence(quoted.citations[0])
    assert quoted.citations[0].index == 1
    assert "[1]" in quoted.text


async def test_a_citation_says_where_the_quote_stands(library: Library) -> None:
    quoted = await library.ask("Can two daemons share one folder?", KESTREL)
    cited = quoted.citations[0]
    assert KESTREL[cited.start : cited.end] == cited.quote
    assert (cited.title, cited.heading, cited.path, cited.page, cited.url) == (
        "Kestrel",
        "Limits",
        "/docs/0.md",
        None,
        "",
    )
    assert cited.passage.startswith(cited.document)


async def test_the_sources_own_address_is_kept(library: Library) -> None:
    found = await library.found("Harrow Isle", HARROW, url="https://example.org/harrow")
    quoted = await library.quote("When was Harrow Isle settled?", found)
    assert quoted.citations[0].url == "https://example.org/harrow"


async def test_a_question_about_nothing_in_the_documents_is_not_answered(library: Library) -> None:
    quoted = await library.ask("Which payment methods does the hotel accept?", HARROW, MILL)
    assert quoted.outcome == "not_found"
    assert quoted.text.startswith("I don't know")
    assert "Oakrun Mill" in quoted.text
    assert "Harrow Isle" in quoted.text
    assert quoted.citations == ()
    assert quoted.spans == ()
    assert quoted.confidence < -1


async def test_a_shaky_find_is_shown_as_uncertain(library: Library) -> None:
    quoted = await library.ask("Which animals graze on Harrow Isle?", HARROW)
    assert quoted.outcome == "uncertain"
    assert -1 <= quoted.confidence < 0
    assert quoted.text.startswith("I found nothing certain")
    assert len(quoted.citations) == 1
    assert "[1]" in quoted.text


async def test_nothing_found_is_said(library: Library) -> None:
    quoted = await library.quote("Who built the mill?", [])
    assert quoted.outcome == "not_found"
    assert quoted.text == "I don't know: I found nothing about this in the documents."


@pytest.mark.parametrize(
    ("language", "start"), [("de", "Das weiß ich nicht"), ("fr", "Je ne sais pas"), ("sv", "I don't know")]
)
async def test_not_knowing_is_said_in_the_questions_language(library: Library, language: str, start: str) -> None:
    quoted = await library.ask("Quelle heure zzz xyz?", MILL, language=language)
    assert quoted.text.startswith(start)


async def test_other_languages_are_answered_by_meaning_and_words(library: Library) -> None:
    text = "# Feuerturm\n\nDer Feuerturm steht am Hafen. Der Turm wurde 1712 von Ilse Brandt erbaut. Er ist rot.\n"
    quoted = await library.ask("Wer hat den Turm erbaut?", text, language="de")
    assert "Ilse Brandt" in sentence(quoted.citations[0])


async def test_a_how_to_comes_with_the_code_that_follows(library: Library) -> None:
    quoted = await library.ask("How do I install Kestrel?", KESTREL)
    assert quoted.citations[0].quote == (
        "To install Kestrel, fetch the package:\n\n```sh\nfetch-tool add kestrel\nkestrel --version\n```"
    )
    assert quoted.text.startswith("To install Kestrel, fetch the package: [1]\n\n```sh\nfetch-tool add kestrel\n")


async def test_a_how_to_goes_on_to_the_code_at_the_end_of_its_paragraph(library: Library) -> None:
    text = (
        "# Plover\n\nTo rotate the keys, stop the daemon. Remove the old key first. Now make a new one.\n\n"
        "```\nplover key new\n```\n\nPlover keeps its keys in a vault that only the owner can read.\n"
    )
    quoted = await library.ask("How do I rotate the keys of Plover?", text)
    assert quoted.citations[0].quote.startswith("To rotate the keys, stop the daemon.")
    assert quoted.citations[0].quote.endswith("```\nplover key new\n```")


async def test_a_list_that_is_asked_for_is_quoted_whole_with_its_lead_in(library: Library) -> None:
    quoted = await library.ask("Which options are there in Kestrel?", KESTREL)
    cited = quoted.citations[0]
    assert cited.quote.startswith("Kestrel understands these options:")
    assert cited.quote.endswith("does nothing.")
    assert quoted.text.startswith("Kestrel understands these options: [1]\n\n- `max_copies` - How many")
    assert "- `dry` - Shows what" in quoted.text


async def test_an_item_alone_comes_with_its_lead_in(library: Library) -> None:
    quoted = await library.ask("What does keep_links do?", KESTREL)
    assert sentence(quoted.citations[0]) == "`keep_links` - Copies links as links instead of what they point to."
    assert quoted.text.startswith(
        "Kestrel understands these options: `keep_links` - Copies links as links instead of what they point to. [1]"
    )


async def test_a_row_is_quoted_with_its_header_and_read_with_its_columns(library: Library) -> None:
    quoted = await library.ask("Which protocol does the discovery service use?", KESTREL)
    cited = quoted.citations[0]
    assert quoted.text.startswith("Service: discovery; Port: 7312; Protocol: UDP [1]")
    assert cited.quote.startswith("| Service | Port | Protocol |")
    assert cited.quote.endswith("| discovery | 7312 | UDP |")


async def test_a_table_that_is_asked_for_is_quoted_whole(library: Library) -> None:
    quoted = await library.ask("List the ports of the daemon", KESTREL)
    assert "| transfer | 7311 | TCP |\n| discovery | 7312 | UDP |\n| metrics | 7313 | TCP |" in quoted.text
    assert quoted.citations[0].quote.endswith("| metrics | 7313 | TCP |")


async def test_a_negation_answers_yes_or_no_without_saying_either(library: Library) -> None:
    quoted = await library.ask("Does Kestrel copy sockets?", KESTREL)
    assert quoted.text.startswith("Kestrel does not copy sockets.")


async def test_the_default_of_an_option_is_found_among_its_sentences(library: Library) -> None:
    quoted = await library.ask("What is the default of max_copies?", KESTREL)
    assert "The default is 4" in quoted.citations[0].quote


async def test_a_section_of_nothing_but_code_is_quoted_under_its_heading(library: Library) -> None:
    text = "# Ibis\n\nIbis draws charts.\n\n## Installing Ibis\n\n```\nget ibis\n```\n"
    quoted = await library.ask("How do I install Ibis?", text)
    assert quoted.text.startswith("Installing Ibis [1]\n\n```\nget ibis\n```")
    assert quoted.citations[0].quote == "```\nget ibis\n```"


async def test_a_sentence_that_points_back_brings_the_one_before(library: Library) -> None:
    text = (
        "# Ottoline Brack\n\nOttoline Brack studied tides in Leeuw. Her first boat sank in the harbour. "
        "She then moved to Skagen. There she drew the first chart of the Velden Sea.\n"
    )
    quoted = await library.ask("Where was the first chart of the Velden Sea drawn?", text)
    assert "She then moved to Skagen. There she drew the first chart" in sentence(quoted.citations[0])


async def test_a_second_quote_follows_when_it_fits_as_well(library: Library) -> None:
    one = "# Salt tax\n\nThe salt tax was raised by Queen Runa in 1511. Carts were weighed at the gates.\n"
    two = "# Queen Runa\n\nQueen Runa raised the salt tax to pay for a fleet. She died in a hunting lodge.\n"
    quoted = await library.ask("Who raised the salt tax?", one, two)
    assert len(quoted.citations) == 2
    assert {cited.title for cited in quoted.citations} == {"Salt tax", "Queen Runa"}
    assert "[1]\n\n" in quoted.text
    assert quoted.text.endswith("[2]")


async def test_two_quotes_of_one_passage_stand_in_its_order(library: Library) -> None:
    text = (
        "# Brine Works\n\nThe brine works used oak barrels for the brine. Horses pulled the carts uphill. "
        "Fog hides the valley in autumn. Barrels of pine were used by the brine works later on.\n"
    )
    quoted = await library.ask("Which barrels did the brine works use?", text)
    first, second = quoted.citations
    assert " ... " in quoted.text
    assert quoted.text.endswith("[1][2]")
    early, late = sorted((first, second), key=lambda cited: cited.start)
    assert quoted.text.index(early.quote) < quoted.text.index(late.quote)


async def test_two_neighbouring_sentences_make_one_quote(library: Library) -> None:
    text = (
        "# Brine Works\n\nFog hides the valley in autumn. The brine works used oak barrels for the brine. "
        "Barrels of pine were used by the brine works later on. Horses pulled the carts uphill.\n"
    )
    quoted = await library.ask("Which barrels did the brine works use?", text)
    (cited,) = quoted.citations
    assert cited.quote == (
        "The brine works used oak barrels for the brine. Barrels of pine were used by the brine works later on."
    )
    assert quoted.text == f"{cited.quote} [1]"


async def test_a_sentence_said_twice_is_quoted_once(library: Library) -> None:
    one = "# Tern\n\nThe tern ferry sails at noon. The deck is blue.\n"
    two = "# Tern\n\nThe tern ferry sails at noon. The crew is small.\n"
    quoted = await library.ask("When does the tern ferry sail?", one, two)
    assert len(quoted.citations) == 1


async def test_a_short_quote_from_a_manual_goes_on_within_its_paragraph(library: Library) -> None:
    manual = (
        "# Wren\n\nThe cache of Wren is cleared every night. Entries that are in use are kept until they are free. "
        "A cleared entry is gone for good and has to be made again, which may take some minutes on a slow disk.\n\n"
        "```\nwren clear\n```\n"
    )
    story = manual.replace("```\nwren clear\n```\n", "")
    question = "When is the cache of Wren cleared?"
    assert "Entries that are in use" in (await library.ask(question, manual)).text
    assert "Entries that are in use" not in (await library.ask(question, story)).text


async def test_a_long_list_is_cut_and_says_how_much_is_left(library: Library) -> None:
    items = "\n".join(f"- colour number {number}" for number in range(1, 21))
    quoted = await library.ask("Which colours are supported?", f"# Dyer\n\nThese colours are supported:\n\n{items}\n")
    assert "- colour number 12\n\n8 more items" in quoted.text
    assert "colour number 13" not in quoted.text
    assert quoted.citations[0].quote.endswith("- colour number 20")


async def test_long_code_is_cut_and_says_how_much_is_left(library: Library) -> None:
    lines = "\n".join(f"step_{number}()" for number in range(1, 17))
    quoted = await library.ask(
        "How do I run the steps?", f"# Stepper\n\nTo run the steps, write:\n\n```py\n{lines}\n```\n"
    )
    assert "```py\nstep_1()" in quoted.text
    assert "step_12()\n```\n\n4 more lines" in quoted.text
    assert quoted.citations[0].quote.endswith("step_16()\n```")


async def test_a_long_table_is_cut_and_says_how_much_is_left(library: Library) -> None:
    rows = "\n".join(f"| code {number} | meaning {number} |" for number in range(1, 15))
    quoted = await library.ask(
        "List the error codes", f"# Errors\n\nThe error codes are:\n\n| Code | Meaning |\n|---|---|\n{rows}\n"
    )
    assert "| code 12 | meaning 12 |\n\n2 more rows" in quoted.text


async def test_a_table_that_goes_on_from_another_passage_is_shown_row_by_row(library: Library) -> None:
    rows = "\n".join(f"| E{number} | {'the valve is stuck ' * 6}{number} |" for number in range(1, 31))
    found = await library.found("Valves", f"# Valves\n\n| Error | Meaning |\n|---|---|\n{rows}\n")
    assert len(found) > 1
    quoted = await library.quote("List the errors of valves and their meaning", found[1:2])
    assert quoted.text.startswith("Valves [1]\n\n- Error: E")
    assert "Meaning: the valve is stuck" in quoted.text


async def test_a_second_quote_with_code_stands_in_a_paragraph_of_its_own(library: Library) -> None:
    text = (
        "# Dunlin\n\nThe Dunlin queue is emptied with one command. Nothing is emptied by itself.\n\n"
        "To empty the Dunlin queue, run:\n\n```\ndunlin drain\n```\n\nTo empty the Dunlin queue at night, run:\n\n"
        "```\ndunlin drain --later\n```\n"
    )
    quoted = await library.ask("How do I empty the Dunlin queue?", text)
    assert quoted.text == (
        "To empty the Dunlin queue, run: [1]\n\n```\ndunlin drain\n```\n\n"
        "To empty the Dunlin queue at night, run: [2]\n\n```\ndunlin drain --later\n```"
    )


async def test_what_is_shown_already_is_not_shown_again(library: Library) -> None:
    text = (
        "# Avocet\n\nTo reset Avocet you need the key. Reset Avocet at night:\n\n```\navocet reset\n```\n\n"
        "Ducks are seen in the marsh.\n"
    )
    quoted = await library.ask("How do I reset Avocet?", text)
    assert quoted.text.count("Reset Avocet at night") == 1
    assert quoted.text.count("avocet reset\n") == 1


async def test_numbers_in_brackets_of_rows_and_titles_are_no_marks(library: Library) -> None:
    text = "# Sluice [2]\n\n| Gate | Guard |\n|---|---|\n| north [1] | Hanne |\n| south [3] | Piet |\n"
    row = await library.ask("Who is the guard of the north gate of the sluice?", text)
    assert row.text.startswith("Gate: north \\[1\\]; Guard: Hanne")
    unknown = await library.ask("Which payment methods does the hotel accept?", text)
    assert "Sluice \\[2\\]" in unknown.text
    check_marks(row)
    check_marks(unknown)


async def test_items_below_an_item_belong_to_it(library: Library) -> None:
    text = "# Loom\n\nThings to know:\n\n- Weaving modes of the loom:\n  - plain\n  - twill\n- The shuttle is wooden.\n"
    found = await library.found("Loom", text)
    quoted = await library.quote("What weaving modes does the loom have?", found)
    assert quoted.text.startswith("Things to know: Weaving modes of the loom: [1]\n\n- plain\n- twill")
    assert "shuttle" not in quoted.text.split("[1]")[1].split("[2]")[0]


async def test_an_item_of_a_how_to_comes_with_the_code_after_it(library: Library) -> None:
    text = (
        "# Finch\n\nSteps:\n\n1. Unpack the archive.\n2. Start the Finch server with its script\n\n```\nfinch up\n```\n"
    )
    quoted = await library.ask("How do I start the Finch server?", text)
    assert "[1]\n\n```\nfinch up\n```" in quoted.text


async def test_a_quote_that_leads_to_nothing_ends_openly(library: Library) -> None:
    text = "# Gannet\n\nThe Gannet protocol has four phases:\n"
    quoted = await library.ask("How many phases has the Gannet protocol?", text)
    assert quoted.text == "The Gannet protocol has four phases … [1]"


async def test_a_list_that_leads_to_nothing_ends_openly(library: Library) -> None:
    text = "# Gannet\n\nThe phases of Gannet are:\n\n- waking\n- sleeping, in which it does:\n"
    quoted = await library.ask("List the phases of Gannet", text)
    assert quoted.text == "The phases of Gannet are: [1]\n\n- waking\n- sleeping, in which it does …"


async def test_a_quote_that_ends_with_a_colon_goes_on_with_the_next_sentence(library: Library) -> None:
    text = "# Gannet\n\nThe Gannet protocol has this many phases:\n\nFour phases, and one pause in the night.\n"
    quoted = await library.ask("How many phases has the Gannet protocol?", text)
    assert quoted.text.startswith(
        "The Gannet protocol has this many phases: Four phases, and one pause in the night. [1]"
    )


async def test_marks_of_the_source_are_taken_off_and_code_is_left(library: Library) -> None:
    text = (
        "# Heron\n\nThe **Heron** engine, see [the guide](https://example.org/guide), reads `a[1]` from row [7]"
        " of the *ledger*.[2][3]\n"
    )
    quoted = await library.ask("What does the Heron engine read?", text)
    assert quoted.text == ("The Heron engine, see the guide, reads `a[1]` from row \\[7\\] of the ledger. [1]")
    assert "[the guide](https://example.org/guide)" in quoted.citations[0].quote


async def test_a_part_of_an_identifier_counts_as_a_word(library: Library) -> None:
    text = (
        "# Stork API\n\nThe basket is woven. Call `Tx.DropBasket()` when it is not needed. "
        "Call `Tx.FillBasket()` when there is something to carry.\n\n```\ntx.Begin()\n```\n"
    )
    quoted = await library.ask("How do I drop a basket?", text)
    assert "DropBasket" in quoted.citations[0].quote.split(".")[1]


async def test_the_line_of_code_above_a_paragraph_names_what_it_is_about(library: Library) -> None:
    text = (
        "# Curlew options\n\n```\nWithSilence()\n```\n\nIf passed, nothing is printed to the terminal.\n\n"
        "```\nWithEcho()\n```\n\nIf passed, every command is printed before it runs.\n\nMany people like it.\n"
    )
    quoted = await library.ask("What does WithEcho do?", text)
    assert "every command is printed" in quoted.citations[0].quote


async def test_a_pointer_elsewhere_and_a_note_give_way_to_what_they_point_to(library: Library) -> None:
    text = (
        "# Petrel\n\nTo back up the Petrel store, see the section about backups. "
        "Note that the Petrel store must be backed up when it is idle. "
        "You can back up the Petrel store with one command:\n\n```\npetrel save\n```\n"
    )
    quoted = await library.ask("How can I back up the Petrel store?", text)
    assert quoted.citations[0].quote.startswith("You can back up the Petrel store")


async def test_passages_without_stored_vectors_are_scored_by_the_other_terms(library: Library) -> None:
    found = await library.found("Oakrun Mill", MILL, vectors=False)
    quoted = await library.quote("Who built the mill for the abbey?", found)
    assert "Jonas Fehr" in quoted.citations[0].quote


async def test_the_spans_are_the_marks(library: Library) -> None:
    quoted = await library.ask("Who raised the mill wheel in the flood at Oakrun Mill?", MILL, HARROW)
    check_marks(quoted)
