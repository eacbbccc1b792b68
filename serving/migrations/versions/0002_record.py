# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The chat API's record: messages have ids, runs work in the background; events, checkpoints, keys and jobs.

0002_record.sql is serving/schema.sql as it was then. Tables that get a column are made anew, since SQLite adds one
only at the end: an upgraded file is the same as a new one.
"""

from __future__ import annotations

import secrets
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import cast

from alembic import op

from serving.ids import as_text

revision = "0002"
down_revision = "0001"

INDEXES = ("runs_by_owner", "runs_by_status", "runs_by_thread", "threads_by_owner")
MESSAGES = """
INSERT INTO messages (thread, number, id, role, content, status, run, citations, created_at)
SELECT thread, number, id_of(created_at), role, content, status, run, citations, created_at FROM messages_0001
"""
RUNS = """
INSERT INTO runs (id, tenant, user, thread, status, background, process, started_at, finished_at, model, outcome,
  finish, prompt_tokens, completion_tokens, model_calls, tool_calls, verdicts, notes, caller_user, metadata, error,
  answer, cancelling)
SELECT id, tenant, user, thread, status, 0, process, started_at, finished_at, model, outcome,
  finish, prompt_tokens, completion_tokens, model_calls, tool_calls, verdicts, notes, caller_user, metadata, error,
  coalesce((SELECT number FROM messages_0001 m
    WHERE m.thread = runs_0001.thread AND m.run = runs_0001.id AND m.role = 'assistant'), 0), 0
FROM runs_0001
"""
RUNNING = """
UPDATE runs_0001 SET status = 'incomplete', finished_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
  error = 'the process that ran it ended before the answer was complete' WHERE status = 'running'
"""


def upgrade() -> None:
    """Nobody else has the file open, so a run that is not over has no process any more."""
    bind = op.get_bind()
    if bind.dialect.name != "sqlite":
        return  # Postgres begins with revision 0003
    cast(sqlite3.Connection, bind.connection.driver_connection).create_function("id_of", 1, _id_of)
    for index in INDEXES:
        bind.exec_driver_sql(f"DROP INDEX {index}")
    for table in ("messages", "runs"):
        bind.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {table}_0001")
    for statement in Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").split(";\n"):
        bind.exec_driver_sql(statement)
    for statement in (RUNNING, RUNS, MESSAGES, "DROP TABLE runs_0001", "DROP TABLE messages_0001"):
        bind.exec_driver_sql(statement)


def _id_of(created_at: str) -> str:
    """A UUIDv7 of that time: the ids of old messages sort as new ones do, and are as hard to guess."""
    milliseconds = int(datetime.fromisoformat(created_at).timestamp() * 1000)
    return as_text(milliseconds << 74 | secrets.randbits(74))
