# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Postgres: all tables, from 0003_postgres.sql, which is serving/schema.postgres.sql as it was then. In SQLite an index
goes that nothing reads any more."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """See above."""
    bind = op.get_bind()
    if bind.dialect.name == "sqlite":
        bind.exec_driver_sql("DROP INDEX runs_to_cancel")
        return
    for statement in Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").split(";\n"):
        if statement.strip():
            bind.exec_driver_sql(statement)
