"""What the record of conversations costs: `python -m evals.bench.record`.

One conversation of a thousand turns, each of 1 KB (question and answer together), through the whole engine with a
model of this process that answers at once. Disk is all pages of the database after a checkpoint of its log, less what
an empty one has; the cost of a turn is processor time of the process at 10 and at 1,000 turns of history.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from agents.context import Limits
from agents.model import ModelDelta, ModelRequest
from agents.types import Message
from memory.types import TRUST_USER, Label
from serving.conversations import Conversations
from serving.database import DATABASE
from serving.principal import LOCAL
from serving.runtime import Runtime, load_engine, open_runtime
from serving.settings import Settings
from serving.turns import TurnRequest, Turns

QUESTION, ANSWER = 200, 824
"""Bytes of a turn."""
SAMPLE = 20
"""Turns over which the cost of one is taken."""
AIM_BYTES = 4_000_000
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def text(dice: random.Random, size: int) -> str:
    """Words that nobody has said, so that nothing is stored smaller than it would be."""
    words: list[str] = []
    while sum(len(word) + 1 for word in words) < size:
        words.append("".join(dice.choices(LETTERS, k=dice.randint(2, 9))))
    return " ".join(words)[: size - 1] + "."


class Talker:
    """A model that says something new each time, a word at a time."""

    name = "talker"

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    async def window(self) -> int:
        """Its context window, in tokens."""
        return 8192

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        """Says its words."""
        for word in text(self._dice, ANSWER).split():
            yield ModelDelta(f" {word}")
        yield ModelDelta(finish="stop")


def pages(path: Path) -> tuple[int, dict[str, int]]:
    """Bytes of the database once its log is in it, and of each table and index."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        parts = dict[str, int](connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").fetchall())
        return count * size, parts


async def talk(turns: Turns, thread: str, dice: random.Random, count: int) -> float:
    """So many turns, one after the other; the processor's milliseconds for each."""
    begun = time.process_time()
    for _ in range(count):
        said = Message("user", text(dice, QUESTION), Label("local", "user", TRUST_USER))
        async with aclosing(turns.run(TurnRequest(LOCAL, (said,), thread=thread))) as events:
            async for _ in events:
                pass
    return 1000 * (time.process_time() - begun) / count


async def measure(runtime: Runtime, total: int) -> None:
    """Talks, and prints the figures."""
    dice = random.Random(4)
    deps = replace(runtime.deps, model=Talker(dice))
    turns = Turns(deps, partial(load_engine, runtime.database), runtime.repository, Limits())
    await turns.warm()
    conversations = Conversations(runtime.database)
    warm = await conversations.create(LOCAL, "warm")
    await talk(turns, warm.id, dice, SAMPLE)
    file = runtime.settings.data_dir / DATABASE
    before, parts = pages(file)
    thread = (await conversations.create(LOCAL, "long")).id
    await talk(turns, thread, dice, 10)
    early = await talk(turns, thread, dice, SAMPLE)
    await talk(turns, thread, dice, total - 10 - 2 * SAMPLE)
    late = await talk(turns, thread, dice, SAMPLE)
    await turns.close()
    after, grown = pages(file)
    for name, size in sorted(grown.items(), key=lambda part: -part[1]):
        if size - parts.get(name, 0):
            print(f"  {name:32s}{(size - parts.get(name, 0)) / 1000:10.0f} kB")
    verdict = "met" if (after - before) * 1000 / total <= AIM_BYTES else "MISSED"
    print(f"{total} turns of {QUESTION + ANSWER} B: {(after - before) / 1e6:.2f} MB (aim 4 MB for 1,000: {verdict})")
    print(f"a turn after 10 turns: {early:.1f} ms CPU, after {total - SAMPLE}: {late:.1f} ms CPU")


async def main(total: int) -> None:
    """The measurement, in a folder of its own."""
    with TemporaryDirectory() as folder:
        async with open_runtime(Settings(data_dir=Path(folder))) as runtime:
            await measure(runtime, total)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1000)
    asyncio.run(main(parser.parse_args().turns))
