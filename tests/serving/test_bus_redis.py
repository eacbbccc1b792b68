# pyright: reportUnknownMemberType=false
"""Redis as it fails: stopped, killed, emptied, slow, silent, too old, and with a password that is wrong."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from anyio import fail_after
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving.bus import ENDED_SECONDS, Bus, BusUnavailable, Chunk, run_bell
from serving.leased_presence import LEASE_SECONDS, LeasedPresence
from serving.limits import RateLimits
from serving.redis_bus import CALL_SECONDS, PREFIX, RedisBus
from tests.faults import FaultProxy
from tests.services.found import service
from tests.services.private import private
from tests.serving.redis_keys import asked, emptied, prefix_of_a_test

PATIENCE = 30
"""Seconds; a bound for what hangs, not a measure."""


def shared_url() -> str:
    return service("redis")["PARLEY_REDIS_URL"]


@asynccontextmanager
async def opened(url: str, prefix: str = PREFIX) -> AsyncGenerator[RedisBus]:
    bus = await RedisBus.open(url, prefix)
    try:
        yield bus
    finally:
        await bus.close()


async def until_it_works(bus: Bus) -> None:
    """Returns when the bus takes calls again, by itself."""
    with fail_after(PATIENCE):
        while True:
            try:
                await bus.put("acme", "probe", b"x", 60)
                return
            except BusUnavailable:
                await asyncio.sleep(0)


async def until_it_is_lost(bus: Bus) -> str:
    """Returns what it says when it takes no calls."""
    with fail_after(PATIENCE):
        while True:
            try:
                await bus.get("acme", "probe")
                await asyncio.sleep(0)
            except BusUnavailable as error:
                return str(error)


def some(first: int, last: int) -> list[Chunk]:
    return [Chunk("acme", "r", first, last, b"body")]


async def test_two_servers_share_events_bells_leases_limits_and_cache() -> None:
    url, prefix = shared_url(), prefix_of_a_test()
    async with opened(url, prefix) as one, opened(url, prefix) as other, opened(url, f"{prefix}-else") as stranger:
        with fail_after(PATIENCE):
            async with other.listening(run_bell("r")) as heard, stranger.listening(run_bell("r")) as strange:
                await one.publish(some(1, 3))
                assert await heard.wait()
                assert await other.read("acme", "r", 1) == some(1, 3)
                assert await stranger.read("acme", "r", 0) == []
                assert not await strange.wait(0.01)
        token = await one.acquire("l", 60)
        assert token is not None
        assert await other.acquire("l", 60) is None
        assert await stranger.acquire("l", 0.01) is not None
        assert await other.renew("l", token, 60)
        left = [(await bus.take("k", 60)).left for bus in (one, other, one, stranger)]
        assert left == [59, 58, 57, 59]
        await one.put("acme", "n", b"v", 60)
        assert await other.get("acme", "n") == b"v"
        await emptied(url, prefix)


async def test_nothing_is_kept_for_longer_than_it_is_of_use() -> None:
    url, prefix = shared_url(), prefix_of_a_test()
    async with opened(url, prefix) as bus, asked(url) as client:
        await bus.publish(some(1, 3))
        await bus.take("k", 60)
        await bus.put("acme", "n", b"v", 10**9)
        token = await bus.acquire("l", 60)
        assert token is not None
        lasting = {key: await client.pttl(key) for key in await client.keys(f"{prefix}:*")}
        assert [key for key, left in lasting.items() if left < 0] == [f"{prefix}:tokens".encode()]
        assert max(lasting.values()) <= 86_400_000
        await bus.end("acme", "r")
        assert 0 < await client.pttl(f"{prefix}:events:acme:r") <= ENDED_SECONDS * 1000
    await emptied(url, prefix)


async def test_a_server_that_stops_is_missed_at_once_and_found_again_with_what_it_kept() -> None:
    async with private("redis") as (urls, server), opened(urls["PARLEY_REDIS_URL"]) as bus:
        await bus.publish(some(1, 3))
        token = await bus.acquire("l", 600)
        assert token is not None
        with fail_after(PATIENCE):
            async with bus.listening(run_bell("r")) as heard:
                assert bus.look_seconds > 1
                await server.stop()
                assert await heard.wait()  # lost: look elsewhere
                assert bus.look_seconds < 1
                for _ in range(1000):
                    with pytest.raises(BusUnavailable):
                        await bus.read("acme", "r", 0)
                await server.start()
                await until_it_works(bus)
                while bus.look_seconds < 1:
                    await heard.wait()  # found: look again
                await bus.publish(some(4, 5))
                assert await heard.wait()
        assert await bus.read("acme", "r", 0) == some(1, 3) + some(4, 5)
        assert await bus.renew("l", token, 600)


async def test_a_server_that_lost_all_it_had_gives_higher_tokens_than_before() -> None:
    async with private("redis") as (urls, server), opened(urls["PARLEY_REDIS_URL"]) as bus:
        tokens = [await bus.acquire(f"l{number}", 600) for number in range(5)]
        async with asked(urls["PARLEY_REDIS_URL"]) as client:
            await client.flushall()
        await server.kill()
        await server.start()
        await until_it_works(bus)
        old = [token for token in tokens if token is not None]
        assert len(old) == 5
        assert not await bus.renew("l0", old[0], 600)
        later = await bus.acquire("l0", 600)
        assert later is not None
        assert later > max(old)
        ahead = await bus.acquire("l1", 600, above=later + 10**9)
        assert ahead is not None
        assert ahead > later + 10**9


async def test_bells_ring_when_the_connection_was_cut_and_no_chunk_is_lost() -> None:
    url, prefix = shared_url(), prefix_of_a_test()
    place = urlsplit(url)
    assert place.port is not None
    async with (
        FaultProxy("127.0.0.1", place.port) as proxy,
        opened(url, prefix) as writer,
        opened(url.replace(str(place.port), str(proxy.port)), prefix) as reader,
    ):
        faults: list[Callable[[], None]] = [proxy.reset, proxy.half_close, lambda: None]
        numbers: list[int] = []
        with fail_after(PATIENCE):
            async with reader.listening(run_bell("r")) as heard:
                for last in range(1, 31):
                    if last % 5 == 0:
                        faults[last % 3]()
                    await writer.publish(some(last, last))
                    while not numbers or numbers[-1] < last:
                        with suppress(BusUnavailable):
                            numbers += [one.last for one in await reader.read("acme", "r", last - 1)]
                        if numbers and numbers[-1] == last:
                            break
                        await heard.wait()
        assert numbers == list(range(1, 31))
    await emptied(url, prefix)


async def test_a_server_that_says_nothing_is_given_up_and_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    url, prefix = shared_url(), prefix_of_a_test()
    place = urlsplit(url)
    assert place.port is not None
    through = FaultProxy("127.0.0.1", place.port)
    async with through as proxy, opened(url.replace(str(place.port), str(proxy.port)), prefix) as bus:
        with fail_after(PATIENCE):
            async with bus.listening("b") as heard:
                proxy.hang(True)
                said = await until_it_is_lost(bus)
                assert await heard.wait()
                proxy.hang(False)
                await until_it_works(bus)
                proxy.refuse(True)
                proxy.reset()
                said += await until_it_is_lost(bus)
                proxy.refuse(False)
                await until_it_works(bus)
                while bus.look_seconds < 1:
                    await heard.wait()
                await bus.ring("b")
                assert await heard.wait()
                proxy.latency = CALL_SECONDS / 20
                proxy.bytes_per_second = 20_000
                await bus.publish(some(1, 3))
                assert await bus.read("acme", "r", 0) == some(1, 3)
    assert place.password is not None
    assert place.password not in said + caplog.text
    await emptied(url, prefix)


async def test_nobody_counts_as_ended_right_after_redis_was_lost() -> None:
    now = 1_000.0
    async with private("redis") as (urls, server), opened(urls["PARLEY_REDIS_URL"]) as bus:
        presence = LeasedPresence(bus, lambda: now)
        assert await presence.renew()
        now += LEASE_SECONDS
        assert await presence.gone({"vm:7:x#1"}) == {"vm:7:x#1"}
        await server.stop()
        assert not await presence.renew()
        assert await presence.gone({"vm:7:x#1"}) == set()
        await server.start()
        await until_it_works(bus)
        assert await presence.gone({"vm:7:x#1"}) == set()  # it may live, and come back in a moment
        now += LEASE_SECONDS
        assert await presence.gone({"vm:7:x#1"}) == {"vm:7:x#1"}
        assert presence.name.partition("#")[2] != "0"


async def test_limits_hold_in_each_server_while_redis_is_lost() -> None:
    async with private("redis") as (urls, server), opened(urls["PARLEY_REDIS_URL"]) as bus:
        limits = RateLimits(3, lambda: bus)
        assert [(await limits.take("k")).left for _ in range(2)] == [2, 1]
        await server.stop()
        assert [(await limits.take("k")).allowed for _ in range(5)] == [True, True, True, False, False]


async def test_a_wrong_password_is_said_at_once_without_showing_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    place = urlsplit(shared_url())
    for user in ("", "somebody"):
        with pytest.raises(BusUnavailable, match="refuses the user or the password") as refused:
            await RedisBus.open(f"redis://{user}:wrong-secret@127.0.0.1:{place.port}/0")
        assert "PARLEY_REDIS_URL" in str(refused.value)
        assert "wrong-secret" not in str(refused.value) + caplog.text
    with pytest.raises(BusUnavailable, match="refuses the user or the password"):
        await RedisBus.open(f"redis://127.0.0.1:{place.port}/0")


async def test_a_server_that_is_not_there_yet_is_used_when_it_comes() -> None:
    async with private("redis") as (urls, server):
        await server.stop()
        async with opened(urls["PARLEY_REDIS_URL"]) as bus:
            with pytest.raises(BusUnavailable):
                await bus.get("acme", "k")
            await server.start()
            await until_it_works(bus)


async def test_a_version_that_is_too_old_is_refused_with_its_number() -> None:
    info = b"# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = [await reader.readline() for _ in range(2 * int(line[1:]))][1::2]
            told = words[0].strip().upper() == b"INFO"
            writer.write(b"$%d\r\n%b\r\n" % (len(info), info) if told else b"+OK\r\n")
            await writer.drain()
        writer.close()

    old = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        with pytest.raises(BusUnavailable, match=r"version 6\.0\.16; 6\.2 or newer is needed"):
            await RedisBus.open(f"redis://127.0.0.1:{old.sockets[0].getsockname()[1]}/0")
    finally:
        old.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Key and certificate of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    start = datetime.now(UTC) - timedelta(days=1)
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start + timedelta(days=9))
        .add_extension(here, critical=False).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = folder / "key.pem", folder / "certificate.pem"
    bare = serialization.NoEncryption()
    files[0].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, bare))
    files[1].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return files


async def test_redis_is_reached_over_tls_and_only_with_a_certificate_that_is_known(tmp_path: Path) -> None:
    url, prefix = shared_url(), prefix_of_a_test()
    place = urlsplit(url)
    key, known = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(known, key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", place.port)
        with suppress(ConnectionError):
            await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))

    door = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    address = f"rediss://:{place.password}@127.0.0.1:{door.sockets[0].getsockname()[1]}/0"
    try:
        async with opened(f"{address}?ssl_ca_certs={known}", prefix) as bus, bus.listening("b") as heard:
            with fail_after(PATIENCE):
                await bus.put("acme", "k", b"v", 60)
                assert await bus.get("acme", "k") == b"v"
                await bus.ring("b")
                assert await heard.wait()
        async with opened(address, prefix) as stranger:
            with pytest.raises(BusUnavailable, match="certificate"):
                await stranger.get("acme", "k")
    finally:
        door.close()
        await emptied(url, prefix)
