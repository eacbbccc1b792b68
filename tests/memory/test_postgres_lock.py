"""A lock of one process among all on the same Postgres."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import anyio
import psycopg
import pytest
from anyio import fail_after

from memory.postgres_lock import ServerLock, alone
from tests.services.found import service
from tests.services.private import private

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""
HOLD = """
import asyncio, sys
from memory.postgres_lock import alone

async def hold():
    async with alone(sys.argv[1], sys.argv[2]):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(hold())
"""


async def cut(url: str, name: str) -> None:
    """Ends the connection that holds the lock, as the same role may."""
    plain = url.replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(plain, autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", [f"parley {name}"]
        )


async def test_a_killed_process_makes_room_for_the_next(tmp_path: Path) -> None:
    url = service("postgres")["PARLEY_DATABASE_URL"]
    name = tmp_path.name
    holder = subprocess.Popen([sys.executable, "-c", HOLD, url, name], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
        entered = asyncio.Event()

        async def wait() -> None:
            async with alone(url, name):
                entered.set()

        with fail_after(DEADLINE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                async with alone(url, f"{name} of another"):
                    assert not entered.is_set()
                holder.kill()
                await entered.wait()
    finally:
        holder.kill()
        holder.communicate()


async def test_a_lock_whose_connection_was_cut_is_taken_again_when_nobody_else_has_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = service("postgres")["PARLEY_DATABASE_URL"]
    async with alone(url, tmp_path.name) as lock, anyio.create_task_group() as tasks:
        tasks.start_soon(lock.lost)
        for _ in range(2):
            caplog.clear()
            await cut(url, tmp_path.name)
            with fail_after(DEADLINE):
                while "may be lost" not in caplog.text:
                    await asyncio.sleep(0)
                while not await is_taken(url, tmp_path.name):
                    pass
        tasks.cancel_scope.cancel()


async def test_a_holder_is_told_when_another_has_taken_over(tmp_path: Path) -> None:
    url = service("postgres")["PARLEY_DATABASE_URL"]
    async with alone(url, tmp_path.name) as lock:
        other = ServerLock(url, tmp_path.name)
        with fail_after(DEADLINE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.take)
                await cut(url, tmp_path.name)
        with fail_after(DEADLINE):
            await lock.lost()
        await other.close()


async def test_a_lock_waits_for_a_server_that_is_away_and_survives_its_crash() -> None:
    async with private("postgres") as (urls, server):
        url = urls["PARLEY_DATABASE_URL"]
        await server.stop()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.start)
            with fail_after(DEADLINE):
                async with alone(url, "one") as lock, anyio.create_task_group() as inner:
                    inner.start_soon(lock.lost)
                    await server.kill()
                    await server.start()
                    while not await is_taken(url, "one"):
                        pass
                    inner.cancel_scope.cancel()


async def is_taken(url: str, name: str) -> bool:
    """Whether some process holds the lock."""
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        found = await connection.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
            " AND (classid::bigint << 32 | objid::bigint) = hashtextextended(%s, 0))",
            [name],
        )  # to try and take it would take it away from who is looking for it just now
        return await found.fetchone() == (True,)
