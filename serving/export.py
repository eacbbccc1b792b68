"""A whole conversation as a file: JSON for programs, Markdown for people; page by page, however long it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Literal

import orjson

from agents.types import Citation
from serving.conversations import Conversations
from serving.feedback import FeedbackStore
from serving.paging import MAX_LIMIT, walk
from serving.principal import Principal
from serving.records import StoredMessage, Thread
from serving.shapes import feedback_json, message_json, thread_json

Format = Literal["json", "markdown"]
KINDS: dict[Format, tuple[str, str]] = {"json": ("application/json", "json"), "markdown": ("text/markdown", "md")}
"""Media type and file ending."""

_SPEAKERS = {"user": "You", "assistant": "Parley"}


class Export:
    """Writes conversations out."""

    def __init__(self, conversations: Conversations, feedback: FeedbackStore) -> None:
        self._conversations, self._feedback = conversations, feedback

    def pieces(self, who: Principal, thread: Thread, format: Format) -> AsyncGenerator[bytes, None]:
        """The file in UTF-8, in pieces."""
        return self._json(who, thread) if format == "json" else self._markdown(who, thread)

    def messages(self, who: Principal, thread: Thread) -> AsyncGenerator[StoredMessage, None]:
        """All messages, oldest first."""
        return walk(lambda cursor: self._conversations.messages(who, thread.id, cursor, MAX_LIMIT))

    async def _json(self, who: Principal, thread: Thread) -> AsyncGenerator[bytes, None]:
        yield orjson.dumps(thread_json(thread))[:-1] + b',"messages":['
        comma = b""
        async for message in self.messages(who, thread):
            yield comma + orjson.dumps(message_json(message))
            comma = b","
        feedback = [feedback_json(one) for one in await self._feedback.of_thread(who, thread.id)]
        yield b'],"feedback":' + orjson.dumps(feedback) + b"}\n"

    async def _markdown(self, who: Principal, thread: Thread) -> AsyncGenerator[bytes, None]:
        yield f"# {thread.title or 'Conversation'}\n".encode()
        async for message in self.messages(who, thread):
            how = "" if message.status == "complete" else f" ({message.status})"
            head = f"## {_SPEAKERS[message.role]}, {message.created_at}{how}"
            parts = [head, message.content, *(_source(citation) for citation in message.citations)]
            yield ("\n" + "\n\n".join(parts) + "\n").encode()


def _source(citation: Citation) -> str:
    page = f"p. {citation.page}" if citation.page is not None else ""
    place = ", ".join(part for part in (citation.title, citation.heading, page, citation.path) if part)
    quote = " ".join(citation.quote.split())
    return f"[{citation.index}] {place}: “{quote}”"
