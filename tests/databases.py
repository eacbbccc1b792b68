"""Databases for tests: a file of its own for each, and on the shared Postgres one for each test process, emptied before
each test. A test module imports the fixtures that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import psycopg
import pytest
from psycopg import sql

from memory.postgres import PostgresDatabase
from memory.sql import Connection, Dialect, SqlDatabase, acting, every_tenant
from memory.sqlite import Database
from serving.database import SCHEMAS
from serving.migrations import postgres as migrations
from tests.services.own_database import own_database

T = TypeVar("T")

DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.no_cover)]
"""Coverage is counted once: it costs half of a test's time again."""
NOTE = "CREATE TABLE note (n BIGINT PRIMARY KEY, text {text} NOT NULL, body {bytes})"
"""A table for tests of the door itself."""


class Urls(NamedTuple):
    """One Postgres database."""

    owner: str
    app: str


class Unbound:
    """A database for tests that are not about row-level security: who acts for nobody acts for all."""

    def __init__(self, inner: SqlDatabase) -> None:
        self.inner = inner

    @property
    def dialect(self) -> Dialect:
        return self.inner.dialect

    async def read(self, fn: Callable[[Connection], T]) -> T:
        if acting():
            return await self.inner.read(fn)
        with every_tenant():
            return await self.inner.read(fn)

    async def look(self, fn: Callable[[Connection], T]) -> T:
        return await self.read(fn)

    async def write(self, fn: Callable[[Connection], T], *, bulk: bool = False) -> T:
        if acting():
            return await self.inner.write(fn, bulk=bulk)
        with every_tenant():
            return await self.inner.write(fn, bulk=bulk)

    def transaction(self) -> AbstractAsyncContextManager[None]:
        return self.inner.transaction()

    async def after_commit(self, follow_up: Callable[[], Awaitable[None]]) -> None:
        await self.inner.after_commit(follow_up)

    async def close(self) -> None:
        await self.inner.close()


def libpq(url: str) -> str:
    """The URL as psycopg takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def execute(url: str, *statements: str) -> None:
    """Runs statements, each in a transaction of its own."""
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def select(url: str, statement: str) -> list[tuple[object, ...]]:
    """The rows of a statement."""
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


@pytest.fixture(scope="session")
def postgres_made() -> Generator[Urls]:
    """A database with all tables, and `note`."""
    with own_database() as lines:
        made = Urls(lines["PARLEY_DATABASE_OWNER_URL"], lines["PARLEY_DATABASE_URL"])
        with ThreadPoolExecutor(1) as thread:  # an event loop may run in this one
            thread.submit(asyncio.run, migrations.prepare(made.owner, made.app)).result()
        execute(
            made.owner,
            NOTE.format(text='TEXT COLLATE "C"', bytes="BYTEA"),
            "GRANT SELECT, INSERT, UPDATE, DELETE ON note TO PUBLIC",
        )
        yield made


def emptied(made: Urls) -> Urls:
    """The same without a row."""
    with psycopg.connect(libpq(made.owner)) as connection:
        names = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND relname <> 'alembic_version'"
        ).fetchall()
        tables = sql.SQL(", ").join(sql.Identifier(cast(str, name)) for (name,) in names)
        connection.execute(sql.SQL("TRUNCATE {}").format(tables))
    return made


@pytest.fixture
def postgres_urls(postgres_made: Urls) -> Urls:
    """The same, empty."""
    return emptied(postgres_made)


@pytest.fixture(scope="module", params=DATABASES)
def record(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of a runtime over each database in turn, for the tests of one module; without a row at first."""
    if request.param == "sqlite":
        return {}
    made: Urls = request.getfixturevalue("postgres_made")
    return {"database_url": emptied(made).app, "database_owner_url": made.owner}


@pytest.fixture(params=DATABASES)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[SqlDatabase]:
    """Each database in turn, with all tables and no row."""
    opened: SqlDatabase
    if request.param == "sqlite":
        note = NOTE.format(text="TEXT", bytes="BLOB").replace("TABLE", "TABLE IF NOT EXISTS")
        opened = await Database.open(tmp_path / "parley.sqlite", [*SCHEMAS, f"{note};"])
    else:
        urls: Urls = request.getfixturevalue("postgres_urls")
        opened = Unbound(await PostgresDatabase.open(urls.app, migrations.REVISION))
    yield opened
    await opened.close()
