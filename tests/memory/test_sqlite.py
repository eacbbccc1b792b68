from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memory.sql import DatabaseUnavailable
from memory.sqlite import READERS, VERSION, Database, from_sql, to_sql

SCHEMA = "CREATE TABLE IF NOT EXISTS note (n INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT UNIQUE NOT NULL);"


def add(text: str) -> Callable[[sqlite3.Connection], None]:
    def write(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO note (text) VALUES (?)", (text,))

    return write


def texts(db: sqlite3.Connection) -> list[str]:
    return [text for (text,) in db.execute("SELECT text FROM note ORDER BY n")]


async def opened(folder: Path, patience: float = 10.0) -> Database:
    return await Database.open(folder / "parley.db", [SCHEMA], patience=patience)


async def test_what_was_written_is_there_after_closing_and_opening_again(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    await database.write(add("one"))
    await database.close()
    database = await opened(tmp_path)
    assert await database.read(texts) == ["one"]
    assert await database.read(lambda db: db.execute("PRAGMA user_version").fetchone()) == (VERSION,)
    assert await database.read(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    await database.close()


async def test_file_and_folder_made_for_it_are_for_their_owner_only(tmp_path: Path) -> None:
    database = await opened(tmp_path / "data")
    await database.write(add("one"))
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()} == {0o600}
    await database.close()


async def test_write_returns_the_result_of_the_function(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    row = await database.write(lambda db: db.execute("INSERT INTO note (text) VALUES ('a') RETURNING n").fetchone())
    assert row == (1,)
    await database.close()


async def test_reading_sees_one_snapshot_and_cannot_write(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    await database.write(add("one"))
    begun, go_on = threading.Event(), threading.Event()

    def twice(db: sqlite3.Connection) -> tuple[list[str], list[str]]:
        before = texts(db)
        begun.set()
        go_on.wait()
        return before, texts(db)

    reading = asyncio.create_task(database.read(twice))
    await asyncio.to_thread(begun.wait)
    await database.write(add("two"))
    go_on.set()
    assert await reading == (["one"], ["one"])
    assert await database.read(texts) == ["one", "two"]
    with pytest.raises(sqlite3.OperationalError):
        await database.read(add("three"))
    await database.close()


async def held(database: Database) -> tuple[threading.Event, asyncio.Task[None]]:
    """Keeps the writer busy until the event is set, so that what is written meanwhile queues up."""
    busy, release = threading.Event(), threading.Event()

    def hold(db: sqlite3.Connection) -> None:
        busy.set()
        release.wait()

    task = asyncio.create_task(database.write(hold))
    await asyncio.to_thread(busy.wait)
    return release, task


async def queued(count: int = 1) -> None:
    """Lets tasks just made run up to their first wait."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_writes_that_wait_together_share_a_commit(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    release, first = await held(database)
    seen: list[tuple[int, bool]] = []

    def noting(number: int) -> Callable[[sqlite3.Connection], None]:
        def write(db: sqlite3.Connection) -> None:
            other = sqlite3.connect(database.path)
            seen.append((number, other.execute("SELECT count(*) FROM note").fetchone()[0] == 0))
            other.close()
            add(str(number))(db)

        return write

    waiting = [asyncio.create_task(database.write(noting(number))) for number in range(10)]
    await queued()
    release.set()
    await asyncio.gather(first, *waiting)
    assert seen == [(number, True) for number in range(10)]  # none was visible before all had run
    assert await database.read(texts) == [str(number) for number in range(10)]
    await database.close()


async def test_job_that_fails_in_a_shared_commit_rolls_back_alone(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    release, first = await held(database)

    def fails(db: sqlite3.Connection) -> None:
        add("half")(db)
        raise LookupError("no such thing")

    waiting = [asyncio.create_task(database.write(fn)) for fn in (add("a"), fails, add("a"), add("b"))]
    await queued()
    release.set()
    await first
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), LookupError, sqlite3.IntegrityError, type(None)]
    assert await database.read(texts) == ["a", "b"]
    await database.close()


async def test_job_that_breaks_the_whole_transaction_takes_no_other_with_it(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    release, first = await held(database)

    def breaks(db: sqlite3.Connection) -> None:
        db.execute("INSERT OR ROLLBACK INTO note (text) VALUES ('a')")

    waiting = [asyncio.create_task(database.write(fn)) for fn in (add("a"), breaks, add("b"))]
    await queued()
    release.set()
    await first
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), sqlite3.IntegrityError, type(None)]
    assert await database.read(texts) == ["a", "b"]
    await database.close()


async def test_commit_that_fails_is_told_and_the_next_write_works(tmp_path: Path) -> None:
    database = await Database.open(
        tmp_path / "parley.db",
        [
            SCHEMA,
            "CREATE TABLE IF NOT EXISTS reply (n INTEGER REFERENCES note (n) DEFERRABLE INITIALLY DEFERRED)",
        ],
    )
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(lambda db: db.execute("INSERT INTO reply VALUES (7)").rowcount)
    await database.write(add("one"))
    assert await database.read(texts) == ["one"]
    await database.close()


async def test_full_disk_is_told_loses_nothing_and_ends_when_there_is_space(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    await database.write(add("kept"))
    await database.write(lambda db: db.execute("PRAGMA max_page_count = 10").fetchone())
    with pytest.raises(DatabaseUnavailable, match=r"parley\.db.*disk is full"):
        await database.write(add("x" * 200_000))
    async with asyncio.TaskGroup() as group:
        for fn in (add("small"), add("y" * 200_000)):
            group.create_task(expect_outcome(database, fn))
    await database.write(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchone())
    await database.write(add("z" * 200_000))
    assert [len(text) for text in await database.read(texts)] == [4, 5, 200_000]
    assert await database.read(lambda db: db.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
    await database.close()


async def expect_outcome(database: Database, fn: Callable[[sqlite3.Connection], None]) -> None:
    """Small writes succeed and big ones are refused, also when they share a commit."""
    try:
        await database.write(fn)
    except DatabaseUnavailable as error:
        assert "full" in str(error)


async def test_cancelled_write_that_waits_is_not_done_and_the_others_are(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    release, first = await held(database)
    waiting = [asyncio.create_task(database.write(add(text))) for text in "abc"]
    await queued()
    waiting[1].cancel()
    await queued(2)
    release.set()
    await first
    assert await asyncio.gather(*waiting, return_exceptions=True) != [None, None, None]
    assert waiting[1].cancelled()
    assert await database.read(texts) == ["a", "c"]
    await database.close()


async def test_write_cancelled_while_it_runs_is_whole(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def two(db: sqlite3.Connection) -> None:
        add("one")(db)
        begun.set()
        go_on.wait()
        add("two")(db)

    task = asyncio.create_task(database.write(two))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await queued(2)
    assert task.cancelled()
    go_on.set()
    await database.write(add("three"))
    assert await database.read(texts) == ["one", "two", "three"]
    await database.close()


async def test_chat_goes_before_bulk_that_waits(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    release, first = await held(database)
    bulk = [asyncio.create_task(database.write(add(f"bulk {n}"), bulk=True)) for n in range(5)]
    await queued()
    chat = asyncio.create_task(database.write(add("chat")))
    await queued()
    release.set()
    await asyncio.gather(first, chat, *bulk)
    assert (await database.read(texts))[0] == "chat"
    await database.close()


async def test_bulk_of_one_process_lets_the_chat_of_another_through(tmp_path: Path) -> None:
    ingesting, serving = await opened(tmp_path), await opened(tmp_path)

    def slow(db: sqlite3.Connection) -> None:
        db.execute(
            "WITH RECURSIVE up(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM up WHERE i < 20000)"
            " INSERT INTO note (text) SELECT 'bulk' || max(i) || random() FROM up"
        )

    bulk = [asyncio.create_task(ingesting.write(slow, bulk=True)) for _ in range(60)]
    await ingesting.read(texts)
    for number in range(5):
        await serving.write(add(f"chat {number}"))
    assert not all(task.done() for task in bulk)
    await asyncio.gather(*bulk)
    written = await serving.read(texts)
    assert len(written) == 65
    assert written.index("chat 4") < 50
    await ingesting.close()
    await serving.close()


async def test_lock_held_by_another_is_told_after_the_patience_and_not_for_ever(tmp_path: Path) -> None:
    database = await opened(tmp_path, patience=0.05)
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for bulk in (False, True):
        with pytest.raises(DatabaseUnavailable, match="another process has kept it locked"):
            await database.write(add("one"), bulk=bulk)
    other.execute("ROLLBACK")
    await database.write(add("two"), bulk=True)
    assert await database.read(texts) == ["two"]
    other.close()
    await database.close()


async def test_opening_while_another_holds_the_lock_is_told(tmp_path: Path) -> None:
    await (await opened(tmp_path)).close()
    other = sqlite3.connect(tmp_path / "parley.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"):
        await opened(tmp_path, patience=0.05)
    other.close()


async def test_several_open_a_new_file_at_once(tmp_path: Path) -> None:
    for turn in range(3):
        databases = await asyncio.gather(*(opened(tmp_path / str(turn)) for _ in range(4)))
        await asyncio.gather(*(database.write(add(f"{n}")) for n, database in enumerate(databases)))
        assert sorted(await databases[0].read(texts)) == ["0", "1", "2", "3"]
        for database in databases:
            await database.close()


async def test_transaction_writes_all_at_its_end_or_nothing(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    async with database.transaction():
        await database.write(add("one"))
        async with database.transaction():
            await database.write(add("two"), bulk=True)
        assert await database.read(texts) == []
    assert await database.read(texts) == ["one", "two"]
    with pytest.raises(sqlite3.IntegrityError):
        async with database.transaction():
            await database.write(add("three"))
            await database.write(add("one"))
    with pytest.raises(LookupError):
        async with database.transaction():
            await database.write(add("four"))
            raise LookupError
    async with database.transaction():
        pass
    assert await database.read(texts) == ["one", "two"]
    await database.close()


async def test_transaction_takes_in_the_writes_of_its_own_tasks_only(tmp_path: Path) -> None:
    database, other = await opened(tmp_path), await opened(tmp_path / "other")
    outside = contextvars.copy_context()
    async with database.transaction():
        await asyncio.gather(database.write(add("a")), database.write(add("b")))
        await asyncio.create_task(database.write(add("elsewhere")), context=outside)
        await other.write(add("other file"))
        late = contextvars.copy_context()
        assert await database.read(texts) == ["elsewhere"]
        assert await other.read(texts) == ["other file"]
    await asyncio.create_task(database.write(add("late")), context=late)
    assert await database.read(texts) == ["elsewhere", "a", "b", "late"]
    await database.close()
    await other.close()


async def test_result_inside_a_transaction_is_a_bug_that_is_told(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    with pytest.raises(RuntimeError, match="cannot return a result"):
        async with database.transaction():
            await database.write(add("one"))
            await database.write(texts)
    assert await database.read(texts) == []
    await database.close()


async def test_follow_ups_run_after_the_commit_and_not_without_it(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    seen: list[list[str]] = []

    async def look() -> None:
        seen.append(await database.read(texts))

    await database.after_commit(look)
    async with database.transaction():
        await database.write(add("one"))
        await database.after_commit(look)
    with pytest.raises(LookupError):
        async with database.transaction():
            await database.after_commit(look)
            raise LookupError
    assert seen == [[], ["one"]]
    await database.close()


async def test_closed_database_says_so_and_finishes_what_was_queued(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    release, first = await held(database)
    waiting = [asyncio.create_task(database.write(add(text), bulk=text == "b")) for text in "abc"]
    reading = [asyncio.create_task(database.read(texts)) for _ in range(2 * READERS)]
    await queued()
    closing = asyncio.create_task(database.close())
    await queued()
    release.set()
    await asyncio.gather(first, closing, *waiting, *reading)
    for use in (database.write(add("d")), database.read(texts)):
        with pytest.raises(DatabaseUnavailable, match="closed"):
            await use
    again = await opened(tmp_path)
    assert sorted(await again.read(texts)) == ["a", "b", "c"]
    await again.close()


async def test_file_removed_while_in_use_is_told_and_not_written_to(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    await database.write(add("one"))
    (tmp_path / "parley.db").rename(tmp_path / "away.db")
    for use in (database.write(add("two")), database.read(texts)):
        with pytest.raises(DatabaseUnavailable, match="removed or replaced"):
            await use
    (tmp_path / "away.db").rename(tmp_path / "parley.db")
    await database.write(add("three"))
    assert await database.read(texts) == ["one", "three"]
    await database.close()


async def test_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatabaseUnavailable, match="choose another data folder"):
        await opened(tmp_path / "file")


async def test_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "parley.db").write_bytes(b"something else entirely, " * 100)
    with pytest.raises(DatabaseUnavailable, match="no SQLite database"):
        await opened(tmp_path)
    assert (tmp_path / "parley.db").read_bytes() == b"something else entirely, " * 100


async def test_damaged_file_is_told(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    await database.write(lambda db: db.executemany("INSERT INTO note (text) VALUES (?)", many()).rowcount)
    await database.close()
    data = bytearray((tmp_path / "parley.db").read_bytes())
    data[8192:-4096] = b"\xff" * (len(data) - 8192 - 4096)
    (tmp_path / "parley.db").write_bytes(data)
    database = await opened(tmp_path)
    with pytest.raises(DatabaseUnavailable, match="damaged"):
        await database.read(texts)
    await database.close()


def many() -> list[tuple[str]]:
    return [(f"{number} " + "y" * 500,) for number in range(400)]


async def test_file_of_a_newer_version_is_refused_and_not_changed(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    await database.write(lambda db: db.execute(f"PRAGMA user_version = {VERSION + 1}").fetchone())
    await database.close()
    with pytest.raises(DatabaseUnavailable, match="newer Parley"):
        await opened(tmp_path)


async def test_wrong_sql_stays_a_bug(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await database.read(lambda db: db.execute("SELECT * FROM missing").fetchall())
    with pytest.raises(sqlite3.OperationalError, match="incomplete input"):
        await database.write(lambda db: db.execute("INSERT").rowcount)
    with pytest.raises(sqlite3.OperationalError):
        await Database.open(tmp_path / "parley.db", ["CREATE NONSENSE;"])
    await database.close()


async def test_many_reads_at_once_are_all_answered(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    await database.write(add("one"))
    assert await asyncio.gather(*(database.read(texts) for _ in range(50))) == [["one"]] * 50
    await database.close()


@pytest.mark.parametrize("text", ["", "plain", "naïve ☃ 日本 🙂", "nul \0 inside", "lone \ud800 surrogate \udfff"])
async def test_any_text_comes_back_as_it_was(tmp_path: Path, text: str) -> None:
    database = await opened(tmp_path)
    await database.write(lambda db: db.execute("INSERT INTO note (text) VALUES (?)", (to_sql(text),)).rowcount)
    kept = await database.read(
        lambda db: db.execute("SELECT text FROM note WHERE text = ?", (to_sql(text),)).fetchone()
    )
    assert from_sql(kept[0]) == text
    await database.close()
