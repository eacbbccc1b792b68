"""Who asks. While no access key has been made, everyone on this machine is the one local user."""

from __future__ import annotations

from starlette.requests import Request

from serving.principal import LOCAL, Principal


def principal(_: Request) -> Principal:
    """The principal of a request; any bearer token is accepted, since clients always send one."""
    return LOCAL
