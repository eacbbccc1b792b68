"""Runs over HTTP: a turn of a conversation, waited for, streamed or in the background; its events, its end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated

import orjson
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from graphs.events import Sequenced
from serving.auth import principal
from serving.conversations import Conversations
from serving.errors import RUN_KEY, ApiError
from serving.event_log import event_json
from serving.feedback import UnknownRun
from serving.idempotency import AlreadyMade
from serving.paging import number_of, page
from serving.principal import Principal
from serving.records import Run
from serving.runtime import Runtime
from serving.shapes import run_json
from serving.sse import COMMENT, Attended, EventStream
from serving.turns import TurnRequest
from serving.wires.body import json_body, read_json
from serving.wires.claims import PARAMETER, REPLAYED, claim_of
from serving.wires.describe import EVENTS_EXAMPLE, PROBLEMS, event_stream, problems
from serving.wires.last_event import LAST_EVENT_ID, last_event_id
from serving.wires.record_models import USUAL, Cursor, EventPage, Limit, RunModel, RunPage
from serving.wires.reply import listed, reply
from serving.wires.run_request import EXAMPLES, RunRequest

EVENTS = "events"


def run_routes(runtime: Runtime) -> APIRouter:
    """`/api/threads/{thread_id}/runs` and `/api/runs`."""
    router = APIRouter(prefix="/api", tags=["Runs"])
    conversations = Conversations(runtime.database)

    @router.post(
        "/threads/{thread_id}/runs",
        summary="Ask in a conversation",
        responses={
            200: {
                "model": RunModel,
                "description": "The run when it is over, whatever its end; with `stream` its events.",
                "content": event_stream(EVENTS_EXAMPLE, "EventModel"),
            },
            202: {"model": RunModel, "description": "With `background`, without `stream`: the run as it starts."},
            **PROBLEMS,
            **problems(404, 409, 410),
        },
        openapi_extra={"parameters": [PARAMETER], **json_body(RunRequest, EXAMPLES)},
    )
    async def start(request: Request, thread_id: str) -> Response:
        """A client that goes away cancels the run, unless it is in the background. The last event is one of
        `run.finished`, `run.failed`, `run.cancelled`, `run.incomplete`; the conversation is free by then."""
        asked = await read_json(request, RunRequest, runtime.settings.max_body_bytes)
        who = principal(request)
        turn = asked.turn(who, thread_id, claim_of(request, who, asked.model_dump_json().encode()))
        request.scope[RUN_KEY] = turn.run
        asking = _Asking(runtime, turn)
        if asked.background:
            return await asking.in_background(stream=asked.stream)
        return EventStream(asking.stream()) if asked.stream else Attended(asking.whole())

    @router.get(
        "/threads/{thread_id}/runs",
        summary="List the runs of a conversation",
        responses={200: {"model": RunPage}, **problems(400, 404, 500, 503)},
    )
    async def runs(request: Request, thread_id: str, cursor: Cursor = None, limit: Limit = USUAL) -> Response:
        """Newest first."""
        ran = await conversations.runs(principal(request), thread_id, cursor, limit)
        return listed(ran, lambda one: run_json(*one))

    @router.get("/runs/{run_id}", summary="Get a run", responses={200: {"model": RunModel}, **problems(404, 500, 503)})
    async def get(request: Request, run_id: str) -> Response:
        """With its answer, as far as it got."""
        return await shown(runtime, await known(runtime, principal(request), run_id))

    @router.delete(
        "/runs/{run_id}",
        summary="Cancel a run",
        status_code=202,
        responses={
            202: {"model": RunModel, "description": "It has been told to end, and the model's call with it."},
            **problems(404, 409, 500, 503),
        },
    )
    async def cancel(request: Request, run_id: str) -> Response:
        """What was said stays, marked as cancelled. A run that is over gets 409."""
        who = principal(request)
        cancelled = await runtime.turns.cancel(await known(runtime, who, run_id))
        run = await known(runtime, who, run_id)
        if not cancelled:
            raise ApiError(409, f"run {run.id} is over: it is {run.status}", code="run_over", run=run.id)
        return await shown(runtime, run, 202)

    @router.get(
        "/runs/{run_id}/events",
        summary="Replay and follow a run's events",
        responses={
            200: {
                "model": EventPage,
                "description": "The events as they come; as a list, without waiting, for `Accept: application/json`.",
                "content": event_stream(EVENTS_EXAMPLE, "EventModel"),
            },
            **problems(400, 404, 410, 500, 503),
        },
        openapi_extra={"parameters": [LAST_EVENT_ID]},
    )
    async def events(
        request: Request,
        run_id: str,
        after: Annotated[int, Query(ge=0, le=2**53, description="As `Last-Event-ID`, which wins.")] = 0,
        cursor: Cursor = None,
        limit: Limit = USUAL,
    ) -> Response:
        """All events after the number given, what was sent before exactly as it was sent, then what comes, to the
        last one. Leaving does not cancel the run."""
        run = await known(runtime, principal(request), run_id)
        start = last_event_id(request) or after
        if _wants_json(request):
            return await _list_events(runtime, run, number_of(EVENTS, cursor) if cursor else start, limit)
        return EventStream(followed(runtime, run, start))

    return router


class _Asking:
    """One run that is asked for, or the one that the same request has asked for before."""

    def __init__(self, runtime: Runtime, turn: TurnRequest) -> None:
        self._runtime, self._turn = runtime, turn

    async def whole(self) -> Response:
        """The run when it is over. Leaving cancels it, unless an earlier request waits for it."""
        try:
            async with aclosing(self._runtime.turns.run(self._turn)) as events:
                async for _ in events:
                    pass
        except AlreadyMade as earlier:
            return await self._again(earlier.made)
        return await shown(self._runtime, await self._known(self._turn.run))

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The run's events. Leaving cancels it, unless an earlier request follows it."""
        try:
            async with aclosing(self._runtime.turns.run(self._turn)) as events:
                async for event in events:
                    yield frame(event)
            return
        except AlreadyMade as earlier:
            made = earlier.made
        async with aclosing(followed(self._runtime, await self._known(made), 0)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def in_background(self, *, stream: bool) -> Response:
        """The run as it starts, or its events; leaving changes nothing."""
        headers: dict[str, str] = {}
        try:
            run = await self._runtime.turns.start(self._turn)
        except AlreadyMade as earlier:
            run, headers = await self._known(earlier.made), REPLAYED
        if stream:
            return EventStream(followed(self._runtime, run, 0), headers)
        return await shown(self._runtime, run, 202, headers)

    async def _again(self, id: str) -> Response:
        run = await self._known(id)
        if run.finished_at is None:
            async with aclosing(self._runtime.turns.events(run)) as events:
                async for _ in events:
                    pass
        return await shown(self._runtime, await self._known(id), headers=REPLAYED)

    async def _known(self, id: str) -> Run:
        return await known(self._runtime, self._turn.principal, id)


async def known(runtime: Runtime, who: Principal, id: str) -> Run:
    """The run of that id.

    Raises:
        UnknownRun: the principal has none.
    """
    run = await runtime.repository.run(who.tenant, who.user, id)
    if run is None:
        raise UnknownRun(f"there is no run {id}")
    return run


async def shown(runtime: Runtime, run: Run, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The run with its answer."""
    place = {"Location": f"/api/runs/{run.id}", **(headers or {})}
    return reply(run_json(run, await runtime.repository.answer(run)), status, place)


async def followed(runtime: Runtime, run: Run, after: int) -> AsyncGenerator[bytes, None]:
    """The frames of a run's events with numbers above `after`, to the last one.

    Raises:
        EventsGone: they are no longer kept; nothing has been yielded then.
    """
    if run.finished_at is None:
        yield COMMENT  # the answer begins now, however long the next event takes
    async with aclosing(runtime.turns.events(run, after)) as events:
        async for event in events:
            yield frame(event)


def frame(event: Sequenced) -> bytes:
    """An event as a server-sent one; its number is the id that a client goes on from."""
    told = event_json(event)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.seq, str(told["type"]).encode(), orjson.dumps(told))


async def _list_events(runtime: Runtime, run: Run, after: int, limit: int) -> Response:
    rows: list[Sequenced] = []
    async with aclosing(runtime.turns.events(run, after, follow=False)) as events:
        async for event in events:
            rows.append(event)
            if len(rows) > limit:
                break
    return listed(page(EVENTS, rows, limit, lambda event: str(event.seq)), event_json)


def _wants_json(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return "application/json" in accept and "text/event-stream" not in accept
