"""Remember: what the user said about themselves in a stored conversation, kept for later ones."""

from __future__ import annotations

import hashlib

from agents.context import RunContext
from memory.remember import forgets, worth_keeping
from memory.store import MemoryUnavailable
from memory.types import TRUST_USER, Label, Record, Scope


def memories_of(tenant: str, user: str) -> Scope:
    """The room that holds one user's memories."""
    return Scope(tenant, "memories", user)


async def remember(text: str, ctx: RunContext) -> int:
    """Keeps the sentences of a user's message that are worth it, removes what they ask to forget.

    Returns how many sentences were kept. A stateless turn (no thread) keeps nothing; a memory that is away
    costs the memory, not the turn.
    """
    turn = ctx.turn
    if not turn.thread:
        return 0
    scope = memories_of(turn.tenant, turn.user)
    try:
        if wanted := forgets(text):
            await _forget(wanted, scope, ctx)
            return 0
        kept = worth_keeping(text)
        if not kept:
            return 0
        vectors = await ctx.deps.embedder.embed(kept)
        for sentence, vector in zip(kept, vectors, strict=True):
            id = hashlib.sha256(sentence.casefold().encode(errors="replace")).hexdigest()[:24]
            label = Label(turn.tenant, "user", TRUST_USER, frozenset({turn.user}))
            record = Record(id, id, "", sentence, vector, label)
            await ctx.deps.memory.stage(scope, id, turn.run, [record])
            await ctx.deps.memory.publish(scope, id, turn.run, 1)
        return len(kept)
    except MemoryUnavailable:
        return 0


async def _forget(wanted: str, scope: Scope, ctx: RunContext) -> None:
    """Removes the memories that are about what the user named; "" means all of them that are found."""
    from memory.types import Query

    vector = (await ctx.deps.embedder.embed([wanted]))[0]
    for hit in await ctx.deps.memory.search(scope, Query(wanted, vector), 20):
        if hit.score.words > 0 or hit.score.dense >= 0.6:
            await ctx.deps.memory.publish(scope, hit.source, None, 0)
