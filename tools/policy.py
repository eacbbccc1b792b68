"""The decision for one tool call: allow, ask or deny, with the reason (SAFETY section 1, DECIDE).

Only the rules that need no plan are here: 1 (unknown tool), 2 (tenants), 3 (harmless reads), 8 (secrets) and, for
every call with an effect, 4 (no plan step: deny). Effects come with a frozen plan, a ledger and approvals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memory.types import Label
from tools.types import ToolSpec


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one call."""

    verdict: Literal["allow", "ask", "deny"]
    reason: str = ""
    """In words for a person and for the model; "" when allowed."""


ALLOW = Decision("allow")


def decide(spec: ToolSpec | None, tenant: str, arguments: Label) -> Decision:
    """Decides one call; total: whatever is not plainly harmless is denied.

    `spec` is None when nobody offers the tool; `tenant` is the caller's; `arguments` labels what is sent to it.
    """
    if spec is None:
        return Decision("deny", "there is no such tool")
    if arguments.tenant != tenant:
        return Decision("deny", "the arguments belong to another tenant")
    if arguments.secret:
        return Decision("deny", "a secret must not be handed to a tool")
    if spec.effect == "read":
        return ALLOW
    return Decision("deny", f'it has the effect "{spec.effect}", and no step of the plan allows that')
