"""What Parley adds to a model's answer: `make bench`.

A model that answers at once, small talk, Parley beside a minimal aiohttp passthrough to the same model, in one run
on one machine. CPU is what the server's process and its children used; the first byte is the first of the answer's
events. Both servers run on uvloop; the load comes from this process over kept connections.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson
import psutil
import uvloop

FEW, MANY = 8, 264
"""Chunks of an answer: the difference between the two gives the cost of one."""
START_SECONDS = 60.0
REQUEST_SECONDS = 60.0

AIM_CPU_REQUEST_MS = 6.0
AIM_CPU_CHUNK_US = 100.0
AIM_FIRST_BYTE_MS = 8.0
AIM_TAIL = 3.0
AIM_THROUGHPUT = 0.9


class Served(NamedTuple):
    """A server under measurement."""

    url: str
    process: psutil.Process


@dataclass(frozen=True, slots=True)
class Load:
    """What one round of requests gave."""

    first: list[float]
    """Seconds to the first event, of each request that succeeded."""
    failed: int
    seconds: float
    cpu: float
    """Seconds of CPU that the server used."""

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.first) / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU per answer, in milliseconds."""
        return 1000 * self.cpu / max(len(self.first), 1)

    def percentile(self, part: float) -> float:
        """Milliseconds within which this part of the first events came."""
        ordered = sorted(self.first) or [float("nan")]
        return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@contextmanager
def started(command: list[str], environment: dict[str, str], mark: str) -> Generator[Served]:
    """A server process, from the line of its output that holds `mark`, an address, until the end of the block."""
    process = Popen(command, stdout=PIPE, env={**os.environ, **environment}, text=True)  # noqa: S603 - our own words
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if mark in line), "")
        if not line:
            raise SystemExit(f"{' '.join(command)} did not start")
        yield Served(next(word for word in line.split() if word.startswith("http")), psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(START_SECONDS)
        assert process.stdout is not None
        process.stdout.close()


def cpu(server: Served) -> float:
    """Seconds of CPU that the server and its children have used so far."""
    times = [process.cpu_times() for process in (server.process, *server.process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def request_bytes(server: Served, chunks: int) -> bytes:
    """A whole HTTP request: small talk, streamed."""
    asked = {
        "model": "parley",
        "stream": True,
        "max_tokens": chunks,
        "messages": [{"role": "user", "content": "Hello, how are you?"}],
    }
    body = orjson.dumps(asked)
    host = urlsplit(server.url).netloc
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, chunks: int) -> float:
    """One answer, read to its end; the seconds to its first event.

    Raises:
        ConnectionError: it was no whole answer.
    """
    begun = time.perf_counter()
    writer.write(request)
    received, first = b"", 0.0
    while not received.endswith(b"0\r\n\r\n"):
        data = await reader.read(1 << 16)
        received += data
        if not first and b"data:" in received:
            first = time.perf_counter() - begun
        if not data:
            raise ConnectionError("the connection ended early")
    if b"data: [DONE]" not in received or received.count(b'"content":"') < chunks:
        raise ConnectionError("the answer is not whole")
    return first


async def load(server: Served, requests: int, clients: int, chunks: int) -> Load:
    """So many requests by so many clients at once, each on its own connection."""
    place = urlsplit(server.url)
    request = request_bytes(server, chunks)
    left, failed, first = requests, 0, list[float]()

    async def client() -> None:
        nonlocal left, failed
        reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=1 << 20)
        while left > 0:
            left -= 1
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    first.append(await ask(reader, writer, request, chunks))
            except (OSError, TimeoutError):
                failed += 1
                writer.close()
                reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=1 << 20)
        writer.close()

    used, begun = cpu(server), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return Load(first, failed, time.perf_counter() - begun, cpu(server) - used)


class Row(NamedTuple):
    """One line of the result."""

    what: str
    parley: str
    proxy: str
    difference: float
    unit: str
    aim: float
    least: bool = False
    """The aim is a least value, not a most."""

    @property
    def met(self) -> bool:
        """The aim is reached."""
        return self.difference >= self.aim if self.least else self.difference <= self.aim


async def measure(parley: Served, proxy: Served, scale: float) -> list[Row]:
    """All figures, Parley's and the proxy's rounds turn by turn."""
    servers = (parley, proxy)
    for server in servers:
        await load(server, int(100 * scale), 4, FEW)  # warm
    few = [await load(server, int(300 * scale), 1, FEW) for server in servers]
    many = [await load(server, int(100 * scale), 1, MANY) for server in servers]
    eight = [await load(server, int(600 * scale), 8, FEW) for server in servers]
    crowd = [await load(server, int(1200 * scale), 64, FEW) for server in servers]

    def chunk_us(index: int) -> float:
        return 1000 * (many[index].cpu_ms - few[index].cpu_ms) / (MANY - FEW)

    def pair(what: str, a: float, b: float, unit: str, aim: float) -> Row:
        return Row(what, f"{a:.2f}", f"{b:.2f}", a - b, unit, aim)

    def own(what: str, a: float, b: float, unit: str, aim: float, *, least: bool = False) -> Row:
        return Row(what, f"{a:.2f}", f"{b:.2f}", a, unit, aim, least)

    tails = [one.percentile(0.99) / one.percentile(0.5) for one in crowd]
    lost = [sum(one[index].failed for one in (few, many, eight, crowd)) for index in (0, 1)]
    rows = [
        pair("CPU per request, 8 chunks, c=1", few[0].cpu_ms, few[1].cpu_ms, "ms more", AIM_CPU_REQUEST_MS),
        pair("CPU per request, 8 chunks, c=8", eight[0].cpu_ms, eight[1].cpu_ms, "ms more", AIM_CPU_REQUEST_MS),
        pair("CPU per chunk", chunk_us(0), chunk_us(1), "µs more", AIM_CPU_CHUNK_US),
        pair("first byte, c=1, p50", few[0].percentile(0.5), few[1].percentile(0.5), "ms later", AIM_FIRST_BYTE_MS),
        own("first byte, c=64, p99 / p50", tails[0], tails[1], "times", AIM_TAIL),
        own(
            "throughput, c=64 / c=8",
            crowd[0].rate / eight[0].rate,
            crowd[1].rate / eight[1].rate,
            "times",
            AIM_THROUGHPUT,
            least=True,
        ),
        own("failed requests", float(lost[0]), float(lost[1]), "", 0.0),
    ]
    print(f"{'':34} {'parley':>10} {'proxy':>10}")
    for name, loads in (("c=1", few), ("c=1, 264 chunks", many), ("c=8", eight), ("c=64", crowd)):
        for what, values in {
            "first byte p50 / p99 (ms)": [f"{one.percentile(0.5):.1f} / {one.percentile(0.99):.1f}" for one in loads],
            "answers per second": [f"{one.rate:.0f}" for one in loads],
            "CPU per answer (ms)": [f"{one.cpu_ms:.2f}" for one in loads],
        }.items():
            print(f"{name + ' ' + what:34} {values[0]:>10} {values[1]:>10}")
    return rows


def main() -> int:
    """Prints the table; 1 when something failed, 0 otherwise, whether or not the aims are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many requests as usual")
    scale: float = parser.parse_args().scale
    python = sys.executable
    with ExitStack() as stack:
        data = stack.enter_context(TemporaryDirectory(prefix="parley-bench-"))
        servers = [python, "-m", "evals.bench.latency_servers"]
        model = stack.enter_context(started([*servers, "model"], {}, "http"))
        proxy = stack.enter_context(started([*servers, "proxy", model.url], {}, "http"))
        environment = {"PARLEY_DATA_DIR": data, "PARLEY_MODEL_URL": model.url, "PARLEY_PORT": "0"}
        program = str(Path(python).with_name("parley"))
        parley = stack.enter_context(started([program, "serve"], environment, "Parley is ready on http"))
        rows = uvloop.run(measure(parley, proxy, scale))
    print(f"\n{'':34} {'parley':>10} {'proxy':>10} {'result':>18} {'aim':>8}")
    for row in rows:
        aim = f"{'≥' if row.least else '≤'} {row.aim:g}"
        result = f"{row.difference:.2f} {row.unit}"
        print(f"{row.what:34} {row.parley:>10} {row.proxy:>10} {result:>18} {aim:>8} {'' if row.met else 'MISSED'}")
    return 0 if rows[-1].difference == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
