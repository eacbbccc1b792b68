"""A TCP proxy that does to a connection what networks do: it slows, throttles, resets, half-closes, refuses and hangs.

async with FaultProxy("127.0.0.1", port_of_the_server) as proxy:
    client = connect("127.0.0.1", proxy.port)
    proxy.latency = 0.05  # seconds that each piece of data waits, in each direction; 0 is off
    proxy.bytes_per_second = 10_000  # in each direction of each connection; 0 is as fast as it goes
    proxy.reset()  # cuts all connections of now with RST; new ones work
    proxy.half_close()  # ends the server's half of all connections of now (FIN); the client's stays open
    proxy.refuse(True)  # connecting fails at once; connections of before go on
    proxy.hang(True)  # accepts and says nothing, on old connections and new ones; False lets all of it through
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakSet

_PIECE = 64 * 1024
_RST = struct.pack("ii", 1, 0)


class FaultProxy:
    """Stands between a client and one server on the loopback; changes take effect on what is sent after them."""

    def __init__(self, host: str, port: int) -> None:
        self.latency = 0.0
        """Seconds that each piece of data waits, in each direction."""
        self.bytes_per_second = 0.0
        """Speed of each direction of each connection; 0 is unlimited."""
        self.port = 0
        """Where clients connect, on 127.0.0.1."""
        self.accepted = 0
        """Connections accepted so far."""
        self._to = (host, port)
        self._listener: socket.socket | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[_Connection] = set()
        self._ended: WeakSet[asyncio.StreamWriter] = WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FaultProxy:
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deaf()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Cuts all connections of now with RST, on both sides."""
        for connection in list(self._connections):
            connection.reset()

    def half_close(self) -> None:
        """Ends the server's half of all connections of now: clients read an end, and may still send."""
        for connection in self._connections:
            self._end(connection.client)

    def refuse(self, refused: bool) -> None:
        """Whether connecting is refused; connections of before go on."""
        if refused:
            self._deaf()
        elif self._listener is None:
            self._listen()

    def hang(self, hung: bool) -> None:
        """Whether nothing more is passed on, in either direction; connecting still works."""
        if hung:
            self._flowing.clear()
        else:
            self._flowing.set()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._welcome, self._listener)

    def _deaf(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _welcome(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # it went away again
            return
        client.setblocking(False)
        self.accepted += 1
        task = asyncio.create_task(self._serve(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client, limit=_PIECE)
        try:
            await self._flowing.wait()
            server_reader, server_writer = await asyncio.open_connection(*self._to, limit=_PIECE)
        except OSError:  # the server is away: the client sees its connection cut
            _cut(writer)
            return
        except asyncio.CancelledError:
            _cut(writer)
            raise
        connection = _Connection(writer, server_writer)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, server_writer))
                group.create_task(self._carry(server_reader, writer))
        except* OSError:  # reset by one side, or by us: the other one is cut as well
            connection.reset()
        finally:
            self._connections.discard(connection)
            writer.close()
            server_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes data on piece by piece, then the end of it; a piece arrives latency and length/speed after it came."""
        loop = asyncio.get_running_loop()
        while piece := await reader.read(_PIECE if self.bytes_per_second <= 0 else 1024):
            wait = self.latency + (len(piece) / self.bytes_per_second if self.bytes_per_second > 0 else 0)
            if wait > 0:
                passed = asyncio.Event()
                loop.call_later(wait, passed.set)
                await passed.wait()
            await self._flowing.wait()
            if writer not in self._ended:  # what the server still says after its half was closed is lost
                writer.write(piece)
                await writer.drain()
        await self._flowing.wait()
        if writer not in self._ended:
            self._end(writer)

    def _end(self, writer: asyncio.StreamWriter) -> None:
        """Ends one half of a connection (FIN)."""
        self._ended.add(writer)
        if not writer.is_closing() and writer.can_write_eof():
            writer.write_eof()


@dataclass(frozen=True, eq=False)
class _Connection:
    """Both ends of one connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def reset(self) -> None:
        _cut(self.client)
        _cut(self.server)


def _cut(writer: asyncio.StreamWriter) -> None:
    """Closes with RST instead of FIN."""
    held = writer.get_extra_info("socket")
    if held is not None and held.fileno() >= 0:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()
