"""Tenants never mix: every route of the description, asked by everybody whom its objects do not concern.

What is walked comes from the OpenAPI document; what an id in a path names comes from `KINDS`, and what a route without
one does from `LISTS`, `NAMED_IN_BODY`, `FINDS`, `MAKES` and `SAME_FOR_ALL`. A route that none covers fails the test.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar, cast

import httpx
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter
from starlette.types import ASGIApp, Receive, Scope, Send

from memory.sql import Connection, Rows, SqlDatabase, Values
from serving.api import create_app
from serving.auth import is_open
from serving.ids import uuid7
from serving.job_runner import runner_of, working
from serving.job_store import JobStore
from serving.keys import Keys
from serving.principal import Principal
from serving.repository import Repository
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from serving.times import stamp
from tests.databases import Unbound, postgres_made, record
from tools.types import JsonObject

__all__ = ["postgres_made", "record"]

T = TypeVar("T")
Headers = dict[str, str]
Body = dict[str, dict[str, dict[str, dict[str, dict[str, JsonObject]]]]]
BASE = "http://127.0.0.1"
CANARY = "Quillon"
DOCUMENT = f"# Zephyr Vault\n\nThe Zephyr Vault was built by {CANARY} Marsh. It was closed in 1954.\n"
QUESTION = "Who built the Zephyr Vault?"
PARAMETER = re.compile(r"\{(\w+)\}")


class Operation(NamedTuple):
    """One route of the description."""

    method: str
    path: str

    def at(self, id: str) -> str:
        """Its address for an object."""
        return PARAMETER.sub(id, self.path)


@dataclass(frozen=True)
class World:
    """An application, a client of it without a key, and the keys of everyone."""

    app: FastAPI
    client: httpx.AsyncClient
    callers: Mapping[str, Headers]
    """alice owns what is asked for; bob and the admin boss are of her tenant; eve, an admin, and another alice are of
    another one. nobody has no key, the rest are keys of alice that open nothing."""

    async def ask(self, who: str, method: str, address: str, body: JsonObject | None = None) -> httpx.Response:
        """One request."""
        return await self.client.request(method, address, json=body, headers=self.callers[who])

    def against(self, app: ASGIApp) -> World:
        """The same people before another application."""
        return replace(self, client=httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE))


STRANGERS = ("eve", "namesake")
COLLEAGUES = ("bob", "boss")
SHUT_OUT = ("nobody", "revoked", "expired", "wrong")


# -- the objects ---------------------------------------------------------------------------------------------------


async def made_thread(world: World) -> str:
    """A conversation in which something was said."""
    made = await world.ask("alice", "POST", "/api/threads", {"title": CANARY})
    assert made.status_code == 201, made.text
    id = str(made.json()["id"])
    body: JsonObject = {"messages": [{"role": "user", "content": QUESTION}]}
    answered = await world.ask("alice", "POST", f"/api/threads/{id}/runs", body)
    assert answered.json()["status"] == "finished", answered.text
    assert CANARY in answered.json()["answer"]
    return id


async def made_run(world: World) -> str:
    """A run that is over."""
    runs = await world.ask("alice", "GET", f"/api/threads/{await made_thread(world)}/runs")
    return str(runs.json()["items"][0]["id"])


async def made_job(world: World) -> str:
    """An upload, taken in."""
    return (await _uploaded(world))[0]


async def made_document(world: World) -> str:
    """An uploaded document that can be found."""
    return (await _uploaded(world))[1]


async def _uploaded(world: World) -> tuple[str, str]:
    """Ids of the job and of the document, when the job is over."""
    files = {"files": (f"{uuid7()}.md", DOCUMENT.encode(), "text/markdown")}
    sent = await world.client.post("/api/documents", files=files, headers=world.callers["alice"])
    assert sent.status_code == 202, sent.text
    job = str(sent.json()["job_id"])
    followed = await world.ask("alice", "GET", f"/api/jobs/{job}/events")
    assert "job.finished" in followed.text
    return job, str(sent.json()["documents"][0]["id"])


class Kind(NamedTuple):
    """What an id in a path names."""

    make: Callable[[World], Awaitable[str]]
    """Makes one that is alice's."""
    is_shared: bool
    """All of the tenant see it."""


KINDS = {
    "thread_id": Kind(made_thread, is_shared=False),
    "run_id": Kind(made_run, is_shared=False),
    "job_id": Kind(made_job, is_shared=False),
    "document_id": Kind(made_document, is_shared=True),
}
"""By the name of the path's parameter."""


class List(NamedTuple):
    """A route that lists what one may see."""

    kind: str
    queries: tuple[str, ...] = ("",)


LISTS = {
    Operation("get", "/api/threads"): List("thread_id", ("", f"?q={CANARY}", "?q=Zephyr")),
    Operation("get", "/api/documents"): List("document_id"),
    Operation("get", "/api/jobs"): List("job_id"),
}

NAMED_IN_BODY: dict[Operation, tuple[str, Callable[[str], JsonObject]]] = {
    Operation("post", "/api/feedback"): ("run_id", lambda id: {"run_id": id, "rating": 1}),
    Operation("post", "/v1/chat/completions"): (
        "thread_id",
        lambda id: {
            "model": "parley",
            "messages": [{"role": "user", "content": QUESTION}],
            "metadata": {"thread_id": id},
        },
    ),
}
"""Routes whose body names an object: its kind, and the body."""

FINDS: dict[Operation, JsonObject] = {
    Operation("post", "/api/search"): {"query": QUESTION, "limit": 50},
    Operation("post", "/v1/chat/completions"): {
        "model": "parley",
        "messages": [{"role": "user", "content": QUESTION}],
    },
}
"""Routes that answer from the tenant's documents."""

MAKES = {Operation("post", "/api/threads"), Operation("post", "/api/documents")}
"""Routes that make something of the caller's own; see the tests of idempotency and of uploads below."""
SAME_FOR_ALL = {Operation("get", "/v1/models")}
"""Routes that tell everyone the same."""


# -- the walk ------------------------------------------------------------------------------------------------------


def operations(app: FastAPI) -> list[Operation]:
    """All routes that the description has, and that it should have."""
    paths = TypeAdapter(dict[str, dict[str, object]]).validate_python(app.openapi()["paths"])
    return [Operation(method, path) for path, methods in paths.items() for method in methods]


def uncovered(app: FastAPI) -> list[Operation]:
    """Routes of which this test does not know what they do."""
    known = {*LISTS, *NAMED_IN_BODY, *FINDS, *MAKES, *SAME_FOR_ALL}
    return [
        one
        for one in operations(app)
        if one not in known and not is_open(one.path) and not set(PARAMETER.findall(one.path)) & set(KINDS)
    ]


def body_of(app: FastAPI, operation: Operation) -> JsonObject | None:
    """The first example that the description gives for the body."""
    described = cast("dict[str, dict[str, dict[str, Body]]]", app.openapi()["paths"])
    body = described[operation.path][operation.method].get("requestBody")
    if body is None:
        return None
    return next(iter(body["content"]["application/json"]["examples"].values()))["value"]


def seen(response: httpx.Response, *ids: str) -> tuple[int, bytes, list[tuple[str, str]]]:
    """What a caller gets, with the ids that it asked for made alike."""
    body = response.content
    for id in ids:
        body = body.replace(id.encode(), b"ID")
    headers = [(name, value) for name, value in response.headers.items() if name != "ratelimit"]
    return response.status_code, body, headers


def unknown_like(id: str) -> str:
    """An id that nothing has, as like to this one as can be."""
    return id[:-1] + ("0" if id[-1] != "0" else "1")


async def leaks(world: World, only: Operation | None = None) -> list[str]:
    """Everything that somebody gets to see, or to know of, that does not concern them; and each route that does not
    serve even its owner, of which the rest would prove nothing."""
    found: list[str] = []
    for operation in operations(world.app):
        if (only is None or operation == only) and not is_open(operation.path):
            found += [f"{operation.method} {operation.path}: {leak}" for leak in await leaks_of(world, operation)]
    return found


async def leaks_of(world: World, operation: Operation) -> list[str]:
    found: list[str] = []
    parameters = PARAMETER.findall(operation.path)
    if parameters:
        (name,) = parameters
        id = await KINDS[name].make(world)
        body = body_of(world.app, operation)
        address = operation.at
        found += await unlike(world, operation, KINDS[name], id, address, lambda _: body)
    elif operation in NAMED_IN_BODY:
        name, naming = NAMED_IN_BODY[operation]
        id = await KINDS[name].make(world)
        found += await unlike(world, operation, KINDS[name], id, lambda _: operation.path, naming)
    else:
        found += await let_in(world, operation, {operation.path}, None)
    if operation in LISTS:
        found += await listed(world, operation, LISTS[operation])
    if operation in FINDS:
        found += await answered(world, operation, FINDS[operation])
    return found


async def unlike(
    world: World,
    operation: Operation,
    kind: Kind,
    id: str,
    address: Callable[[str], str],
    body: Callable[[str], JsonObject | None],
) -> list[str]:
    """Who can tell alice's object from one that does not exist, and whether she herself can."""
    method, other = operation.method, unknown_like(id)
    found = await let_in(world, operation, {address(id), address(other)}, body(id))
    for who in STRANGERS if kind.is_shared else (*STRANGERS, *COLLEAGUES):
        hers = await world.ask(who, method, address(id), body(id))
        none = await world.ask(who, method, address(other), body(other))
        if seen(hers, id) != seen(none, other) or hers.status_code != 404:
            found.append(f"{who} gets {hers.status_code} for it, {none.status_code} for an unknown one")
    if kind.is_shared:
        colleague = await world.ask("bob", method, address(id), body(id))
        if colleague.status_code == 404:
            found.append("it is shared, yet a colleague has it not")
    owner = await world.ask("alice", method, address(id), body(id))
    if owner.status_code in (400, 401, 403, 404, 405, 415, 429, 500):
        found.append(f"its owner gets {owner.status_code}: {owner.text}")
    return found


async def let_in(world: World, operation: Operation, addresses: set[str], body: JsonObject | None) -> list[str]:
    """Who without a valid key gets anything but the one refusal."""
    answers = [
        (who, seen(await world.ask(who, operation.method, address, body))) for who in SHUT_OUT for address in addresses
    ]
    return [f"{who} gets {answer[0]}" for who, answer in answers if answer[0] != 401 or answer != answers[0][1]]


async def listed(world: World, operation: Operation, what: List) -> list[str]:
    """Who finds alice's object in a list."""
    found: list[str] = []
    kind = KINDS[what.kind]
    id = await kind.make(world)
    for query in what.queries:
        for who in (*STRANGERS, *COLLEAGUES):
            sees = id in (await world.ask(who, operation.method, operation.path + query)).text
            if sees != (kind.is_shared and who in COLLEAGUES):
                found.append(f"{who} {'finds' if sees else 'misses'} it in {query or 'the list'}")
        if id not in (await world.ask("alice", operation.method, operation.path + query)).text:
            found.append(f"its owner does not find it in {query or 'the list'}")
    return found


async def answered(world: World, operation: Operation, body: JsonObject) -> list[str]:
    """Who gets to read a document of the tenant."""
    await made_document(world)
    found: list[str] = []
    for who in (*STRANGERS, *COLLEAGUES, "alice"):
        reads = CANARY in (await world.ask(who, operation.method, operation.path, body)).text
        if reads != (who not in STRANGERS):
            found.append(f"{who} {'reads' if reads else 'misses'} the document")
    return found


# -- the world -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def peopled(runtime: Runtime, mark: str = "") -> AsyncGenerator[World]:
    """Everyone; `mark` tells the tenants of two worlds on the same servers apart."""
    keys = Keys(runtime.database)

    async def of(tenant: str, user: str, role: str = "user", expires: str | None = None) -> tuple[str, Headers]:
        who = Principal(tenant + mark, user, "admin" if role == "admin" else "user")
        made, key = await keys.create(who, expires)
        return made.id, {"Authorization": f"Bearer {key}"}

    revoked, revoked_key = await of("acme", "alice")
    await keys.revoke(revoked)
    callers: dict[str, Headers] = {
        "alice": (await of("acme", "alice"))[1],
        "bob": (await of("acme", "bob"))[1],
        "boss": (await of("acme", "boss", "admin"))[1],
        "eve": (await of("globex", "eve", "admin"))[1],
        "namesake": (await of("globex", "alice"))[1],
        "nobody": {},
        "revoked": revoked_key,
        "expired": (await of("acme", "alice", expires=stamp(datetime.now(UTC) - timedelta(days=1))))[1],
        "wrong": {"Authorization": f"Bearer parley_{'0' * 12}_{'0' * 48}"},
    }
    app = create_app(runtime)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
        yield World(app, client, callers)


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory, record: dict[str, str]) -> AsyncGenerator[Runtime]:
    folder = tmp_path_factory.mktemp("tenants")
    settings = Settings.model_validate({"data_dir": folder, "rate_per_minute": 0, **record})
    async with open_runtime(settings) as runtime, working(runner_of(runtime)) as runner:
        runner.start()
        yield runtime


@pytest.fixture(scope="module")
async def world(runtime: Runtime) -> AsyncGenerator[World]:
    async with peopled(runtime) as world:
        await made_document(world)
        yield world


# -- the tests -----------------------------------------------------------------------------------------------------


async def test_every_route_is_covered(world: World) -> None:
    assert uncovered(world.app) == []
    described = set(operations(world.app))
    for table in (LISTS, NAMED_IN_BODY, FINDS, MAKES, SAME_FOR_ALL):
        assert set(table) <= described
    named = {name for operation in described for name in PARAMETER.findall(operation.path)}
    assert named == set(KINDS)


async def test_a_new_route_is_not_covered_by_chance(world: World) -> None:
    app = FastAPI()

    @app.get("/api/secrets")
    async def secrets() -> str:
        return CANARY

    @app.get("/api/secrets/{secret_id}")
    async def secret(secret_id: str) -> str:
        return secret_id

    assert uncovered(app) == [Operation("get", "/api/secrets"), Operation("get", "/api/secrets/{secret_id}")]


async def test_nobody_gets_to_what_does_not_concern_them(world: World) -> None:
    assert await leaks(world) == []


async def test_an_idempotency_key_of_somebody_else_is_a_new_one(world: World) -> None:
    made: set[str] = set()
    for who in ("alice", "bob", "eve", "namesake"):
        headers = world.callers[who] | {"Idempotency-Key": "the-same"}
        answers = [await world.client.post("/api/threads", json={}, headers=headers) for _ in range(2)]
        assert answers[0].json()["id"] == answers[1].json()["id"]
        made.add(answers[0].json()["id"])
    assert len(made) == 4


async def test_an_upload_of_the_same_name_in_another_tenant_is_another_document(world: World) -> None:
    ids: dict[str, str] = {}
    for who, text in (("alice", "the heron is ours"), ("eve", "the heron is theirs")):
        sent = await world.client.post(
            "/api/documents", files={"files": ("heron.md", text.encode())}, headers=world.callers[who]
        )
        await world.ask(who, "GET", f"/api/jobs/{sent.json()['job_id']}/events")
        ids[who] = str(sent.json()["documents"][0]["id"])
    assert ids["alice"] != ids["eve"]
    for who, text in (("alice", "ours"), ("eve", "theirs")):
        passages = await world.ask(who, "GET", f"/api/documents/{ids[who]}/passages")
        assert [text in passage["text"] for passage in passages.json()["items"]] == [True]
    assert (await world.ask("eve", "DELETE", f"/api/documents/{ids['eve']}")).status_code == 204
    assert (await world.ask("alice", "GET", f"/api/documents/{ids['alice']}")).status_code == 200


async def test_a_colleague_reads_a_document_and_only_its_uploader_or_an_admin_removes_it(world: World) -> None:
    for remover, status in (("bob", 403), ("alice", 204), ("boss", 204)):
        id = await made_document(world)
        assert (await world.ask("bob", "GET", f"/api/documents/{id}/passages")).status_code == 200
        removed = await world.ask(remover, "DELETE", f"/api/documents/{id}")
        assert removed.status_code == status
        if status == 403:
            assert removed.json()["type"] == "/problems/not-yours"
        left = await world.ask("alice", "GET", f"/api/documents/{id}")
        assert left.status_code == (200 if status == 403 else 404)


# -- and the walk finds a leak where there is one ------------------------------------------------------------------


class Careless:
    """An application whose door takes some callers for alice on one route."""

    def __init__(self, world: World, operation: Operation, callers: tuple[str, ...]) -> None:
        self._app, self._key = world.app, world.callers["alice"]["Authorization"].encode()
        self._method = operation.method.upper()
        self._path = re.compile(PARAMETER.sub("[^/]+", operation.path))
        self._callers = {world.callers[who].get("Authorization", "").encode() for who in callers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if (
            scope["method"] == self._method
            and self._path.fullmatch(scope["path"])
            and headers.get(b"authorization", b"") in self._callers
        ):
            scope = {**scope, "headers": [*(headers | {b"authorization": self._key}).items()]}
        await self._app(scope, receive, send)


@pytest.mark.parametrize("callers", [STRANGERS, SHUT_OUT], ids=["strangers", "no valid key"])
async def test_a_check_that_is_missing_on_one_route_is_found_there(world: World, callers: tuple[str, ...]) -> None:
    for operation in operations(world.app):
        if is_open(operation.path) or operation in MAKES | SAME_FOR_ALL:
            continue
        found = await leaks(world.against(Careless(world, operation, callers)), only=operation)
        assert all(any(who in leak for leak in found) for who in callers[:1]), f"{operation}: {found}"


class Unscoped(Unbound):
    """A database that has forgotten a condition of every statement."""

    def __init__(self, inner: SqlDatabase, condition: str) -> None:
        super().__init__(inner)
        self._forgotten = re.compile(rf"(?:\b\w\.)?(?<!\w){re.escape(condition)}")

    def _without(self, fn: Callable[[Connection], T]) -> Callable[[Connection], T]:
        return lambda connection: fn(Forgetful(connection, self._forgotten))

    async def read(self, fn: Callable[[Connection], T]) -> T:
        return await self.inner.read(self._without(fn))

    async def look(self, fn: Callable[[Connection], T]) -> T:
        return await self.inner.look(fn)

    async def write(self, fn: Callable[[Connection], T], *, bulk: bool = False) -> T:
        return await self.inner.write(self._without(fn), bulk=bulk)


class Forgetful:
    """A connection that leaves a condition out of what it is told to execute."""

    def __init__(self, connection: Connection, condition: re.Pattern[str]) -> None:
        self._connection, self._condition = connection, condition

    def execute(self, sql: str, values: Values = (), /) -> Rows:
        return self._connection.execute(self._condition.sub("1 = 1", sql), values)

    def executemany(self, sql: str, values: Iterable[Values], /) -> Rows:
        return self._connection.executemany(self._condition.sub("1 = 1", sql), values)


@pytest.mark.parametrize(("condition", "leaky"), [("tenant = :tenant", "namesake"), ('"user" = :user', "bob")])
async def test_a_condition_that_is_missing_in_the_sql_is_found_or_made_good_by_the_database(
    world: World, runtime: Runtime, condition: str, leaky: str
) -> None:
    database = Unscoped(runtime.database, condition)
    repository = Repository(database, runtime.repository.presence)
    stores = replace(runtime.stores, database=database)
    mutated = create_app(replace(runtime, stores=stores, repository=repository, jobs=JobStore(database)))
    secured = leaky == "namesake" and database.dialect.name == "postgresql"
    for path in ("/api/threads", "/api/threads/{thread_id}", "/api/runs/{run_id}", "/api/jobs/{job_id}"):
        found = await leaks(world.against(mutated), only=Operation("get", path))
        assert any(leaky in leak for leak in found) != secured, found
