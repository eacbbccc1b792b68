"""What every request passes first and every response carries: sizes, hosts, origins, headers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
from anyio import fail_after

from serving.api import create_app
from serving.http_protocol import HEAD_BYTES, BoundedHead
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from tests.serving.served import served

PAGE = "https://chat.example"
DEADLINE = 30
"""Seconds; a bound for what hangs, not a measure."""


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Runtime]:
    async with open_runtime(Settings(data_dir=tmp_path_factory.mktemp("guards"), max_body_bytes=2_000)) as runtime:
        yield runtime


def client_of(runtime: Runtime, base: str = "http://127.0.0.1:8080", **settings: object) -> httpx.AsyncClient:
    app = create_app(replace(runtime, settings=runtime.settings.model_copy(update=settings)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=base)


# -- the host ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "listens", "hosts", "status"),
    [
        ("127.0.0.1", "127.0.0.1", "", 200),
        ("127.0.0.1:9999", "127.0.0.1", "", 200),
        ("LocalHost:80", "127.0.0.1", "", 200),
        ("[::1]:8080", "::1", "", 200),
        ("[::1]", "localhost", "", 200),
        ("evil.example", "127.0.0.1", "", 421),
        ("evil.example:8080", "localhost", "", 421),
        ("127.0.0.1.evil.example", "127.0.0.1", "", 421),
        ("localhost.evil.example", "127.0.0.1", "", 421),
        ("127.0.0.1@evil.example", "127.0.0.1", "", 421),
        ("[::1].evil.example", "127.0.0.1", "", 421),
        ("", "127.0.0.1", "", 421),
        ("0.0.0.0", "127.0.0.1", "", 421),
        ("parley.lan:8080", "127.0.0.1", "parley.lan", 200),
        ("other.lan", "127.0.0.1", "parley.lan", 421),
        ("anything.example", "0.0.0.0", "", 200),
        ("parley.lan", "0.0.0.0", "parley.lan", 200),
        ("localhost", "0.0.0.0", "parley.lan", 200),
        ("anything.example", "0.0.0.0", "parley.lan", 421),
    ],
)
async def test_on_loopback_only_this_machines_names_are_answered(
    runtime: Runtime, host: str, listens: str, hosts: str, status: int
) -> None:
    client = client_of(runtime, host=listens, hosts=hosts)
    response = await client.get("/v1/models", headers={"Host": host})
    assert response.status_code == status
    if status == 421:
        assert response.json()["error"]["message"].endswith("or name it in PARLEY_HOSTS")
        problem = await client.get("/api/threads", headers={"Host": host})
        assert problem.json()["type"] == "/problems/wrong-host"


# -- the origin --------------------------------------------------------------------------------------------------


async def test_without_listed_origins_no_page_of_another_site_may_read_or_change_anything(runtime: Runtime) -> None:
    client = client_of(runtime)
    for origin in (PAGE, "null", "http://127.0.0.1:3000", "http://localhost:8080"):
        read = await client.get("/api/threads", headers={"Origin": origin})
        assert not [name for name in read.headers if name.startswith("access-control-")]
        preflight = await client.options(
            "/api/threads", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        )
        assert preflight.status_code == 403
        assert not [name for name in preflight.headers if name.startswith("access-control-")]
        for method in ("POST", "DELETE", "PATCH", "PUT"):
            refused = await client.request(method, "/api/threads", headers={"Origin": origin})
            assert refused.status_code == 403
            assert refused.json()["type"] == "/problems/foreign-origin"
    assert (await client.get("/api/threads")).json()["items"] == []


async def test_a_page_of_this_server_itself_may_do_everything(runtime: Runtime) -> None:
    client = client_of(runtime)
    made = await client.post("/api/threads", json={}, headers={"Origin": "http://127.0.0.1:8080"})
    assert made.status_code == 201
    assert (await client.delete(made.headers["location"])).status_code == 204


async def test_a_listed_origin_reads_and_asks_first_what_it_may_send(runtime: Runtime) -> None:
    client = client_of(runtime, cors_origins=f"http://localhost:3000,{PAGE}")
    read = await client.get("/api/threads", headers={"Origin": PAGE})
    assert read.headers["access-control-allow-origin"] == PAGE
    assert "Retry-After" in read.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in read.headers
    assert "Origin" in read.headers.get_list("vary")
    asks = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
        "Access-Control-Request-Private-Network": "true",
    }
    preflight = await client.options("/v1/chat/completions", headers=asks)
    assert preflight.status_code == 204
    assert preflight.content == b""
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == asks["Access-Control-Request-Headers"]
    assert preflight.headers["access-control-allow-private-network"] == "true"
    assert preflight.headers["access-control-max-age"] == "600"
    assert "access-control-allow-credentials" not in preflight.headers
    made = await client.post("/api/threads", json={}, headers={"Origin": PAGE})
    assert made.status_code == 201
    assert (await client.delete(made.headers["location"], headers={"Origin": PAGE})).status_code == 204


async def test_with_listed_origins_others_stay_out_and_caches_are_told_that_answers_differ(runtime: Runtime) -> None:
    client = client_of(runtime, cors_origins=PAGE)
    other = {"Origin": f"{PAGE}.evil.example", "Access-Control-Request-Method": "GET"}
    assert (await client.options("/api/threads", headers=other)).status_code == 403
    read = await client.get("/api/threads", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in read.headers
    plain = await client.get("/api/threads")
    assert "Origin" in plain.headers.get_list("vary")


async def test_an_error_too_may_be_read_by_a_listed_origin(runtime: Runtime) -> None:
    client = client_of(runtime, cors_origins=PAGE)
    missing = await client.get("/api/threads/none", headers={"Origin": PAGE})
    assert missing.status_code == 404
    assert missing.headers["access-control-allow-origin"] == PAGE


# -- what every response carries ----------------------------------------------------------------------------------


async def test_every_response_carries_the_security_headers(runtime: Runtime) -> None:
    class Broken(Runtime):
        async def ready(self) -> dict[str, str | None]:
            raise RuntimeError("a bug")

    fields = {name: getattr(runtime, name) for name in Runtime.__slots__}
    broken = client_of(Broken(**fields))
    for response, status in (
        (await broken.get("/healthz"), 200),
        (await broken.get("/v1/models"), 200),
        (await broken.get("/docs"), 200),
        (await broken.get("/api/threads/none"), 404),
        (await broken.get("/nothing"), 404),
        (await broken.get("/", headers={"Host": "evil.example"}), 421),
        (await broken.get("/readyz"), 500),
    ):
        assert response.status_code == status
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert len(response.headers.get_list("content-security-policy")) == 1
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_the_docs_page_may_use_its_own_style_and_nothing_else(runtime: Runtime) -> None:
    page = await client_of(runtime).get("/docs")
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "script" not in policy
    assert "<script" not in page.text
    assert 'style="' not in page.text


# -- sizes -------------------------------------------------------------------------------------------------------


async def test_headers_and_address_together_have_a_limit(runtime: Runtime) -> None:
    client = client_of(runtime, max_header_bytes=1_000)
    assert (await client.get("/v1/models", headers={"X-Long": "a" * 700})).status_code == 200
    long = await client.get("/v1/models", headers={"X-Long": "a" * 1_000})
    assert long.status_code == 431
    assert "1000 bytes" in long.json()["error"]["message"]
    many = await client.get("/api/threads", headers=[(f"x-{n}", "v") for n in range(150)])
    assert many.json()["type"] == "/problems/headers-too-large"
    assert (await client.get("/api/threads", params={"q": "a" * 1_000})).status_code == 431


async def test_every_route_that_reads_json_refuses_a_body_that_is_too_large(runtime: Runtime) -> None:
    app = create_app(runtime)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
    routes = [
        (method, path.replace("{", "").replace("}", ""))
        for path, methods in app.openapi()["paths"].items()
        for method, what in methods.items()
        if "application/json" in what.get("requestBody", {}).get("content", {})
    ]
    assert len(routes) >= 6
    for method, path in routes:
        body = b'{"x": "' + b"a" * 3_000 + b'"}'
        response = await client.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 413, f"{method} {path}: {response.text}"


@asynccontextmanager
async def listening(runtime: Runtime) -> AsyncGenerator[int]:
    """A real server with the protocol of `parley serve`; gives its port."""
    async with served(runtime, BoundedHead) as url:
        yield int(url.rpartition(":")[2])


async def test_a_head_without_an_end_is_cut_off(runtime: Runtime) -> None:
    async with listening(runtime) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ")
        most = 100 * HEAD_BYTES
        with fail_after(DEADLINE):
            sent = await poured(writer, most)
            answer = await heard(reader)
        writer.close()
        assert sent < most
        assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""  # a reset overtakes what was not read yet


async def heard(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def poured(writer: asyncio.StreamWriter, most: int) -> int:
    """How many bytes could be sent before the other side hung up."""
    sent = 0
    try:
        while sent < most:
            writer.write(b"a" * 4_096)
            await writer.drain()
            sent += 4_096
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    return sent


async def test_long_bodies_and_many_requests_on_one_connection_are_no_long_head(runtime: Runtime) -> None:
    async with listening(runtime) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            large = b'{"query": "' + b"a" * 15_000 + b'"}'
            for body in (large, b'{"query": "mill"}'):
                response = await client.post("/api/search", content=body, headers={"Content-Type": "application/json"})
                assert response.status_code == (413 if body is large else 200)
        long = await client.get("/healthz", headers={"X-Long": "a" * 40_000})
        assert long.status_code == 431
