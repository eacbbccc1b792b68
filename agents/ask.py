"""Ask: a question to the model whose answer must have a given form; one repair, then no answer."""

from __future__ import annotations

from typing import Generic, TypeVar, cast

import anyio
from pydantic import TypeAdapter, ValidationError

from agents.context import BudgetSpent, RunContext
from agents.model import ModelBroken, ModelDelta, ModelRequest, ModelUnavailable
from agents.prompting import tokens
from agents.types import Message
from memory.types import TRUST_SYSTEM, Label
from tools.types import JsonObject

T = TypeVar("T")
SHARE = 0.25
"""Share of the turn's remaining time that one such question may take."""
SECONDS = 10.0
"""And most seconds for one whose answer the user waits for: a model that hangs must not take the turn."""
MAX_TOKENS = 400


class Form(Generic[T]):
    """The form of an answer: a dataclass with its JSON Schema, prepared once at import."""

    def __init__(self, kind: type[T]) -> None:
        self._adapter = TypeAdapter(kind)
        self.schema = cast(JsonObject, self._adapter.json_schema())

    def read(self, text: str) -> T:
        """The value in a model's reply; what stands round the JSON object is dropped.

        Raises:
            ValueError: there is none of this form; the message says what is wrong.
        """
        start, end = text.find("{"), text.rfind("}")
        if start < 0 or end < start:
            raise ValueError("there is no JSON object")
        try:
            return self._adapter.validate_json(text[start : end + 1])
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:5])
            raise ValueError(faults) from error


async def ask(form: Form[T], prompt: str, ctx: RunContext) -> T | None:
    """The model's answer in this form, or None: no model, no budget, no time, a model that fails, or two replies of
    another form. Callers always have something cheaper to fall back on."""
    if ctx.deps.model is None:
        return None
    label = Label(ctx.turn.tenant, "system", TRUST_SYSTEM)
    messages = (Message("user", prompt, label),)
    with anyio.move_on_after(min(SECONDS, ctx.budget.seconds_left() * SHARE)):
        for _ in range(2):
            reply = await _reply(ModelRequest(messages, max_tokens=MAX_TOKENS, temperature=0, schema=form.schema), ctx)
            if reply is None:
                return None
            try:
                return form.read(reply)
            except ValueError as fault:
                repair = f"That does not have the required form ({fault}). Reply with the JSON object only."
                messages = (*messages, Message("assistant", reply, label), Message("user", repair, label))
    return None


async def text(prompt: str, ctx: RunContext, *, max_tokens: int = MAX_TOKENS) -> str | None:
    """The model's answer as plain text, or None as for `ask`."""
    if ctx.deps.model is None:
        return None
    message = Message("user", prompt, Label(ctx.turn.tenant, "system", TRUST_SYSTEM))
    with anyio.move_on_after(ctx.budget.seconds_left() * SHARE):
        return await _reply(ModelRequest((message,), max_tokens=max_tokens, temperature=0), ctx)
    return None


async def _reply(request: ModelRequest, ctx: RunContext) -> str | None:
    model = ctx.deps.model
    assert model is not None
    reserved = sum(tokens(message.content) for message in request.messages)
    try:
        ctx.budget.reserve_model_call(tokens=reserved)
    except BudgetSpent:
        return None
    parts: list[str] = []
    stream = model.stream(request)
    try:
        async for delta in stream:
            parts.append(delta.text)
            _settle(delta, reserved, ctx)
    except (ModelUnavailable, ModelBroken):
        return None
    finally:
        await stream.aclose()
    return "".join(parts)


def _settle(delta: ModelDelta, reserved: int, ctx: RunContext) -> None:
    if delta.usage is not None:
        ctx.budget.settle(reserved=reserved, usage=delta.usage)
