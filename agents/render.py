"""Render: what is quoted round the unit that answers, so that a person can read it (EXTRACTIVE section 4)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agents.analysis import PRONOUNS, first_word
from agents.excerpt import block_text, closed, escaped, readable
from agents.forms import Form, follower
from knowledge.inline import plain
from knowledge.sentences import items
from knowledge.types import Passage, Unit

SHORT = 160
"""Characters below which a prose quote from a manual goes on within its paragraph."""
_GOES_ON = 2
"""Sentences between a how-to's best one and the code that its paragraph leads to."""
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_CONNECTIVES = frozenset("however also then".split())


@dataclass(frozen=True, slots=True)
class Quotation:
    """One quote from one passage: the verbatim range and how it is shown."""

    start: int
    end: int
    """Offsets from the passage's start: the range that is cited."""
    text: str
    """Readable Markdown on one line; the mark comes right after it."""
    block: str = ""
    """Markdown of the list, table or code block that belongs to it."""
    lead: str = ""
    """The lead-in of an item, shown in front of it."""
    shown: int = -1
    """Where what is shown starts, when that is after `start` (a table's row is cited with all above it)."""
    prose: bool = False
    """Whether it is nothing but whole sentences."""

    @property
    def first(self) -> int:
        """Where what is shown starts."""
        return max(self.start, self.shown)


def quotation(form: Form, passage: Passage, index: int) -> Quotation:
    """The quote for a unit: with the sentence before, the block after or the whole list, as its form needs."""
    unit = passage.units[index]
    if unit.kind == "code" or (form.name == "list" and unit.kind in ("item", "row")):
        return _whole(passage, unit.block)
    if unit.kind == "row":
        return Quotation(passage.blocks[unit.block].start, unit.end, closed(escaped(unit.text)), shown=unit.start)
    if unit.kind == "item":
        return _item(form, passage, index)
    return _prose(form, passage, index)


def headings_at(passage: Passage, offset: int) -> tuple[str, ...]:
    """The heading path at an offset: small sections that share a passage have their headings inside it."""
    inside = [
        found[1]
        for found in _HEADING.finditer(passage.text, 0, offset)
        if not any(block.start <= found.start() < block.end for block in passage.blocks)
    ]
    return (*passage.headings, plain(inside[-1])) if inside else passage.headings


def joined(passage: Passage, one: Quotation, two: Quotation) -> Quotation | None:
    """Two quotes of one passage as one, when both are prose and no word stands between them."""
    early, late = sorted((one, two), key=lambda quoted: quoted.start)
    if not (one.prose and two.prose) or (early.end < late.start and not adjacent(passage, early.end, late.start)):
        return None
    end = max(early.end, late.end)
    return Quotation(early.start, end, closed(readable(passage.text[early.start : end])), prose=True)


def overlap(one: Quotation, two: Quotation) -> bool:
    """Whether some of the passage would be shown twice."""
    return one.first < two.end and two.first < one.end


def _whole(passage: Passage, block: int) -> Quotation:
    """A list, table or code block with the sentence that introduces it, or else the heading above it."""
    first = passage.blocks[block].start
    start, text = _lead_in(passage, block) or (first, escaped((passage.title, *headings_at(passage, first))[-1]))
    return Quotation(start, passage.blocks[block].end, text, block_text(passage, block))


def _lead_in(passage: Passage, block: int) -> tuple[int, str] | None:
    """Start and words of the sentence that ends with ":" right before a block."""
    before = [unit for unit in passage.units if unit.block == block - 1]
    if not before or before[-1].kind != "sentence":
        return None
    last = before[-1]
    start = passage.blocks[block].start
    if not last.text.endswith(":") or not adjacent(passage, last.end, start):
        return None
    return last.start, readable(passage.text[last.start : last.end])


def _item(form: Form, passage: Passage, index: int) -> Quotation:
    """The item alone, after its lead-in; with the items below it or the code after it where it leads to them."""
    unit = passage.units[index]
    start, end = unit.start, unit.end
    text = readable(passage.text[start:end])
    block = ""
    children = _children(passage, unit)
    after = follower(passage, index)
    if children and text.endswith(":"):
        end = children[-1][1]
        block = block_text(passage, unit.block, children)
    elif after is not None and (form.name == "howto" or text.endswith(":")):
        end = passage.blocks[after].end
        block = block_text(passage, after)
    lead = _lead_in(passage, unit.block)
    if lead:
        first = next(one for one in passage.units if one.block == unit.block)
        start = lead[0] if first is unit else start
    return Quotation(start, end, text if block else closed(text), block, lead[1] if lead else "")


def _children(passage: Passage, unit: Unit) -> list[tuple[int, int]]:
    """The items right below an item that are indented more than it."""
    block = passage.blocks[unit.block]
    own = _indent(passage, unit.start)
    below: list[tuple[int, int]] = []
    for start, end in items(passage.text, block.start, block.end):
        if start > unit.start:
            if _indent(passage, start) <= own:
                break
            below.append((start, end))
    return below


def _indent(passage: Passage, offset: int) -> int:
    return offset - passage.text.rfind("\n", 0, offset)


def _prose(form: Form, passage: Passage, index: int) -> Quotation:
    units = passage.units
    first = last = index
    if _points_back(units[index]) and index and _flows(passage, index - 1):
        first -= 1
    final = max(place for place, unit in enumerate(units) if unit.block == units[index].block)
    if form.name == "howto" and final - index <= _GOES_ON and follower(passage, final, ("code",)) is not None:
        last = final
    if _is_manual(passage):
        while last < final and units[last].end - units[first].start < SHORT:
            last += 1
    while units[last].text.endswith(":") and follower(passage, last) is None and _flows(passage, last):
        last += 1
    start, end = units[first].start, units[last].end
    text = readable(passage.text[start:end])
    after = follower(passage, last)
    if after is not None and (form.name in ("howto", "list") or text.endswith(":")):
        return Quotation(start, passage.blocks[after].end, text, block_text(passage, after))
    return Quotation(start, end, closed(text), prose=True)


def adjacent(passage: Passage, one: int, two: int) -> bool:
    """Whether no word stands between these two offsets."""
    return not any(sign.isalnum() for sign in passage.text[one:two])


def _flows(passage: Passage, index: int) -> bool:
    """Whether this unit and the next are sentences with nothing between them."""
    pair = passage.units[index : index + 2]
    if len(pair) < 2 or any(unit.kind != "sentence" for unit in pair):
        return False
    return adjacent(passage, pair[0].end, pair[1].start)


def _points_back(unit: Unit) -> bool:
    word = first_word(unit.text)
    return word in PRONOUNS or word in _CONNECTIVES


def _is_manual(passage: Passage) -> bool:
    """Manuals have lists, tables and code; an encyclopaedia's sentences stand alone."""
    return "`" in passage.text or any(block.kind != "paragraph" for block in passage.blocks)
