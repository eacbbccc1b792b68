"""Background jobs of two servers on one Postgres: one of them works, and what a killed one left the other does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import psycopg
from anyio import fail_after

from tests.services.own_database import own_database
from tests.serving.replicas import Replica

FILES, KILLS = 16, 2
DEADLINE = 400
"""Seconds; a bound for what hangs, not a measure."""


async def progress(client: httpx.AsyncClient, url: str, job: str, enough: int | None = None) -> int:
    """How many parts are done, once they are `enough`; without, once the job is over, which is told a little later."""
    done = 0
    async with client.stream("GET", f"{url}/api/jobs/{job}/events") as events:
        async for line in events.aiter_lines():
            if line.startswith("data: "):
                done = int(json.loads(line.removeprefix("data: "))["done"])
                if enough is not None and done >= enough:
                    break
    return done


async def test_jobs_go_on_in_the_other_server_when_the_one_that_ran_them_is_killed(tmp_path: Path) -> None:
    parts = [
        ("files", (f"shelf/{n}.md", f"# Shelf {n}\n\nShelf {n} holds {n * 17} books.\n".encode())) for n in range(FILES)
    ]
    with own_database() as urls, fail_after(DEADLINE):
        one, other = (Replica(tmp_path / "data", urls) for _ in range(2))
        try:
            await asyncio.gather(one.start(), other.start())
            async with httpx.AsyncClient(timeout=DEADLINE) as client:
                accepted = (await client.post(f"{one.url}/api/documents", files=parts)).json()
                job, seen = accepted["job_id"], [0]
                for kill in range(1, KILLS + 1):  # each server once, so the one that works too
                    seen.append(await progress(client, other.url, job, kill * FILES // (KILLS + 2)))
                    await one.kill()
                    await one.start()
                    one, other = other, one
                assert await progress(client, other.url, job) == FILES
                last = (await client.get(f"{one.url}/api/jobs/{job}")).json()
                listed = (await client.get(f"{one.url}/api/documents", params={"limit": 200})).json()["items"]
                sent = {"query": "Shelf 7 holds how many books"}
                hits = (await client.post(f"{other.url}/api/search", json=sent)).json()["hits"]
        finally:
            await asyncio.gather(one.kill(), other.kill())
        async with await psycopg.AsyncConnection.connect(
            urls["PARLEY_DATABASE_OWNER_URL"].replace("+psycopg", "")
        ) as connection:
            steps = await connection.execute(
                "SELECT count(*), count(DISTINCT function_name) FROM dbos.operation_outputs"
                " WHERE function_name NOT IN ('take', 'end') AND workflow_uuid = %s",
                [f"{job}.1"],
            )
            assert await steps.fetchone() == (FILES, FILES)
    assert (last["status"], last["done"], last["failed"]) == ("finished", FILES, 0)
    assert seen == sorted(seen)
    assert sorted(one["id"] for one in listed) == sorted(one["id"] for one in accepted["documents"])
    assert [hit["path"] for hit in hits].count("shelf/7.md") == 1
