"""All Cypher is constant, of one tenant, and takes the tenant's lock before it writes: read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from knowledge import neo4j_statements

ROOT = Path(__file__).resolve().parents[2]
STATEMENTS = Path(neo4j_statements.__file__)
DOOR = ROOT / "knowledge" / "neo4j_graph.py"
LOCK = "MERGE (lock:WriteLock {stripe: $stripe}) SET lock.held = timestamp() WITH lock"
OF_A_TENANT = {"Passage", "Surface"}
OF_ALL = {"WriteLock", "SchemaVersion"}
"""Nodes that tell nothing of any tenant."""
WRITES = re.compile(r"\b(?:CREATE|MERGE|SET|DELETE|REMOVE|FOREACH)\b")
NODE = re.compile(r"\(\s*(\w*)\s*(?::\s*(\w+)\s*)?(\{[^}]*\})?\s*\)")


def constants() -> dict[str, str]:
    """Every constant of the module that is text or holds texts, each text under a name of its own."""
    found = {name: value for name, value in vars(neo4j_statements).items() if name.isupper() and isinstance(value, str)}
    for number, step in enumerate(neo4j_statements.MIGRATIONS, start=1):
        found |= {f"migration {number}.{at}": statement for at, statement in enumerate(step)}
    return found


DATA = {name: text for name, text in constants().items() if any(f":{label}" in text for label in OF_A_TENANT)
        and not name.startswith("migration")}  # fmt: skip


def clauses(text: str) -> Iterator[str]:
    """The patterns of MATCH, MERGE and CREATE, up to the next clause."""
    stop = r"(?=\b(?:MATCH|OPTIONAL|MERGE|CREATE|SET|WITH|WHERE|RETURN|UNWIND|CALL|DETACH|DELETE|ORDER)\b|\}\s*$|$)"
    yield from re.findall(rf"\b(?:MATCH|MERGE|CREATE)\b(.*?){stop}", text, re.DOTALL)


def test_the_module_holds_plain_texts_only() -> None:
    for node in ast.parse(STATEMENTS.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign):
            assert node.value is not None
            made = [type(each).__name__ for each in ast.walk(node.value)]
            assert set(made) <= {"Constant", "Tuple", "Load"}, ast.unparse(node.target)
        else:
            assert isinstance(node, ast.ImportFrom) or (
                isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            )


def test_what_reaches_the_driver_is_a_constant_of_that_module() -> None:
    """Directly, or by a parameter that the type checker holds to literal texts."""
    tree = ast.parse(DOOR.read_text(encoding="utf-8"))
    asked = 0
    for function in ast.walk(tree):
        if not isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef):
            continue
        literal = {
            each.arg for each in function.args.args
            if each.annotation is not None and ast.unparse(each.annotation) == "LiteralString"
        }  # fmt: skip
        steps = {
            ast.unparse(each.target) for each in ast.walk(function)
            if isinstance(each, ast.For) and ast.unparse(each.iter) in ("step", "cypher.MIGRATIONS[version:]")
        }  # fmt: skip
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in (
                "run", "execute_query", "Query", "_ask", "_read",
            ):  # fmt: skip
                given = call.args[1] if ast.unparse(call.func).endswith("_ask") else call.args[0]
                text = ast.unparse(given)
                if isinstance(given, ast.Call) and ast.unparse(given.func) == "Query":
                    continue  # looked at by itself
                assert text in literal or text in steps or re.fullmatch(r"cypher\.[A-Z_]+", text), text
                asked += 1
    assert asked > 10


def test_no_other_file_of_the_product_speaks_cypher() -> None:
    speaking = [
        file.name
        for package in ("agents", "graphs", "knowledge", "memory", "serving", "tools")
        for file in (ROOT / package).rglob("*.py")
        if file not in (STATEMENTS,) and re.search(r"\b(?:MATCH|MERGE|CREATE)\s*\(\w*:\w", file.read_text("utf-8"))
    ]
    assert speaking == []


@pytest.mark.parametrize("name", DATA)
def test_every_pattern_is_of_the_tenant(name: str) -> None:
    text = DATA[name]
    for _, label, properties in NODE.findall(text):
        if label in OF_A_TENANT:
            assert re.match(r"\{tenant: \$tenant\b", properties), f"{label} without its tenant"
        elif label:
            assert label in OF_ALL
    for pattern in clauses(text):
        for variable, label, _ in NODE.findall(pattern):
            known = (
                re.search(rf"\(\s*{variable}:(?:Passage|Surface|WriteLock)\b", text) or f"node AS {variable}" in text
            )
            assert label or (variable and known), f"a node of any tenant in {pattern.strip()}"
    for bare in re.findall(r"(?:EXISTS|COUNT) \{ \((\w+)\)<-\[:\w+\]-\(\) \}", text):
        assert re.search(rf"\({bare}:Surface \{{tenant: \$tenant|collect\(DISTINCT {bare}\)|collect\({bare}\)", text)


@pytest.mark.parametrize("name", [name for name, text in DATA.items() if "queryNodes" in text])
def test_what_a_full_text_search_finds_is_held_to_the_tenant(name: str) -> None:
    found = re.findall(r"queryNodes\([^)]*\) YIELD node AS p\s+WHERE p\.tenant = \$tenant AND", DATA[name])
    assert len(found) == DATA[name].count("queryNodes")


@pytest.mark.parametrize("name", [name for name, text in DATA.items() if WRITES.search(text)])
def test_what_writes_takes_the_lock_first(name: str) -> None:
    assert DATA[name].strip().startswith(LOCK)


@pytest.mark.parametrize("name", [name for name, text in DATA.items() if not text.strip().startswith("MERGE")])
def test_the_others_write_nothing(name: str) -> None:
    assert not WRITES.search(DATA[name])


@pytest.mark.parametrize("name", ["TITLE", "ADD"])
def test_every_edge_says_where_it_comes_from(name: str) -> None:
    text = DATA[name]
    edges = re.findall(r"MERGE \(p\)-\[(\w):\w+ \{passage: [\w.]+\}\]->\(s\)\s+SET (.*)", text)
    assert len(edges) == len(re.findall(r"MERGE \(p\)-", text))
    for edge, properties in edges:
        assert {f"{edge}.document", f"{edge}.version"} <= set(re.findall(rf"{edge}\.\w+(?= =)", properties))


def test_the_full_text_search_of_a_writer_comes_before_its_deletions() -> None:
    """Behind them, in one transaction, Neo4j 5.26 leaves nodes out."""
    source = DOOR.read_text(encoding="utf-8")
    assert source.index("cypher.TITLE") < source.index("cypher.REMOVE") < source.index("cypher.ADD")


@pytest.mark.parametrize("name", [name for name in constants() if name.startswith("migration")])
def test_every_migration_may_run_again_and_names_what_it_makes(name: str) -> None:
    assert re.search(r"CREATE (?:CONSTRAINT|INDEX|FULLTEXT INDEX) parley_\w+ IF NOT EXISTS", constants()[name])
