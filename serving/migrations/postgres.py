"""The tables in Postgres: the owner's role makes and upgrades them, the application's role gets leave to use them."""

from __future__ import annotations

import asyncio

from memory.postgres import HAS_VERSION, VERSION_OF
from memory.postgres_link import Address, Link
from memory.sql import DatabaseUnavailable
from memory.sqlite import VERSION
from serving.migrations.stamp import revision

REVISION = revision(VERSION)
"""The revision of the tables that this code reads and writes."""
PATIENCE = 10.0
"""Seconds that a look at the tables may take; an upgrade takes as long as it takes."""

_HAS_ROLE = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = ?)"
_MAY_USE = """SELECT coalesce(bool_and(has_table_privilege(?, c.oid, 'SELECT')), false) FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND pg_has_role(c.relowner, 'MEMBER')"""


async def prepare(owner_url: str, url: str) -> None:
    """Makes the tables or upgrades them, and lets the role of `url` use them; nothing where that has been done.
    Any number of processes may do so at the same time: one works, the others wait.

    Raises:
        DatabaseUnavailable: the server cannot be reached as the owner, there is no such role, or the upgrade failed,
            which has changed nothing then.
    """
    await asyncio.to_thread(_prepare, owner_url, Address.of(url).user)


def _prepare(owner_url: str, role: str) -> None:
    address = Address.of(owner_url)
    link = Link(address, PATIENCE)
    try:
        if not link.execute(_HAS_ROLE, (role,)).fetchone()[0]:
            raise DatabaseUnavailable(
                f"the database {address.name} knows no role {role}, which PARLEY_DATABASE_URL names; make it first:"
                f" CREATE ROLE {role} LOGIN PASSWORD '...'"
            )
        has_tables = link.execute(HAS_VERSION).fetchone()[0]
        found = link.execute(VERSION_OF).fetchone()[0] if has_tables else ""
        if found > REVISION or (found == REVISION and link.execute(_MAY_USE, (role,)).fetchone()[0]):
            return
    finally:
        link.close()
    from serving.migrations.run import run_on_server  # imports Alembic

    try:
        run_on_server(owner_url, role)
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(f"the database {address.name}: {error}") from error
