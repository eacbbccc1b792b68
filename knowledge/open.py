"""From the database to what the knowledge layer keeps in it."""

from __future__ import annotations

from dataclasses import dataclass

from knowledge import embedded_graph, sql_catalog
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


def open_knowledge(database: Database) -> Knowledge:
    """The embedded graph and catalog in the one SQLite file, opened with SCHEMAS."""
    return Knowledge(embedded_graph.EmbeddedGraph(database), sql_catalog.SqlCatalog(database))
