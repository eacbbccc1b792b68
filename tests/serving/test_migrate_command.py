"""parley migrate: the record of a data folder goes to Postgres, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from memory.sqlite import VERSION, Database
from serving.database import DATABASE, SCHEMAS
from serving.processes import FolderPresence
from serving.record_copy import TABLES, compare, open_source, open_target
from tests.services.own_database import own_database
from tests.serving.in_process import Parley, commands, settled

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""
ODD = "caf\udce9 \x00 naïve 日本"
VALUES: dict[str, str | int | bytes | None] = {
    "status": "running", "role": "user", "finished_at": None, "expires_at": None, "revoked_at": None,
}  # fmt: skip
"""What stands in some columns; the others are filled by their kind."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    return settled(tmp_path, monkeypatch)


@pytest.fixture
def parley(work: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Parley]:
    """Runs one command in this process."""
    with commands(capsys) as run:
        yield run


@pytest.fixture
def urls(work: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[dict[str, str]]:
    """An empty database, named in the environment."""
    with own_database() as urls:
        for name, url in urls.items():
            monkeypatch.setenv(name, url)
        yield urls


def filled(folder: Path, rows: int) -> None:
    """A record with so many rows in every table, odd texts among them."""

    async def make() -> None:
        await (await Database.open(folder / DATABASE, SCHEMAS)).close()

    asyncio.run(make())
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        for table in ("threads", *(name for name in TABLES if name != "threads")):
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            marks = ", ".join("?" * len(columns))
            connection.executemany(
                f"INSERT INTO {table} VALUES ({marks})",
                [[value(name, kind, number) for _, name, kind, *_ in columns] for number in range(rows)],
            )
        connection.commit()


def value(column: str, kind: str, number: int) -> str | int | bytes | None:
    if column in VALUES:
        return VALUES[column]
    if column == "thread":
        return f"{number:08}"
    if kind == "BLOB":
        return bytes([number % 256, 0, 255])
    if kind == "INTEGER":
        return number
    if column == "title" and number % 3 == 0:
        return ODD.encode("utf-8", "surrogatepass")
    return f"{number:08}" if column == "id" else f"{column} {number} ü"


def on_postgres(url: str, query: str) -> list[tuple[object, ...]]:
    """What the owner sees of all tenants."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SELECT set_config('parley.tenant', 'every', false)")
        found = connection.execute(query.encode())
        return found.fetchall() if found.description else []


def quiet(table: str, rows: int) -> None:
    """Tells nobody."""


def secrets_of(urls: dict[str, str]) -> set[str]:
    return {found[1] for url in urls.values() if (found := re.search(r":([^:@/]+)@", url))}


def test_every_table_of_the_record_is_copied() -> None:
    made = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", " ".join(SCHEMAS)))
    stay = {name for name in made if name.startswith(("memory_", "graph_"))} | {"alembic_version"}
    assert made - stay == set(TABLES)


def test_all_rows_of_a_data_folder_come_to_postgres_and_are_compared(
    parley: Parley, work: Path, urls: dict[str, str]
) -> None:
    filled(work / "data", 1_100)
    ended = parley("migrate", "--from", f"sqlite:{work / 'data'}", "--json")
    assert ended.status == 0, ended.err
    told = ended.list("tables")
    assert [(one["table"], one["rows"], one["rows_on_postgres"]) for one in told] == [
        (name, 1_100, 1_100) for name in TABLES
    ]
    assert all(one["digest"] == one["digest_on_postgres"] for one in told)
    owner = urls["PARLEY_DATABASE_OWNER_URL"]
    assert on_postgres(owner, "SELECT DISTINCT status FROM jobs") == [("queued",)]
    assert on_postgres(owner, "SELECT DISTINCT status FROM runs") == [("running",)]


def test_what_becomes_of_the_rest_is_said_and_no_password_is(parley: Parley, work: Path, urls: dict[str, str]) -> None:
    filled(work / "data", 3)
    ended = parley("migrate", "--from", f"sqlite:{work / 'data' / DATABASE}", "--to", urls["PARLEY_DATABASE_OWNER_URL"])
    assert ended.status == 0, ended.err
    assert re.search(r"^messages +3 .* same *$", ended.out, re.MULTILINE)
    assert "parley jobs start reembed" in ended.err
    assert not any(secret in ended.out + ended.err for secret in secrets_of(urls))


def test_a_database_that_holds_rows_is_refused_and_resuming_a_whole_copy_changes_nothing(
    parley: Parley, work: Path, urls: dict[str, str]
) -> None:
    filled(work / "data", 10)
    arguments = ("migrate", "--from", f"sqlite:{work / 'data'}")
    assert parley(*arguments).status == 0
    again = parley(*arguments)
    assert again.status == 1
    assert "holds rows already" in again.err
    assert parley(*arguments, "--resume").status == 0
    on_postgres(urls["PARLEY_DATABASE_OWNER_URL"], "UPDATE messages SET content = 'changed' WHERE number = 7")
    changed = parley(*arguments, "--resume")
    assert changed.status == 1
    assert "thread '00000007', number 7: not the same" in changed.err


def test_a_killed_copy_is_gone_on_with(parley: Parley, work: Path, urls: dict[str, str]) -> None:
    filled(work / "data", 3_000)
    arguments = ["migrate", "--from", f"sqlite:{work / 'data'}"]
    owner = urls["PARLEY_DATABASE_OWNER_URL"]
    with subprocess.Popen(
        [sys.executable, "-m", "serving.cli", *arguments], cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as copying:  # fmt: skip
        while copying.poll() is None and not on_postgres(owner, "SELECT to_regclass('runs')")[0][0]:
            pass
        while copying.poll() is None and on_postgres(owner, "SELECT count(*) < 1000 FROM runs")[0][0]:
            pass
        copying.kill()
    assert copying.returncode == -9
    ended = parley(*arguments, "--resume", "--json")
    assert ended.status == 0, ended.err
    assert {one["rows_on_postgres"] for one in ended.list("tables")} == {3_000}


def test_rows_that_differ_are_named(work: Path, parley: Parley, urls: dict[str, str]) -> None:
    filled(work / "data", 5)
    assert parley("migrate", "--from", f"sqlite:{work / 'data'}").status == 0
    owner = urls["PARLEY_DATABASE_OWNER_URL"]
    on_postgres(owner, "UPDATE messages SET content = 'changed' WHERE number = 2")
    on_postgres(owner, "DELETE FROM keys WHERE id = '00000003'")
    with open_source(work / "data" / DATABASE) as source, open_target(owner) as target:
        found = {one.table: one.differing for one in compare(source, target, quiet) if not one.is_same}
    assert found == {
        "messages": ("thread '00000002', number 2: not the same",),
        "keys": ("id '00000003': only in the file",),
    }


def test_a_data_folder_that_somebody_works_on_is_refused(parley: Parley, work: Path, urls: dict[str, str]) -> None:
    filled(work / "data", 1)
    presence = FolderPresence(work / "data")
    ended = parley("migrate", "--from", f"sqlite:{work / 'data'}")
    asyncio.run(presence.close())
    assert ended.status == 1
    assert f"Parley works on {work / 'data'}" in ended.err
    assert str(os.getpid()) in ended.err
    with closing(sqlite3.connect(work / "data" / DATABASE, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        locked = parley("migrate", "--from", f"sqlite:{work / 'data'}")
    assert locked.status == 1
    assert "locked" in locked.err
    assert parley("migrate", "--from", f"sqlite:{work / 'data'}").status == 0


def test_without_a_source_the_tables_are_made(parley: Parley, urls: dict[str, str]) -> None:
    for _ in range(2):
        ended = parley("migrate")
        assert ended.status == 0, ended.err
        assert "the tables are ready for the role parley_app" in ended.err
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'dbos' AND tablename = 'workflow_status'"
    assert on_postgres(urls["PARLEY_DATABASE_URL"], tables) == [(1,)]


def test_what_cannot_be_copied_is_said_in_one_line(
    parley: Parley, work: Path, urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = parley("migrate", "--from", "sqlite:nowhere")
    assert (nothing.status, nothing.err.count("\n")) == (1, 1)
    assert "there is no database" in nothing.err
    assert "--from takes sqlite:PATH" in parley("migrate", "--from", "data").err
    assert "--to is no address of a Postgres" in parley("migrate", "--to", "mysql://a:secret@b/c").err
    wrong = urls["PARLEY_DATABASE_OWNER_URL"].replace("parley:", "parley:wrong-", 1)
    refused = parley("migrate", "--to", wrong)
    assert refused.status == 1
    assert "password" in refused.err
    assert "wrong-" not in refused.err
    filled(work / "data", 1)
    with closing(sqlite3.connect(work / "data" / DATABASE)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION - 1}")
    assert f"is of version {VERSION - 1}" in parley("migrate", "--from", "sqlite:data").err
    monkeypatch.delenv("PARLEY_DATABASE_URL")
    assert "set PARLEY_DATABASE_URL" in parley("migrate").err
    monkeypatch.delenv("PARLEY_DATABASE_OWNER_URL")
    assert "name the Postgres database with --to" in parley("migrate").err
