"""Is it there, and does it work: for supervisors, load balancers and people."""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from serving.auth import is_known
from serving.runtime import Runtime
from serving.wires.describe import PROBLEMS

OPTIONAL = frozenset({"model", "memory", "graph", "bus"})
"""Parts without which Parley still answers."""


class Health(BaseModel):
    """The process answers."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """Whether it can serve, and what is wrong with each part; null means nothing."""

    status: str = Field(examples=["ready"], description='"ready", "degraded" (works without the part) or "not ready".')
    parts: dict[str, str | None] = Field(examples=[{"data": None, "embedder": None, "model": "status 500"}])


def health_routes(runtime: Runtime) -> APIRouter:
    """`/healthz` and `/readyz`."""
    router = APIRouter(tags=["Health"])

    @router.get("/healthz", summary="Is the process alive", responses={200: {"model": Health}})
    async def healthz() -> Response:
        """Asks nothing else."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    @router.get(
        "/readyz",
        summary="Can it serve",
        responses={
            200: {"model": Readiness, "description": "It can; a server that is down is named in the body."},
            503: {"model": Readiness, "description": "The data folder or the embedder does not work."},
            500: PROBLEMS[500],
        },
    )
    async def readyz(request: Request) -> Response:
        """Tries the database and the embedder, and asks the servers that are set. What is wrong with a part is told
        to those who would be let in elsewhere; to others, that something is."""
        parts = await runtime.ready()
        if not is_known(request):
            parts = {part: trouble and "does not work" for part, trouble in parts.items()}
        wrong = {part for part, trouble in parts.items() if trouble}
        status = "ready" if not wrong else "degraded" if wrong <= OPTIONAL else "not ready"
        body = orjson.dumps({"status": status, "parts": parts})
        return Response(body, 200 if wrong <= OPTIONAL else 503, media_type="application/json")

    return router
