"""The roles and the database of a new Postgres."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql

from tests.services.instance import Instance

ASK_SECONDS = 5


async def seed_and_log_in(instance: Instance, superuser: str, owner: str, application: str, database: str) -> str:
    """Why our roles cannot log in, "" when they can; on first use they are made."""
    try:
        if "seeded" not in instance.notes:
            async with await _connected(instance, superuser, "postgres") as connection:
                await _seed(connection, instance, owner, application, database)
        for role in (owner, application):
            async with await _connected(instance, role, database) as connection:
                await connection.execute("SELECT 1")
    except psycopg.Error as error:
        return f"it does not answer ({type(error).__name__})"
    instance.notes["seeded"] = "yes"
    return ""


async def _seed(
    connection: psycopg.AsyncConnection, instance: Instance, owner: str, application: str, database: str
) -> None:
    make: tuple[tuple[str, LiteralString], ...] = (
        (owner, "CREATE ROLE {role} LOGIN CREATEDB PASSWORD {password}"),
        (application, "CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD {password}"),
    )
    for role, statement in make:
        if not await _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
            password = sql.Literal(instance.secret(role))
            await connection.execute(sql.SQL(statement).format(role=sql.Identifier(role), password=password))
    if not await _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", database):
        names = (sql.Identifier(database), sql.Identifier(owner))
        await connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))


async def _connected(instance: Instance, role: str, database: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(
        host="127.0.0.1", port=instance.port, user=role, password=instance.secret(role), dbname=database,
        connect_timeout=ASK_SECONDS, autocommit=True,
    )  # fmt: skip


async def _exists(connection: psycopg.AsyncConnection, query: LiteralString, name: str) -> bool:
    return await (await connection.execute(query, (name,))).fetchone() is not None
