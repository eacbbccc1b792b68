"""A database of the previous schema (data/schema-0001.sqlite, made by that version) becomes one of this."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest

from memory.sql import DatabaseUnavailable
from memory.sqlite import VERSION, Database
from memory.sqlite_upgrade import Upgrade, copies, refuse, upgrade_file, wait_for_upgrade
from serving.api import create_app
from serving.database import DATABASE, SCHEMAS
from serving.migrations import stamp
from serving.runtime import open_runtime
from serving.settings import Settings
from tools.types import JsonObject, JsonValue

ROOT = Path(__file__).resolve().parents[2]
FIRST = Path(__file__).with_name("data") / "schema-0001.sqlite"
KETTLE = "01a1fef8-784b-7047-bad9-da789671854e"
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""

STEPWISE = """
import asyncio, sqlite3, sys
from pathlib import Path
from memory.sqlite import Database
from serving.migrations import stamp
path, stop = Path(sys.argv[1]), sys.argv[2]

def told(sql):
    if stop in sql:
        print("reached", flush=True)
        sys.stdin.readline()

def upgrade(connection, version):
    connection.set_trace_callback(told)
    stamp.upgrade(connection, version)

async def main():
    database = await Database.open(path, [], upgrade=upgrade, patience=0.1)
    await database.close()
    print("done", flush=True)

asyncio.run(main())
"""
"""Opens the file and stops for a line of input when the upgrade comes to a certain statement."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / DATABASE
    shutil.copy(FIRST, path)
    return path


async def upgraded(path: Path, upgrade: Upgrade = stamp.upgrade, patience: float = 10.0) -> None:
    """Opens and closes without any DDL but the upgrade's."""
    database = await Database.open(path, [], upgrade=upgrade, patience=patience)
    await database.close()


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def shape(path: Path) -> dict[str, object]:
    """Every table and index of a file, by SQLite's own account of them, and their conditions from the DDL."""
    found: dict[str, object] = {}
    for name, kind, columns, without_rowid, strict in rows(
        path, "SELECT name, type, ncol, wr, strict FROM pragma_table_list WHERE name NOT LIKE 'sqlite_%'"
    ):
        found[f"table {name}"] = (
            kind, columns, without_rowid, strict,
            rows(path, f"PRAGMA table_xinfo({name})"),
            rows(path, f"PRAGMA foreign_key_list({name})"),
            sorted(rows(path, f"SELECT name, \"unique\", origin, partial FROM pragma_index_list('{name}')")),
        )  # fmt: skip
    for name, sql in rows(path, "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"):
        found[f"columns {name}"] = rows(path, f"PRAGMA index_xinfo({name})")
        found[f"sql {name}"] = re.sub(r'[\s"]', "", str(sql)).lower()
    return found


def content(path: Path) -> list[str]:
    """All rows of a file as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def old_version(path: Path) -> bool:
    """Whether the file is as the previous version left it, and free."""
    return content(path) == content(FIRST) and rows(path, "PRAGMA user_version") == [(1,)]


@contextmanager
def stepwise(path: Path, stop: str) -> Generator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", STEPWISE, str(path), stop],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def parley(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *arguments], cwd=ROOT, env=kept | {"PARLEY_DATA_DIR": str(folder)},
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


async def test_an_upgraded_file_has_the_tables_columns_and_indexes_of_a_new_one(file: Path, tmp_path: Path) -> None:
    await upgraded(file)
    new = await Database.open(tmp_path / "new.sqlite", SCHEMAS, upgrade=stamp.upgrade)
    await new.close()
    assert shape(file) == shape(tmp_path / "new.sqlite")
    for path in (file, tmp_path / "new.sqlite"):
        assert rows(path, "SELECT version_num FROM alembic_version") == [(stamp.revision(VERSION),)]
        assert rows(path, "PRAGMA user_version") == [(VERSION,)]
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_every_row_of_the_first_version_is_there_and_messages_got_ids(file: Path) -> None:
    await upgraded(file)
    columns = "thread, number, role, content, status, run, citations, created_at"
    assert rows(file, f"SELECT {columns} FROM messages") == rows(FIRST, f"SELECT {columns} FROM messages")
    ids = [str(id) for (id,) in rows(file, "SELECT id FROM messages ORDER BY created_at")]
    assert len(set(ids)) == 10
    assert [id[:13] for id in ids] == sorted(id[:13] for id in ids)
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", id) for id in ids)
    columns = "id, thread, status, started_at, finished_at, outcome, notes, error"
    assert rows(file, f"SELECT {columns} FROM runs") == rows(FIRST, f"SELECT {columns} FROM runs")
    assert rows(file, "SELECT r.answer, m.run = r.id FROM runs r LEFT JOIN messages m"
                      " ON m.thread = r.thread AND m.number = r.answer ORDER BY r.id") == [
        (2, 1), (4, 1), (6, 1), (2, 1), (4, 1), (0, None)]  # fmt: skip
    for table in ("threads", "documents", "memory_records", "memory_vectors", "memory_sources", "memory_scopes"):
        assert rows(file, f"SELECT * FROM {table}") == rows(FIRST, f"SELECT * FROM {table}")


async def test_conversations_runs_and_documents_work_through_the_api_after_the_upgrade(file: Path) -> None:
    async with open_runtime(Settings(data_dir=file.parent)) as runtime:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(runtime)), base_url="http://127.0.0.1:8080")

        async def ask(method: str, path: str, **body: object) -> dict[str, JsonValue]:
            answer = await http.request(method, path, json=body or None)
            assert answer.is_success, answer.text
            return answer.json()

        async with http:
            threads = cast(list[JsonObject], (await ask("GET", "/api/threads"))["items"])
            assert [thread["title"] for thread in threads] == ["Bicycle cellar", "Kettle"]
            path = f"/api/threads/{KETTLE}"
            messages = cast(list[JsonObject], (await ask("GET", f"{path}/messages"))["items"])
            assert [message["role"] for message in messages] == ["user", "assistant"] * 3
            assert len({str(message["id"]) for message in messages}) == 6
            assert cast(list[JsonObject], messages[1]["citations"])[0]["path"] == "kettle.md"
            run = await ask("GET", f"/api/runs/{messages[1]['run_id']}")
            assert (run["status"], run["answer"]) == ("finished", messages[1]["content"])
            again = await ask("POST", f"{path}/runs", messages=[{"role": "user", "content": "When are roses pruned?"}])
            assert "the roses in March" in str(again["answer"])
            documents = cast(list[JsonObject], (await ask("GET", "/api/documents"))["items"])
            assert sorted(str(document["path"]) for document in documents) == ["garden.md", "kettle.md", "keys.md"]
            hits = cast(list[JsonObject], (await ask("POST", "/api/search", query="deposit for a key"))["hits"])
            assert "Blue keys are lent by the front desk" in str(hits[0]["text"])


def test_the_first_command_upgrades_in_one_line_on_stderr_and_the_next_says_nothing(file: Path) -> None:
    found = parley(file.parent, "search", "Which key opens the bicycle cellar?", "--json")
    assert "Blue keys are lent by the front desk" in json.loads(found.stdout)["hits"][0]["text"]
    (copy,) = copies(file)
    assert found.stderr == f"Upgrading the database {file} from version 1 to {VERSION}; a copy of it is {copy}\n"
    doctor = parley(file.parent, "doctor", "--json")
    assert doctor.stderr == ""
    checks = {check["name"]: check for check in json.loads(doctor.stdout)["checks"]}
    assert checks["data"]["detail"].endswith("3 documents")
    assert checks["schema"]["trouble"] == ""
    assert checks["schema"]["detail"] == f"version {VERSION}, the present one; copy from before an upgrade: {copy}"


async def test_the_copy_is_the_whole_old_file_for_its_owner_only(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:  # what the last process left in the log belongs to it
        other.execute("UPDATE threads SET title = 'Kettles' WHERE title = 'Kettle'")
        other.commit()
    before = content(file)
    await upgraded(file)
    (copy,) = copies(file)
    assert re.fullmatch(rf"{DATABASE}\.v1-\d{{8}}T\d{{6}}\.\d{{6}}Z\.backup", copy.name)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert content(copy) == before
    assert {stat.S_IMODE(left.stat().st_mode) for left in file.parent.iterdir() if left != file} == {0o600}


async def test_a_run_whose_process_died_is_incomplete_after_the_upgrade_even_twice_in_a_thread(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("UPDATE runs SET status = 'running', finished_at = NULL WHERE thread = ?", (KETTLE,))
        other.commit()
    await upgraded(file)
    ended = rows(file, f"SELECT status, finished_at IS NULL, error FROM runs WHERE thread = '{KETTLE}'")
    assert ended == [("incomplete", 0, "the process that ran it ended before the answer was complete")] * 3


def test_a_start_with_nothing_to_upgrade_does_not_import_alembic(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom serving.settings import Settings\n"
        "from serving.runtime import open_runtime\n"
        "async def main():\n"
        f"    async with open_runtime(Settings(data_dir=Path({str(tmp_path)!r}))): pass\n"
        "for _ in range(2): asyncio.run(main())\n"
        "print([name for name in ('alembic', 'sqlalchemy') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_of_several_processes_that_start_together_one_upgrades_and_all_work(file: Path) -> None:
    with stepwise(file, "never") as one, stepwise(file, "never") as two, stepwise(file, "never") as three:
        ends = [process.communicate(timeout=DEADLINE) for process in (one, two, three)]
    assert [out for out, _ in ends] == ["done\n"] * 3
    assert sum(said.count("Upgrading the database") for _, said in ends) == 1
    assert len(copies(file)) == 1
    assert rows(file, "PRAGMA user_version") == [(VERSION,)]


def test_who_starts_while_another_upgrades_waits_for_it(file: Path) -> None:
    with stepwise(file, "DROP TABLE") as first:
        assert line_of(first) == "reached"
        with stepwise(file, "never") as second:
            assert second.stderr is not None
            assert "Waiting for another process that upgrades" in second.stderr.readline()
            assert second.poll() is None
            first.communicate("\n" * 10, timeout=DEADLINE)
            out, said = second.communicate(timeout=DEADLINE)
    assert out == "done\n"
    assert said == ""
    assert len(copies(file)) == 1


def test_waiting_for_anothers_upgrade_has_an_end(file: Path) -> None:
    lock = file.with_name(f"{DATABASE}.upgrade-lock")
    with lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DatabaseUnavailable, match="start again when it is done"):
            upgrade_file(file, VERSION, stamp.upgrade, 0.0, turn=0.05)
        with pytest.raises(DatabaseUnavailable, match="start again when it is done"):
            wait_for_upgrade(file, turn=0.05)
    assert not wait_for_upgrade(file)
    assert not wait_for_upgrade(file.with_name("another"))
    assert old_version(file)


async def test_who_comes_when_the_upgrade_is_done_leaves_the_file_alone(file: Path) -> None:
    await upgraded(file)
    before = content(file)
    upgrade_file(file, VERSION, refuse, 0.0)
    assert content(file) == before
    file.write_bytes(b"no database at all, " * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        upgrade_file(file, VERSION, refuse, 0.0)


async def test_what_is_in_the_way_of_the_copy_is_told(file: Path) -> None:
    file.with_name(f"{DATABASE}.backup-part").mkdir()
    with pytest.raises(DatabaseUnavailable, match="nothing was changed"):
        await upgraded(file)
    assert old_version(file)


async def test_a_file_that_is_held_for_another_reason_is_told_as_such(file: Path) -> None:
    await upgraded(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseUnavailable, match="another process has kept it locked"):
            await upgraded(file, patience=0.05)


async def test_who_knows_of_no_older_version_changes_nothing(file: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="nothing here knows version 1"):
        await (await Database.open(file, [])).close()
    assert old_version(file)


@pytest.mark.parametrize(
    "stop", ["CREATE TABLE alembic_version", "INSERT INTO messages", "PRAGMA user_version =", "COMMIT"]
)
async def test_after_kill_9_in_the_middle_of_an_upgrade_the_next_start_works(file: Path, stop: str) -> None:
    with stepwise(file, stop) as process:
        assert line_of(process) == "reached"
        process.kill()
        process.wait(DEADLINE)
    assert old_version(file)
    await upgraded(file)
    assert rows(file, "PRAGMA user_version") == [(VERSION,)]
    assert rows(file, "SELECT count(*) FROM messages") == [(10,)]
    assert rows(file, "PRAGMA integrity_check") == [("ok",)]
    assert len(copies(file)) == 1  # the second start's is the same as the first's


async def test_what_a_process_left_that_was_killed_while_it_copied_is_no_copy(file: Path) -> None:
    part = file.with_name(f"{DATABASE}.backup-part")
    part.write_bytes(FIRST.read_bytes()[:5000])
    part.with_name(f"{part.name}-journal").write_bytes(b"half")
    await upgraded(file)
    (copy,) = copies(file)
    assert content(copy) == content(FIRST)
    assert not part.exists()


async def test_a_file_that_another_process_has_open_is_not_upgraded(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT count(*) FROM threads").fetchone() == (2,)
        with pytest.raises(DatabaseUnavailable, match="another process has it open; stop that one"):
            await upgraded(file, patience=0.05)
        other.execute("UPDATE threads SET title = title")  # it can still be worked with
        other.rollback()
    assert copies(file) == []
    assert old_version(file)
    await upgraded(file)


async def test_a_failed_upgrade_leaves_the_file_as_it_was_names_the_copy_and_may_be_tried_again(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("UPDATE messages SET created_at = 'yesterday' WHERE thread = ? AND number = 1", (KETTLE,))
        other.commit()
    before = content(file)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match=r"failed .*it is as it was \(version 1\)") as failed:
            await upgraded(file)
        (copy,) = copies(file)  # one, however often it is tried
        assert str(copy) in str(failed.value)
        assert content(file) == before == content(copy)
    with closing(sqlite3.connect(file)) as other:
        other.execute("UPDATE messages SET created_at = '2026-11-21T00:00:00.000Z' WHERE created_at = 'yesterday'")
        other.commit()
    await upgraded(file)
    assert len(copies(file)) == 2


async def test_rows_that_refer_to_nothing_stop_the_upgrade(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:  # foreign keys are off unless asked for
        other.execute("DELETE FROM threads WHERE id = ?", (KETTLE,))
        other.commit()
    with pytest.raises(DatabaseUnavailable, match="6 rows refer to rows that are not there"):
        await upgraded(file)
    assert rows(file, "PRAGMA user_version") == [(1,)]


async def test_a_bug_in_a_revision_stays_a_bug_and_changes_nothing(file: Path) -> None:
    def wrong(connection: sqlite3.Connection, version: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DROP TABLE threads")
        raise LookupError("not thought of")

    with pytest.raises(LookupError, match="not thought of"):
        await upgraded(file, wrong)
    assert old_version(file)


@pytest.mark.parametrize(
    ("when", "told"), [("before", "nothing was changed: free at least"), ("after", "it is as it was")]
)
async def test_a_full_disk_stops_the_upgrade_with_a_clear_word(file: Path, when: str, told: str) -> None:
    """The room for one file is limited before the copy is made, or after that."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))\n"
    code = (
        limit + STEPWISE
        if when == "before"
        else STEPWISE.replace("    connection.set_trace", f"    {limit}    connection.set_trace")
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(file), "never"], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE,
        check=False,
    )  # fmt: skip
    assert "memory.sql.DatabaseUnavailable" in ran.stderr
    assert told in ran.stderr
    assert old_version(file)
    assert len(copies(file)) == (when == "after")
    assert not list(file.parent.glob("*part*"))
    await upgraded(file)
    assert rows(file, "PRAGMA user_version") == [(VERSION,)]


async def test_a_newer_file_is_refused_and_the_copies_are_named(file: Path) -> None:
    await upgraded(file)
    with closing(sqlite3.connect(file)) as other:
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(DatabaseUnavailable) as refused:
        await upgraded(file)
    assert f"version {VERSION + 1} of the file, this one knows {VERSION}" in str(refused.value)
    assert "install that Parley again" in str(refused.value)
    assert copies(file)[0].name in str(refused.value)


async def test_a_folder_that_cannot_be_written_to_is_told(file: Path) -> None:
    file.with_name(f"{DATABASE}.upgrade-lock").mkdir()
    with pytest.raises(DatabaseUnavailable, match="its folder cannot be written to"):
        await upgraded(file)
    assert old_version(file)
