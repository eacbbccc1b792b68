"""The one SQLite file as this product opens it: its name, its schema, its upgrades."""

from __future__ import annotations

from pathlib import Path

from knowledge.open import SCHEMAS as KNOWLEDGE_SCHEMAS
from memory import embedded
from memory.sqlite import Database
from serving import repository
from serving.migrations import stamp

DATABASE = "parley.sqlite"
SCHEMAS = (embedded.SCHEMA, *KNOWLEDGE_SCHEMAS, repository.SCHEMA, stamp.SCHEMA)


async def open_database(folder: Path) -> Database:
    """The file in a data folder, which must exist; upgraded first when it is older.

    Raises:
        DatabaseUnavailable: it cannot be opened or upgraded; the text says why.
    """
    return await Database.open(folder / DATABASE, SCHEMAS, upgrade=stamp.upgrade)
