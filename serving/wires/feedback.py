"""Feedback over HTTP: what users think of answers."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from serving.auth import principal
from serving.feedback import FeedbackStore
from serving.idempotency import AlreadyMade
from serving.runtime import Runtime
from serving.shapes import feedback_json
from serving.wires.body import json_body, read_json
from serving.wires.claims import PARAMETER, REPLAYED, claim_of
from serving.wires.describe import PROBLEMS, problems
from serving.wires.record_models import RUN, TIME
from serving.wires.reply import reply


def _thumb(rating: int) -> int:
    if rating not in (1, -1):
        raise PydanticCustomError("rating", "Input should be 1 or -1")
    return rating


Rating = Annotated[int, AfterValidator(_thumb), Field(json_schema_extra={"enum": [1, -1]})]
"""A strict int, which Literal[1, -1] is not: that takes true for 1."""


class NewFeedback(BaseModel):
    """What you think of an answer."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    run_id: str = Field(min_length=1, max_length=100, examples=[RUN])
    rating: Rating = Field(description="1: good, -1: bad.")
    reason: str | None = Field(default=None, max_length=4_000)


class FeedbackModel(BaseModel):
    """What is stored."""

    run_id: str = Field(examples=[RUN])
    rating: Literal[1, -1]
    reason: str | None
    created_at: str = Field(examples=[TIME])


def feedback_routes(runtime: Runtime) -> APIRouter:
    """`/api/feedback`."""
    router = APIRouter(prefix="/api", tags=["Conversations"])
    store = FeedbackStore(runtime.database)

    @router.post(
        "/feedback",
        summary="Say what you think of an answer",
        status_code=201,
        responses={201: {"model": FeedbackModel}, **PROBLEMS, **problems(404, 409)},
        openapi_extra={
            "parameters": [PARAMETER],
            **json_body(NewFeedback, {"good": {"run_id": RUN, "rating": 1, "reason": "Right page, right sentence."}}),
        },
    )
    async def rate(request: Request) -> Response:
        """Said again about the same run, the last counts."""
        asked = await read_json(request, NewFeedback, runtime.settings.max_body_bytes)
        who = principal(request)
        claim = claim_of(request, who, asked.model_dump_json().encode())
        try:
            stored, replayed = await store.put(who, asked.run_id, asked.rating, asked.reason or "", claim), {}
        except AlreadyMade as earlier:
            stored, replayed = await store.get(who, earlier.made), REPLAYED
        return reply(feedback_json(stored), 201, replayed)

    return router
