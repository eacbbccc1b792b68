"""Conversations over HTTP: make, list, search, rename, delete, export, and their messages."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serving.auth import principal
from serving.conversations import Conversations
from serving.errors import ApiError
from serving.export import KINDS, Export, Format
from serving.feedback import FeedbackStore
from serving.idempotency import AlreadyMade
from serving.principal import Principal
from serving.runtime import Runtime
from serving.shapes import message_json, thread_json
from serving.wires.body import json_body, read_json
from serving.wires.claims import PARAMETER, REPLAYED, claim_of
from serving.wires.describe import PROBLEMS, problems
from serving.wires.record_models import TIME, USUAL, Cursor, Limit, MessagePage, ThreadModel, ThreadPage
from serving.wires.reply import listed, reply

MAX_TITLE, MAX_SEARCH = 200, 200


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class NewThread(_Wire):
    """A conversation to be made. All of it may be left out, the body too."""

    title: str | None = Field(default=None, max_length=MAX_TITLE, description="None: its first question.")


class ThreadChange(_Wire):
    """What is to change."""

    title: str = Field(min_length=1, max_length=MAX_TITLE, pattern=r"\S")


def thread_routes(runtime: Runtime) -> APIRouter:
    """`/api/threads` and what lies below it, but for runs."""
    router = APIRouter(prefix="/api/threads", tags=["Conversations"])
    conversations = Conversations(runtime.database)
    export = Export(conversations, FeedbackStore(runtime.database))
    limit = runtime.settings.max_body_bytes

    @router.post(
        "",
        summary="Make a conversation",
        status_code=201,
        responses={201: {"model": ThreadModel}, **PROBLEMS, **problems(409)},
        openapi_extra={
            "parameters": [PARAMETER],
            **json_body(NewThread, {"untitled": {}, "titled": {"title": "Opening hours"}}, required=False),
        },
    )
    async def create(request: Request) -> Response:
        """It is empty; a run in it says something."""
        asked = await read_json(request, NewThread, limit, empty=True)
        who = principal(request)
        claim = claim_of(request, who, asked.model_dump_json().encode())
        try:
            thread, replayed = await conversations.create(who, _line(asked.title or ""), claim), {}
        except AlreadyMade as earlier:
            thread, replayed = await conversations.get(who, earlier.made), REPLAYED
        return reply(thread_json(thread), 201, {"Location": f"/api/threads/{thread.id}"} | replayed)

    @router.get(
        "", summary="List or search conversations", responses={200: {"model": ThreadPage}, **problems(400, 500, 503)}
    )
    async def threads(
        request: Request,
        cursor: Cursor = None,
        limit: Limit = USUAL,
        q: Annotated[
            str,
            Query(
                max_length=MAX_SEARCH, description="Only those that say each of these words, in the title or a message."
            ),
        ] = "",
    ) -> Response:
        """Newest made first, an order that later turns do not change: who follows the cursors sees each once."""
        return listed(await conversations.page(principal(request), cursor, limit, q), thread_json)

    @router.get(
        "/{thread_id}", summary="Get a conversation", responses={200: {"model": ThreadModel}, **problems(404, 500, 503)}
    )
    async def get(request: Request, thread_id: str) -> Response:
        """Without its messages."""
        return reply(thread_json(await conversations.get(principal(request), thread_id)))

    @router.patch(
        "/{thread_id}",
        summary="Rename a conversation",
        responses={200: {"model": ThreadModel}, **PROBLEMS, **problems(404)},
        openapi_extra=json_body(ThreadChange, {"rename": {"title": "Opening hours"}}),
    )
    async def rename(request: Request, thread_id: str) -> Response:
        """Its title stays then, whatever is asked in it."""
        asked = await read_json(request, ThreadChange, limit)
        title = _line(asked.title)
        if not title:
            raise ApiError(400, "title: the title is empty", param="title")
        return reply(thread_json(await conversations.rename(principal(request), thread_id, title)))

    @router.delete(
        "/{thread_id}",
        summary="Delete a conversation",
        status_code=204,
        responses={204: {"description": "It is gone."}, **problems(404, 409, 500, 503)},
    )
    async def delete(request: Request, thread_id: str) -> Response:
        """With its messages, runs, events and feedback. While a run is not over it is refused; cancel the run first."""
        await conversations.delete(principal(request), thread_id)
        return Response(status_code=204)

    @router.get(
        "/{thread_id}/messages",
        summary="List the messages of a conversation",
        responses={200: {"model": MessagePage}, **problems(400, 404, 500, 503)},
    )
    async def messages(
        request: Request, thread_id: str, cursor: Cursor = None, limit: Limit = USUAL
    ) -> Response:  # fmt: skip
        """Oldest first."""
        return listed(await conversations.messages(principal(request), thread_id, cursor, limit), message_json)

    @router.get(
        "/{thread_id}/export",
        summary="Export a conversation",
        responses={
            200: {
                "description": "The whole conversation as a file.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/markdown": {"schema": {"type": "string"}, "example": f"# Opening hours\n\n## You, {TIME}\n"},
                },
            },
            **problems(400, 404, 500, 503),
        },
    )
    async def whole(request: Request, thread_id: str, format: Format = "json") -> Response:
        """JSON holds the thread with its messages and feedback; Markdown is for people."""
        who: Principal = principal(request)
        thread = await conversations.get(who, thread_id)
        media, ending = KINDS[format]
        headers = {"Content-Disposition": f'attachment; filename="thread-{thread.id}.{ending}"'}
        return StreamingResponse(export.pieces(who, thread, format), headers=headers, media_type=media)

    return router


def _line(title: str) -> str:
    return " ".join(title.split())
