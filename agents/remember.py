"""Remember: what the user said about themselves in a stored conversation, kept for later ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress

from agents.context import RunContext
from agents.types import Note
from memory.remember import EVERYTHING, forgets, worth_keeping
from memory.store import IncompleteSource, MemoryUnavailable
from memory.types import TRUST_USER, Label, Query, Record, Scope

MOST_MEMORIES, LIKELY_MEMORIES = 100_000, 20
SAME_SUBJECT = 0.6
"""Cosine from which a memory is about what the user wants forgotten, without sharing a word with it."""


def memories_of(tenant: str, user: str) -> Scope:
    """The room that holds one user's memories."""
    return Scope(tenant, "memories", user)


async def remember(text: str, ctx: RunContext) -> tuple[Note, ...]:
    """Keeps the sentences of a user's message that are worth it, removes what they ask to forget.

    A stateless turn (no thread) keeps nothing. A memory that is away costs the memory, not the turn: a note says so.
    """
    turn = ctx.turn
    if not turn.thread:
        return ()
    scope = memories_of(turn.tenant, turn.user)
    unwanted = forgets(text)
    try:
        for wanted in unwanted:
            await _forget(wanted, scope, ctx)
        if not unwanted:
            await _keep(worth_keeping(text), scope, ctx)
    except MemoryUnavailable as error:
        failed = "What you asked to forget may still be" if unwanted else "What you said may not have been"
        return (Note("not_remembered", f"{failed} remembered; say it again later: {error}"),)
    return ()


async def _keep(sentences: Sequence[str], scope: Scope, ctx: RunContext) -> None:
    """Each sentence as a memory of its own; said again, it replaces the one that is there, or one of those that are
    kept at the same time stays."""
    if not sentences:
        return
    turn = ctx.turn
    vectors = await ctx.deps.embedder.embed(sentences)
    for sentence, vector in zip(sentences, vectors, strict=True):
        id = hashlib.sha256(sentence.casefold().encode(errors="replace")).hexdigest()[:24]
        label = Label(turn.tenant, "user", TRUST_USER, frozenset({turn.user}))
        await ctx.deps.memory.stage(scope, id, turn.run, [Record(id, id, "", sentence, vector, label)])
        with suppress(IncompleteSource):  # another turn has kept the very same sentence meanwhile
            await ctx.deps.memory.publish(scope, id, turn.run, 1)


async def _forget(wanted: str, scope: Scope, ctx: RunContext) -> None:
    """Removes the memories about what the user named, or all of them."""
    vector = await ctx.deps.embedder.embed_query(wanted)
    everything = wanted == EVERYTHING
    limit = MOST_MEMORIES if everything else LIKELY_MEMORIES
    for hit in await ctx.deps.memory.search(scope, Query(wanted, vector), limit):
        if everything or hit.score.words > 0 or hit.score.dense >= SAME_SUBJECT:
            await ctx.deps.memory.publish(scope, hit.source, None, 0)
