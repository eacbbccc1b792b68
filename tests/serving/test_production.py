"""Parley on Postgres, Weaviate, Neo4j and Redis: the same answers as from the one file, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest
from anyio import fail_after

from knowledge.types import Document
from memory.sql import acting_for
from serving.api import create_app
from serving.job_runner import runner_of, working
from serving.keys import Keys
from serving.principal import Principal
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from tests.faults import FaultProxy
from tests.serving.production import addresses, holders, on_servers, settings_of
from tests.serving.test_tenants import leaks, made_document, peopled

pytestmark = pytest.mark.no_cover

PAPERS = {
    "mill.md": "# Old Mill\n\nThe Old Mill was built by Tomas Reed in 1871. It was closed in 1954.",
    "reed.md": "# Tomas Reed\n\nTomas Reed was a builder. He was born in Weston in 1839 and learned from Ida Marsh.",
    "marsh.md": "# Ida Marsh\n\nIda Marsh drew bridges. She lived in Harbour Street and died in Norwick.",
    "weston.md": "# Weston\n\nWeston is a town with two churches and a ferry. The ferry costs 3 crowns.",
    "norwick.md": "# Norwick\n\nNorwick has a library, which opens at nine. It is closed on Mondays.",
    "pump.md": "# Pump P-4711\n\n## Oil\n\nThe pump takes 2.5 litres of oil.\n\n## Filter\n\nChange the filter yearly.",
    "fees.csv": "Service,Fee\nBerth,40 crowns\nCrane,75 crowns\nWater,6 crowns\n",
}
QUESTIONS = (
    "Who built the Old Mill?", "When was the Old Mill closed?", "Where was the builder of the Old Mill born?",
    "Where did Ida Marsh die?", "How much oil does the pump P-4711 take?", "What does the crane cost?",
    "When does the library of Norwick open?", "What is the fee for a berth?", "Who invented the telephone?",
)  # fmt: skip


class Told(NamedTuple):
    """An answer, and title and words of what it cites."""

    content: str
    cited: list[tuple[str, str]]


@dataclass(frozen=True)
class Side:
    """One Parley, and one tenant in it."""

    runtime: Runtime
    tenant: str
    client: httpx.AsyncClient

    async def take(self, folder: Path) -> None:
        with acting_for(self.tenant):
            report = await self.runtime.ingest.paths(self.tenant, [str(folder)])
        assert report.failed == []

    async def documents(self) -> list[Document]:
        return await self.runtime.catalog.below(self.tenant, "")

    async def run(self, question: str) -> httpx.Response:
        """A run in a conversation of its own."""
        thread = await self.client.post("/api/threads", json={})
        if thread.status_code != 201:
            return thread
        body = {"messages": [{"role": "user", "content": question}]}
        return await self.client.post(f"/api/threads/{thread.json()['id']}/runs", json=body)

    async def ask(self, question: str) -> Told:
        ran = await self.run(question)
        assert ran.status_code == 200, ran.text
        told = ran.json()
        assert told["status"] == "finished", ran.text
        return Told(str(told["answer"]), [(str(one["title"]), str(one["quote"])) for one in told["citations"]])

    async def hits(self, question: str) -> list[tuple[str, str]]:
        found = await self.client.post("/api/search", json={"query": question, "limit": 4})
        return [(Path(hit["path"]).name, str(hit["text"])) for hit in found.json()["hits"]]


@asynccontextmanager
async def side(runtime: Runtime) -> AsyncGenerator[Side]:
    tenant = f"t{secrets.token_hex(6)}"
    _, key = await Keys(runtime.database).create(Principal(tenant, "ann", "admin"), None)
    transport = httpx.ASGITransport(create_app(runtime))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", headers=headers) as client:
        made = Side(runtime, tenant, client)
        try:
            yield made
        finally:
            for document in await made.documents():
                await runtime.ingest.remove(tenant, document.id)


@pytest.fixture(scope="module")
async def production(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[tuple[Runtime, dict[str, str]]]:
    async with on_servers(tmp_path_factory.mktemp("production")) as opened:
        yield opened


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    for name, text in PAPERS.items():
        (folder / name).write_text(text)
    return folder


async def test_servers_find_the_same_evidence_as_the_one_file(
    production: tuple[Runtime, dict[str, str]], papers: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    async with open_runtime(Settings(data_dir=data)) as embedded, side(embedded) as one, side(production[0]) as other:
        for each in (one, other):
            await each.take(papers)
        for question in QUESTIONS:
            assert await one.ask(question) == await other.ask(question), question
            assert await one.hits(question) == await other.hits(question), question
        cited = [bool((await one.ask(question)).cited) for question in QUESTIONS]
        assert cited == [True] * (len(QUESTIONS) - 1) + [False]


async def test_nothing_of_a_removed_document_is_left_on_any_server(
    production: tuple[Runtime, dict[str, str]], papers: Path
) -> None:
    runtime, urls = production
    async with side(runtime) as one:
        await one.take(papers)
        (mill,) = [document for document in await one.documents() if document.path.endswith("mill.md")]
        held = {found.split()[0] for found in holders(urls, mill.id)}
        assert held == {"weaviate", "neo4j", "postgres"}
        assert await runtime.ingest.remove(one.tenant, mill.id)
        assert holders(urls, mill.id) == []
        assert "in 1871" not in (await one.ask(QUESTIONS[0])).content
        assert "mill.md" not in {name for name, _ in await one.hits(QUESTIONS[0])}
        others = [document.id for document in await one.documents()]
        for id in others:
            await runtime.ingest.remove(one.tenant, id)
        assert [found for id in others for found in holders(urls, id)] == []


async def test_no_route_shows_what_is_another_tenants_on_servers(
    production: tuple[Runtime, dict[str, str]],
) -> None:
    runtime, _ = production
    async with working(runner_of(runtime)) as runner, peopled(runtime, f"-{secrets.token_hex(4)}") as world:
        runner.start()
        await made_document(world)
        assert await leaks(world) == []


DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""
LINES = {
    "weaviate": "PARLEY_MEMORY_URL", "neo4j": "PARLEY_KNOWLEDGE_URL", "redis": "PARLEY_REDIS_URL",
    "postgres": "PARLEY_DATABASE_URL",
}  # fmt: skip


@pytest.mark.parametrize("name", ["weaviate", "neo4j", "redis", "postgres"])
async def test_a_server_that_goes_away_costs_a_part_of_the_answer_and_comes_back_by_itself(
    name: str, papers: Path, tmp_path: Path
) -> None:
    with addresses() as urls:
        async with cuttable(urls, LINES[name]) as (through, cut):
            data = tmp_path / "data"
            data.mkdir()
            async with open_runtime(settings_of(data, through)) as runtime, side(runtime) as one:
                await one.take(papers)
                before = await one.ask(QUESTIONS[0])
                cut(True)
                for _ in range(3):
                    answered = await one.run(QUESTIONS[0])
                    if name == "postgres":
                        assert (answered.status_code, answered.headers["retry-after"]) == (503, "5")
                    else:
                        assert answered.status_code == 200, answered.text
                ready = await one.client.get("/readyz")
                cut(False)
                part = {"weaviate": "memory", "neo4j": "graph", "redis": "bus", "postgres": "data"}[name]
                assert ready.json()["parts"][part]
                with fail_after(DEADLINE):
                    while (await one.client.get("/readyz")).json()["status"] != "ready":
                        pass
                assert await one.ask(QUESTIONS[0]) == before


@asynccontextmanager
async def cuttable(urls: dict[str, str], line: str) -> AsyncGenerator[tuple[dict[str, str], Callable[[bool], None]]]:
    """The addresses with a proxy on each port of one server, and what cuts it off."""
    host, url = "127.0.0.1", urls[line]
    async with AsyncExitStack() as stack:
        proxies: list[FaultProxy] = []
        for port in re.findall(r"(?<=:)\d+(?=[/?]|$)|(?<=grpc=)\d+", url):
            proxies.append(await stack.enter_async_context(FaultProxy(host, int(port))))
            url = re.sub(rf"(?<=[:=]){port}\b", str(proxies[-1].port), url, count=1)

        def cut(off: bool) -> None:
            for proxy in proxies:
                proxy.refuse(off)
                if off:
                    proxy.reset()

        yield {**urls, line: url}, cut


def test_the_doctor_names_each_server_and_the_one_that_does_not_work(tmp_path: Path) -> None:
    def doctor(urls: dict[str, str]) -> dict[str, tuple[str, str]]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
        environment |= {**urls, "PARLEY_DATA_DIR": str(tmp_path / "data")}
        command = [str(Path(sys.executable).with_name("parley")), "doctor", "--json"]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        secret = [urlsplit(url).password or "" for url in urls.values()]
        assert not [word for word in secret if word in ended.stdout + ended.stderr]
        checks: list[dict[str, str]] = json.loads(ended.stdout)["checks"]
        return {check["name"]: (check["trouble"], check["detail"]) for check in checks}

    with addresses() as urls:
        well = doctor(urls)
        assert {name: well[name][0] for name in ("data", "memory", "graph", "bus")} == dict.fromkeys(
            ("data", "memory", "graph", "bus"), ""
        )
        ports = {urls[line]: str(urlsplit(urls[line]).port) for line in LINES.values()}
        gone = {
            line: urls[line].replace(f":{ports[urls[line]]}", ":1", 1)
            for line in LINES.values()
            if line != LINES["postgres"]
        }
        wrong = doctor({**urls, **gone})
        assert [bool(wrong[name][0]) for name in ("data", "memory", "graph", "bus")] == [False, True, True, True]
