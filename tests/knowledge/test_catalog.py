"""The contract of Catalog: documents by id and by path, for every implementation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from knowledge.catalog import Catalog
from knowledge.graph import GraphUnavailable
from knowledge.sql_catalog import SqlCatalog
from knowledge.types import Document
from memory.sql import SqlDatabase
from tests.databases import database, postgres_made, postgres_urls

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
