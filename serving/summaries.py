"""Running summaries of long conversations, made beside the turns; and stored messages as turns know them."""

from __future__ import annotations

import asyncio

from agents.context import Budget, Deps, Limits, RunContext, Turn
from agents.summarise import summarise
from agents.types import Emitted, Message
from memory.types import TRUST_NONE, TRUST_USER, Label
from serving.repository import History, Repository

SUMMARISE_CHARACTERS = 24_000
"""So much unsummarised text in a stored conversation starts a new running summary."""
KEEP_WHOLE = 8
"""The newest messages, which a summary never swallows."""


class Summaries:
    """Makes them, at most one at a time for each conversation."""

    def __init__(self, deps: Deps, repository: Repository, limits: Limits) -> None:
        self._deps, self._repository, self._limits = deps, repository, limits
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def later(self, turn: Turn) -> None:
        """Starts a new summary when much has been said since the last; never on the way of a turn."""
        if sum(len(m.content) for m in turn.messages) < SUMMARISE_CHARACTERS or turn.thread in self._tasks:
            return
        task = asyncio.create_task(self._summarise(turn), name=f"summary of {turn.thread}")
        self._tasks[turn.thread] = task
        task.add_done_callback(lambda _: self._tasks.pop(turn.thread, None))

    async def close(self) -> None:
        """Gives up what is under way; the next turn of the conversation starts it again."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _summarise(self, turn: Turn) -> None:
        thread = await self._repository.thread(turn.tenant, turn.user, turn.thread)
        if thread is None:
            return
        stored = await self._repository.messages(turn.tenant, turn.user, turn.thread, after=thread.summary_upto)
        old = stored[:-KEEP_WHOLE]
        if not old:
            return
        ctx = RunContext(self._deps, turn, Budget(self._limits), _unheard)
        text = await summarise(thread.summary, [message(one.role, one.content, turn.tenant) for one in old], ctx)
        await self._repository.set_summary(turn.tenant, turn.user, turn.thread, text, old[-1].number)


async def _unheard(_: Emitted) -> None:
    """A summary speaks to nobody."""


def spoken(history: History, tenant: str) -> tuple[Message, ...]:
    """The messages of a conversation as a turn knows them."""
    return tuple(message(role, text, tenant) for role, text in history.messages)


def message(role: str, text: str, tenant: str) -> Message:
    """A stored message with the label of whoever said it."""
    if role == "user":
        return Message("user", text, Label(tenant, "user", TRUST_USER))
    return Message("assistant", text, Label(tenant, "model", TRUST_NONE))
