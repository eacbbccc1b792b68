# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Runs the revisions that an older file lacks; this and its neighbours are the only files that import Alembic."""

from __future__ import annotations

import sqlite3

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from memory.sqlite import VERSION
from serving.migrations.stamp import revision


def run(connection: sqlite3.Connection, version: int) -> None:
    """Every revision after `version` in one transaction, which is rolled back when one of them raises.

    Raises:
        sqlite3.Error: the disk is full, or the file holds what a revision did not expect.
    """
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    config = Config()
    config.set_main_option("script_location", "serving:migrations")
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
