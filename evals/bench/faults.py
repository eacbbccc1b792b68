"""What a server keeps of what it acknowledged when it is killed, of what is cancelled, and of ten thousand turns:
`python -m evals.bench.faults --kills 50`, `--cancels 100`, `--turns 10000`; several at once, one after the other."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from evals.bench.fault_cancels import cancels, growth
from evals.bench.fault_kills import kills
from evals.bench.latency import started


def shown(found: Counter[str]) -> int:
    """Prints what was found, what is wrong last; 1 when something is."""
    wrong = {name: count for name, count in found.items() if name.startswith("WRONG")}
    for name, count in found.items():
        if name not in wrong:
            print(f"  {name:64}{count:>8}")
    for name, count in wrong.items():
        print(f"  {name:64}{count:>8}")
    return int(any(wrong.values()))


def main() -> int:
    """Runs what was asked for; 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--cancels", type=int, default=0, help="of each kind")
    parser.add_argument("--turns", type=int, default=0)
    parser.add_argument("--seed", type=int, default=4)
    asked = parser.parse_args()
    failed = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="parley-faults-")))
        servers = [sys.executable, "-m", "evals.bench.latency_servers"]
        slow = stack.enter_context(started([*servers, "slow"], {}, "http")).url
        quick = stack.enter_context(started([*servers, "model"], {}, "http")).url
        sweeps: list[tuple[int, str, Callable[[], Awaitable[Counter[str]]]]] = [
            (asked.kills, "kills", lambda: kills(asked.kills, folder / "kills", slow, asked.seed)),
            (asked.cancels, "cancels", lambda: cancels(asked.cancels, folder / "cancels", asked.seed)),
            (asked.turns, "turns", lambda: growth(asked.turns, folder / "turns", quick)),
        ]
        for count, name, sweep in sweeps:
            if count:
                (folder / name).mkdir()
                failed |= shown(asyncio.run(_finished(sweep)))
    return failed


async def _finished(sweep: Callable[[], Awaitable[Counter[str]]]) -> Counter[str]:
    return await sweep()


if __name__ == "__main__":
    sys.exit(main())
