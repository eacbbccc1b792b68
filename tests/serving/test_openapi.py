"""The API's description: whole, shown to people, and kept to by every response."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import anyio
import jsonschema_rs
import pytest

from serving.job_runner import runner_of, working
from serving.runtime import Runtime
from tests.serving.api_client import client_of, opened
from tests.serving.served import served
from tools.types import JsonObject, JsonValue

pytestmark = pytest.mark.no_cover

OPEN = {"/healthz", "/readyz"}
PROBES = {
    "deterministic": ["--seed", "20261121"],
    "short": ["--phases", "examples,fuzzing,stateful", "--max-examples", "3", "--suppress-health-check", "all"],
    # a cursor that another page did not give, or a model that does not exist, fits the schema and is refused
    "checks": ["--exclude-checks", "positive_data_acceptance"],
    "plain": ["--no-color", "--continue-on-failure", "--request-timeout", "20"],
}


@pytest.fixture(scope="module")
async def runtime(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Runtime]:
    async with opened(tmp_path_factory.mktemp("described")) as runtime, working(runner_of(runtime)) as runner:
        runner.start()
        yield runtime


@pytest.fixture(scope="module")
async def description(anyio_backend: str, runtime: Runtime) -> JsonObject:
    return cast(JsonObject, (await client_of(runtime).get("/openapi.json")).json())


class Operation(NamedTuple):
    """One method of one path."""

    path: str
    method: str
    told: JsonObject

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def responses(self) -> dict[str, JsonObject]:
        return cast(dict[str, JsonObject], self.told["responses"])

    @property
    def body(self) -> dict[str, JsonObject]:
        return contents(cast(JsonObject, self.told.get("requestBody", {})))


def contents(of: JsonObject) -> dict[str, JsonObject]:
    return cast(dict[str, JsonObject], of.get("content", {}))


def operations(description: JsonObject) -> list[Operation]:
    paths = cast(dict[str, dict[str, JsonObject]], description["paths"])
    return [
        Operation(path, method.upper(), told) for path, methods in paths.items() for method, told in methods.items()
    ]


def examples(content: JsonObject) -> list[JsonValue]:
    named = cast(dict[str, JsonObject], content.get("examples", {}))
    return [content["example"]] if "example" in content else [example["value"] for example in named.values()]


def references(value: JsonValue) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(target := value.get("$ref"), str):
            yield target
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_no_request_breaks_the_server_and_no_response_is_undescribed(
    runtime: Runtime, description: JsonObject, tmp_path: Path
) -> None:
    await runtime.turns.warm()
    program = str(Path(sys.executable).with_name("schemathesis"))
    flags = [flag for flags in PROBES.values() for flag in flags]
    async with served(runtime) as url:
        process = await asyncio.create_subprocess_exec(
            program, "run", f"{url}/openapi.json", *flags, cwd=tmp_path, stdout=PIPE, stderr=STDOUT
        )
        with anyio.fail_after(300):
            said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    assert f"Tested: {len(operations(description))}\n" in said, said


def test_every_operation_says_what_it_does_and_who_may_ask(description: JsonObject) -> None:
    names: list[str] = []
    for operation in operations(description):
        names.append(str(operation.told["operationId"]))
        assert operation.told["summary"], operation.name
        assert operation.told["description"], operation.name
        assert operation.told["tags"], operation.name
        wanted: JsonValue = [] if operation.path in OPEN else [{"key": []}, {}]
        assert operation.told["security"] == wanted, operation.name
    assert len(names) == len(set(names))
    scheme = cast(dict[str, dict[str, JsonObject]], description["components"])["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_every_operation_tells_the_errors_that_it_can_answer(description: JsonObject) -> None:
    for operation in operations(description):
        told = set(operation.responses)
        wanted = {"403", "421", "431"}
        if operation.path not in OPEN:
            wanted |= {"401", "429", "500", "503"}
        if "{" in operation.path:
            wanted.add("404")
        if operation.body:
            wanted |= {"400", "413", "415"}
        parameters = {str(one["name"]): one for one in cast(list[JsonObject], operation.told.get("parameters", []))}
        if any(one["in"] == "query" for one in parameters.values()) or "Last-Event-ID" in parameters:
            wanted.add("400")
        if "Idempotency-Key" in parameters or operation.name in (
            "DELETE /api/threads/{thread_id}",
            "DELETE /api/runs/{run_id}",
            "DELETE /api/jobs/{job_id}",
        ):
            wanted.add("409")
        assert wanted <= told, (operation.name, wanted - told)
        assert "422" not in told, operation.name


def test_every_error_is_a_problem_or_of_openai_s_shape(description: JsonObject) -> None:
    for operation in operations(description):
        kind, model = (
            ("application/json", "OpenAIError")
            if operation.path.startswith("/v1")
            else ("application/problem+json", "Problem")
        )
        for status, response in operation.responses.items():
            if status[0] in "45" and operation.name != "GET /readyz":
                schema = cast(dict[str, JsonObject], contents(response)[kind])["schema"]
                assert schema["$ref"] == f"#/components/schemas/{model}", (operation.name, status)


def test_every_body_and_every_answer_has_an_example_that_fits_its_shape(description: JsonObject) -> None:
    for operation in operations(description):
        shown = [("body", operation.body), *((key, contents(one)) for key, one in operation.responses.items())]
        for place, kinds in shown:
            for kind, content in kinds.items():
                given = examples(content)
                assert given, (operation.name, place, kind)
                if "json" in kind:
                    schema = cast(JsonObject, content["schema"]) | {"components": description["components"]}
                    for example in given:
                        jsonschema_rs.validate(schema, example)


def test_every_reference_leads_somewhere_and_every_shape_is_used(description: JsonObject) -> None:
    shapes = cast(dict[str, dict[str, JsonObject]], description["components"])["schemas"]
    wanted = {target.rpartition("/")[2] for target in references(description)}
    assert wanted == set(shapes)


async def test_the_page_for_people_shows_parameters_examples_errors_and_access(
    runtime: Runtime, description: JsonObject
) -> None:
    page = (await client_of(runtime).get("/docs")).text
    sections = re.split(r"<h2>", page)
    for operation in operations(description):
        title = f"<b>{operation.method.lower()}</b> <code>{operation.path}</code></h2>"
        (section,) = [one for one in sections if one.startswith(title)]
        for parameter in cast(list[JsonObject], operation.told.get("parameters", [])):
            assert f"<th><code>{parameter['name']}</code></th>" in section, operation.name
        for status in operation.responses:
            assert f"<th>{status}</th>" in section, operation.name
        assert ("Open to everyone." in section) == (operation.path in OPEN)
        assert section.count("<details>") >= len(operation.body)
    assert "parley keys create" in page


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/api/threads", "GET, POST"),
        ("/api/threads/x", "DELETE, GET, PATCH"),
        ("/healthz", "GET"),
        ("/v1/models", "GET"),
    ],
)
async def test_a_method_that_is_not_known_is_told_those_that_are(runtime: Runtime, path: str, methods: str) -> None:
    response = await client_of(runtime).request("OPTIONS", path)
    assert response.status_code == 405
    assert response.headers["allow"] == methods
