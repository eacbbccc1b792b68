"""The run's channel: bounded, in order, and closable although it is full."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from graphs.channel import Channel


async def test_items_come_out_in_the_order_in_which_they_were_sent() -> None:
    channel: Channel[int] = Channel(100)
    for number in range(50):
        await channel.send(number)
    channel.close()
    assert [item async for item in channel.items()] == list(range(50))


async def test_a_sender_waits_while_the_reader_is_behind_by_the_limit() -> None:
    channel: Channel[int] = Channel(3)
    sent: list[int] = []

    async def send() -> None:
        for number in range(10):
            await channel.send(number)
            sent.append(number)
        channel.close()

    task = asyncio.create_task(send())
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    assert sent == [0, 1, 2]
    with anyio.fail_after(5):
        assert [item async for item in channel.items()] == list(range(10))
        await task


async def test_a_full_channel_can_be_closed_and_keeps_what_it_held() -> None:
    channel: Channel[str] = Channel(1)
    await channel.send("kept")
    channel.close()
    with anyio.fail_after(5):
        assert [item async for item in channel.items()] == ["kept"]


async def test_a_sender_that_waits_for_space_can_be_cancelled() -> None:
    channel: Channel[str] = Channel(1)
    await channel.send("first")
    task = asyncio.create_task(channel.send("second"))
    await anyio.lowlevel.checkpoint()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    channel.close()
    assert [item async for item in channel.items()] == ["first"]
