"""Every Cypher statement of the graph, whole and constant: values are parameters, no statement is made of pieces.

What is kept: (:Passage)-[:TITLED {weight}]->(:Surface) for each way of naming the passage's title, and
(:Passage)-[:NAMES]->(:Surface) for each title that the passage's names hold, however long the run. A surface is there
as long as a passage is titled so. Both edges carry the document, version and passage that they came from.

A statement that writes takes the lock of its tenant first: without it, adding a document fails or loses edges while
another one that shares surfaces is removed. The lock's node outlives the tenant and tells nothing of it: a stripe is
a number below 1024 that is made of the tenant's hash.
"""

from __future__ import annotations

from typing import LiteralString

BEGIN: LiteralString = """
MERGE (lock:WriteLock {stripe: $stripe}) SET lock.held = timestamp() WITH lock
SET lock.n = coalesce(lock.n, 0) + $size
WITH lock.n - $size AS first
CALL () {
  MATCH (old:Passage {tenant: $tenant}) WHERE old.id IN $passages
  RETURN collect(old.id) AS olds
}
CALL () {
  UNWIND $surfaces AS text
  MATCH (s:Surface {tenant: $tenant, text: text})
  RETURN collect(s.text) AS known
}
RETURN first, olds, known
"""
"""Before passages are added: the number of the first one (passages are numbered as they come), which of them are there
already, and which of `surfaces` are titles."""

TITLE: LiteralString = """
MERGE (lock:WriteLock {stripe: $stripe}) SET lock.held = timestamp() WITH lock
UNWIND $titles AS title
MERGE (s:Surface {tenant: $tenant, text: title.text})
WITH s, title
CALL db.index.fulltext.queryNodes('parley_passage_runs', title.query) YIELD node AS p
WHERE p.tenant = $tenant AND p.runs CONTAINS title.phrase
MERGE (p)-[r:NAMES {passage: p.id}]->(s)
SET r.document = p.document, r.version = p.version
"""
"""Makes surfaces and leads to them from all passages that were there before and name them.

Must come before all that deletes in its transaction: there the full-text search of Neo4j 5.26 leaves out each node
whose number is that of a relationship deleted in the same transaction."""

REMOVE: LiteralString = """
MERGE (lock:WriteLock {stripe: $stripe}) SET lock.held = timestamp() WITH lock
MATCH (p:Passage {tenant: $tenant}) WHERE p.id IN $passages
OPTIONAL MATCH (p)-[:TITLED]->(s:Surface {tenant: $tenant})
WITH collect(DISTINCT p) AS passages, collect(DISTINCT s.text) AS before
FOREACH (p IN passages | DETACH DELETE p)
RETURN before
"""
"""Removes passages that are about to be added anew; says what they were titled."""

ADD: LiteralString = """
MERGE (lock:WriteLock {stripe: $stripe}) SET lock.held = timestamp() WITH lock
UNWIND $rows AS row
MERGE (p:Passage {tenant: $tenant, id: row.id})
SET p.document = $document, p.version = $version, p.n = $first + row.at, p.title = row.title,
    p.names = row.names, p.sentences = row.sentences, p.runs = row.runs, p.scope = $scope
WITH p, row
CALL (p, row) {
  UNWIND row.surfaces AS surface
  MERGE (s:Surface {tenant: $tenant, text: surface.text})
  MERGE (p)-[t:TITLED {passage: row.id}]->(s)
  SET t.document = $document, t.version = $version, t.weight = surface.weight
}
CALL (p, row) {
  UNWIND row.holds AS text
  MATCH (s:Surface {tenant: $tenant, text: text})
  MERGE (p)-[r:NAMES {passage: row.id}]->(s)
  SET r.document = $document, r.version = $version
}
"""
"""Adds passages, their titles, and the edges to the titles that they name."""

SWEEP: LiteralString = """
MERGE (lock:WriteLock {stripe: $stripe}) SET lock.held = timestamp() WITH lock
UNWIND $surfaces AS text
MATCH (s:Surface {tenant: $tenant, text: text}) WHERE NOT EXISTS { (s)<-[:TITLED]-() }
DETACH DELETE s
"""
"""Removes those of the surfaces that no passage is titled any more."""

FORGET: LiteralString = """
MERGE (lock:WriteLock {stripe: $stripe}) SET lock.held = timestamp() WITH lock
MATCH (p:Passage {tenant: $tenant, document: $document}) WHERE $keep IS NULL OR p.version <> $keep
WITH p LIMIT $most
OPTIONAL MATCH (p)-[:TITLED]->(s:Surface {tenant: $tenant})
WITH collect(DISTINCT p) AS passages, collect(DISTINCT s) AS surfaces
WITH passages, surfaces, size(passages) AS gone
FOREACH (p IN passages | DETACH DELETE p)
WITH surfaces, gone
CALL (surfaces) {
  UNWIND surfaces AS s
  WITH s WHERE NOT EXISTS { (s)<-[:TITLED]-() }
  DETACH DELETE s
}
RETURN gone
"""
"""Removes up to `most` passages of a document's versions other than `keep`, and the surfaces that only they bore."""

TITLES: LiteralString = """
UNWIND $surfaces AS text
MATCH (s:Surface {tenant: $tenant, text: text})<-[t:TITLED]-(p:Passage {tenant: $tenant})
WITH text, t.weight AS weight, p ORDER BY weight DESC, p.n
RETURN text, collect(p.id) AS passages, collect(weight) AS weights
"""
"""The passages that each surface is a title of."""

MENTIONS: LiteralString = """
MATCH (p:Passage {tenant: $tenant}) WHERE p.id IN $passages
CALL (p) {
  MATCH (p)-[:NAMES]->(s:Surface {tenant: $tenant})
  RETURN collect(s) AS held
}
WITH collect({id: p.id, title: p.title, runs: p.runs, sentences: p.sentences, holds: [s IN held | s.text]}) AS seen,
     collect(held) AS each
CALL (each) {
  UNWIND each AS held
  UNWIND held AS s
  WITH DISTINCT s
  WITH s, COUNT { (s)<-[:NAMES]-() } AS shared
  WHERE shared <= $common
  MATCH (s)<-[t:TITLED]-(q:Passage {tenant: $tenant})
  WITH s, shared, t.weight AS weight, q ORDER BY q.n
  WITH s, shared, collect(q.id) AS passages, collect(q.title) AS titles, collect(weight) AS weights
  RETURN collect({text: s.text, shared: shared, passages: passages, titles: titles, weights: weights}) AS surfaces
}
RETURN seen, surfaces
"""
"""Passages with the surfaces that their names hold, and of those that not too many share the passages titled so."""

SIGHTINGS: LiteralString = """
UNWIND $names AS name
CALL (name) {
  MATCH (s:Surface {tenant: $tenant, text: name.text})<-[t:TITLED]-(p:Passage {tenant: $tenant})
  WITH p, t.weight AS weight ORDER BY weight DESC, p.n LIMIT $most
  RETURN collect({id: p.id, names: p.names, sentences: p.sentences}) AS titled
}
CALL (name) {
  CALL db.index.fulltext.queryNodes('parley_passage_runs', name.query, {limit: $reach}) YIELD node AS p
  WHERE p.tenant = $tenant AND p.runs CONTAINS name.phrase
  WITH p ORDER BY p.n LIMIT $most
  RETURN collect({id: p.id, names: p.names, sentences: p.sentences}) AS naming
}
RETURN titled, naming
"""
"""For each name up to `most` passages titled so and up to `most` of those that name it."""

PING: LiteralString = "RETURN 1 AS alive"

VERSION_KEY: LiteralString = """
CREATE CONSTRAINT parley_schema_version IF NOT EXISTS FOR (v:SchemaVersion) REQUIRE v.name IS UNIQUE
"""
VERSION: LiteralString = "MATCH (v:SchemaVersion {name: 'graph'}) RETURN v.version AS version"
VERSION_LOCK: LiteralString = """
MERGE (v:SchemaVersion {name: 'graph'}) SET v.held = timestamp()
RETURN coalesce(v.version, 0) AS version
"""
"""Holds every other replica that wants to migrate until the transaction ends."""
VERSION_DONE: LiteralString = "MERGE (v:SchemaVersion {name: 'graph'}) SET v.version = $version"
AWAIT_INDEXES: LiteralString = "CALL db.awaitIndexes(300)"

MIGRATIONS: tuple[tuple[LiteralString, ...], ...] = (
    (
        "CREATE CONSTRAINT parley_passage IF NOT EXISTS FOR (p:Passage) REQUIRE (p.tenant, p.id) IS UNIQUE",
        "CREATE CONSTRAINT parley_surface IF NOT EXISTS FOR (s:Surface) REQUIRE (s.tenant, s.text) IS UNIQUE",
        "CREATE CONSTRAINT parley_write_lock IF NOT EXISTS FOR (l:WriteLock) REQUIRE l.stripe IS UNIQUE",
        "CREATE INDEX parley_passage_document IF NOT EXISTS FOR (p:Passage) ON (p.tenant, p.document)",
        """
        CREATE FULLTEXT INDEX parley_passage_runs IF NOT EXISTS FOR (p:Passage) ON EACH [p.scope, p.runs]
        OPTIONS {indexConfig: {`fulltext.analyzer`: 'whitespace', `fulltext.eventually_consistent`: false}}
        """,
    ),
)
"""What leads from each version of the schema to the next; the first makes version 1. Each statement may run again.
One that is released never changes: what comes later is a new entry."""
