"""How a task of our own is brought to its end."""

from __future__ import annotations

import asyncio

AGAIN_SECONDS = 1.0


async def end(task: asyncio.Task[None]) -> None:
    """Cancels a task, again and again until it has ended: a library can take a cancellation that comes together with
    its own timeout for that timeout."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=AGAIN_SECONDS)
