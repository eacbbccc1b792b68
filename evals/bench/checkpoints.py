"""What a checkpoint costs a turn of small talk: `python -m evals.bench.checkpoints`.

CPU of the whole process per turn (the database's writer thread included), turn by turn in one process: a graph
without checkpoints, an interactive run (checkpoint in memory, dropped at its end), a background run (one on disk
after each step), each with the deletion that its end brings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import uvloop

from agents.context import Turn
from agents.types import Message
from graphs import chat
from graphs.checkpoints import Checkpoints
from graphs.control import Durability
from memory.types import TRUST_USER, Label
from serving.ids import uuid7
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings

TURNS, WARM = 500, 50
AIM_MS = 0.3


async def turn(runtime: Runtime, graph: chat.ChatGraph, saver: Checkpoints | None, durability: Durability) -> None:
    """One turn, read to its end, and forgotten when it left something on disk."""
    said = Message("user", "Hello!", Label("local", "user", TRUST_USER))
    asked = Turn(uuid7(), "local", "local", (said,))
    async with aclosing(chat.run(graph, runtime.deps, asked, durability=durability)) as events:
        async for _ in events:
            pass
    if saver is not None and durability == "sync":
        await saver.forget(asked.run)


async def measure(runtime: Runtime) -> dict[str, list[float]]:
    """Kind of run to the milliseconds of CPU of each turn."""
    saver = Checkpoints(runtime.database)
    bare, checked = chat.build(), chat.build(saver)
    kinds: dict[str, Callable[[], Awaitable[None]]] = {
        "no checkpoints": lambda: turn(runtime, bare, None, "exit"),
        "interactive": lambda: turn(runtime, checked, saver, "exit"),
        "background": lambda: turn(runtime, checked, saver, "sync"),
    }
    used: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(WARM + TURNS):
        for kind, once in kinds.items():
            begun = time.process_time()
            await once()
            used[kind].append(1000 * (time.process_time() - begun))
    return {kind: values[WARM:] for kind, values in used.items()}


async def run() -> int:
    """Prints the medians; 1 when an interactive turn pays more than the aim."""
    with TemporaryDirectory(prefix="parley-bench-") as folder:
        async with open_runtime(Settings(data_dir=Path(folder))) as runtime:
            used = await measure(runtime)
    bare = median(used["no checkpoints"])
    for kind, values in used.items():
        print(f"{kind:16} {median(values):6.3f} ms CPU a turn   {median(values) - bare:+.3f} ms")
    return 0 if median(used["interactive"]) - bare <= AIM_MS else 1


if __name__ == "__main__":
    sys.exit(uvloop.run(run()))
