"""parley threads: list, show, export and delete stored conversations."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from serving.commands.shell import DONE, CommandFailed, Shell, console, say, write_json
from serving.conversations import Conversations
from serving.export import Export, Format
from serving.feedback import FeedbackStore
from serving.paging import MAX_LIMIT, walk
from serving.principal import Principal
from serving.records import StoredMessage, Thread, ThreadBusy, UnknownThread
from serving.shapes import thread_json

if TYPE_CHECKING:
    from serving.runtime import Runtime


async def recent(conversations: Conversations, who: Principal, query: str = "") -> list[Thread]:
    """All conversations, or those that say each word of `query`; last changed first."""
    found = [one async for one in walk(lambda cursor: conversations.page(who, cursor, MAX_LIMIT, query))]
    return sorted(found, key=lambda thread: (thread.updated_at, thread.id), reverse=True)


async def everything(conversations: Conversations, who: Principal, id: str) -> list[StoredMessage]:
    """All messages of a conversation, oldest first."""
    return [one async for one in walk(lambda cursor: conversations.messages(who, id, cursor, MAX_LIMIT))]


def list_threads(shell: Shell, query: str) -> int:
    """All conversations, or those that say each word of `query`."""
    return shell.run(lambda runtime: _list(shell, runtime, query))


async def _list(shell: Shell, runtime: Runtime, query: str) -> int:
    found = await recent(Conversations(runtime.database), shell.principal, query)
    if shell.json:
        write_json({"threads": [thread_json(thread) for thread in found]})
        return DONE
    if not found:
        say("No conversation says that." if query else "There are no conversations yet; `parley chat` begins one.")
        return DONE
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "updated", "title", box=None, pad_edge=False)
    for thread in found:
        table.add_row(*(Text(cell) for cell in (thread.id, thread.updated_at[:16], thread.title)))
    console().print(table)
    return DONE


def export_thread(shell: Shell, id: str, format: Format) -> int:
    """One conversation as a file on stdout.

    Raises:
        CommandFailed: there is no such conversation.
    """
    return shell.run(lambda runtime: _export(shell, runtime, id, "json" if shell.json else format))


async def _export(shell: Shell, runtime: Runtime, id: str, format: Format) -> int:
    conversations = Conversations(runtime.database)
    thread = await _found(conversations, shell.principal, id)
    pieces = Export(conversations, FeedbackStore(runtime.database)).pieces(shell.principal, thread, format)
    if format == "json":
        write_json(json.loads(b"".join([piece async for piece in pieces])))
        return DONE
    async with aclosing(pieces):
        async for piece in pieces:
            sys.stdout.write(piece.decode())
    return DONE


def delete_threads(shell: Shell, ids: list[str]) -> int:
    """Deletes conversations with all that came from them.

    Raises:
        CommandFailed: one of them does not exist, and then none is deleted; or one has a run that is not over.
    """
    return shell.run(lambda runtime: _delete(shell, runtime, ids))


async def _delete(shell: Shell, runtime: Runtime, ids: list[str]) -> int:
    conversations = Conversations(runtime.database)
    threads = [await _found(conversations, shell.principal, id) for id in dict.fromkeys(ids)]
    for thread in threads:
        try:
            await conversations.delete(shell.principal, thread.id)
        except ThreadBusy as error:
            raise CommandFailed(str(error)) from error
        if not shell.json:
            say(f"deleted {thread.id}  {thread.title}")
    if shell.json:
        write_json({"deleted": [thread_json(thread) for thread in threads]})
    return DONE


async def _found(conversations: Conversations, who: Principal, id: str) -> Thread:
    try:
        return await conversations.get(who, id)
    except UnknownThread as error:
        raise CommandFailed(f"{error}; `parley threads list` shows all") from error
