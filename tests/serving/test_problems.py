"""Errors below /api: each has a type that the documentation tells of, and nothing else changes with it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import orjson
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from knowledge.graph import GraphUnavailable
from memory.sql import DatabaseUnavailable
from serving.errors import CODES, ApiError, handle_errors, problem
from serving.records import EventsGone, ServerStopping, ThreadBusy, UnknownThread

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
CODE = re.compile(r'\bcode="([a-z_]+)"')


def test_every_kind_of_error_is_in_the_documentation() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "serving").rglob("*.py")]
    codes = {*CODES.values(), *(code for source in sources for code in CODE.findall(source))}
    assert len(codes) > 20
    told = {*re.findall(r"`/problems/([a-z-]+)`", PAGE), *re.findall(r"`([a-z_]+)` \(\d{3}", PAGE)}
    told |= set(re.findall(r"`([a-z_]+)`", PAGE.partition("On `/v1` an error of a special kind")[2]))
    assert sorted(code for code in codes if code not in told and code.replace("_", "-") not in told) == []


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (UnknownThread("x"), 404, "not-found"),
        (ThreadBusy("r1"), 409, "thread-busy"),
        (EventsGone("x"), 410, "events-gone"),
        (ServerStopping("x"), 503, "stopping"),
        (DatabaseUnavailable("x"), 503, "unavailable"),
        (GraphUnavailable("x"), 503, "unavailable"),
        (ApiError(415, "x"), 415, "unsupported-media-type"),
        (ApiError(403, "x", code="not_yours"), 403, "not-yours"),
        (ApiError(418, "x"), 418, "error"),
        (ZeroDivisionError("x"), 500, "bug"),
    ],
)
async def test_what_goes_wrong_is_a_problem_on_api_and_openais_error_on_v1(
    error: Exception, status: int, kind: str
) -> None:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False})
    handle_errors(app)

    async def fails(_: Request) -> Response:
        raise error

    app.add_route("/api/fails", fails)
    app.add_route("/v1/fails", fails)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        ours, openais = await client.get("/api/fails"), await client.get("/v1/fails")
        unknown = await client.get("/api/nowhere")
    assert (ours.status_code, ours.headers["content-type"]) == (status, "application/problem+json")
    assert (ours.json()["type"], ours.json()["status"]) == (f"/problems/{kind}", status)
    assert set(ours.json()) - {"run_id"} == {"type", "title", "status", "detail"}
    assert (openais.status_code, set(openais.json())) == (status, {"error"})
    assert [reply.headers.get("retry-after") for reply in (ours, openais)] == ["5" if status == 503 else None] * 2
    assert unknown.json()["type"] == "/problems/not-found"


def test_a_problem_names_the_field_and_the_run_that_are_in_the_way() -> None:
    told = orjson.loads(problem(ApiError(409, "wait", param="messages", code="thread_busy", run="r1")))
    assert told == {
        "type": "/problems/thread-busy", "title": "Conflict", "status": 409, "detail": "wait", "param": "messages",
        "run_id": "r1",
    }  # fmt: skip
