"""What both databases do behind the port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from memory.sql import Connection, DatabaseUnavailable, SqlDatabase
from memory.sqlite import from_sql
from tests.databases import database, postgres_made, postgres_urls

__all__ = ["database", "postgres_made", "postgres_urls"]

MANY = 10_000


class Wanted(Exception):
    """What a function raises on purpose."""


def add(n: int, text: str = "", body: bytes | None = None) -> Callable[[Connection], None]:
    def write(connection: Connection) -> None:
        connection.execute("INSERT INTO note (n, text, body) VALUES (?, ?, ?)", (n, text, body))

    return write


def numbers(connection: Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM note ORDER BY n")]


async def test_values_of_every_kind_come_back_as_they_were(database: SqlDatabase) -> None:
    texts = ["", "plain", "é 🙂", "100 % of ? and :this", "a'b\"c\\", "line\nline", "\ufdd0 and \U000f0000", "\uffff"]
    for n, text in enumerate(texts):
        await database.write(add(n, text, text.encode()))
    await database.write(add(2**62, "big"))
    rows = await database.read(
        lambda connection: connection.execute("SELECT n, text, body FROM note ORDER BY n").fetchall()
    )
    assert rows == [*((n, text, text.encode()) for n, text in enumerate(texts)), (2**62, "big", None)]


@pytest.mark.parametrize("text", ["a\x00b", "\ud800 alone", "both \udfff\x00 \ufdd0"])
async def test_texts_that_no_database_likes_come_back_and_are_found(database: SqlDatabase, text: str) -> None:
    value = database.dialect.text(text)
    await database.write(
        lambda connection: connection.execute("INSERT INTO note VALUES (1, ?, NULL)", (value,)) and None
    )
    rows = await database.read(
        lambda connection: connection.execute("SELECT text FROM note WHERE text = :text", {"text": value}).fetchall()
    )
    assert [from_sql(found) for (found,) in rows] == [text]


async def test_texts_are_ordered_by_their_bytes(database: SqlDatabase) -> None:
    texts = ["b", "a", "B", "é", "_", "a b", "ab", "\uffff", "🙂"]
    await database.write(
        lambda connection: (
            connection.executemany("INSERT INTO note (n, text) VALUES (?, ?)", list(enumerate(texts))) and None
        )
    )
    rows = await database.read(lambda connection: connection.execute("SELECT text FROM note ORDER BY text").fetchall())
    assert [text for (text,) in rows] == sorted(texts, key=str.encode)


async def test_placeholders_stand_in_any_place_but_in_quotes(database: SqlDatabase) -> None:
    await database.write(add(7, "50%"))
    sql = "SELECT '?', ':n', text, '%' FROM note WHERE n = :n AND text LIKE '%!%' ESCAPE '!' AND :n <> 0"
    assert await database.read(lambda connection: connection.execute(sql, {"n": 7, "more": "x"}).fetchall()) == [
        ("?", ":n", "50%", "%")
    ]


async def test_a_word_is_folded_in_the_database_as_in_python(database: SqlDatabase) -> None:
    for word in ("Straße", "ΟΔΟΣ", "İstanbul", "ÉTÉ", "ﬁn", "ДОМ", "ARGIL"):
        row = await database.read(
            lambda connection, word=word: connection.execute("SELECT folded(?)", (word,)).fetchone()
        )
        assert row == (word.casefold(),)


async def test_rows_can_be_iterated_fetched_one_by_one_and_counted(database: SqlDatabase) -> None:
    for n in range(3):
        await database.write(add(n))

    def look(connection: Connection) -> tuple[object, ...]:
        rows = connection.execute("SELECT n FROM note ORDER BY n")
        return rows.fetchone(), list(rows), rows.fetchone()

    assert await database.read(look) == ((0,), [(1,), (2,)], None)
    assert await database.write(lambda connection: connection.execute("DELETE FROM note WHERE n > 0").rowcount) == 2
    returned = (
        "INSERT INTO note VALUES (9, 'x', NULL) ON CONFLICT (n) DO UPDATE SET text = excluded.text RETURNING n, text"
    )
    assert await database.write(lambda connection: connection.execute(returned).fetchone()) == (9, "x")


async def test_what_a_function_raises_undoes_its_own_changes_alone(database: SqlDatabase) -> None:
    def broken(connection: Connection) -> None:
        add(100)(connection)
        raise Wanted

    writes = [database.write(broken if n == 5 else add(n)) for n in range(10)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [Wanted if n == 5 else type(None) for n in range(10)]
    assert await database.read(numbers) == [n for n in range(10) if n != 5]


async def test_wrong_sql_fails_its_own_write_alone(database: SqlDatabase) -> None:
    results = await asyncio.gather(
        database.write(add(1)),
        database.write(lambda connection: connection.execute("SELECT nothing FROM nowhere") and None),
        database.write(add(2)),
        return_exceptions=True,
    )
    assert isinstance(results[1], Exception)
    assert not isinstance(results[1], DatabaseUnavailable)
    assert await database.read(numbers) == [1, 2]


async def test_reading_sees_one_snapshot_and_cannot_write(database: SqlDatabase) -> None:
    await database.write(add(1))
    begun, go_on = threading.Event(), threading.Event()

    def twice(connection: Connection) -> tuple[list[int], list[int]]:
        before = numbers(connection)
        begun.set()
        go_on.wait()
        return before, numbers(connection)

    reading = asyncio.create_task(database.read(twice))
    await asyncio.to_thread(begun.wait)
    await database.write(add(2))
    go_on.set()
    assert await reading == ([1], [1])
    with pytest.raises(Exception, match=r"read-?only"):
        await database.read(add(3))
    assert await database.read(numbers) == [1, 2]


async def test_counting_up_from_many_tasks_loses_no_step(database: SqlDatabase) -> None:
    await database.write(add(0))

    def step(connection: Connection) -> None:
        (last,) = connection.execute("SELECT max(n) FROM note").fetchone()
        add(last + 1)(connection)

    await asyncio.gather(*(database.write(step, bulk=number % 5 == 0) for number in range(60)))
    assert await database.read(numbers) == list(range(61))


async def test_writes_of_a_transaction_are_kept_together_or_not_at_all(database: SqlDatabase) -> None:
    told: list[str] = []

    async def tell() -> None:
        told.append("after")

    async with database.transaction():
        await database.write(add(1))
        await database.after_commit(tell)
        async with database.transaction():
            await database.write(add(2), bulk=True)
        assert await database.read(numbers) == []
        assert told == []
    assert told == ["after"]
    with pytest.raises(Wanted):
        async with database.transaction():
            await database.write(add(3))
            raise Wanted
    with pytest.raises(Exception, match=r"(?i)unique"):
        async with database.transaction():
            await database.write(add(4))
            await database.write(add(1))
    assert await database.read(numbers) == [1, 2]


async def test_writes_are_kept_in_the_order_of_their_calls(database: SqlDatabase) -> None:
    await database.write(add(1, "0"))

    def append(number: int) -> Callable[[Connection], None]:
        def write(connection: Connection) -> None:
            connection.execute("UPDATE note SET text = text || ? WHERE n = 1", (f",{number}",))

        return write

    await asyncio.gather(*(database.write(append(number)) for number in range(1, 100)))
    (text,) = await database.read(lambda connection: connection.execute("SELECT text FROM note").fetchone())
    assert text == ",".join(str(number) for number in range(100))


async def test_who_is_cancelled_while_waiting_writes_nothing_and_the_next_goes_on(database: SqlDatabase) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        add(1)(connection)
        begun.set()
        go_on.wait()

    first = asyncio.create_task(database.write(slow))
    await asyncio.to_thread(begun.wait)
    second = asyncio.create_task(database.write(add(2)))
    third = asyncio.create_task(database.write(add(3)))
    await asyncio.tasks.sleep(0)
    second.cancel()
    first.cancel()  # it has begun, so it is finished
    go_on.set()
    await third
    assert await database.read(numbers) == [1, 3]


async def test_ten_thousand_rows_go_in_and_come_out(database: SqlDatabase) -> None:
    rows = [(n, f"text {n}", None) for n in range(MANY)]
    await database.write(
        lambda connection: connection.executemany("INSERT INTO note VALUES (?, ?, ?)", rows) and None, bulk=True
    )
    assert (
        await database.read(lambda connection: connection.execute("SELECT * FROM note ORDER BY n").fetchall()) == rows
    )


async def test_a_closed_database_says_so(database: SqlDatabase) -> None:
    waiting = [asyncio.create_task(database.write(add(n))) for n in range(5)]
    await asyncio.tasks.sleep(0)
    await database.close()
    await asyncio.gather(*waiting)
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await database.read(numbers)
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await database.write(add(9))
