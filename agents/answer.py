"""Answer: the text that the user gets, streamed: by the model, or without one from rules, tools and quotes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from agents.context import BudgetSpent, RunContext
from agents.converse import converse
from agents.delivery import Delivery
from agents.language import detect
from agents.layout import lay_out
from agents.model import ModelBroken, ModelUnavailable
from agents.oneself import heard, told
from agents.output import OutputScreen
from agents.prompting import Prompt
from agents.quote import quote
from agents.recount import recount
from agents.retrieve import Recalled, evidence, unavailable
from agents.smalltalk import reply, topic
from agents.types import (
    Citation,
    CitationSpan,
    Draft,
    Evidence,
    Finish,
    Intent,
    Note,
    Outcome,
    TextDelta,
    Verdict,
    last_said,
)
from memory.store import MemoryUnavailable
from memory.types import Scope, Vector
from tools.types import ToolResult

_ANSWER = Prompt("answer")()
_SMALLTALK = Prompt("smalltalk")()
NO_MODEL = Note(
    "no_model",
    "No language model is set, so answers are quoted from your documents. To set one: "
    "PARLEY_MODEL_URL=http://host/v1 (and PARLEY_MODEL, PARLEY_MODEL_KEY where the server wants them).",
)
_PIECE = re.compile(r".+?(?:[.!?](?=\s)\s+|\n+|$)", re.DOTALL)
_PLAINLY = frozenset({"calculate", "date_and_time"})
"""Tools whose result is an answer by itself."""


async def answer(
    intent: Intent,
    vector: Vector | None,
    recalled: Recalled,
    results: Sequence[ToolResult],
    notes: Sequence[Note],
    ctx: RunContext,
) -> Draft:
    """Answers a turn and sends the answer out. `vector` is that of the intent's question.

    A model that fails before its first word is replaced by quotes from the evidence, which is said in a note.

    Raises:
        ModelBroken: it failed after something had been sent; what was sent is incomplete.
    """
    carried = list({note.code + note.text: note for note in (*notes, *recalled.notes)}.values())
    for note in carried:
        await ctx.emit(note)
    settled = any(not result.failed and _tool(result) in _PLAINLY for result in results)
    aside = intent.kind in ("smalltalk", "conversation") or settled
    recalled = Recalled() if aside else recalled
    base = evidence(recalled.found, recalled.memories, results)
    if ctx.deps.model is None:
        trouble = NO_MODEL
    else:
        delivery = Delivery(ctx, base, _said(ctx))
        try:
            return await _by_model(intent, base, carried, delivery, ctx)
        except BudgetSpent as spent:
            trouble = Note("budget", f"The language model was not asked: {spent}.")
        except (ModelUnavailable, ModelBroken) as error:
            if delivery.started:
                raise ModelBroken(str(error)) from error
            trouble = Note("model_failed", f"The language model did not answer ({error}), so documents are quoted.")
    return await _without_model(intent, vector, recalled, results, [*carried, trouble], ctx)


async def refuse(verdict: Verdict, ctx: RunContext) -> Draft:
    """Tells the user which rule their message falls under; kindly, and with where to find help, for self-harm."""
    said = last_said(ctx.turn.messages)
    language = detect(said)
    rule = reply(f"rule_{verdict.category}", language)
    if verdict.category == "self_harm":
        text = f"{reply('refusal_self_harm', language)}\n\n({rule})"
    else:
        text = f"{reply('refusal', language)} {rule}."
    await ctx.emit(TextDelta(text))
    return Draft(text, "refused", "stop", "rules", verdicts=(verdict,), usage=ctx.budget.used)


async def _by_model(
    intent: Intent, base: Sequence[Evidence], notes: Sequence[Note], delivery: Delivery, ctx: RunContext
) -> Draft:
    model = ctx.deps.model
    assert model is not None
    small = intent.kind == "smalltalk"
    own = () if small or intent.kind == "conversation" else tuple(await ctx.deps.tools.list())
    system = _SMALLTALK if small else _ANSWER
    now = None if small or intent.kind == "conversation" else datetime.now(UTC)
    offered = (*own, *ctx.turn.caller_tools)
    laid = lay_out(system, ctx.turn, base, now, await model.window(), offered)
    for note in laid.notes:
        await ctx.emit(note)
    spoken = await converse(laid, base, own, delivery, ctx)
    if not (delivery.started or delivery.withheld or spoken.calls):
        raise ModelUnavailable("the model said nothing")
    outcome: Outcome = "answered"
    if delivery.withheld:
        outcome = "refused"
    elif intent.kind == "question" and not delivery.citations:
        outcome = "uncertain" if any(item.document for item in spoken.evidence) else "not_found"
    withheld = [delivery.note(verdict) for verdict in delivery.verdicts]
    return Draft(
        text=delivery.text,
        outcome=outcome,
        finish=spoken.finish if not delivery.withheld else "content_filter",
        model=model.name,
        citations=delivery.citations,
        spans=delivery.spans,
        notes=(*notes, *laid.notes, *spoken.notes, *withheld),
        verdicts=tuple(delivery.verdicts),
        tool_calls=spoken.calls,
        usage=ctx.budget.used,
    )


async def _without_model(
    intent: Intent,
    vector: Vector | None,
    recalled: Recalled,
    results: Sequence[ToolResult],
    notes: list[Note],
    ctx: RunContext,
) -> Draft:
    await ctx.emit(notes[-1])
    plain = [result for result in results if _tool(result) in _PLAINLY]
    outcome: Outcome = "answered"
    said, sure = told(intent.question, recalled.memories)
    if intent.kind == "smalltalk":
        text = reply(topic(intent.question) or "other", intent.language)
    elif intent.kind == "conversation":
        text = recount(intent.question, ctx.turn.messages, ctx.turn.summary)
    elif plain:
        outcome = "not_found" if all(result.failed for result in plain) else "answered"
        text = "\n".join(result.text for result in plain)
    elif sure:
        text = said
    else:
        return await _quoted(intent, vector, recalled, results, said, notes, ctx)
    return await _sent(Draft(text, outcome, "stop", "rules", notes=tuple(notes)), ctx)


async def _quoted(
    intent: Intent,
    vector: Vector | None,
    recalled: Recalled,
    results: Sequence[ToolResult],
    said: str,
    notes: list[Note],
    ctx: RunContext,
) -> Draft:
    """The extractive responder's answer, or what else is left to say; `said` is what the user may have told of it."""
    try:
        asked = await ctx.deps.embedder.embed_query(intent.question) if vector is None else vector
        quoted = await quote(
            intent.question,
            asked,
            recalled.found,
            memory=ctx.deps.memory,
            scope=Scope(ctx.turn.tenant, "passages"),
            words=ctx.deps.words,
            language=intent.language,
        )
    except MemoryUnavailable as error:
        text, lost = f"I cannot look into your documents now: {error}", unavailable(error)
        if lost.code not in {note.code for note in notes}:  # it went after the recall
            await ctx.emit(lost)
            notes = [*notes, lost]
        return await _sent(Draft(text, "not_found", "stop", "extractive", notes=tuple(notes)), ctx)
    draft = Draft(quoted.text, quoted.outcome, "stop", "extractive", quoted.citations, quoted.spans, tuple(notes))
    if quoted.outcome == "answered":
        return await _sent(draft, ctx)
    kept = heard(last_said(ctx.turn.messages)) if ctx.turn.thread else ""
    if kept:
        draft = Draft(kept, "answered", "stop", "rules", notes=tuple(notes))
    elif said:
        draft = Draft(said, "uncertain", "stop", "rules", notes=tuple(notes))
    elif quoted.outcome == "not_found":
        entities = [result.text for result in results if not result.failed and _tool(result) == "look_up_entity"]
        if entities and not entities[0].startswith("The documents do not mention"):
            draft = replace(draft, text="\n".join(entities), outcome="answered", model="rules")
        elif intent.kind == "task":
            draft = replace(draft, text=reply("needs_model", intent.language))
    return await _sent(draft, ctx)


async def _sent(draft: Draft, ctx: RunContext) -> Draft:
    """Sends a finished text out, sentence by sentence; a secret in what is quoted stays in."""
    screen = OutputScreen(lambda: (_said(ctx), draft.text))
    first, last = screen.feed(draft.text), screen.finish()
    verdict = first.verdict or last.verdict
    if verdict is not None:
        cut = first.cut if first.verdict is not None else last.cut
        note = Delivery.note(verdict)
        finish: Finish = "content_filter"
        text, spans = draft.text[:cut].rstrip(), tuple(span for span in draft.spans if span.end <= cut)
        used = {span.index for span in spans}
        citations = tuple(citation for citation in draft.citations if citation.index in used)
        draft = replace(draft, text=text, outcome="refused", finish=finish, spans=spans, citations=citations)
        draft = replace(draft, notes=(*draft.notes, note), verdicts=(*draft.verdicts, verdict))
        await ctx.emit(note)
    await _stream(draft.text, draft.citations, draft.spans, ctx)
    return replace(draft, usage=ctx.budget.used)


async def _stream(text: str, citations: Sequence[Citation], spans: Sequence[CitationSpan], ctx: RunContext) -> None:
    waiting = {citation.index: citation for citation in citations}
    place = 0
    for piece in _PIECE.findall(text):
        place += len(piece)
        for span in spans:
            if span.start < place and span.index in waiting:
                await ctx.emit(waiting.pop(span.index))
        await ctx.emit(TextDelta(piece))


def _tool(result: ToolResult) -> str:
    return result.label.origin.rpartition("/")[2]


def _said(ctx: RunContext) -> str:
    return "\n".join(message.content for message in ctx.turn.messages)
