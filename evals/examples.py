"""The vectors that lie beside the labelled examples: `make examples`, after the examples or the embedder changed."""

from __future__ import annotations

import asyncio

from agents.examples import Examples
from memory.minilm import MiniLM


async def _write() -> None:
    embedder = MiniLM()
    try:
        await Examples.write(embedder)
    finally:
        embedder.close()


if __name__ == "__main__":
    asyncio.run(_write())
