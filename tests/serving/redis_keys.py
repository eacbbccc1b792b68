# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What tests on one Redis need so that they do not meet: names of their own, and nothing left in the end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from redis.asyncio import Redis


def prefix_of_a_test() -> str:
    """How the names of one test begin."""
    return f"test-{secrets.token_hex(6)}"


@asynccontextmanager
async def asked(url: str) -> AsyncGenerator[Redis]:
    """A plain client, to look at what is stored."""
    client = Redis.from_url(url, protocol=2)
    try:
        yield client
    finally:
        await client.aclose()


async def emptied(url: str, prefix: str) -> None:
    """Removes all keys that begin so."""
    async with asked(url) as client:
        keys = cast(list[bytes], await client.keys(f"{prefix}:*"))
        if keys:
            await client.delete(*keys)
