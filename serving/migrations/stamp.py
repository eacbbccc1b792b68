"""Which revision a file is of. New files are stamped by SQL: importing Alembic takes longer than making them."""

from __future__ import annotations

import sqlite3

from memory.sqlite import VERSION


def revision(version: int) -> str:
    """Alembic's name of a file's PRAGMA user_version."""
    return f"{version:04d}"


SCHEMA = f"""
CREATE TABLE IF NOT EXISTS alembic_version (
  version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO alembic_version SELECT '{revision(VERSION)}' WHERE NOT EXISTS (SELECT 1 FROM alembic_version);
"""
"""Alembic's own table. PRAGMA user_version says the same and counts: it is read without Alembic, and by every
earlier Parley, which refuses a newer file."""


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """See memory.sqlite_upgrade.Upgrade; imports Alembic only now."""
    from serving.migrations.run import run

    run(connection, version)
