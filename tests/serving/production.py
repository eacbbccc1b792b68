# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""A Parley on the shared servers, and what of a document each of them still holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, urlsplit

import neo4j
import psycopg
import redis
import weaviate
from psycopg import sql
from weaviate.classes.init import Auth

from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from tests.services.found import service
from tests.services.own_database import own_database

SERVERS = ("postgres", "weaviate", "neo4j", "redis")


@contextmanager
def addresses() -> Generator[dict[str, str]]:
    """The lines of `.services/env` with a database of the test's own."""
    urls = {line: url for name in SERVERS for line, url in service(name).items()}
    with own_database() as own:
        yield {**urls, **own}


def settings_of(folder: Path, urls: Mapping[str, str]) -> Settings:
    """The settings that those lines stand for."""
    return Settings(
        data_dir=folder,
        memory_url=urls["PARLEY_MEMORY_URL"],
        knowledge_url=urls["PARLEY_KNOWLEDGE_URL"],
        database_url=urls["PARLEY_DATABASE_URL"],
        database_owner_url=urls["PARLEY_DATABASE_OWNER_URL"],
        redis_url=urls["PARLEY_REDIS_URL"],
        rate_per_minute=0,
    )


@asynccontextmanager
async def on_servers(folder: Path) -> AsyncGenerator[tuple[Runtime, dict[str, str]]]:
    """An open runtime, and the addresses of its servers."""
    with addresses() as urls:
        async with open_runtime(settings_of(folder, urls)) as runtime:
            yield runtime, urls


def holders(urls: Mapping[str, str], text: str) -> list[str]:
    """Everything in the servers that holds a text: each object, node, edge, row and key is read."""
    return [
        *_in_weaviate(urls["PARLEY_MEMORY_URL"], text),
        *_in_neo4j(urls["PARLEY_KNOWLEDGE_URL"], text),
        *_in_postgres(urls["PARLEY_DATABASE_OWNER_URL"], text),
        *_in_redis(urls["PARLEY_REDIS_URL"], text),
    ]


def _in_weaviate(url: str, text: str) -> Iterator[str]:
    parts = urlsplit(url)
    client = weaviate.connect_to_local(
        host=parts.hostname or "", port=parts.port or 0, grpc_port=int(parse_qs(parts.query)["grpc"][0]),
        auth_credentials=Auth.api_key(parts.password or ""),
    )  # fmt: skip
    with client:
        for name, config in client.collections.list_all(simple=False).items():
            whole = client.collections.use(name)
            is_shared = config.multi_tenancy_config.enabled
            rooms = [whole.with_tenant(tenant) for tenant in whole.tenants.get()] if is_shared else [whole]
            for room in rooms:
                for found in room.iterator():
                    if text in str(found.properties):
                        yield f"weaviate {name} {found.uuid}"


def _in_neo4j(url: str, text: str) -> Iterator[str]:
    parts = urlsplit(url)
    with neo4j.GraphDatabase.driver(
        f"{parts.scheme}://{parts.hostname}:{parts.port}", auth=(parts.username or "", parts.password or "")
    ) as driver:
        for query in ("MATCH (n) RETURN labels(n)[0], properties(n)", "MATCH ()-[r]->() RETURN type(r), properties(r)"):
            rows, _, _ = driver.execute_query(query)
            yield from (f"neo4j {row[0]}" for row in rows if text in str(row[1]))


def _in_postgres(url: str, text: str) -> Iterator[str]:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("SELECT set_config('parley.tenant', 'every', false)")
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, table in tables:
            query = sql.SQL("SELECT count(*) FROM {} x WHERE x::text LIKE {}").format(
                sql.Identifier(schema, table), sql.Literal(f"%{text}%")
            )
            (count,) = connection.execute(query).fetchall()[0]
            if count:
                yield f"postgres {schema}.{table}: {count}"


def _in_redis(url: str, text: str) -> Iterator[str]:
    with redis.Redis.from_url(url) as client:
        for key in cast(list[bytes], client.keys()):
            kind = cast(bytes, client.type(key))
            read = {b"string": client.get, b"stream": client.xrange, b"hash": client.hgetall}.get(kind)
            held = read(key) if read is not None else kind
            if text in f"{key!r} {held!r}":
                yield f"redis {key!r}"
