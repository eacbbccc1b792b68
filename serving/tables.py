# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The tables of conversations and runs: the truth that `schema.sql` and `schema.postgres.sql` are written from
(`python -m serving.tables`).

The server itself never imports this file: SQLModel takes most of a second to import, the text takes none."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import DateTime, Dialect, Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import Field, Index, SQLModel

from knowledge.sql_catalog import POSTGRES_SCHEMA

SCHEMA_FILE = Path(__file__).with_name("schema.sql")
POSTGRES_FILE = Path(__file__).with_name("schema.postgres.sql")
ACTIVE = "status IN ('queued', 'running', 'waiting')"


def partial(name: str, column: str, where: str, *, unique: bool = False) -> Index:
    """An index of the rows alone for which a condition holds."""
    return Index(name, column, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


class Threads(SQLModel, table=True):
    """A stored conversation."""

    __table_args__ = (Index("threads_by_owner", "tenant", "user", "id"),)

    id: str = Field(primary_key=True)
    """UUIDv7, as every id here."""
    tenant: str
    user: str
    title: str
    created_at: str
    """RFC 3339, UTC, as every time here."""
    updated_at: str
    summary: str
    """Running summary of the messages up to number `summary_upto`; "" when there is none."""
    summary_upto: int


class Messages(SQLModel, table=True):
    """One message of a stored conversation."""

    thread: str = Field(primary_key=True, foreign_key="threads.id", ondelete="CASCADE")
    number: int = Field(primary_key=True)
    """From 1, without gaps, in the order of the conversation."""
    id: str
    role: str
    content: str
    status: str
    """"complete", or how the answer broke off: "incomplete", "cancelled", "failed"."""
    run: str
    """The run that it started or came from."""
    citations: str
    """JSON list of citations."""
    created_at: str


class Runs(SQLModel, table=True):
    """One turn of the engine: what it cost, how it ended, what moderation said."""

    __table_args__ = (
        Index("runs_by_owner", "tenant", "user", "started_at"),
        Index("runs_by_thread", "thread", "started_at"),
        partial("runs_unfinished", "status", "finished_at IS NULL"),
        partial("runs_one_active_per_thread", "thread", f"thread <> '' AND {ACTIVE}", unique=True),
    )

    id: str = Field(primary_key=True)
    tenant: str
    user: str
    thread: str
    """"" for a stateless turn."""
    status: str
    """"queued", "running", "waiting" (for a person), "finished", "failed", "cancelled", or "incomplete" when its
    process died."""
    background: int
    """1: it goes on when its client leaves, and is taken up again when its process dies."""
    process: str
    """The process that runs it (serving/processes.py); "" while none does."""
    started_at: str
    finished_at: str | None
    model: str
    outcome: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    model_calls: int
    tool_calls: int
    verdicts: str
    """JSON list of verdicts, withheld text included."""
    notes: str
    """JSON list of notes."""
    caller_user: str
    """OpenAI's `user`."""
    metadata_: str = Field(sa_column_kwargs={"name": "metadata"})
    """JSON object: OpenAI's `metadata`."""
    error: str
    """What went wrong, in words a person understands; "" when nothing did."""
    answer: int
    """Number of the message that answers it; 0 when there is none."""
    cancelling: int
    """1: somebody asked for its end in another process than the one that runs it."""


class Events(SQLModel, table=True):
    """Some of a run's events in order, packed; kept for a while after the run's end."""

    __table_args__ = {"sqlite_with_rowid": False}

    run: str = Field(primary_key=True)
    first: int = Field(primary_key=True)
    """Number of the first event in `body`; a run's events count from 1, without gaps."""
    last: int
    body: bytes
    """See serving/event_log.py."""


class Checkpoints(SQLModel, table=True):
    """LangGraph's checkpoints of runs that are not over."""

    __table_args__ = {"sqlite_with_rowid": False}

    run: str = Field(primary_key=True)
    namespace: str = Field(primary_key=True)
    checkpoint: str = Field(primary_key=True)
    parent: str
    kind: str
    """How `body` is serialised."""
    body: bytes
    metadata_: bytes = Field(sa_column_kwargs={"name": "metadata"})


class CheckpointWrites(SQLModel, table=True):
    """What nodes wrote after a checkpoint, before the next one."""

    __table_args__ = {"sqlite_with_rowid": False}

    run: str = Field(primary_key=True)
    namespace: str = Field(primary_key=True)
    checkpoint: str = Field(primary_key=True)
    task: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    channel: str
    kind: str
    body: bytes
    path: str


class Idempotency(SQLModel, table=True):
    """What a POST with an `Idempotency-Key` made."""

    __table_args__ = (Index("idempotency_by_age", "created_at"), {"sqlite_with_rowid": False})

    tenant: str = Field(primary_key=True)
    user: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request: str
    """Hash of method, path and body."""
    made: str
    """Id of the thread, run, job or feedback."""
    created_at: str


class Feedback(SQLModel, table=True):
    """What a user thought of an answer; one per run and user, the last counts."""

    __table_args__ = {"sqlite_with_rowid": False}

    tenant: str = Field(primary_key=True)
    user: str = Field(primary_key=True)
    run: str = Field(primary_key=True)
    rating: int
    """1 or -1."""
    reason: str
    created_at: str


class Keys(SQLModel, table=True):
    """Access keys; the key itself is stored nowhere."""

    id: str = Field(primary_key=True)
    prefix: str = Field(unique=True)
    """First characters of the key, by which it is found."""
    salt: bytes
    hash: bytes
    tenant: str
    user: str
    role: str
    """"user" or "admin"."""
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class Jobs(SQLModel, table=True):
    """A background job as its owner sees it; DBOS runs it."""

    __table_args__ = (
        Index("jobs_by_owner", "tenant", "user", "id"),
        partial("jobs_unfinished", "status", "status IN ('queued', 'running')"),
    )

    id: str = Field(primary_key=True)
    tenant: str
    user: str
    kind: str
    status: str
    """"queued", "running", "finished", "failed" (dead: `parley jobs retry`), "cancelled"."""
    done: int
    total: int
    failed: int
    error: str
    version: int
    """Grows with every change: the id of its events."""
    attempt: int
    """From 1; a retry begins a new one."""
    created_at: str
    updated_at: str


class JobItems(SQLModel, table=True):
    """One part of a job, for example an uploaded file."""

    __table_args__ = (
        Index("jobitems_by_document", "document"),
        partial("jobitems_open", "content", "status <> 'done'"),
        {"sqlite_with_rowid": False},
    )

    job: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    name: str
    """The file's name: the path of its document."""
    content: str
    """Hash of the bytes, under which they wait."""
    document: str
    """Id of the document that it makes."""
    status: str
    """"queued", "done", "failed", "cancelled"."""
    error: str


class Leases(SQLModel, table=True):
    """Which processes live, on Postgres alone: on one machine a locked file says the same."""

    name: str = Field(primary_key=True)
    token: int
    """Grows with every holder."""
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))
    """By the database's clock."""


POSTGRES_ONLY = frozenset({"leases"})
OF_NO_TENANT = frozenset({"checkpoints", "checkpointwrites", "leases"})
"""Tables without policies: their rows are reached by a run's id alone, or belong to nobody."""
PARENTS = {"messages": ("thread", "threads"), "events": ("run", "runs"), "jobitems": ("job", "jobs")}
"""Tables whose rows belong to the tenant of a row of another table: by which column, of which table."""
OF_CATALOG = ("documents", "documents_begun")
"""Tables of knowledge/sql_catalog.py."""

_SETTING = "current_setting('parley.tenant', true)"
"""For whom a transaction acts, see memory.sql.acting; not set, it is NULL or empty."""
FOLDED = """CREATE FUNCTION folded(said text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN replace(lower(upper(said COLLATE "und-x-icu")), 'ς', 'σ') COLLATE "C";
"""
"""Python's str.casefold, for LIKE."""


def schema() -> str:
    """The DDL of all tables and indexes in SQLite, each made only where it is missing."""
    return "\n".join(_tables(sqlite.dialect(), True, POSTGRES_ONLY))


def postgres_schema() -> str:
    """The same for Postgres, with those of the catalog, and the policies of row-level security. Texts are compared by
    their bytes and numbers have 64 bits, as in SQLite."""
    made = "\n".join(_tables(postgresql.dialect(), False, frozenset()))
    made = made.replace(" VARCHAR", ' TEXT COLLATE "C"').replace(" INTEGER", " BIGINT")
    policies = [
        *(_policy(table.name) for table in SQLModel.metadata.sorted_tables if table.name not in OF_NO_TENANT),
        *(_policy(name) for name in OF_CATALOG),
    ]
    return "\n".join([made, POSTGRES_SCHEMA.strip(), "", *policies, FOLDED])


def _tables(dialect: Dialect, if_not_exists: bool, without: frozenset[str]) -> list[str]:
    statements: list[str] = []
    for table in SQLModel.metadata.sorted_tables:
        if table.name not in without:
            statements += _statements(table, dialect, if_not_exists)
    lines = "\n\n".join(f"{statement};" for statement in statements).splitlines()
    return [line.rstrip().replace("\t", "  ") for line in lines] + [""]


def _statements(table: Table, dialect: Dialect, if_not_exists: bool) -> list[str]:
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    return [
        str(CreateTable(table, if_not_exists=if_not_exists).compile(dialect=dialect)).strip(),
        *(str(CreateIndex(index, if_not_exists=if_not_exists).compile(dialect=dialect)) for index in indexes),
    ]


def _policy(table: str) -> str:
    """Forced row-level security: even the table's owner sees the rows of the tenant alone that it acts for."""
    if table in PARENTS:
        column, parent = PARENTS[table]
        mine = f"EXISTS (SELECT 1 FROM {parent} WHERE {parent}.id = {table}.{column})"
    else:
        mine = f"'tenant:' || tenant = {_SETTING}"
    return (
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {table} FORCE ROW LEVEL SECURITY;\n"
        f"CREATE POLICY tenant ON {table} USING ({_SETTING} = 'every' OR {mine});\n"
    )


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema(), encoding="utf-8")
    POSTGRES_FILE.write_text(postgres_schema(), encoding="utf-8")
