"""A real server that is killed, stopped and left: the short version of evals.bench.faults."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import aiohttp
import anyio
import pytest

from evals.bench.fault_kills import Load, Server, Turn, active, check, events, kills
from evals.bench.latency import started


@pytest.fixture(scope="module")
def slow() -> Generator[str]:
    with started([sys.executable, "-m", "evals.bench.latency_servers", "slow"], {}, "http") as server:
        yield server.url


def wrong(found: Counter[str]) -> list[str]:
    return [name for name, count in found.items() if name.startswith("WRONG") and count]


async def test_a_kill_under_load_loses_nothing_that_was_acknowledged_and_the_check_would_find_it(
    tmp_path: Path, slow: str
) -> None:
    found = await kills(1, tmp_path, slow, seed=1)
    assert wrong(found) == []
    assert found["turns acknowledged"] > 0
    never = Load(Server(tmp_path, slow), random.Random(1), turns=[Turn("t", "never stored", "r")], uploads=["j"])
    assert wrong(check(tmp_path, never)) == [
        "WRONG: acknowledged and lost", "WRONG: out of order", "WRONG: upload lost",
    ]  # fmt: skip


async def test_a_server_that_is_told_to_stop_parks_its_background_run_and_names_it(tmp_path: Path, slow: str) -> None:
    server = Server(tmp_path, slow)
    await server.start()
    body = {"messages": [{"role": "user", "content": "Write a story of the mill"}], "background": True}
    async with aiohttp.ClientSession() as client:
        async with client.post(f"{server.base}/api/threads", json={}) as made:
            thread = (await made.json())["id"]
        async with client.post(f"{server.base}/api/threads/{thread}/runs", json=body) as asked:
            run = (await asked.json())["id"]
        told = await server.stop()
        assert f"run {run} " in told
        assert [status for status, _, _ in active(tmp_path)] == (["queued"] if "parked" in told else [])
        await server.start()
        with anyio.fail_after(30):
            async with client.get(f"{server.base}/api/runs/{run}/events") as following:
                kinds = [data["type"] async for data in events(following)]
    assert kinds[-1] == "run.finished"
    await server.stop()
    load = Load(server, random.Random(1), turns=[Turn(thread, "Write a story of the mill", run)])
    assert wrong(check(tmp_path, load)) == []
