from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults import FaultProxy

SOON = 5.0
"""Seconds after which a read that should have ended has failed."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def connected(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    return await asyncio.wait_for(reader.readexactly(len(data)), SOON)


async def test_all_that_is_sent_comes_through_in_order(proxy: FaultProxy) -> None:
    reader, writer = await connected(proxy)
    data = bytes(range(256)) * 4000
    assert await ask(reader, writer, data) == data
    assert proxy.accepted == 1
    writer.close()


async def test_latency_and_throttle_delay_what_is_sent(proxy: FaultProxy) -> None:
    reader, writer = await connected(proxy)
    loop = asyncio.get_running_loop()
    proxy.latency = 0.05
    began = loop.time()
    assert await ask(reader, writer, b"slow") == b"slow"
    assert loop.time() - began >= 0.1  # there and back
    proxy.latency, proxy.bytes_per_second = 0.0, 20_000
    began = loop.time()
    assert await ask(reader, writer, b"x" * 2000) == b"x" * 2000
    assert loop.time() - began >= 0.1
    writer.close()


async def test_reset_cuts_the_connections_of_now_and_new_ones_work(proxy: FaultProxy) -> None:
    reader, writer = await connected(proxy)
    await ask(reader, writer, b"a")
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), SOON)
    writer.close()
    reader, writer = await connected(proxy)
    assert await ask(reader, writer, b"b") == b"b"
    writer.close()


async def test_half_close_ends_what_the_server_says_and_keeps_the_connection(proxy: FaultProxy) -> None:
    reader, writer = await connected(proxy)
    await ask(reader, writer, b"a")
    proxy.half_close()
    assert await asyncio.wait_for(reader.read(), SOON) == b""
    writer.write(b"still listening")  # what it says to this is lost
    await writer.drain()
    other_reader, other = await connected(proxy)
    assert await ask(other_reader, other, b"new") == b"new"
    proxy.reset()
    assert await asyncio.wait_for(reader.read(), SOON) == b""
    writer.close()
    other.close()


async def test_refuse_lets_nobody_in_until_it_ends(proxy: FaultProxy) -> None:
    reader, writer = await connected(proxy)
    proxy.refuse(True)
    with pytest.raises(ConnectionRefusedError):
        await connected(proxy)
    assert await ask(reader, writer, b"old ones go on") == b"old ones go on"
    proxy.refuse(False)
    other_reader, other = await connected(proxy)
    assert await ask(other_reader, other, b"new") == b"new"
    writer.close()
    other.close()


async def test_hang_accepts_and_says_nothing_until_it_ends(proxy: FaultProxy) -> None:
    reader, writer = await connected(proxy)
    await ask(reader, writer, b"a")
    proxy.hang(True)
    late_reader, late = await connected(proxy)
    for hung in (writer, late):
        hung.write(b"hello")
    for silent in (reader, late_reader):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(silent.read(1), 0.05)
    proxy.hang(False)
    assert await asyncio.wait_for(reader.readexactly(5), SOON) == b"hello"
    assert await asyncio.wait_for(late_reader.readexactly(5), SOON) == b"hello"
    writer.close()
    late.close()


async def test_server_that_is_away_cuts_the_client() -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    async with FaultProxy("127.0.0.1", port) as proxy:
        reader, writer = await connected(proxy)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), SOON)
        writer.close()
