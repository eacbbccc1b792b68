"""The HTTP application: all wires over one runtime, one description, one way to fail."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Lifespan

from serving.auth import Access
from serving.bus import Bus
from serving.docs_page import POLICY, docs_page
from serving.errors import handle_errors
from serving.guards import Guard
from serving.job_runner import runner_of, working
from serving.keys import Keys
from serving.limits import RateLimits
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from serving.wires.describe import Problem
from serving.wires.describe_access import SCHEMES, refusals, security
from serving.wires.documents import document_routes
from serving.wires.examples import fill
from serving.wires.feedback import NewFeedback, feedback_routes
from serving.wires.health import health_routes
from serving.wires.jobs import job_routes
from serving.wires.openai_chat import openai_routes
from serving.wires.openai_request import ChatRequest
from serving.wires.run_request import RunRequest
from serving.wires.runs import run_routes
from serving.wires.search import SearchRequest, search_routes
from serving.wires.threads import NewThread, ThreadChange, thread_routes

DESCRIPTION = """Chat over your own documents: streamed, cited answers, with or without a language model.

Any OpenAI client works with `base_url` set to `/v1` of this address, the model `parley` and an access key. While no
key was ever made, any will do on the machine itself."""

WIRES = (
    openai_routes,
    thread_routes,
    run_routes,
    feedback_routes,
    document_routes,
    job_routes,
    search_routes,
    health_routes,
)
BODIES: tuple[type[BaseModel], ...] = (
    ChatRequest, NewThread, ThreadChange, RunRequest, NewFeedback, SearchRequest, Problem,
)  # fmt: skip
"""Models that routes name by reference, since they read their bodies themselves."""
PAGE = {"Content-Security-Policy": POLICY}


def create_app(runtime: Runtime) -> FastAPI:
    """The application over open parts; whoever opened them closes them."""
    keys = Keys(runtime.database)
    app = _empty(runtime.settings, lambda: keys, lambda: runtime.bus)
    _add_wires(app, runtime)
    return app


def create_standalone(settings: Settings) -> FastAPI:
    """The application that opens its own parts when the server starts, and closes them when it ends."""
    keys: list[Keys] = []
    buses: list[Bus] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_runtime(settings) as runtime, working(runner_of(runtime)) as runner:
            keys.append(Keys(runtime.database))
            buses.append(runtime.bus)
            _add_wires(app, runtime)
            runner.start()
            await runtime.turns.take_up()
            yield

    return _empty(settings, lambda: keys[0], lambda: buses[0], lifespan)


def _empty(
    settings: Settings, keys: Callable[[], Keys], bus: Callable[[], Bus], lifespan: Lifespan[FastAPI] | None = None
) -> FastAPI:
    app = FastAPI(
        title="Parley",
        version=version("parley"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    limits = RateLimits(settings.rate_per_minute, bus) if settings.rate_per_minute else None
    app.add_middleware(Access, keys=keys, limits=limits)
    handle_errors(app)
    app.add_middleware(Guard, settings=settings)  # the outermost is added last
    return app


def _add_wires(app: FastAPI, runtime: Runtime) -> None:
    for routes in WIRES:
        app.include_router(routes(runtime))

    def describe() -> dict[str, object]:
        if not app.openapi_schema:
            app.openapi_schema = _description(app)
        return app.openapi_schema

    async def docs(_: Request) -> Response:
        return HTMLResponse(docs_page(orjson.loads(orjson.dumps(app.openapi()))), headers=PAGE)

    async def root(_: Request) -> Response:
        return RedirectResponse("/docs")

    app.openapi = describe
    app.add_route("/docs", docs)
    app.add_route("/", root)


def _description(app: FastAPI) -> dict[str, object]:
    description = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )  # fmt: skip
    _, bodies = models_json_schema(
        [(model, "validation") for model in BODIES], ref_template="#/components/schemas/{model}"
    )
    shapes = description["components"]["schemas"]
    shapes |= bodies["$defs"]
    description["components"]["securitySchemes"] = SCHEMES
    for path, methods in description["paths"].items():
        for operation in methods.values():
            responses = operation["responses"]
            responses.pop("422", None)  # FastAPI's own; here a wrong parameter is a 400 like a wrong body
            for response in responses.values():
                kinds = response.get("content", {})
                if len(kinds) > 1 and kinds.get("application/json", {}).get("schema") == {}:
                    del kinds["application/json"]  # FastAPI's guess for what only streams
            operation["responses"] = dict(sorted((refusals(path) | responses).items()))
            operation["security"] = security(path)
            fill(operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        shapes.pop(unused, None)
    return description
