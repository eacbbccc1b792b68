"""Chroma's HTTP interface (v2), over aiohttp: its own clients wait for ever for a server that hangs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import aiohttp
import numpy as np
import orjson

from memory.chroma_door import Collection, Metadata, Rows, Where
from memory.store import MemoryUnavailable
from memory.types import Vector, Vectors

_SILENCE, _ALIVE = 1.0, 0.8
"""Seconds after which a silent server is asked on another connection whether it lives, and for how long."""
_CONNECT = 1.5
_LONGEST = 120.0
"""Seconds that one call may take of a server that says it lives."""
_CONNECTIONS = 16
_LARGE = 64 * 1024
_TRIES = 3
_OPTIONS = ("secure", "tenant", "database")
_GONE_WHILE_ASKED = "Error finding id"
"""What Chroma answers (as 500) when a row is deleted while a query that found it is still at work."""

_CUT = (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, aiohttp.ClientOSError)

T = TypeVar("T")


class _Answer(TypedDict, total=False):
    ids: list[str]
    metadatas: list[dict[str, str | int | float]] | None
    uris: list[str] | None
    embeddings: list[list[float]] | None


class _Answers(TypedDict):
    ids: list[list[str]]
    embeddings: list[list[list[float]]]


class _Made(TypedDict):
    id: str


class _Complaint(TypedDict, total=False):
    message: str


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Chroma listens, and what it wants to know."""

    base: str
    """As in "http://127.0.0.1:8000"; without the token, so that it may be shown."""
    token: str
    tenant: str
    database: str

    @classmethod
    def of(cls, url: str) -> Address:
        """From chroma://[:token@]host[:port][?secure=true&tenant=...&database=...].

        Raises:
            ValueError: it is no such address; the message does not show it, since it may hold a token.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            port = 8000 if parts.port is None else parts.port
        except ValueError:
            port = 0
        secure = options.get("secure", "false")
        if not parts.hostname or not port or parts.path not in ("", "/") or secure not in ("true", "false"):
            raise ValueError("a Chroma server's address is chroma://[:token@]host[:port][?secure=true]")
        if not set(options) <= set(_OPTIONS):
            raise ValueError(f"the options of a chroma:// address are {', '.join(_OPTIONS)}, and no others")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(
            base=f"{'https' if secure == 'true' else 'http'}://{host}:{port}",
            token=unquote(parts.password or parts.username or ""),
            tenant=options.get("tenant", "default_tenant"),
            database=options.get("database", "default_database"),
        )


class _Missing(Exception):
    """Chroma knows nothing of that name."""


class _Again(Exception):
    """The call met with a change and should be made once more."""


class HttpChroma:
    """A Chroma server; any number of processes may share it. See chroma_door.Chroma."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._root = f"{address.base}/api/v2"
        tenant, database = quote(address.tenant, safe=""), quote(address.database, safe="")
        self._database = f"/tenants/{tenant}/databases/{database}"
        self._open: aiohttp.ClientSession | None = None
        self._known = False
        self._numbers: dict[str, str] = {}

    async def upsert(
        self,
        collection: Collection,
        ids: Sequence[str],
        vectors: Vectors,
        metadatas: Sequence[Metadata],
        bodies: Sequence[str] | None = None,
    ) -> None:
        """See chroma_door.Chroma."""

        def written() -> bytes:
            rows = np.ascontiguousarray(vectors, "<f4")
            coded = [base64.b64encode(row.tobytes()).decode("ascii") for row in rows]
            return orjson.dumps({"ids": ids, "embeddings": coded, "metadatas": metadatas, "uris": bodies})

        body = await asyncio.to_thread(written)
        await self._at(collection, "upsert", body, _nothing, make=True)

    async def get(
        self,
        collection: Collection,
        *,
        ids: Sequence[str] | None = None,
        where: Where | None = None,
        limit: int | None = None,
        offset: int = 0,
        metadatas: bool = False,
        bodies: bool = False,
        vectors: bool = False,
    ) -> Rows:
        """See chroma_door.Chroma."""
        wanted = (("metadatas", metadatas), ("uris", bodies), ("embeddings", vectors))
        include = [name for name, on in wanted if on]
        asked = {"ids": ids, "where": where, "limit": limit, "offset": offset, "include": include}
        return await self._at(collection, "get", orjson.dumps(asked), _rows) or Rows([])

    async def nearest(self, collection: Collection, vector: Vector, count: int) -> Rows:
        """See chroma_door.Chroma."""
        asked = {"query_embeddings": [vector.tolist()], "n_results": count, "include": ["embeddings"]}
        return await self._at(collection, "query", orjson.dumps(asked), _found) or Rows([])

    async def delete(
        self, collection: Collection, *, ids: Sequence[str] | None = None, where: Where | None = None
    ) -> None:
        """See chroma_door.Chroma."""
        await self._at(collection, "delete", orjson.dumps({"ids": ids, "where": where}), _nothing)

    async def close(self) -> None:
        """See chroma_door.Chroma."""
        session, self._open, self._known = self._open, None, False
        if session is not None:
            await session.close()

    async def _at(
        self, collection: Collection, verb: str, body: bytes, read: Callable[[bytes], T], *, make: bool = False
    ) -> T | None:
        """One call to a collection, found by its name; None when it is not there."""
        await self._meet()
        for _ in range(_TRIES):
            try:
                number = self._numbers.get(collection.name) or await self._find(collection, make=make)
                return await self._call("POST", f"{self._database}/collections/{number}/{verb}", body, read)
            except _Missing:  # never made, or another one of that name by now
                if self._numbers.pop(collection.name, None) is None:
                    return None
            except _Again:
                continue
        raise MemoryUnavailable(f"the Chroma at {self._address.base} changes while it is read; try again")

    async def _find(self, collection: Collection, *, make: bool) -> str:
        """The collection's number.

        Raises:
            _Missing: it is not there and was not to be made.
        """
        path = f"{self._database}/collections"
        if make:
            asked = {"name": collection.name, "get_or_create": True, "configuration": {"hnsw": collection.hnsw}}
            number = await self._call("POST", path, orjson.dumps(asked), _number)
        else:
            number = await self._call("GET", f"{path}/{collection.name}", None, _number)
        self._numbers[collection.name] = number
        return number

    async def _meet(self) -> None:
        """On first use: asks whether this is a Chroma that we can speak with, and has our database."""
        if self._known:
            return
        base = self._address.base
        try:
            await self._call("GET", "/version", None, orjson.loads)
        except (_Missing, orjson.JSONDecodeError):
            raise MemoryUnavailable(
                f"what answers at {base} is no Chroma 1.0 or newer; check PARLEY_MEMORY_URL, or install a newer Chroma"
            ) from None
        try:
            await self._call("GET", self._database, None, orjson.loads)
        except _Missing:
            raise MemoryUnavailable(
                f"the Chroma at {base} has no database {self._address.database!r} of tenant {self._address.tenant!r};"
                " create it, or name another one in PARLEY_MEMORY_URL (?tenant=...&database=...)"
            ) from None
        self._known = True

    async def _call(self, method: str, path: str, body: bytes | None, read: Callable[[bytes], T]) -> T:
        """One request and its answer; a server that says nothing is asked whether it lives.

        Raises:
            MemoryUnavailable: it cannot be reached, does not answer, or refuses.
            _Missing: what is asked for is not there.
            _Again: it should be asked once more.
        """
        task = asyncio.create_task(self._ask(method, path, body, read))
        try:
            for _ in range(int(_LONGEST / _SILENCE)):
                done, _ = await asyncio.wait({task}, timeout=_SILENCE)
                if done:
                    return task.result()
                await self._check_alive()
            raise MemoryUnavailable(
                f"the Chroma at {self._address.base} has not answered for {_LONGEST:.0f} s; see what keeps it busy"
            )
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # it ended at the same moment

    async def _ask(self, method: str, path: str, body: bytes | None, read: Callable[[bytes], T]) -> T:
        for left in reversed(range(_TRIES)):
            try:
                async with self._session().request(method, self._root + path, data=body) as response:
                    answer = await response.read()
                    status = response.status
            except (aiohttp.ClientError, OSError) as error:
                if left and isinstance(error, _CUT) and not isinstance(error, aiohttp.ClientConnectorError):
                    continue  # an idle connection that has ended meanwhile; every request of ours may be made twice
                raise self._unreachable(type(error).__name__) from None
            if status < 300:
                return await asyncio.to_thread(read, answer) if len(answer) > _LARGE else read(answer)
            raise self._refusal(status, answer)
        raise AssertionError("unreachable")

    async def _check_alive(self) -> None:
        try:
            async with asyncio.timeout(_ALIVE), self._session().get(f"{self._root}/heartbeat") as response:
                await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise self._unreachable("it does not answer") from None

    def _unreachable(self, reason: str) -> MemoryUnavailable:
        return MemoryUnavailable(
            f"the Chroma at {self._address.base} cannot be reached ({reason}); start it, or check PARLEY_MEMORY_URL"
        )

    def _refusal(self, status: int, answer: bytes) -> Exception:
        try:
            complaint: _Complaint = orjson.loads(answer)
            text = complaint.get("message", "")
        except (orjson.JSONDecodeError, AttributeError):
            text = ""
        if status in (401, 403):
            return MemoryUnavailable(
                f"the Chroma at {self._address.base} refuses the token;"
                " give the right one in PARLEY_MEMORY_URL, as chroma://:token@host:port"
            )
        if status in (404, 405, 410):
            return _Missing(text)
        if status == 500 and _GONE_WHILE_ASKED in text:
            return _Again(text)
        return MemoryUnavailable(
            f"the Chroma at {self._address.base} answers with {status} ({text[:200] or 'nothing more'}); see its log"
        )

    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            token = self._address.token
            # Chroma itself knows no accounts: proxies before it take the one, its cloud the other
            secret: Mapping[str, str] = {"Authorization": f"Bearer {token}", "X-Chroma-Token": token} if token else {}
            self._open = aiohttp.ClientSession(
                headers={"Content-Type": "application/json", **secret},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                auto_decompress=True,
            )
        return self._open


def _nothing(_: bytes) -> bool:
    return True


def _number(answer: bytes) -> str:
    made: _Made = orjson.loads(answer)
    return made["id"]


def _rows(answer: bytes) -> Rows:
    rows: _Answer = orjson.loads(answer)
    given = rows.get("embeddings")
    vectors = None if given is None else _matrix(given)
    return Rows(rows.get("ids", []), list(rows.get("metadatas") or ()), rows.get("uris") or [], vectors)


def _found(answer: bytes) -> Rows:
    rows: _Answers = orjson.loads(answer)
    (ids,), (given,) = rows["ids"], rows["embeddings"]
    return Rows(ids, vectors=_matrix(given))


def _matrix(rows: list[list[float]]) -> Vectors:
    return np.array(rows, np.float32) if rows else np.zeros((0, 0), np.float32)
