"""From the database to what the knowledge layer keeps in it."""

from __future__ import annotations

from dataclasses import dataclass

from knowledge import embedded_graph, neo4j_url, sql_catalog
from knowledge.catalog import Catalog
from knowledge.graph import KnowledgeGraph
from memory.sqlite import Database

SCHEMAS = (embedded_graph.SCHEMA, sql_catalog.SCHEMA)
"""DDL that the database must be opened with."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The stores of the knowledge layer."""

    graph: KnowledgeGraph
    catalog: Catalog


def open_graph(url: str, database: Database | None) -> KnowledgeGraph:
    """The graph that the URL names: "" or "embedded" is the one in the SQLite file, opened with SCHEMAS; a URL as
    `knowledge.neo4j_url.FORM` says is a Neo4j server, asked on first use. `database` is for the first only.

    Raises:
        ValueError: nothing of that name is known (the message says what is), or the embedded one has no database.
    """
    if url in ("", "embedded"):
        if database is None:
            raise ValueError("the embedded graph lies in the SQLite file: give that, or the URL of a Neo4j server")
        return embedded_graph.EmbeddedGraph(database)
    if url.partition("://")[0] in neo4j_url.SCHEMES:
        from knowledge.neo4j_graph import Neo4jGraph  # a Parley without Neo4j does not import its driver

        return Neo4jGraph(url)
    raise ValueError(f'unknown graph: allowed is "embedded" (or empty, which means the same), or {neo4j_url.FORM}')


def open_knowledge(database: Database) -> Knowledge:
    """The embedded graph and catalog in the one SQLite file, opened with SCHEMAS."""
    return Knowledge(embedded_graph.EmbeddedGraph(database), sql_catalog.SqlCatalog(database))
