"""Converse: the answer of a model, streamed through the delivery, with the tools that it calls on the way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import anyio

from agents import act
from agents.context import BudgetSpent, RunContext
from agents.delivery import Delivery
from agents.layout import Laid, shown
from agents.model import ModelBroken, ModelDelta, ModelRequest
from agents.prompting import tokens, untrusted
from agents.retrieve import evidence as numbered
from agents.types import Evidence, Finish, Message, Note, Usage
from tools.types import ToolCall, ToolResult, ToolSpec


@dataclass(frozen=True, slots=True)
class Spoken:
    """How a model's answer ended."""

    finish: Finish
    calls: tuple[ToolCall, ...] = ()
    """The caller's tools that it wants called."""
    evidence: tuple[Evidence, ...] = ()
    """All that it was shown, what its own searches found included."""
    notes: tuple[Note, ...] = ()


async def converse(
    laid: Laid, evidence: Sequence[Evidence], own: Sequence[ToolSpec], delivery: Delivery, ctx: RunContext
) -> Spoken:
    """Streams the model's answer. Our `own` tools are called and the model goes on; a call of the caller's tools ends
    the turn, and where both have a tool of one name it is the caller's.

    Raises:
        ModelUnavailable, ModelBroken: as the port says; nothing is sent twice, see `Delivery.started`.
        BudgetSpent: not even the first call may be made.
    """
    theirs = {spec.name for spec in ctx.turn.caller_tools}
    own = [spec for spec in own if spec.name not in theirs and ctx.turn.sampling.tool_choice == "auto"]
    messages, seen, size = list(laid.messages), list(evidence), laid.tokens
    notes: list[Note] = []
    while True:
        try:
            offered = _reserve(size, own, ctx)
        except BudgetSpent as spent:
            if not delivery.started:
                raise
            notes.append(Note("budget", f"The answer is shorter than it could be: {spent}."))
            await ctx.emit(notes[-1])
            return Spoken("length", evidence=tuple(seen), notes=tuple(notes))
        played = await _play(_request(messages, offered, ctx), size, delivery, ctx)
        if delivery.withheld:
            return Spoken("content_filter", evidence=tuple(seen), notes=tuple(notes))
        foreign = tuple(call for call in played.calls if call.name in theirs)
        if foreign or not played.calls:
            finish = "tool_calls" if foreign else played.finish
            return Spoken(finish, foreign, tuple(seen), tuple(notes))
        results = await _called(played.calls, ctx)
        label = results[0].label
        messages.append(Message("assistant", played.text, replace(label, origin="model"), tool_calls=played.calls))
        for call, result in zip(played.calls, results, strict=True):
            fresh = _fresh(result, seen)
            seen.extend(fresh)
            delivery.add(fresh)
            text = _told(call, result, seen)
            messages.append(Message("tool", text, result.label, tool_call_id=call.id, name=call.name))
            size += tokens(text)


def _reserve(size: int, own: Sequence[ToolSpec], ctx: RunContext) -> tuple[ToolSpec, ...]:
    """Takes a model call; our tools are offered while there is budget for the call after it."""
    if own:
        try:
            ctx.budget.reserve_model_call(tokens=size)
            return (*own, *ctx.turn.caller_tools)
        except BudgetSpent:
            pass
    ctx.budget.reserve_model_call(tokens=size, answer=True)
    return ctx.turn.caller_tools


def _request(messages: Sequence[Message], tools: tuple[ToolSpec, ...], ctx: RunContext) -> ModelRequest:
    sampling = ctx.turn.sampling
    return ModelRequest(
        messages=tuple(messages),
        tools=tools,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        stop=sampling.stop,
        seed=sampling.seed,
        tool_choice=sampling.tool_choice if ctx.turn.caller_tools else "auto",
        parallel_tool_calls=sampling.parallel_tool_calls,
    )


@dataclass(frozen=True, slots=True)
class _Played:
    text: str
    calls: tuple[ToolCall, ...]
    finish: Literal["stop", "length", "content_filter"]


_FINISHES: dict[str, Literal["stop", "length", "content_filter"]] = {
    "length": "length",
    "content_filter": "content_filter",
}


async def _play(request: ModelRequest, reserved: int, delivery: Delivery, ctx: RunContext) -> _Played:
    """One call of the model: sends its text on as it comes; returns all of it with the calls at its end."""
    model = ctx.deps.model
    assert model is not None
    said: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    finish: str | None = None
    usage: Usage | None = None
    stream = model.stream(request)
    try:
        delta: ModelDelta | None = await _first(stream)
        while delta is not None:
            usage = delta.usage or usage
            calls, finish = delta.tool_calls or calls, delta.finish or finish
            if delta.text:
                said.append(delta.text)
                if not await delivery.say(delta.text):
                    break
            delta = await anext(stream, None)
        if not delivery.withheld:
            if finish is None:
                raise ModelBroken("the model's answer ended without a finish reason")
            if not calls:
                await delivery.finish()
    finally:
        await stream.aclose()
        text = "".join(said)
        spent = usage or Usage(prompt_tokens=reserved, completion_tokens=tokens(text) if text else 0)
        ctx.budget.settle(reserved=reserved, usage=spent)
    return _Played(text, calls, _FINISHES.get(finish or "", "stop"))


async def _first(stream: AsyncGenerator[ModelDelta, None]) -> ModelDelta:
    """The first delta that says something; those before it carry nothing."""
    async for delta in stream:
        if delta.text or delta.tool_calls or delta.finish:
            return delta
    raise ModelBroken("the model's answer ended before it began")


async def _called(calls: Sequence[ToolCall], ctx: RunContext) -> list[ToolResult]:
    """Our own tools, all at once; results in the order of the calls."""
    results: dict[int, ToolResult] = {}

    async def run(place: int, call: ToolCall) -> None:
        results[place] = await act.call(call, ctx)

    async with anyio.create_task_group() as group:
        for place, call in enumerate(calls):
            group.start_soon(run, place, call)
    return [results[place] for place in range(len(calls))]


def _fresh(result: ToolResult, seen: Sequence[Evidence]) -> list[Evidence]:
    """The passages of a result that were not shown yet, with the numbers that follow."""
    known = {item.passage for item in seen if item.document}
    passages = [item for item in numbered((), (), [result]) if item.document and item.passage not in known]
    last = max((item.index for item in seen), default=0)
    return [replace(item, index=last + place) for place, item in enumerate(passages, 1)]


def _told(call: ToolCall, result: ToolResult, seen: Sequence[Evidence]) -> str:
    """A result as the model reads it: passages with the numbers to cite, anything else as it is."""
    wanted = {item.passage for item in numbered((), (), [result]) if item.document}
    passages = [shown(item) for item in seen if item.document and item.passage in wanted]
    return "\n\n".join(passages) if passages else untrusted("result", result.text, tool=call.name)
