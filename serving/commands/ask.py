"""parley ask: one question, or a file of them, each answered by a turn of its own."""

from __future__ import annotations

import sys
import time
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agents.types import Citation, Draft, Message
from graphs.events import Event, RunFailed, RunFinished, RunIncomplete, Token
from memory.types import TRUST_USER, Label
from serving.commands.shell import DONE, FAILED, CommandFailed, Shell, console, say, typed, write_json
from serving.principal import Principal
from serving.turns import TurnRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from serving.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Asked:
    """How a turn ended."""

    draft: Draft | None
    """None when it failed."""
    error: str
    seconds: float


async def turn(runtime: Runtime, request: TurnRequest, show: Callable[[str], None]) -> Asked:
    """Runs one turn to its end, handing each piece of the answer to `show`."""
    await runtime.turns.warm()  # part of the start, not of the seconds of a turn
    started = time.monotonic()
    last: Event | None = None
    async with aclosing(runtime.turns.run(request)) as events:
        async for one in events:
            last = one.event
            if isinstance(last, Token):
                show(last.text)
    seconds = time.monotonic() - started
    match last:
        case RunFinished(draft):
            return Asked(draft, "", seconds)
        case RunFailed(error) | RunIncomplete(error):
            return Asked(None, error, seconds)
        case _:
            return Asked(None, "somebody cancelled the run", seconds)


def user_message(text: str, principal: Principal) -> Message:
    """What the person at the keyboard said."""
    return Message("user", typed(text), Label(principal.tenant, "user", TRUST_USER))


def show_sources(out: Console, draft: Draft) -> None:
    """What the answer cites, and what the user should know beside it."""
    from rich.text import Text

    if draft.citations:
        out.print()
    for citation in draft.citations:
        out.print(Text(f"[{citation.index}] {_place(citation)}"), style="cyan")
    for note in draft.notes:
        out.print(Text(f"note: {note.text}"), style="dim")


def ask(shell: Shell, question: str) -> int:
    """Answers one question."""
    return shell.run(lambda runtime: _ask(shell, runtime, question))


async def _ask(shell: Shell, runtime: Runtime, question: str) -> int:
    out = None if shell.json else console()
    asked = await turn(runtime, _stateless(shell, question), (lambda _: None) if out is None else _write)
    if asked.draft is None:
        raise CommandFailed(asked.error)
    if out is None:
        write_json(_answer(asked.draft, asked.seconds))
    else:
        _write("\n")
        show_sources(out, asked.draft)
    return DONE


def ask_file(shell: Shell, file: str) -> int:
    """Answers every line of a file; one JSON object a line on stdout, in the same order."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{file} cannot be read: {error}") from error
    questions = [line.strip() for line in text.splitlines() if line.strip()]
    return shell.run(lambda runtime: _ask_all(shell, runtime, questions))


async def _ask_all(shell: Shell, runtime: Runtime, questions: list[str]) -> int:
    from rich.progress import track

    failed = 0
    progress = console(stderr=True)
    for question in track(questions, "Answering", console=progress, disable=not progress.is_terminal):
        asked = await turn(runtime, _stateless(shell, question), lambda _: None)
        if asked.draft is None:
            failed += 1
            say(f"{question!r}: {asked.error}")
            write_json({"error": asked.error})
        else:
            write_json(_answer(asked.draft, asked.seconds))
    if failed:
        say(f"{failed} of {len(questions)} questions failed")
    return FAILED if failed else DONE


def _stateless(shell: Shell, question: str) -> TurnRequest:
    return TurnRequest(shell.principal, (user_message(question, shell.principal),))


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _place(citation: Citation) -> str:
    page = f"p. {citation.page}" if citation.page is not None else ""
    place = ", ".join(part for part in (citation.heading, page) if part)
    return " - ".join(part for part in (citation.title, place, citation.path) if part)


def _answer(draft: Draft, seconds: float) -> dict[str, object]:
    return {
        "answer": draft.text,
        "outcome": draft.outcome,
        "citations": [
            {
                "index": citation.index,
                "document": citation.document,
                "title": citation.title,
                "path": citation.path,
                "quote": citation.quote,
                "page": citation.page,
                "heading": citation.heading,
                "start": citation.start,
                "end": citation.end,
            }
            for citation in draft.citations
        ],
        "notes": [note.text for note in draft.notes],
        "model": draft.model,
        "seconds": round(seconds, 3),
    }
