"""Background jobs over HTTP: list, look at, follow, cancel."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serving.auth import principal
from serving.errors import ApiError
from serving.job_records import Job
from serving.job_shapes import item_json, job_json
from serving.job_store import Owner
from serving.principal import Principal
from serving.runtime import Runtime
from serving.sse import EventStream
from serving.wires.describe import event_stream, problems
from serving.wires.job_models import EXAMPLE, ItemPage, JobModel, JobPage
from serving.wires.last_event import LAST_EVENT_ID, last_event_id
from serving.wires.record_models import USUAL, Cursor, Limit
from serving.wires.reply import listed, reply


def job_routes(runtime: Runtime) -> APIRouter:
    """`/api/jobs` and what lies below it."""
    router = APIRouter(prefix="/api/jobs", tags=["Jobs"])
    store = runtime.jobs

    @router.get("", summary="List your jobs", responses={200: {"model": JobPage}, **problems(400, 500, 503)})
    async def jobs(request: Request, cursor: Cursor = None, limit: Limit = USUAL) -> Response:
        """Newest first. A job is listed for 30 days after its end."""
        return listed(await store.list(_owner(principal(request)), cursor, limit), job_json)

    @router.get("/{job_id}", summary="Get a job", responses={200: {"model": JobModel}, **problems(404, 500, 503)})
    async def get(request: Request, job_id: str) -> Response:
        """How far it has come."""
        return reply(job_json(await _known(runtime, request, job_id)))

    @router.get(
        "/{job_id}/items",
        summary="List the parts of a job",
        responses={200: {"model": ItemPage}, **problems(400, 404, 500, 503)},
    )
    async def items(request: Request, job_id: str, cursor: Cursor = None, limit: Limit = USUAL) -> Response:
        """For example the files of an upload, each with what became of it."""
        return listed(await store.items(_owner(principal(request)), job_id, cursor, limit), item_json)

    @router.delete(
        "/{job_id}",
        summary="Cancel a job",
        status_code=202,
        responses={
            202: {"model": JobModel, "description": "It has been told to end."},
            **problems(404, 409, 500, 503),
        },
    )
    async def cancel(request: Request, job_id: str) -> Response:
        """One that waits is over at once, one that runs after the part under way. What is done stays. A job that is
        over gets 409."""
        job = await _known(runtime, request, job_id)
        if job.is_over:
            raise ApiError(409, f"the job {job_id} is {job.status}", code="job_over")
        return reply(job_json(await store.cancel(_owner(principal(request)), job_id)), 202)

    @router.get(
        "/{job_id}/events",
        summary="Follow a job",
        responses={
            200: {
                "description": "Server-sent events: `job.progress` at once and at each change, and last one of "
                "`job.finished`, `job.failed`, `job.cancelled`. Each tells the whole job.",
                "content": event_stream(EXAMPLE),
            },
            204: {"description": "The last event came already: there is nothing more to follow."},
            **problems(400, 404, 500, 503),
        },
        openapi_extra={"parameters": [LAST_EVENT_ID]},
    )
    async def events(request: Request, job_id: str) -> Response:
        """Leaving does not cancel the job. After a pause come the newest state and what follows, never one again."""
        job = await _known(runtime, request, job_id)
        after = last_event_id(request)
        if job.is_over and job.version <= after:
            return Response(status_code=204)
        return EventStream(_followed(runtime, principal(request), job_id, after))

    return router


def event_of(job: Job) -> bytes:
    """A job's state as a server-sent event."""
    kind = f"job.{job.status}" if job.is_over else "job.progress"
    data = orjson.dumps({"type": kind, **job_json(job)}).decode()
    return f"id: {job.version}\nevent: {kind}\ndata: {data}\n\n".encode()


async def _followed(runtime: Runtime, who: Principal, job: str, after: int) -> AsyncGenerator[bytes, None]:
    async with aclosing(runtime.jobs.follow(_owner(who), job, after)) as states:
        async for state in states:
            yield event_of(state)


async def _known(runtime: Runtime, request: Request, id: str) -> Job:
    job = await runtime.jobs.get(_owner(principal(request)), id)
    if job is None:
        raise ApiError(404, f"there is no job {id}")
    return job


def _owner(who: Principal) -> Owner:
    return Owner(who.tenant, who.user)
