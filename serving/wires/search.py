"""Search over HTTP: the passages that fit a query, with the parts of each score."""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from serving.auth import principal
from serving.errors import ApiError
from serving.hits import hit
from serving.runtime import Runtime
from serving.sse import Attended
from serving.wires.body import json_body, read_json
from serving.wires.describe import PROBLEMS


class SearchRequest(BaseModel):
    """A query in words; names and whole questions both work."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    query: str = Field(max_length=4_000, json_schema_extra={"minLength": 1, "pattern": r"\S"})
    limit: int = Field(default=10, ge=1, le=50)


class SearchHit(BaseModel):
    """One passage."""

    document: str = Field(description="Id of its document.")
    title: str
    path: str
    text: str
    page: int | None
    heading: str = Field(description="Heading path, joined by ` > `.")
    start: int = Field(description="Where the passage starts in the document's parsed text, in characters.")
    end: int
    score: float
    parts: dict[str, float] = Field(description="What the score was made from, by name.")


class SearchResponse(BaseModel):
    """The hits, best first."""

    hits: list[SearchHit]


def search_routes(runtime: Runtime) -> APIRouter:
    """`/api/search`."""
    router = APIRouter(prefix="/api", tags=["Knowledge"])

    @router.post(
        "/search",
        summary="Search the documents",
        responses={200: {"model": SearchResponse}, **PROBLEMS},
        openapi_extra=json_body(SearchRequest, {"search": {"query": "start the server", "limit": 5}}),
    )
    async def search(request: Request) -> Response:
        """By words and by meaning at once. No hit is an empty list."""
        asked = await read_json(request, SearchRequest, runtime.settings.max_body_bytes)
        if not asked.query.strip():
            raise ApiError(400, "the query is empty", param="query")

        async def work() -> Response:
            found = await runtime.search(principal(request), asked.query, asked.limit)
            return Response(orjson.dumps({"hits": [hit(one) for one in found]}), media_type="application/json")

        return Attended(work())

    return router
