"""Streams that drop, on a real server: `python -m evals.bench.drops`.

A model that speaks slowly answers; each run is read to a random event, the connection is cut there, and the run is
followed again with `Last-Event-ID`, dropped again as often as chance wants, to its last event. Every fourth run is
attached, so that the first cut cancels it. What was heard must be what the record holds: each event once, in order.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import Counter
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import orjson

from evals.bench.latency import started

MOST = 40
"""Events that are read before a cut, at most; a run has about 60."""
AT_ONCE = 4
LASTS = {b"run.finished", b"run.cancelled", b"run.failed", b"run.incomplete"}


async def some(response: aiohttp.ClientResponse, most: int) -> list[tuple[int, bytes, bytes]]:
    """At most so many events of a stream: number, type, data."""
    events: list[tuple[int, bytes, bytes]] = []
    number, kind = 0, b""
    async for line in response.content:
        name, _, value = line.rstrip(b"\n").partition(b": ")
        if name == b"id":
            number = int(value)
        elif name == b"event":
            kind = value
        elif name == b"data":
            events.append((number, kind, value))
            if len(events) == most:
                break
    response.close()  # with what is still to come unread: the connection is cut
    return events


async def dropped(client: aiohttp.ClientSession, base: str, chance: random.Random, *, attached: bool) -> Counter[str]:
    """One run, heard in pieces; what was wrong with them."""
    async with client.post(f"{base}/api/threads") as made:
        thread = (await made.json())["id"]
    body = {
        "messages": [{"role": "user", "content": "Write a story of the mill"}],
        "stream": True,
        "background": not attached,
    }
    asked = await client.post(f"{base}/api/threads/{thread}/runs", json=body)
    heard = await some(asked, chance.randint(1, MOST))
    run = orjson.loads(heard[0][2])["run_id"]
    found = Counter(runs=1)
    while heard[-1][1] not in LASTS:
        found["drops"] += 1
        headers = {"Last-Event-ID": str(heard[-1][0])}
        again = await client.get(f"{base}/api/runs/{run}/events", headers=headers)
        heard += await some(again, chance.randint(1, MOST))
    kept: list[object] = []
    cursor = ""
    while cursor is not None:
        params = {"limit": "200", **({"cursor": cursor} if cursor else {})}
        async with client.get(
            f"{base}/api/runs/{run}/events", params=params, headers={"Accept": "application/json"}
        ) as listed:
            page = await listed.json()
        kept += page["items"]
        cursor = page["next_cursor"]
    numbers = Counter(number for number, _, _ in heard)
    found["events"] += len(heard)
    found["missed"] += sum(number not in numbers for number in range(1, len(kept) + 1))
    found["doubled"] += sum(count - 1 for count in numbers.values())
    found["out of order"] += sum(a[0] >= b[0] for a, b in pairwise(heard))
    told = {number: orjson.loads(data) for number, _, data in heard}
    found["other than the record"] += sum(told.get(i) != event for i, event in enumerate(kept, start=1))
    found[heard[-1][1].decode()] += 1
    return found


async def sweep(base: str, runs: int, seed: int) -> Counter[str]:
    """So many runs, a few at once."""
    total: Counter[str] = Counter()
    left = iter(range(runs))
    async with aiohttp.ClientSession() as client:

        async def worker() -> None:
            for number in left:
                chance = random.Random(seed * 1_000_003 + number)
                total.update(await dropped(client, base, chance, attached=number % 4 == 3))

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())
    return total


def main() -> int:
    """Prints what was counted; 1 when an event was missed, doubled, out of order or not what the record holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    python = sys.executable
    with ExitStack() as stack:
        data = stack.enter_context(TemporaryDirectory(prefix="parley-drops-"))
        model = stack.enter_context(started([python, "-m", "evals.bench.latency_servers", "slow"], {}, "http"))
        environment = {"PARLEY_DATA_DIR": data, "PARLEY_MODEL_URL": model.url, "PARLEY_PORT": "0"}
        program = str(Path(python).with_name("parley"))
        parley = stack.enter_context(started([program, "serve"], environment, "Parley is ready on http"))
        total = asyncio.run(sweep(parley.url, given.runs, given.seed))
    for what, count in total.items():
        print(f"{what:24}{count:>8}")
    wrong = total["missed"] + total["doubled"] + total["out of order"] + total["other than the record"]
    return 1 if wrong or total["runs"] != given.runs else 0


if __name__ == "__main__":
    sys.exit(main())
