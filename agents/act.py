"""Act: one tool step of a plan, or one call that the model wants, through the toolset and within the budget."""

from __future__ import annotations

import orjson

from agents.context import BudgetSpent, RunContext
from agents.types import Step
from memory.types import TRUST_SYSTEM, Label
from tools.toolset import Caller
from tools.types import ToolCall, ToolResult


async def act(step: Step, ctx: RunContext) -> ToolResult:
    """Runs a tool step; what goes wrong, the spent budget included, is a failed result."""
    return await call(ToolCall(step.id, step.tool, orjson.dumps(step.arguments).decode()), ctx)


async def call(wish: ToolCall, ctx: RunContext) -> ToolResult:
    """Runs one call within the budget."""
    try:
        ctx.budget.reserve_tool_call()
    except BudgetSpent as spent:
        label = Label(ctx.turn.tenant, "system", TRUST_SYSTEM)
        return ToolResult(wish.id, f"{wish.name} was not called: {spent}.", label, failed=True)
    return await ctx.deps.tools.call(Caller(ctx.turn.tenant, ctx.turn.user), wish)
