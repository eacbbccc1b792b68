"""Stops, starts and kills one of the shared servers; a test that does so takes a private one (`private.py`)."""

from __future__ import annotations

import os

from tests.services.instance import configured_ports
from tests.services.shared import KINDS, shared, write_env


async def start(name: str) -> None:
    """Starts a shared server on the ports that it had, and returns when it answers; one that runs is left.

    Raises:
        Missing: its program is not on this machine.
        NotStarted: it did not become ready; the text holds the end of its log.
    """
    await shared(name).start(configured_ports(KINDS[name], os.environ))
    write_env()


async def stop(name: str) -> None:
    """Stops a shared server in good order, and returns when it is gone."""
    await shared(name).stop()


async def kill(name: str) -> None:
    """Ends a shared server as a crash would (SIGKILL; Postgres as by `pg_ctl -m immediate`)."""
    await shared(name).kill()
