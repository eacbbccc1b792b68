# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The tables of conversations and runs: the truth that `schema.sql` is written from (`python -m serving.tables`).

The server itself never imports this file: SQLModel takes most of a second to import, the text takes none."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import Field, Index, SQLModel

SCHEMA_FILE = Path(__file__).with_name("schema.sql")


class Threads(SQLModel, table=True):
    """A stored conversation."""

    __table_args__ = (Index("threads_by_owner", "tenant", "user", "updated_at"),)

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
    role: str
    content: str
    status: str
    """"complete", or "incomplete" when the answer broke off."""
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
        Index("runs_by_status", "status", "started_at"),
    )

    id: str = Field(primary_key=True)
    tenant: str
    user: str
    thread: str
    """"" for a stateless turn."""
    status: str
    """"running", "finished", "failed", "cancelled", or "incomplete" when its process died."""
    process: str
    """"host:pid" of the process that runs it."""
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


def schema() -> str:
    """The DDL of all tables and indexes, each made only where it is missing."""
    sqlite = dialect()
    statements: list[str] = []
    for table in SQLModel.metadata.sorted_tables:
        statements.append(str(CreateTable(table, if_not_exists=True).compile(dialect=sqlite)).strip())
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements += [str(CreateIndex(index, if_not_exists=True).compile(dialect=sqlite)) for index in indexes]
    lines = "\n\n".join(f"{statement};" for statement in statements).splitlines()
    return "\n".join(line.rstrip() for line in lines).replace("\t", "  ") + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema(), encoding="utf-8")
