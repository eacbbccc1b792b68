# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The connection to Weaviate: its client behind bounds in time and number, its errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar, cast

from weaviate import WeaviateAsyncClient
from weaviate.classes.init import AdditionalConfig, Auth, Timeout
from weaviate.connect import ConnectionParams
from weaviate.exceptions import (
    InsufficientPermissionsError,
    UnexpectedStatusCodeError,
    WeaviateBaseError,
    WeaviateClosedClientError,
    WeaviateConnectionError,
    WeaviateGRPCUnavailableError,
    WeaviateQueryError,
    WeaviateRetryError,
    WeaviateStartUpError,
    WeaviateTimeoutError,
)

from memory.breaker import Breaker
from memory.patience import is_patient
from memory.store import MemoryUnavailable
from memory.weaviate_address import Address

T = TypeVar("T")
U = TypeVar("U")

AT_ONCE = 8
"""Requests at one time: more make a server of few cores slower, not faster."""
CONNECT_SECONDS, READ_SECONDS, WRITE_SECONDS = 1.7, 15.0, 60.0
_SILENCE, _PING_SECONDS, _PING_BESIDE_SECONDS = 0.5, 0.6, 5.0
"""A busy server may take its time: after so long it is asked whether it still lives, and must say so in that time;
in the last one on the connection that carries the request, where a slow network makes it wait behind other data."""
_PINGS, _PATIENT_PINGS = 2, 8
"""How often it is asked before it counts as gone: a busy machine, ours or the server's, misses one now and then."""
_PAUSE, _ATTEMPTS = 0.1, 12
_REST = 1.0
"""Seconds for which nobody asks a server that has just failed."""
_OLDEST = (1, 35)
"""Version of the server from which on Parley works."""
_STARTING = (
    "could not find class",
    "non-existing index",
    "no read replica found",
    "leader not found",
    "shutting down",
    "shutdown",
)
_NO_TENANT = "tenant not found"


class Connection:
    """One Weaviate. Connects on first use, and anew after every failure.

    Every request raises MemoryUnavailable when the server is gone, starting, not ours to use or too old.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connections = 0
        """How often it has connected."""
        self._breaker = Breaker(_REST, CONNECT_SECONDS)
        self._lanes = asyncio.Semaphore(AT_ONCE)
        self._connecting = asyncio.Lock()
        self._client: WeaviateAsyncClient | None = None
        self._retired: list[WeaviateAsyncClient] = []
        self.version: tuple[int, ...] = (0, 0)
        """The server's, once connected."""

    async def close(self) -> None:
        """Closes the connections; may be called again."""
        self._retire()
        await self._close_retired()

    async def read(self, ask: Callable[[WeaviateAsyncClient], Awaitable[T]], empty: T) -> T:
        """A request that changes nothing; `empty` where the tenant is not there."""
        return await self._call(ask, READ_SECONDS, empty, (_NO_TENANT,))

    async def write(
        self,
        ask: Callable[[WeaviateAsyncClient], Awaitable[T]],
        empty: T | None = None,
        *,
        known: Sequence[str] = (_NO_TENANT,),
    ) -> T:
        """A request that may take long; `empty` when the server's error is one of the known ones."""
        return await self._call(ask, WRITE_SECONDS, cast(T, empty), known)

    async def _call(
        self, ask: Callable[[WeaviateAsyncClient], Awaitable[T]], seconds: float, empty: T, known: Sequence[str]
    ) -> T:
        """One request, within bounds; `empty` when the server's error is one of the known ones."""
        await self._connect()
        async with self._lanes, self._asking(seconds):
            client = self._client
            if client is None:  # a call beside this one has given it up
                raise self._lost("the connection was lost")
            work = self._patiently(lambda: ask(client), empty, known)
            return await self._while_alive(client, work, writing=seconds == WRITE_SECONDS)

    @asynccontextmanager
    async def _asking(self, seconds: float) -> AsyncGenerator[None]:
        """One try of at most so many seconds; whatever fails in it is told to the breaker."""
        refusal = self._breaker.refusal()
        if refusal:
            raise MemoryUnavailable(refusal)
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            raise self._lost("it does not answer in time") from None
        except WeaviateBaseError as error:
            raise self._failure(error) from error
        self._breaker.succeeded()

    async def _patiently(self, ask: Callable[[], Awaitable[T]], empty: T, known: Sequence[str]) -> T:
        """Asks again while the server is starting: it knows of a collection a little later than it answers."""
        attempts = 1
        while True:
            try:
                return await ask()
            except WeaviateBaseError as error:
                told = str(error)
                if any(sign in told for sign in known):
                    return empty
                if attempts == _ATTEMPTS or not any(sign in told.lower() for sign in _STARTING):
                    raise
            attempts += 1
            await asyncio.sleep(_PAUSE)

    async def _while_alive(self, client: WeaviateAsyncClient, work: Awaitable[T], *, writing: bool) -> T:
        """The work's result, unless the server stops answering meanwhile."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(heard)
        try:
            while True:
                done, _ = await asyncio.wait([task], timeout=_SILENCE)
                if done:
                    return task.result()
                await self._answers(client)
                if not (writing or task.done()):
                    async with asyncio.timeout(_PING_BESIDE_SECONDS):
                        await self._ping(client)
        finally:
            task.cancel()

    async def _answers(self, client: WeaviateAsyncClient) -> None:
        """Returns as soon as the server has answered that it lives."""
        for left in reversed(range(_PATIENT_PINGS if is_patient() else _PINGS)):
            try:
                async with asyncio.timeout(_PING_SECONDS):
                    await client.get_meta()
                    return
            except TimeoutError:
                if not left:
                    raise

    async def _ping(self, client: WeaviateAsyncClient) -> None:
        """Asks by gRPC for what is not there: being told so will do."""
        try:
            await (
                client.collections.use(f"{self.address.prefix}Changes")
                .with_tenant("nobody")
                .query.fetch_objects(limit=1)
            )
        except WeaviateQueryError as error:
            if any(sign in str(error) for sign in _CUT):
                raise

    async def _connect(self) -> None:
        async with self._connecting:
            if self._client is not None:
                return
            async with self._asking(CONNECT_SECONDS):
                self._client = await self._open()
            self.connections += 1
            await self._close_retired()

    async def _open(self) -> WeaviateAsyncClient:
        at = self.address
        client = WeaviateAsyncClient(
            ConnectionParams.from_params(at.host, at.port, at.secure, at.host, at.grpc, at.secure),
            auth_client_secret=Auth.api_key(at.key) if at.key else None,
            additional_config=AdditionalConfig(timeout=Timeout(init=2, query=WRITE_SECONDS, insert=WRITE_SECONDS)),
            skip_init_checks=True,  # they ask the package index, and wait longer than we do
        )
        async with AsyncExitStack() as unless_open:
            unless_open.push_async_callback(client.close)
            await client.connect()
            meta = cast(Mapping[str, object], await client.get_meta())
            version = str(meta["version"])
            self.version = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
            if self.version < _OLDEST:
                oldest = ".".join(map(str, _OLDEST))
                raise MemoryUnavailable(
                    f"this is Weaviate {version}: Parley needs {oldest} or newer, upgrade the server"
                )
            unless_open.pop_all()
        return client

    def _failure(self, error: WeaviateBaseError) -> MemoryUnavailable:
        """What the client's exception means to a caller."""
        self._breaker.succeeded()  # it has answered, if only to refuse; _lost says otherwise
        text = str(error)
        status = error.status_code if isinstance(error, UnexpectedStatusCodeError) else 0
        if status == 401 or "UNAUTHENTICATED" in text or "unauthorized" in text.lower():
            return MemoryUnavailable(
                "Weaviate refuses the key: put the right one into MEMORY_URL (weaviate://:KEY@HOST:PORT?grpc=PORT)"
            )
        if status == 403 or isinstance(error, InsufficientPermissionsError):
            return MemoryUnavailable("Weaviate denies the key of MEMORY_URL what Parley needs: give it more rights")
        if "is not supported. Please use Weaviate version" in text:
            return MemoryUnavailable(
                f"this Weaviate is too old: Parley needs {'.'.join(map(str, _OLDEST))} or newer, upgrade the server"
            )
        if any(sign in text.lower() for sign in _STARTING):
            return self._lost("it does not know our collections, as while it starts")
        if isinstance(error, _AWAY) or any(sign in text for sign in _CUT):
            return self._lost("it cannot be reached")
        return MemoryUnavailable(f"Weaviate could not do it: {text.replace(self.address.key or chr(0), '***')[:300]}")

    def _lost(self, why: str) -> MemoryUnavailable:
        """Gives the connection up: the next call makes a new one."""
        self._retire()
        at = self.address
        reason = f"Weaviate at {at.host}, ports {at.port} and {at.grpc}: {why}; start it or correct MEMORY_URL"
        self._breaker.failed(reason)
        return MemoryUnavailable(reason)

    def _retire(self) -> None:
        if self._client is not None:
            self._retired.append(self._client)  # others may still be waiting for it to answer
            self._client = None

    async def _close_retired(self) -> None:
        while self._retired:
            await self._retired.pop().close()


_AWAY = (
    WeaviateConnectionError, WeaviateTimeoutError, WeaviateStartUpError, WeaviateRetryError,
    WeaviateGRPCUnavailableError, WeaviateClosedClientError,
)  # fmt: skip
_CUT = ("UNAVAILABLE", "Deadline Exceeded", "DEADLINE_EXCEEDED", "connection", "Socket closed")


def heard(task: asyncio.Future[T]) -> None:
    """For a task that may fail when nobody waits for it any more: asyncio would report it as forgotten."""
    if not task.cancelled():
        task.exception()


@asynccontextmanager
async def _side_by_side() -> AsyncGenerator[asyncio.TaskGroup]:
    """Tasks of which the first failure ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def together(*work: Coroutine[object, None, T]) -> list[T]:
    """The results of all; the first failure ends the others and is raised as it is."""
    async with _side_by_side() as group:
        tasks = [group.create_task(each) for each in work]
    return [task.result() for task in tasks]


async def both(one: Coroutine[object, None, T], other: Coroutine[object, None, U]) -> tuple[T, U]:
    """The results of two that give different things; see `together`."""
    async with _side_by_side() as group:
        tasks = group.create_task(one), group.create_task(other)
    return tasks[0].result(), tasks[1].result()
