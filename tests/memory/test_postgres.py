"""The door to Postgres when the server, the network or the URL is not as it should be."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import pytest

from memory.postgres import PostgresDatabase
from memory.postgres_link import Address
from memory.sql import Connection, DatabaseUnavailable
from serving.migrations import postgres as migrations
from tests.databases import Urls, execute, postgres_made, postgres_urls, select
from tests.faults import FaultProxy
from tests.services.private import private

__all__ = ["postgres_made", "postgres_urls"]

ADD = "INSERT INTO note (n, text) VALUES (?, '')"
SLOW_COMMIT = (
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END'",
    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
    " WHEN (NEW.n >= 1000) EXECUTE FUNCTION slow()",
)
COMMITTING = (
    "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active' AND datname = current_database()"
)
DEADLINE = 30.0
"""Seconds; a bound for what hangs, not a measure."""


def add(n: int) -> Callable[[Connection], None]:
    def write(connection: Connection) -> None:
        connection.execute(ADD, (n,))

    return write


def numbers(connection: Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT n FROM note ORDER BY n")]


def through(url: str, port: int) -> str:
    """The URL by way of a proxy."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()


@asynccontextmanager
async def opened(url: str, patience: float = 5.0) -> AsyncGenerator[PostgresDatabase]:
    database = await PostgresDatabase.open(url, migrations.REVISION, patience=patience)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def proxied(urls: Urls, patience: float = 5.0) -> AsyncGenerator[tuple[FaultProxy, PostgresDatabase]]:
    async with (
        FaultProxy("127.0.0.1", urlsplit(urls.app).port or 0) as proxy,
        opened(through(urls.app, proxy.port), patience) as database,
    ):
        yield proxy, database


WRONG: dict[str, tuple[Callable[[str], str], str]] = {
    "password": (
        lambda url: url.replace(f":{urlsplit(url).password}@", ":wr0ng-secret@"),
        "correct the user or the pass",
    ),
    "database": (lambda url: f"{url}_not", "make that database, or correct the URL"),
    "port": (lambda url: through(url, 1), "check that the server runs and can be reached"),
    "nonsense": (lambda _: "postgresql+psycopg://u:wr0ng-secret@[::1/d", "the URL of the database cannot be read"),
    "nobody": (lambda _: "postgresql+psycopg://127.0.0.1:5432/", "the URL of the database cannot be read"),
}
"""What may be wrong with a URL, made from a right one, and what is told."""


@pytest.mark.parametrize("what", WRONG)
async def test_who_is_not_let_in_is_told_why_and_never_the_password(postgres_urls: Urls, what: str) -> None:
    wrong, told = WRONG[what]
    with pytest.raises(DatabaseUnavailable, match=told) as refused:
        await PostgresDatabase.open(wrong(postgres_urls.app), migrations.REVISION)
    for secret in (str(urlsplit(postgres_urls.app).password), "wr0ng-secret"):
        assert secret not in str(refused.value)
        assert secret not in repr(Address.of(postgres_urls.app))


async def test_a_server_that_is_too_old_is_told() -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speaks just enough of the protocol to let anybody in and to say its version."""
        while True:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            if code >> 16 == 3:
                break
            writer.write(b"N")  # neither TLS nor GSSAPI
        await reader.readexactly(length - 8)
        version = b"server_version\x0014.9\x00"
        writer.write(b"R" + struct.pack("!II", 8, 0) + b"S" + struct.pack("!I", 4 + len(version)) + version)
        writer.write(b"Z" + struct.pack("!I", 5) + b"I")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(old, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(DatabaseUnavailable, match="Postgres 14; Parley needs version 15"):
            await PostgresDatabase.open(f"postgresql+psycopg://u:p@127.0.0.1:{port}/d", migrations.REVISION)


async def test_connections_that_broke_while_nobody_used_them_are_made_anew(postgres_urls: Urls) -> None:
    async with proxied(postgres_urls) as (proxy, database):
        await database.write(add(1))
        assert await database.read(numbers) == [1]
        for fault in (proxy.reset, proxy.half_close):
            fault()
            await database.write(lambda connection: connection.execute("UPDATE note SET n = n + 1") and None)
            assert len(await database.read(numbers)) == 1
        assert await database.read(numbers) == [3]


async def test_work_whose_connection_breaks_is_done_again_and_kept_once(postgres_urls: Urls) -> None:
    async with proxied(postgres_urls) as (proxy, database):
        loop = asyncio.get_running_loop()
        tries: list[int] = []

        def write(connection: Connection) -> None:
            add(1)(connection)
            tries.append(1)
            if len(tries) == 1:
                asyncio.run_coroutine_threadsafe(_call(proxy.reset), loop).result()
            connection.execute("SELECT 1")

        await database.write(write)
        assert len(tries) == 2
        assert await database.read(numbers) == [1]


async def test_a_commit_whose_answer_is_lost_counts_once(postgres_urls: Urls) -> None:
    async with with_slow_commits(postgres_urls), proxied(postgres_urls, DEADLINE) as (proxy, database):
        writing = asyncio.create_task(database.write(add(1000)))
        await committing(postgres_urls)
        proxy.reset()
        await writing
        assert await database.read(numbers) == [1000]


async def test_a_commit_that_the_server_broke_off_is_done_again(postgres_urls: Urls) -> None:
    async with with_slow_commits(postgres_urls), opened(postgres_urls.app, DEADLINE) as database:
        writing = asyncio.create_task(database.write(add(1000)))
        pid = await committing(postgres_urls)
        execute(postgres_urls.app, f"SELECT pg_terminate_backend({pid})")
        await writing
        assert await database.read(numbers) == [1000]


async def test_a_commit_whose_fate_cannot_be_known_is_an_error_that_says_so(postgres_urls: Urls) -> None:
    async with with_slow_commits(postgres_urls), proxied(postgres_urls, DEADLINE) as (proxy, database):
        writing = asyncio.create_task(database.write(add(1000)))
        await committing(postgres_urls)
        proxy.refuse(True)
        proxy.reset()
        with pytest.raises(DatabaseUnavailable, match="it may be kept or not; look before you repeat it"):
            await writing
        proxy.refuse(False)
        await eventually(lambda: database.read(numbers))
        assert await database.read(numbers) in ([], [1000])


async def test_a_server_that_says_nothing_is_given_up_and_found_again(postgres_urls: Urls) -> None:
    async with proxied(postgres_urls, 0.5) as (proxy, database):
        await database.write(add(1))
        assert await database.read(numbers) == [1]
        proxy.hang(True)
        results = await asyncio.gather(
            *(database.read(numbers) for _ in range(10)), *(database.write(add(n)) for n in range(2, 5)),
            return_exceptions=True,
        )  # fmt: skip
        assert {type(result) for result in results} == {DatabaseUnavailable}
        proxy.hang(False)
        await eventually(lambda: database.write(add(9)))
        assert (await database.read(numbers))[-1] == 9


async def test_a_slow_network_only_costs_time(postgres_urls: Urls) -> None:
    async with proxied(postgres_urls, DEADLINE) as (proxy, database):
        proxy.latency = 0.02
        proxy.bytes_per_second = 200_000
        await asyncio.gather(*(database.write(add(n)) for n in range(20)))
        assert await database.read(numbers) == list(range(20))


async def test_a_statement_that_takes_too_long_is_given_up_and_the_next_works(postgres_urls: Urls) -> None:
    async with opened(postgres_urls.app, 0.5) as database:
        with pytest.raises(DatabaseUnavailable):
            await database.read(lambda connection: connection.execute("SELECT pg_sleep(60)").fetchall())
        await eventually(lambda: database.read(numbers))


async def test_statements_prepared_before_a_table_was_changed_go_on(postgres_urls: Urls) -> None:
    async with opened(postgres_urls.app) as database:
        await database.write(add(1))

        def often(connection: Connection) -> object:
            return [connection.execute("SELECT * FROM note").fetchall() for _ in range(10)][-1]

        assert await database.write(often) == [(1, "", None)]
        execute(postgres_urls.owner, "ALTER TABLE note ADD COLUMN more TEXT")
        try:
            assert await database.write(often) == [(1, "", None, None)]
        finally:
            execute(postgres_urls.owner, "ALTER TABLE note DROP COLUMN more")


async def test_a_swallowed_error_is_a_bug_that_shows(postgres_urls: Urls) -> None:
    def write(connection: Connection) -> None:
        add(1)(connection)
        with pytest.raises(Exception, match="nowhere"):
            connection.execute("SELECT 1 FROM nowhere")

    async with opened(postgres_urls.app) as database:
        with pytest.raises(RuntimeError, match="swallowed"):
            await database.write(write)
        assert await database.read(numbers) == []


async def test_processes_that_change_the_same_rows_lose_no_step(postgres_urls: Urls) -> None:
    def step(connection: Connection) -> None:
        (last,) = connection.execute("SELECT max(n) FROM note").fetchone()
        connection.execute(ADD, (last + 1,))

    async with opened(postgres_urls.app, DEADLINE) as one, opened(postgres_urls.app, DEADLINE) as two:
        await one.write(add(0))
        await asyncio.gather(*(database.write(step) for database in (one, two) for _ in range(40)))
        assert await one.read(numbers) == list(range(81))


async def test_a_server_that_is_stopped_is_told_at_once_and_used_again_when_it_is_back() -> None:
    async with private("postgres") as (lines, server):
        urls = Urls(lines["PARLEY_DATABASE_OWNER_URL"], lines["PARLEY_DATABASE_URL"])
        await migrations.prepare(*urls)
        execute(
            urls.owner, "CREATE TABLE note (n BIGINT PRIMARY KEY, text TEXT NOT NULL)", "GRANT ALL ON note TO PUBLIC"
        )
        async with opened(urls.app) as database:
            await database.write(add(1))
            await server.stop()
            with pytest.raises(DatabaseUnavailable, match="check that the server runs"):
                await database.read(numbers)
            with pytest.raises(DatabaseUnavailable, match="check that the server runs"):
                await database.write(add(2))
            await server.start()
            await eventually(lambda: database.write(add(3)))
            assert await database.read(numbers) == [1, 3]
            done: set[int] = set()
            for round in range(3):
                kept = await killed_under_load(database, server.kill, server.start, 1000 * (round + 1))
                done |= kept
            await eventually(lambda: database.read(numbers))
            found = await database.read(numbers)
            assert done <= set(found)
            assert len(found) == len(set(found))


async def killed_under_load(
    database: PostgresDatabase,
    kill: Callable[[], Awaitable[object]],
    start: Callable[[], Awaitable[object]],
    first: int,
) -> set[int]:
    """What was acknowledged of writes while the server was killed and started again."""
    kept: set[int] = set()
    stop = asyncio.Event()

    async def load(n: int) -> None:
        while not stop.is_set():
            try:
                await database.write(add(n))
                kept.add(n)
            except DatabaseUnavailable:
                await asyncio.tasks.sleep(0)
            n += 20

    async with asyncio.TaskGroup() as tasks:
        for n in range(20):
            tasks.create_task(load(first * 100 + n))
        while len(kept) < 50:
            await asyncio.tasks.sleep(0)
        await kill()
        await start()
        before = len(kept)
        while len(kept) < before + 20:
            await asyncio.tasks.sleep(0)
        stop.set()
    return kept


@asynccontextmanager
async def with_slow_commits(urls: Urls) -> AsyncGenerator[None]:
    execute(urls.owner, *SLOW_COMMIT)
    try:
        yield
    finally:
        execute(urls.owner, "DROP TRIGGER slow ON note", "DROP FUNCTION slow")


async def committing(urls: Urls) -> int:
    """Waits until some process commits; its number."""
    with anyio.fail_after(DEADLINE):
        while not (rows := await asyncio.to_thread(select, urls.app, COMMITTING)):
            pass
    (pid,) = rows[0]
    assert isinstance(pid, int)
    return pid


async def eventually(act: Callable[[], Awaitable[object]]) -> None:
    """Tries until the database is there again."""
    with anyio.fail_after(DEADLINE):
        while True:
            try:
                await act()
            except DatabaseUnavailable:
                await asyncio.tasks.sleep(0)
            else:
                return


async def _call(what: Callable[[], None]) -> None:
    what()
