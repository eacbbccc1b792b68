"""Token buckets: what a key may still ask, and what it is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import httpx
import pytest

from serving.api import create_app
from serving.buckets import KEPT, Buckets
from serving.keys import Keys
from serving.principal import Principal
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from tests.clock import Clock


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Runtime]:
    async with open_runtime(Settings(data_dir=tmp_path_factory.mktemp("limits"))) as runtime:
        yield runtime


def client_of(runtime: Runtime, per_minute: int) -> httpx.AsyncClient:
    settings = runtime.settings.model_copy(update={"rate_per_minute": per_minute})
    transport = httpx.ASGITransport(create_app(replace(runtime, settings=settings)))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


async def key_of(runtime: Runtime, user: str) -> dict[str, str]:
    _, key = await Keys(runtime.database).create(Principal("acme", user))
    return {"Authorization": f"Bearer {key}"}


def test_a_full_bucket_holds_a_minutes_requests_and_then_one_comes_back_at_a_time() -> None:
    clock = Clock()
    limits = Buckets(clock)
    taken = [limits.take("k", 60) for _ in range(60)]
    assert all(one.allowed for one in taken)
    assert [one.left for one in taken] == list(range(59, -1, -1))
    assert taken[0].full == 1
    assert limits.take("k", 60) == (False, 0, 1, 60)
    clock.now += 1
    assert limits.take("k", 60) == (True, 0, 0, 60)
    assert not limits.take("k", 60).allowed
    clock.now += 60
    assert limits.take("k", 60) == (True, 59, 0, 1)


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    limits = Buckets(clock)
    assert [limits.take("k", 2).allowed for _ in range(10)] == [True, True] + [False] * 8
    clock.now += 30
    assert limits.take("k", 2).allowed


def test_each_key_has_a_bucket_of_its_own() -> None:
    limits = Buckets(Clock())
    assert limits.take("a", 1).allowed
    assert limits.take("b", 1).allowed
    assert not limits.take("a", 1).allowed


@pytest.mark.parametrize("per_minute", [1, 7, 600, 1_000_000])
def test_over_an_hour_no_more_passes_than_a_minute_at_once_and_the_rate_after_it(per_minute: int) -> None:
    clock = Clock()
    limits, rate = Buckets(clock), min(per_minute, 5_000)
    step = 60 / rate / 3
    passed = 0
    for _ in range(20_000):
        passed += limits.take("k", rate).allowed
        clock.now += step
    elapsed = 19_999 * step
    most = rate + elapsed * rate / 60
    assert most - 2 <= passed <= most + 1


def test_buckets_that_are_full_again_are_forgotten_when_there_are_many() -> None:
    clock = Clock()
    limits = Buckets(clock)
    for number in range(KEPT):
        limits.take(str(number), 60)
    limits.take("kept", 60)
    clock.now += 1.5
    for _ in range(3):
        limits.take("kept", 60)
    limits.take("new", 60)
    assert not [name for name in ("0", str(KEPT - 1)) if limits.take(name, 60).left != 59]
    assert limits.take("kept", 60).left == 57 - 1


async def test_a_key_that_asks_too_often_is_told_when_to_go_on(runtime: Runtime) -> None:
    client, alice, bob = client_of(runtime, 2), await key_of(runtime, "alice"), await key_of(runtime, "bob")
    first = await client.get("/v1/models", headers=alice)
    assert first.status_code == 200
    assert first.headers["ratelimit-policy"] == '"key";q=2;w=60'
    assert first.headers["ratelimit"] == '"key";r=1;t=30'
    assert (await client.get("/v1/models", headers=alice)).status_code == 200
    refused = await client.get("/v1/models", headers=alice)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["ratelimit"].startswith('"key";r=0;t=')
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    problem = await client.get("/api/threads", headers=alice)
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["type"] == "/problems/rate-limited"
    assert (await client.get("/v1/models", headers=bob)).status_code == 200
    assert (await client.get("/readyz", headers=alice)).status_code == 200


async def test_a_limit_of_zero_is_none(runtime: Runtime) -> None:
    client, alice = client_of(runtime, 0), await key_of(runtime, "alice")
    for _ in range(5):
        response = await client.get("/v1/models", headers=alice)
        assert response.status_code == 200
        assert "ratelimit" not in response.headers
