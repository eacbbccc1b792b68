"""Remember: what the user said about themselves in a stored conversation, kept for later ones."""

from __future__ import annotations

import hashlib

from agents.context import RunContext
from memory.remember import EVERYTHING, forgets, worth_keeping
from memory.store import MemoryUnavailable
from memory.types import TRUST_USER, Label, Query, Record, Scope

MOST_MEMORIES, LIKELY_MEMORIES = 100_000, 20
SAME_SUBJECT = 0.6
"""Cosine from which a memory is about what the user wants forgotten, without sharing a word with it."""


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
        unwanted = forgets(text)
        for wanted in unwanted:
            await _forget(wanted, scope, ctx)
        if unwanted:
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
    """Removes the memories about what the user named, or all of them."""
    vector = await ctx.deps.embedder.embed_query(wanted)
    everything = wanted == EVERYTHING
    limit = MOST_MEMORIES if everything else LIKELY_MEMORIES
    for hit in await ctx.deps.memory.search(scope, Query(wanted, vector), limit):
        if everything or hit.score.words > 0 or hit.score.dense >= SAME_SUBJECT:
            await ctx.deps.memory.publish(scope, hit.source, None, 0)
