"""Who asks: the tenant whose data is read, the user whose conversations they are, and what that user may do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "admin"]
ROLES: dict[str, Role] = {"user": "user", "admin": "admin"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Someone who asks. Documents belong to the tenant; threads, runs, jobs and feedback to the user in it."""

    tenant: str = "local"
    user: str = "local"
    role: Role = "user"
    """An admin may also remove any document of the tenant; nobody reads another user's conversations."""

    @property
    def is_admin(self) -> bool:
        """Whether all of the tenant's documents are theirs to remove."""
        return self.role == "admin"


LOCAL = Principal(role="admin")
"""Whoever sits at this machine: the command line, and the server on loopback while no key has been made."""


def checked_name(name: str, what: str) -> str:
    """The name of a tenant or a user, as it is.

    Raises:
        ValueError: it can be none; the text says what can.
    """
    if _NAME.fullmatch(name):
        return name
    raise ValueError(
        f"{name!r} cannot name a {what}: use up to 100 letters, digits and . _ @ + -, a letter or digit first"
    )
