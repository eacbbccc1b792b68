# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Runs the revisions that a database lacks; this and its neighbours are the only files that import Alembic."""

from __future__ import annotations

import sqlite3

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, StaticPool

from memory.sql import DatabaseUnavailable
from memory.sqlite import VERSION
from serving.migrations.stamp import revision

LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('parley tables', 0)), set_config('parley.tenant', 'every', true)"
"""Held to the end of the transaction: whoever comes second finds everything done. Data is moved for all tenants."""
GRANTS = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {role}",
)
OWN_TABLES = """SELECT c.relname FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND pg_has_role(c.relowner, 'MEMBER')"""


def run(connection: sqlite3.Connection, version: int) -> None:
    """Every revision after `version` in one transaction, which is rolled back when one of them raises.

    Raises:
        sqlite3.Error: the disk is full, or the file holds what a revision did not expect.
    """
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    config = _config()
    try:
        with engine.begin() as bound:
            bound.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = bound
            command.stamp(config, revision(version))
            command.upgrade(config, "head")
            bound.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
            astray = bound.exec_driver_sql("PRAGMA foreign_key_check").all()
            if astray:
                raise sqlite3.IntegrityError(f"{len(astray)} rows refer to rows that are not there")
    except DBAPIError as error:
        assert isinstance(error.orig, sqlite3.Error)
        raise error.orig from error


def run_on_server(owner_url: str, role: str) -> None:
    """Every revision that a Postgres database lacks, from none to the newest, in one transaction; then the role may
    use the tables.

    Raises:
        DatabaseUnavailable: it failed, and nothing was changed.
    """
    engine = create_engine(make_url(owner_url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    config = _config()
    quote = engine.dialect.identifier_preparer.quote
    try:
        with engine.begin() as bound:
            bound.exec_driver_sql(LOCK)
            config.attributes["connection"] = bound
            command.upgrade(config, "head")
            tables = ", ".join(quote(str(name)) for (name,) in bound.exec_driver_sql(OWN_TABLES))
            schema = quote(str(bound.exec_driver_sql("SELECT current_schema()").scalar_one()))
            for grant in GRANTS:
                bound.exec_driver_sql(grant.format(schema=schema, role=quote(role), tables=tables))
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())
        raise DatabaseUnavailable(f"its tables could not be made or upgraded, and are as they were ({said})") from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "serving:migrations")
    return config
