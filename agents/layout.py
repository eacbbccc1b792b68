"""Layout: the messages of a model call, within its window and in the order that the prefix cache likes.

Fixed text first, then the caller's own instructions, the history as it was said, and last the newest message with
all that changes every time: evidence, results, date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil

from agents.context import Turn
from agents.prompting import tokens, untrusted
from agents.summarise import condensed
from agents.types import Evidence, Message, Note
from memory.types import TRUST_SYSTEM, Label
from tools.types import ToolSpec

ANSWER_TOKENS = 1_024
"""Tokens kept free for the answer, when the caller does not say and the window allows."""
MESSAGE_TOKENS = 6
"""What the form of a message costs beside its text."""


@dataclass(frozen=True, slots=True)
class Laid:
    """The messages of one call."""

    messages: tuple[Message, ...]
    tokens: int
    """About how many tokens they are."""
    notes: tuple[Note, ...] = ()


def lay_out(
    system: str, turn: Turn, evidence: Sequence[Evidence], now: datetime | None, window: int, tools: Sequence[ToolSpec]
) -> Laid:
    """Lays out a turn for a model with this window (in tokens).

    When it is too small, first the oldest turns become a summary, then evidence is dropped from the last on, at last
    the newest message loses its middle, which is said in a note. `now` is None where the date does not matter."""
    label = Label(turn.tenant, "system", TRUST_SYSTEM)
    own = "\n\n".join(message.content for message in turn.messages if message.role == "system")
    head = Message("system", f"{system}\n\n{own}".strip(), label)
    said = [message for message in turn.messages if message.role != "system"]
    place = max((place for place, message in enumerate(said) if message.role == "user"), default=0)
    history, newest = said[:place], said[place:]

    room = min(turn.sampling.max_tokens or ANSWER_TOKENS, window // 4)
    left = window - room - _cost(head) - sum(tokens(f"{tool.description}{tool.parameters}") for tool in tools)
    newest, notes = _shortened(newest, left)
    left -= sum(map(_cost, newest))
    tail = _tail(evidence, now, left)
    left -= tokens(tail) if tail else 0
    kept, summary = _kept(history, turn.summary, left)
    if newest and tail:
        newest = [replace(newest[0], content=f"{newest[0].content}\n\n{tail}"), *newest[1:]]
    messages = [head, *_with_summary([*kept, *newest], summary)]
    return Laid(tuple(messages), sum(map(_cost, messages)), notes)


def shown(evidence: Evidence) -> str:
    """One piece of evidence as a prompt shows it: passages with the number to cite, all else without."""
    if evidence.document:
        heading = " > ".join(evidence.headings)
        return untrusted(
            "passage", evidence.text, n=evidence.index, title=evidence.title, heading=heading, page=evidence.page
        )
    if evidence.label.origin.startswith("tool:"):
        return untrusted("result", evidence.text, tool=evidence.label.origin.rpartition("/")[2])
    return untrusted("memory", evidence.text)


def _tail(evidence: Sequence[Evidence], now: datetime | None, left: int) -> str:
    """What changes every time, below the newest message; as much of the evidence as fits."""
    if now is None:
        return ""
    clock = f"(Now: {now:%A}, {now.day} {now:%B} {now.year}, {now:%H:%M} UTC)"
    pieces: list[str] = []
    left -= tokens(clock) + 20
    for item in evidence:
        piece = shown(item)
        cost = tokens(piece)
        if cost > left:
            break
        left -= cost
        pieces.append(piece)
    if not any(item.document or item.label.origin.startswith("tool:") for item in evidence):
        pieces.append("(No passage of the documents fits.)")
    return "\n\n".join(("---", *pieces, clock))


def _kept(history: Sequence[Message], summary: str, left: int) -> tuple[list[Message], str]:
    """The newest whole turns that fit, and a summary of those that do not (and of what was before)."""
    turns: list[list[Message]] = []
    for message in history:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    left -= tokens(summary) + MESSAGE_TOKENS if summary else 0
    cost, first = 0, len(turns)
    while first and cost + sum(map(_cost, turns[first - 1])) <= left:
        first -= 1
        cost += sum(map(_cost, turns[first]))
    dropped = [message for turn in turns[:first] for message in turn]
    if dropped:
        summary = condensed(summary, dropped)
        room = max(0, left - cost) + (tokens(summary) if left > cost else 0)
        summary = summary[-int(room * 3) :] if tokens(summary) > room else summary
    return [message for turn in turns[first:] for message in turn], summary


def _with_summary(messages: list[Message], summary: str) -> list[Message]:
    """The summary goes in front of the oldest user message that is shown: some servers know one system message only."""
    place = next((place for place, message in enumerate(messages) if message.role == "user"), None)
    if not summary or place is None:
        return messages
    first = messages[place]
    told = replace(first, content=f"{untrusted('summary', summary)}\n\n{first.content}")
    return [*messages[:place], told, *messages[place + 1 :]]


def _shortened(newest: list[Message], left: int) -> tuple[list[Message], tuple[Note, ...]]:
    """The newest messages, their longest without its middle when the window is too small for all."""
    over = sum(map(_cost, newest)) - max(left, 64)
    if over <= 0 or not newest:
        return newest, ()
    place = max(range(len(newest)), key=lambda place: len(newest[place].content))
    text = newest[place].content
    keep = max(100, int(len(text) * (1 - (over + 16) / max(1, _cost(newest[place])))))
    cut = f"{text[: ceil(keep * 0.7)]}\n[...]\n{text[len(text) - int(keep * 0.3) :]}"
    note = Note("shortened", "The message is longer than the model's window: its middle was left out.")
    return [*newest[:place], replace(newest[place], content=cut), *newest[place + 1 :]], (note,)


def _cost(message: Message) -> int:
    calls = sum(len(call.arguments) + len(call.name) for call in message.tool_calls)
    return tokens(message.content) + calls // 3 + MESSAGE_TOKENS
