"""The databases as this product opens them: the one SQLite file, and Postgres for the record in its place."""

from __future__ import annotations

from pathlib import Path

from knowledge.open import SCHEMAS as KNOWLEDGE_SCHEMAS
from memory import embedded
from memory.sql import SqlDatabase
from memory.sqlite import Database
from serving import repository
from serving.migrations import stamp
from serving.settings import Settings

DATABASE = "parley.sqlite"
SCHEMAS = (embedded.SCHEMA, *KNOWLEDGE_SCHEMAS, repository.SCHEMA, stamp.SCHEMA)


async def open_database(folder: Path) -> Database:
    """The file in a data folder, which must exist; upgraded first when it is older.

    Raises:
        DatabaseUnavailable: it cannot be opened or upgraded; the text says why.
    """
    return await Database.open(folder / DATABASE, SCHEMAS, upgrade=stamp.upgrade)


async def open_record(settings: Settings) -> SqlDatabase:
    """The database of conversations, runs, documents and jobs: Postgres where the settings name it, else the file.

    Raises:
        DatabaseUnavailable: it cannot be opened or upgraded; the text says why.
    """
    if not settings.database_url:
        return await open_database(settings.data_dir)
    from memory.postgres import PostgresDatabase  # only where a server is used
    from serving.migrations import postgres

    if settings.database_owner_url:
        await postgres.prepare(settings.database_owner_url, settings.database_url)
    return await PostgresDatabase.open(settings.database_url, postgres.REVISION)
