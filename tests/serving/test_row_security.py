"""Row-level security on Postgres: what even wrong SQL can neither see nor touch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import pytest

from agents.types import Message
from knowledge.sql_catalog import SqlCatalog
from knowledge.types import Document
from memory.postgres import PostgresDatabase
from memory.sql import Connection, acting_for, every_tenant
from memory.types import TRUST_USER, Label
from serving.conversations import Conversations
from serving.feedback import FeedbackStore
from serving.idempotency import Claim, keep
from serving.ids import uuid7
from serving.job_records import NewItem, NewJob
from serving.job_store import JobStore
from serving.keys import Keys
from serving.migrations.postgres import REVISION
from serving.principal import Principal
from serving.processes import FolderPresence
from serving.records import Answer, NewRun, RunEnd
from serving.repository import Repository
from serving.tables import OF_CATALOG, OF_NO_TENANT, SQLModel
from tests.databases import Urls, execute, postgres_made, postgres_urls, select

__all__ = ["postgres_made", "postgres_urls"]

TABLES = sorted({table.name for table in SQLModel.metadata.sorted_tables} - OF_NO_TENANT | set(OF_CATALOG))
WHO = {name: Principal(name, "ann") for name in ("acme", "globex")}


async def fill(database: PostgresDatabase, who: Principal, presence: FolderPresence) -> None:
    """At least one row of a tenant in each table."""
    repository = Repository(database, presence)
    thread = await Conversations(database).create(who, "secret of " + who.tenant)
    run = NewRun(uuid7(), who.tenant, who.user, thread.id)
    said = Message("user", "what is it?", Label(who.tenant, "user", TRUST_USER))
    await repository.begin(run, [said])
    with acting_for(who.tenant):
        await repository.finish_run(run.id, presence.name, RunEnd("finished"), Answer("it is"), ())
        await database.write(lambda connection: keep(connection, Claim(who.tenant, who.user, "k", "r"), thread.id))
    await FeedbackStore(database).put(who, run.id, 1)
    await JobStore(database).add(NewJob(who.tenant, who.user, "title", (NewItem(thread.id),)))
    await Keys(database).create(who)
    catalog = SqlCatalog(database)
    await catalog.begin(who.tenant, "b.md", "d2")
    await catalog.put(Document("d1", who.tenant, "a.md", "A", "hash", 4, 1, "2026-11-21T10:00:00Z"))


@pytest.fixture
async def database(postgres_urls: Urls, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[PostgresDatabase]:
    """Two tenants with rows in every table."""
    database = await PostgresDatabase.open(postgres_urls.app, REVISION)
    presence = FolderPresence(tmp_path_factory.mktemp("data"))
    for who in WHO.values():
        await fill(database, who, presence)
    yield database
    await presence.close()
    await database.close()


def counts(connection: Connection) -> dict[str, int]:
    return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def doing(sql: str) -> Callable[[Connection], int]:
    return lambda connection: connection.execute(sql).rowcount


async def test_every_tenant_has_rows_in_every_table_with_a_tenant(database: PostgresDatabase) -> None:
    with every_tenant():
        assert min((await database.read(counts)).values()) >= 2


async def test_without_a_tenant_nothing_is_seen_changed_or_written(database: PostgresDatabase) -> None:
    assert set((await database.read(counts)).values()) == {0}
    for table in TABLES:
        assert await database.write(doing(f"DELETE FROM {table}")) == 0
    for sql in (
        "INSERT INTO threads VALUES ('t', 'acme', 'ann', '', '', '', '', 0)",
        "INSERT INTO threads VALUES ('t', '', '', '', '', '', '', 0)",
        "INSERT INTO events VALUES ('r', 1, 1, '')",
    ):
        with pytest.raises(Exception, match="row-level security"):
            await database.write(doing(sql))
    with every_tenant():
        assert min((await database.read(counts)).values()) >= 2


async def test_one_tenant_sees_its_own_rows_alone_however_the_sql_asks(database: PostgresDatabase) -> None:
    with every_tenant():
        everything = await database.read(counts)
    with acting_for("acme"):
        mine = await database.read(counts)
        titles = await database.read(lambda connection: connection.execute("SELECT title FROM threads").fetchall())
    assert titles == [("secret of acme",)]
    assert mine == {table: number // 2 for table, number in everything.items()}
    with acting_for("acm"):
        assert set((await database.read(counts)).values()) == {0}


async def test_another_tenants_rows_are_neither_updated_nor_deleted(database: PostgresDatabase) -> None:
    with acting_for("acme"):
        for table in TABLES:
            column = "run" if table in ("events", "feedback") else "tenant"
            if table in ("messages", "jobitems"):
                column = "status"
            await database.write(doing(f"UPDATE {table} SET {column} = {column}"))
        for table in sorted(TABLES, key=lambda table: table in ("threads", "runs", "jobs")):
            assert await database.write(doing(f"DELETE FROM {table}")) >= (table != "messages")
    with acting_for("globex"):
        assert min((await database.read(counts)).values()) >= 1
    with acting_for("acme"):
        assert set((await database.read(counts)).values()) == {0}


async def test_rows_can_be_neither_inserted_for_nor_given_to_another_tenant(database: PostgresDatabase) -> None:
    with acting_for("globex"):
        thread, run, job = [
            await database.read(
                lambda connection, table=table: connection.execute(f"SELECT id FROM {table}").fetchone()[0]
            )
            for table in ("threads", "runs", "jobs")
        ]
    wrong = [
        "INSERT INTO threads VALUES ('t', 'globex', 'ann', '', '', '', '', 0)",
        f"INSERT INTO messages VALUES ('{thread}', 9, 'm', 'user', '', '', '', '', '')",
        f"INSERT INTO events VALUES ('{run}', 9, 9, '')",
        f"INSERT INTO jobitems VALUES ('{job}', 9, '', '', '', '', '')",
        *(
            f"UPDATE {table} SET tenant = 'globex'"
            for table in TABLES
            if table not in ("messages", "events", "jobitems")
        ),
        f"UPDATE messages SET thread = '{thread}', number = 9",
        f"UPDATE events SET run = '{run}', first = 9",
        f"UPDATE jobitems SET job = '{job}', number = 9",
    ]
    with acting_for("acme"):
        for sql in wrong:
            with pytest.raises(Exception, match="row-level security"):
                await database.write(doing(sql))


async def test_writes_that_share_a_commit_act_each_for_its_own_tenant(database: PostgresDatabase) -> None:
    async def rename(tenant: str, fails: bool = False) -> None:
        def write(connection: Connection) -> None:
            connection.execute("UPDATE threads SET title = ?", (tenant,))
            if fails:
                raise LookupError

        with acting_for(tenant):
            await database.write(write)

    with every_tenant():
        async with database.transaction():
            for name in WHO:
                await rename(name)
    results = await asyncio.gather(
        *(rename(name, fails) for fails in (False, True, False) for name in WHO), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), type(None), LookupError, LookupError] + [type(None)] * 2
    with every_tenant():
        rows = await database.read(
            lambda connection: connection.execute("SELECT tenant, title FROM threads").fetchall()
        )
    assert sorted(rows) == [("acme", "acme"), ("globex", "globex")]


async def test_who_acts_for_one_tenant_cannot_act_for_another() -> None:
    with acting_for("acme"):
        with every_tenant(), acting_for("globex"):
            pass
        with pytest.raises(RuntimeError), acting_for("globex"):
            pass


async def test_the_applications_role_cannot_leave_row_level_security(
    database: PostgresDatabase, postgres_urls: Urls
) -> None:
    for sql in (
        "ALTER TABLE threads DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE threads NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON threads",
        "ALTER POLICY tenant ON threads USING (true)",
        "CREATE POLICY mine ON threads USING (true)",
        "ALTER TABLE threads OWNER TO parley_app",
        "ALTER ROLE parley_app BYPASSRLS",
        "SET ROLE parley",
        "TRUNCATE threads",
        "UPDATE alembic_version SET version_num = '9999'",
        "CREATE TABLE public.mine (n int)",
    ):
        with pytest.raises(Exception, match=r"must be owner|permission denied|must have|must be superuser"):
            execute(postgres_urls.app, sql)
    with pytest.raises(Exception, match="would be affected by row-level security"):
        execute(postgres_urls.app, "SET row_security = off", "SELECT 1")
        select(f"{postgres_urls.app}?options=-crow_security%3Doff", "SELECT * FROM threads")


async def test_every_table_forces_its_policy_or_is_known_to_have_no_tenant(postgres_urls: Urls) -> None:
    rows = select(
        postgres_urls.owner,
        "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    )
    forced = {str(name) for name, is_forced in rows if is_forced}
    assert forced == set(TABLES)
    assert {str(name) for name, _ in rows} - forced == OF_NO_TENANT | {"alembic_version", "note"}
