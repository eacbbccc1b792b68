"""Who is let in: with and without keys, with keys of every kind, and what an outsider learns."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import orjson
import pytest
from starlette.types import Message, Scope

from knowledge.types import Found
from memory.sqlite import Database
from serving.api import create_app, create_standalone
from serving.database import open_database
from serving.keys import Keys
from serving.logs import log_to
from serving.principal import Principal
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from serving.times import stamp
from tools.types import JsonObject

OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")
ALICE = Principal("acme", "alice")
ADMIN = Principal("acme", "root", "admin")
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""


@pytest.fixture(scope="module")
async def parts(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Runtime]:
    async with open_runtime(Settings(data_dir=tmp_path_factory.mktemp("parts"))) as parts:
        yield parts


@pytest.fixture
async def runtime(parts: Runtime, tmp_path: Path) -> AsyncGenerator[Runtime]:
    """Over a database without keys."""
    database = await open_database(tmp_path)
    stores = replace(parts.stores, database=database)
    yield replace(parts, stores=stores, settings=Settings(data_dir=tmp_path))
    await database.close()


def client_of(runtime: Runtime, address: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(runtime), client=(address, 40_000))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@asynccontextmanager
async def elsewhere(folder: Path) -> AsyncGenerator[Keys]:
    """The keys as another process has them: over a connection of its own to the same file."""
    database: Database = await open_database(folder)
    try:
        yield Keys(database)
    finally:
        await database.close()


async def test_while_no_key_was_made_this_machine_is_the_local_user_whatever_it_sends(runtime: Runtime) -> None:
    client = client_of(runtime)
    made = await client.post("/api/threads", json={"title": "Mine"}, headers=bearer("any"))
    assert made.status_code == 201
    for headers in ({}, bearer("any"), bearer("parley_000000000000_00"), {"Authorization": "Basic eDp5"}):
        response = await client.get(made.headers["location"], headers=headers)
        assert response.json()["title"] == "Mine"
        assert "ratelimit" not in response.headers


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::1", "", "testclient"])
async def test_without_a_key_no_other_machine_is_let_in_however_the_server_was_started(
    runtime: Runtime, address: str
) -> None:
    client = client_of(runtime, address)
    assert (await client.get("/v1/models")).status_code == 401
    assert (await client.get("/healthz")).status_code == 200


async def test_the_local_user_may_come_over_ipv6(runtime: Runtime) -> None:
    assert (await client_of(runtime, "::1").get("/v1/models")).status_code == 200


async def test_once_a_key_was_made_nobody_is_let_in_without_one(runtime: Runtime) -> None:
    client = client_of(runtime)
    assert (await client.get("/v1/models")).status_code == 200
    async with elsewhere(runtime.settings.data_dir) as keys:
        made, key = await keys.create(ALICE)
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/v1/models", headers=bearer(key))).status_code == 200
        assert await keys.revoke(made.id) is not None
        refused = await client.get("/v1/models", headers=bearer(key))
        assert refused.status_code == 401
        assert (await client.get("/v1/models")).status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["type"] == "authentication_error"
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert "parley keys create" in refused.json()["error"]["message"]


async def test_a_key_that_another_process_makes_or_revokes_counts_from_the_next_request_on(runtime: Runtime) -> None:
    client = client_of(runtime)

    def parley(*arguments: str) -> str:
        command = [sys.executable, "-m", "serving.cli", "--data-dir", str(runtime.settings.data_dir), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
        return ended.stdout.strip()

    made = orjson.loads(parley("keys", "create", "--tenant", "acme", "--user", "alice", "--json"))
    assert (await client.get("/v1/models")).status_code == 401
    assert (await client.get("/v1/models", headers=bearer(made["key"]))).status_code == 200
    parley("keys", "revoke", made["id"])
    assert (await client.get("/v1/models", headers=bearer(made["key"]))).status_code == 401


async def test_all_keys_that_open_nothing_get_the_same_answer(runtime: Runtime) -> None:
    keys, client = Keys(runtime.database), client_of(runtime)
    _, good = await keys.create(ALICE)
    expired = (await keys.create(ALICE, stamp(datetime.now(UTC) - timedelta(seconds=1))))[1]
    gone, revoked = await keys.create(ALICE)
    await keys.revoke(gone.id)
    assert (await client.get("/api/threads", headers=bearer(good))).status_code == 200
    other = good[:-1] + ("0" if good[-1] != "0" else "1")
    tokens = (
        expired, revoked, other, good[:-1], good + "0", good.upper(), good.replace("_", "-"), "parley__",
        f"parley_{'0' * 12}_{'0' * 48}", "", "a" * 10_000, "\x80\xff",
    )  # fmt: skip
    sent = [{}, *map(bearer, tokens), {"Authorization": good}, {"Authorization": f"Basic {good}"}]
    for path in ("/api/threads", "/api/threads/none", "/no/such/route", "/v1/models"):
        answers = {
            (answer.status_code, answer.content, str(sorted(answer.headers.items())))
            for answer in [await client.get(path, headers=httpx.Headers(one, encoding="latin-1")) for one in sent]
        }  # fmt: skip
        assert [status for status, _, _ in answers] == [401], path


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
async def test_the_schemes_case_does_not_matter(runtime: Runtime, scheme: str) -> None:
    _, key = await Keys(runtime.database).create(ALICE)
    response = await client_of(runtime).get("/v1/models", headers={"Authorization": f"{scheme}{key}"})
    assert response.status_code == 200


async def test_a_key_opens_until_it_expires_and_not_after(runtime: Runtime) -> None:
    keys, client = Keys(runtime.database), client_of(runtime)
    _, tomorrow = await keys.create(ALICE, stamp(datetime.now(UTC) + timedelta(days=1)))
    _, over = await keys.create(ALICE, stamp(datetime.now(UTC)))
    assert (await client.get("/v1/models", headers=bearer(tomorrow))).status_code == 200
    assert (await client.get("/v1/models", headers=bearer(over))).status_code == 401


async def test_a_key_works_from_anywhere(runtime: Runtime) -> None:
    _, key = await Keys(runtime.database).create(ALICE)
    assert (await client_of(runtime, "192.0.2.7").get("/v1/models", headers=bearer(key))).status_code == 200


async def test_what_was_said_without_keys_stays_the_local_users(runtime: Runtime) -> None:
    client = client_of(runtime)
    made = await client.post("/api/threads", json={"title": "Mine"})
    keys = Keys(runtime.database)
    _, alice = await keys.create(ADMIN)
    _, local = await keys.create(Principal())
    assert (await client.get(made.headers["location"], headers=bearer(alice))).status_code == 404
    assert (await client.get(made.headers["location"], headers=bearer(local))).status_code == 200


async def test_open_routes_need_no_key_and_tell_nothing_of_anyone(runtime: Runtime) -> None:
    client = client_of(runtime)
    _, key = await Keys(runtime.database).create(ALICE)
    for path in OPEN:
        assert (await client.get(path)).status_code in (200, 307), path
        assert (await client.get(path, headers=bearer(key))).status_code in (200, 307), path
    described = (await client.get("/openapi.json")).json()
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert operation["security"] == ([] if path in OPEN else [{"key": []}, {}]), path
            assert {"401", "429"} <= set(operation["responses"]) or path in OPEN, path
            assert {"403", "421", "431"} <= set(operation["responses"]), path


async def test_only_those_who_are_let_in_are_told_what_is_wrong_with_a_part(runtime: Runtime) -> None:
    class Trouble(Runtime):
        async def ready(self) -> dict[str, str | None]:
            return {"data": "the disk of box-7 is full", "embedder": None}

    broken = Trouble(**{name: getattr(runtime, name) for name in Runtime.__dataclass_fields__})
    client = client_of(broken)
    assert "box-7" in (await client.get("/readyz")).text
    _, key = await Keys(runtime.database).create(ALICE)
    outside = await client.get("/readyz")
    assert outside.status_code == 503
    assert outside.json() == {"status": "not ready", "parts": {"data": "does not work", "embedder": None}}
    assert "box-7" in (await client.get("/readyz", headers=bearer(key))).text


async def test_when_the_keys_cannot_be_read_nobody_is_let_in_and_readiness_says_so(runtime: Runtime) -> None:
    client = client_of(runtime)
    await runtime.database.close()
    refused = await client.get("/v1/models", headers=bearer("parley_000000000000_00"))
    assert refused.status_code == 503
    assert "closed" in refused.json()["error"]["message"]
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "not ready")


async def test_the_standalone_application_asks_for_keys_too(tmp_path: Path) -> None:
    app = create_standalone(Settings(data_dir=tmp_path))
    async with app.router.lifespan_context(app):
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
        assert (await client.get("/v1/models")).status_code == 200
        async with elsewhere(tmp_path) as keys:
            _, key = await keys.create(ALICE)
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/v1/models", headers=bearer(key))).status_code == 200


async def test_a_websocket_is_asked_for_a_key_like_any_request(runtime: Runtime) -> None:
    await Keys(runtime.database).create(ALICE)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "websocket", "path": "/api/live", "raw_path": b"/api/live", "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    await create_app(runtime)(scope, receive, send)
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 401)
    foreign = scope | {"headers": [(b"host", b"127.0.0.1"), (b"origin", b"https://evil.example")]}
    sent.clear()
    await create_app(runtime)(foreign, receive, send)
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 403)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The log as the server writes it, of everything that any library says."""
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    file = log_to(tmp_path)
    root.setLevel(logging.DEBUG)
    yield file
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)  # closes the log
    root.handlers[:] = kept
    root.setLevel(level)


async def test_no_key_is_ever_in_the_log_or_in_an_answer(runtime: Runtime, log: Path) -> None:
    class Broken(Runtime):
        async def search(self, principal: Principal, query: str, limit: int) -> list[Found]:
            raise RuntimeError("a bug")

    keys = Keys(runtime.database)
    broken = Broken(**{name: getattr(runtime, name) for name in Runtime.__dataclass_fields__})
    transport = httpx.ASGITransport(create_app(broken), raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
    _, good = await keys.create(ALICE)
    gone, revoked = await keys.create(ALICE)
    await keys.revoke(gone.id)
    secrets = [good.rpartition("_")[2], revoked.rpartition("_")[2], "canary-of-a-wrong-key"]
    statuses: set[int] = set()
    for key in (good, revoked, "parley_000000000000_canary-of-a-wrong-key"):
        asked: tuple[tuple[str, str, JsonObject | None], ...] = (
            ("GET", "/api/threads/none", None),
            ("GET", "/nothing", None),
            ("POST", "/api/search", {"query": "x"}),
            ("POST", "/api/search", {"query": 1}),
            ("POST", "/api/search", {"query": ""}),
            ("POST", "/v1/chat/completions", {"model": "x", "messages": []}),
            ("PUT", "/api/threads", None),
            ("GET", "/readyz", None),
        )
        for method, path, body in asked:
            answer = await client.request(method, path, json=body, headers=bearer(key))
            statuses.add(answer.status_code)
            told = answer.text + str(answer.headers)
            assert not [secret for secret in secrets if secret in told], (method, path)
    assert {200, 400, 401, 404, 405, 500} <= statuses
    logged = log.read_text(encoding="utf-8")
    assert "a bug" in logged
    assert not [secret for secret in secrets if secret in logged]
    stored = b"".join(file.read_bytes() for file in runtime.settings.data_dir.rglob("parley.sqlite*"))
    assert gone.prefix.encode() in stored
    assert not [secret for secret in secrets if secret.encode() in stored or bytes.fromhex(good[-48:]) in stored]
