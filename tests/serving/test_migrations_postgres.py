"""The tables in Postgres: made once by whoever comes first, for the role of the application."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from memory.postgres import PostgresDatabase
from memory.sql import DatabaseUnavailable
from serving.migrations.postgres import REVISION, prepare
from serving.tables import POSTGRES_FILE
from tests.databases import Urls, execute, select
from tests.services.own_database import own_database

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 120
"""Seconds; a bound for what hangs, not a measure."""
OPEN = """
import asyncio, sys
from memory.postgres import PostgresDatabase
from serving.migrations.postgres import REVISION, prepare
async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    await prepare(sys.argv[1], sys.argv[2])
    await (await PostgresDatabase.open(sys.argv[2], REVISION)).close()
asyncio.run(main())
"""
SHAPE = {
    "columns": "SELECT table_name, column_name, data_type, collation_name, is_nullable, ordinal_position"
    " FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'",
    "constraints": "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'",
    "policies": "SELECT tablename, policyname, permissive, roles::text, cmd, qual, with_check FROM pg_policies",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "security": "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relkind = 'r'"
    " AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'",
}


@pytest.fixture
def urls() -> Generator[Urls]:
    """A database without a table."""
    with own_database() as lines:
        yield Urls(lines["PARLEY_DATABASE_OWNER_URL"], lines["PARLEY_DATABASE_URL"])


def shape(url: str) -> dict[str, list[str]]:
    """What the server says of its tables."""
    return {part: sorted(map(str, select(url, sql))) for part, sql in SHAPE.items()}


async def test_the_revisions_make_what_the_tables_say(urls: Urls) -> None:
    await prepare(*urls)
    with own_database() as lines:
        owner = lines["PARLEY_DATABASE_OWNER_URL"]
        execute(owner, *POSTGRES_FILE.read_text(encoding="utf-8").split(";\n"))
        assert shape(urls.owner) == shape(owner)


def test_of_eight_processes_that_start_together_on_an_empty_database_all_work(urls: Urls) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, *urls], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ends = [process.communicate("\n", timeout=DEADLINE) for process in processes]
    assert ends == [("", "")] * 8
    assert [process.returncode for process in processes] == [0] * 8
    assert select(urls.app, "SELECT version_num FROM alembic_version") == [(REVISION,)]


async def test_a_start_with_nothing_to_do_imports_no_alembic(urls: Urls) -> None:
    await prepare(*urls)
    code = (
        "import asyncio, sys\nfrom serving.migrations.postgres import prepare\n"
        "asyncio.run(prepare(*sys.argv[1:]))\nprint([n for n in ('alembic', 'sqlalchemy') if n in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, *urls], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert ran.stdout == "[]\n"


async def test_a_database_without_tables_says_what_to_set(urls: Urls) -> None:
    with pytest.raises(DatabaseUnavailable, match="has no tables yet: set PARLEY_DATABASE_OWNER_URL"):
        await PostgresDatabase.open(urls.app, REVISION)


async def test_tables_of_another_revision_are_refused(urls: Urls) -> None:
    await prepare(*urls)
    for version, told in (("0002", "of revision 0002 .* set PARLEY_DATABASE_OWNER_URL"), ("0999", "by a newer Parley")):
        execute(urls.owner, f"UPDATE alembic_version SET version_num = '{version}'")
        with pytest.raises(DatabaseUnavailable, match=told):
            await PostgresDatabase.open(urls.app, REVISION)
    await prepare(*urls)  # who knows an older revision leaves a newer one alone
    assert select(urls.app, "SELECT version_num FROM alembic_version") == [("0999",)]


async def test_an_upgrade_that_fails_changes_nothing_and_says_so(urls: Urls) -> None:
    execute(urls.owner, "CREATE TABLE threads (mine text)", "INSERT INTO threads VALUES ('kept')")
    with pytest.raises(DatabaseUnavailable, match=r"are as they were \(relation .threads. already exists\)"):
        await prepare(*urls)
    assert select(urls.owner, "SELECT mine FROM threads") == [("kept",)]
    assert select(urls.owner, "SELECT count(*) FROM pg_class WHERE relname = 'alembic_version'") == [(0,)]
    execute(urls.owner, "DROP TABLE threads")
    await prepare(*urls)
    await (await PostgresDatabase.open(urls.app, REVISION)).close()


async def test_the_owner_itself_is_refused_as_the_applications_role(urls: Urls) -> None:
    await prepare(*urls)
    with pytest.raises(DatabaseUnavailable, match="could leave the row-level security"):
        await PostgresDatabase.open(urls.owner, REVISION)


async def test_a_role_that_does_not_exist_is_told(urls: Urls) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"knows no role nobody_here, .* CREATE ROLE nobody_here LOGIN"):
        await prepare(urls.owner, "postgresql+psycopg://nobody_here:x@127.0.0.1:1/parley")


async def test_leave_to_use_the_tables_is_given_again_where_it_was_taken(urls: Urls) -> None:
    await prepare(*urls)
    execute(urls.owner, "REVOKE ALL ON threads FROM parley_app")
    await prepare(*urls)
    execute(urls.app, "SELECT * FROM threads")
