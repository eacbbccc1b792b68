"""The contract of Catalog: documents by id and by path, for every implementation."""

from __future__ import annotations

from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest
from anyio import fail_after

from knowledge.catalog import Catalog
from knowledge.graph import GraphUnavailable
from knowledge.sql_catalog import SqlCatalog
from knowledge.types import Document
from memory.postgres import PostgresDatabase
from memory.sql import SqlDatabase
from serving.migrations import postgres as migrations
from tests.databases import database, postgres_made, postgres_urls
from tests.services.private import private

__all__ = ["database", "postgres_made", "postgres_urls"]

GUIDE = Document(
    "d1", "t", "/docs/guide.md", "Guide", "abc", 10, 2, "2026-11-21T10:00:00Z", "https://example.org/guide"
)


@pytest.fixture
def catalog(database: SqlDatabase) -> Catalog:
    return SqlCatalog(database)


async def test_a_document_is_found_by_path_and_by_id(catalog: Catalog) -> None:
    await catalog.put(GUIDE)
    assert await catalog.at("t", "/docs/guide.md") == GUIDE
    assert await catalog.get("t", ["d1", "d2", "\ud800"]) == {"d1": GUIDE}
    assert await catalog.at("t", "/docs") is None


async def test_putting_again_replaces(catalog: Catalog) -> None:
    await catalog.put(GUIDE)
    newer = replace(GUIDE, sha256="def", passages=3)
    await catalog.put(newer)
    assert await catalog.below("t", "") == [newer]


async def test_below_goes_by_whole_folder_names(catalog: Catalog) -> None:
    for number, path in enumerate(["/docs/b.md", "/docs/a/x.md", "/docs2/c.md", "/docs"]):
        await catalog.put(replace(GUIDE, id=str(number), path=path))
    assert [document.path for document in await catalog.below("t", "/docs")] == ["/docs/a/x.md", "/docs/b.md"]
    assert [document.path for document in await catalog.below("t", "/docs/")] == ["/docs/a/x.md", "/docs/b.md"]
    assert len(await catalog.below("t", "")) == 4
    assert len(await catalog.below("t", "/")) == 4


async def test_documents_come_page_by_page_in_the_order_of_their_paths(catalog: Catalog) -> None:
    for number, path in enumerate(["b.md", "a.md", "/docs/c.md", "é.md"]):
        await catalog.put(replace(GUIDE, id=str(number), path=path))
    await catalog.put(replace(GUIDE, tenant="u"))
    first = await catalog.after("t", "", 2)
    assert [document.path for document in first] == ["/docs/c.md", "a.md"]
    assert [document.path for document in await catalog.after("t", "a.md", 9)] == ["b.md", "é.md"]
    assert await catalog.after("t", "é.md", 2) == []


async def test_a_removed_document_is_gone_and_removing_none_is_no_error(catalog: Catalog) -> None:
    await catalog.put(GUIDE)
    await catalog.remove("t", "d1")
    await catalog.remove("t", "d1")
    assert await catalog.below("t", "") == []


async def test_a_tenant_never_sees_the_documents_of_another(catalog: Catalog) -> None:
    await catalog.put(GUIDE)
    await catalog.begin("t", "/docs/new.md", "d9")
    assert await catalog.at("u", GUIDE.path) is None
    assert await catalog.get("u", ["d1"]) == {}
    assert await catalog.below("u", "") == []
    assert await catalog.begun("u", "") == {}
    await catalog.remove("u", "d1")
    assert await catalog.at("t", GUIDE.path) == GUIDE


async def test_what_was_begun_is_listed_until_it_is_put_or_removed(catalog: Catalog) -> None:
    for id, path in (("d1", GUIDE.path), ("d2", "/docs/other.md"), ("d3", "/else/x.md")):
        await catalog.begin("t", path, id)
    await catalog.begin("t", GUIDE.path, "d1")
    assert await catalog.begun("t", "/docs") == {GUIDE.path: "d1", "/docs/other.md": "d2"}
    await catalog.put(GUIDE)
    await catalog.remove("t", "d2")
    assert await catalog.begun("t", "") == {"/else/x.md": "d3"}


async def test_text_that_is_no_utf8_comes_back_as_it_was(catalog: Catalog) -> None:
    odd = replace(GUIDE, path="/docs/\udce9.md", title="caf\udce9")
    await catalog.put(odd)
    assert await catalog.at("t", odd.path) == odd


async def test_a_catalog_whose_database_is_gone_says_so(catalog: Catalog, database: SqlDatabase) -> None:
    await database.close()
    with pytest.raises(GraphUnavailable, match="closed"):
        await catalog.put(GUIDE)
    with pytest.raises(GraphUnavailable):
        await catalog.begin("t", "/x", "d")
    with pytest.raises(GraphUnavailable):
        await catalog.remove("t", "d1")
    with pytest.raises(GraphUnavailable):
        await catalog.at("t", "/x")
    with pytest.raises(GraphUnavailable):
        await catalog.begun("t", "")


async def test_writers_of_one_path_at_once_leave_one_document(catalog: Catalog) -> None:
    versions = [replace(GUIDE, sha256=str(number)) for number in range(50)]
    async with anyio.create_task_group() as tasks:
        for version in versions:
            tasks.start_soon(catalog.put, version)
    (left,) = await catalog.below("t", "")
    assert left in versions


async def test_a_document_that_moves_takes_its_id_with_it(catalog: Catalog) -> None:
    await catalog.put(GUIDE)
    moved = replace(GUIDE, path="/docs/moved.md")
    await catalog.put(moved)
    assert await catalog.below("t", "") == [moved]


async def test_a_writer_that_is_cancelled_leaves_the_old_or_the_new(catalog: Catalog) -> None:
    await catalog.put(GUIDE)
    newer = replace(GUIDE, sha256="new")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(catalog.put, newer)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert await catalog.at("t", GUIDE.path) in (GUIDE, newer)
    await catalog.put(newer)
    assert await catalog.at("t", GUIDE.path) == newer


async def test_ten_thousand_documents_come_page_by_page(catalog: Catalog, database: SqlDatabase) -> None:
    made = [replace(GUIDE, id=f"{number:05}", path=f"/docs/{number:05}.md") for number in range(10_000)]
    rows = [(one.tenant, one.path, one.id, one.title, one.sha256, one.bytes, one.passages, one.updated_at, one.url)
            for one in made]  # fmt: skip
    columns = "tenant, path, id, title, sha256, bytes, passages, updated_at, url"
    sql = f"INSERT INTO documents ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    await database.write(lambda connection: connection.executemany(sql, rows) and None)
    found: list[Document] = []
    while page := await catalog.after("t", found[-1].path if found else "", 3_000):
        found += page
    assert found == made
    assert len(await catalog.get("t", [document.id for document in made])) == len(made)


async def test_a_server_that_is_away_is_told_of_and_found_again() -> None:
    async with private("postgres") as (urls, server):
        await migrations.prepare(urls["PARLEY_DATABASE_OWNER_URL"], urls["PARLEY_DATABASE_URL"])
        database = await PostgresDatabase.open(urls["PARLEY_DATABASE_URL"], migrations.REVISION)
        catalog = SqlCatalog(database)
        await catalog.put(GUIDE)
        await server.kill()
        with pytest.raises(GraphUnavailable):
            await catalog.put(replace(GUIDE, id="d2", path="/docs/two.md"))
        with pytest.raises(GraphUnavailable):
            await catalog.at("t", GUIDE.path)
        await server.start()
        with fail_after(30):
            while await found(catalog) is None:
                pass
        assert await found(catalog) == GUIDE
        await database.close()


async def found(catalog: Catalog) -> Document | None:
    """The document, None while the server is away."""
    try:
        return await catalog.at("t", GUIDE.path)
    except GraphUnavailable:
        return None
