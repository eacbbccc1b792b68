"""Plan: what to do before the answer, from the user's words alone: tool calls and several look-ups, or nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

import orjson

from agents.ask import Form, ask
from agents.context import RunContext
from agents.prompting import Prompt, untrusted
from agents.retrieve import Recalled
from agents.rewrite import rewrite
from agents.types import Intent, Message, Plan, Step, last_said
from memory.types import TRUST_USER, Label
from tools.recognise import recognise
from tools.types import JsonObject

MOST = 3
"""Most steps of a plan."""
LONGEST = 600
"""A longer question is not taken apart, in characters."""
_LONG = 25
"""Words from which a question with several question words is worth a model's plan."""

_PROMPT = Prompt("plan")
_AND_ASKS = re.compile(
    r",?\s+(?:and|und|et|y)\s+(?=(?:also\s+)?(?:when|where|who|whom|what|why|which|how|wann|wo|wer|was|warum|wie|quand|où|qui)\s)",
    re.IGNORECASE,
)
_ENDS = re.compile(r"(?<=\?)\s+")
_COMPARED = re.compile(
    r"^(?P<lead>.*?)\b(?:compare|comparing|differences? between|compared?|distinguish(?: between)?)\s+(?P<one>.+?)\s+"
    r"(?:and|with|to|from|versus|vs\.?)\s+(?P<two>.+?)[?.!]*$",
    re.IGNORECASE,
)
_VERSUS = re.compile(r"^(?P<lead>)(?P<one>.+?)\s+(?:versus|vs\.?)\s+(?P<two>.+?)[?.!]*$", re.IGNORECASE)
_WHICH_OF_TWO = re.compile(
    r"^(?P<lead>(?:which|who|what) .+?),\s+(?P<one>[^,]+?),?\s+or\s+(?P<two>[^,?]+?)[?.!]*$", re.IGNORECASE
)
_ENTITY = re.compile(
    r"^(?:what do (?:you|we|the documents) (?:know|have|say) (?:about|on)|who or what is|"
    r"(?:what|who) is (?:connected|related) (?:to|with)|which names (?:stand|appear) with)\s+(?P<name>.+?)\s*[?.!]*$",
    re.IGNORECASE,
)
_ASKING = re.compile(r"\b(?:when|where|who|whom|what|why|which|how)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _StepReply:
    kind: Literal["tool", "retrieve"]
    tool: str = ""
    arguments: dict[str, str | int | float | bool] = field(default_factory=dict[str, str | int | float | bool])
    query: str = ""


@dataclass(frozen=True, slots=True)
class _Reply:
    steps: list[_StepReply]


_FORM = Form(_Reply)


async def plan(intent: Intent, recalled: Recalled, ctx: RunContext) -> Plan:
    """The steps before the answer; none when what was recalled for the message as it was said will do.

    Made from the user's words only: what was recalled is never read for it (SAFETY: PLAN). Its steps do not depend
    on each other. A model is asked only where rules see that there is more to do and not what."""
    if intent.kind in ("smalltalk", "conversation"):
        return Plan()
    wish = recognise(intent.question)
    if wish is not None:
        return Plan((Step("s1", "tool", tool=wish.tool, arguments=wish.arguments),))
    if intent.kind == "tool":
        return await _modelled(intent, ctx) or Plan()
    entity = _ENTITY.match(intent.question)
    queries = parts(intent.question)
    if len(queries) < 2:
        if _unsure(intent.question):
            made = await _modelled(intent, ctx)
            if made is not None:
                return made
        queries = [intent.question] if entity or _rewritten(intent, ctx) else []
    steps = [Step(f"s{number}", "retrieve", query=query) for number, query in enumerate(queries[:MOST], 1)]
    if entity and len(steps) < MOST:
        steps.append(Step(f"s{len(steps) + 1}", "tool", tool="look_up_entity", arguments={"name": entity["name"]}))
    return Plan(tuple(steps))


def parts(question: str) -> list[str]:
    """The questions that a question is made of, each of which stands alone; one element when it is one."""
    if len(question) > LONGEST:
        return [question]
    for pattern in (_COMPARED, _VERSUS, _WHICH_OF_TWO):
        match = pattern.match(question)
        if match and len(match["one"].split()) <= 8 and len(match["two"].split()) <= 8:
            return _both(match)
    pieces = [piece.strip() for end in _ENDS.split(question) for piece in _AND_ASKS.split(end) if piece.strip()]
    asking = [piece for piece in pieces if len(piece.split()) >= 3]
    if len(asking) < 2:
        return [question]
    label = Label("", "user", TRUST_USER)
    first = asking[0].rstrip("?.! ") + "?"
    found = [first]
    for piece in asking[1:MOST]:
        asked = re.sub(r"^also\s+", "", piece, flags=re.IGNORECASE)
        asked = f"{asked[:1].upper()}{asked[1:].rstrip('?.! ')}?"
        found.append(rewrite([Message("user", first, label), Message("user", asked, label)]).question)
    return found


def _both(match: re.Match[str]) -> list[str]:
    """Two things compared, each with what is compared of them: "the price of A and B" asks for the price of B too."""
    one, two = match["one"].strip(), match["two"].strip()
    shared = re.match(r"^(.+?\b(?:of|for|in)\s+)(?:the\s+)?\S", one, re.IGNORECASE)
    if shared and not re.search(r"\b(?:of|for|in)\b", two, re.IGNORECASE):
        two = f"{shared[1]}{two}"
    if match.re is _WHICH_OF_TWO:
        return [f"{match['lead']}: {one}?", f"{match['lead']}: {two}?"]
    return [one, two]


def _rewritten(intent: Intent, ctx: RunContext) -> bool:
    said = last_said(ctx.turn.messages)
    return " ".join(said.split()) != " ".join(intent.question.split())


def _unsure(question: str) -> bool:
    return len(question.split()) >= _LONG and len(_ASKING.findall(question)) >= 2


async def _modelled(intent: Intent, ctx: RunContext) -> Plan | None:
    """The model's plan; only tools that exist are kept."""
    if ctx.deps.model is None:
        return None
    specs = await ctx.deps.tools.list()
    shown = "\n".join(
        f"- {spec.name}: {spec.description} Arguments: {orjson.dumps(spec.parameters).decode()}" for spec in specs
    )
    reply = await ask(_FORM, _PROMPT(tools=shown, question=untrusted("message", intent.question)), ctx)
    if reply is None:
        return None
    known = {spec.name for spec in specs}
    steps: list[Step] = []
    for wanted in reply.steps[:MOST]:
        id = f"s{len(steps) + 1}"
        if wanted.kind == "retrieve" and wanted.query.strip():
            steps.append(Step(id, "retrieve", query=wanted.query.strip()))
        elif wanted.kind == "tool" and wanted.tool in known:
            arguments: JsonObject = {**wanted.arguments}
            steps.append(Step(id, "tool", tool=wanted.tool, arguments=arguments))
    return Plan(tuple(steps), "model") if steps else None
