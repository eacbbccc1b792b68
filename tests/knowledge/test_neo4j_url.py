"""The URL of a Neo4j server, and what is known of it without asking the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from knowledge.graph import GraphUnavailable
from knowledge.neo4j_url import Neo4jAddress, parse_url
from knowledge.open import open_graph


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("neo4j://ann:pw@graph:7000", Neo4jAddress("neo4j://graph:7000", "graph:7000", "ann", "pw", None)),
        ("neo4j+s://ann:pw@graph", Neo4jAddress("neo4j+s://graph:7687", "graph:7687", "ann", "pw", None)),
        ("neo4j+ssc://a:b@h:1/docs", Neo4jAddress("neo4j+ssc://h:1", "h:1", "a", "b", "docs")),
        ("bolt://a%40b:p%3A%2Fw%25@h:1/", Neo4jAddress("bolt://h:1", "h:1", "a@b", "p:/w%", None)),
        ("bolt+s://a:b@[::1]:7", Neo4jAddress("bolt+s://[::1]:7", "[::1]:7", "a", "b", None)),
        ("bolt+ssc://h", Neo4jAddress("bolt+ssc://h:7687", "h:7687", "", "", None)),
        ("neo4j://a:b@h:1?policy=eu", Neo4jAddress("neo4j://h:1?policy=eu", "h:1", "a", "b", None)),
    ],
)
def test_every_form_of_url_is_understood(url: str, address: Neo4jAddress) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "neo4j://", "neo4j://:hush@h:1", "neo4j://hush@h:1", "neo4j://a:hush@h:port", "neo4j://a:hush@h:99999",
        "neo4j://a:hush@", "neo4j://a:hush@h:1/db/more", "neo4j://a:hush@h#x", "bolt://a:hush@h?policy=eu",
        "neo4j://a:hush@[h:1", "http://a:hush@h", "neo4j:a:hush@h",
    ],
)  # fmt: skip
def test_a_url_of_another_form_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="neo4j://user:password@host:port") as refused:
        parse_url(url)
    assert "hush" not in str(refused.value)
    with pytest.raises(ValueError, match="neo4j://user:password@host:port") as refused:
        open_graph(url, None)
    assert "hush" not in str(refused.value)


def test_the_password_is_not_in_what_a_debugger_shows() -> None:
    assert "hush" not in repr(parse_url("neo4j://ann:hush@graph"))


def test_the_embedded_graph_wants_its_database() -> None:
    with pytest.raises(ValueError, match="SQLite file"):
        open_graph("", None)


async def test_a_graph_that_was_closed_says_so_and_one_that_was_never_used_can_be_closed() -> None:
    graph = open_graph("neo4j://ann:pw@127.0.0.1:1", None)
    await graph.close()
    await graph.close()
    with pytest.raises(GraphUnavailable, match="closed"):
        await graph.titles("t", ["a"])


def test_embedded_defaults_do_not_import_the_driver() -> None:
    code = "import sys, knowledge.open; print('neo4j' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True, text=True)
    assert said.stdout.strip() == "False"
