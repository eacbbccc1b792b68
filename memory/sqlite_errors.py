"""What goes wrong with a SQLite file that is nobody's bug: texts that say what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from memory.sql import DatabaseUnavailable

_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again",
    sqlite3.SQLITE_BUSY: "another process has kept it locked; try again when that process is done",
    sqlite3.SQLITE_LOCKED: "another process has kept it locked; try again when that process is done",
    sqlite3.SQLITE_READONLY: "it is read-only; make it writable for this user",
    sqlite3.SQLITE_PERM: "this user may not use it; check its owner and mode",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and is writable for this user",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check the disk and its free space",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_TOOBIG: "a value is larger than SQLite stores",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database; move it away or choose another data folder",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore it from a backup, or move it away and ingest again",
}
"""Failures of the surroundings by SQLite's primary result code; every other code is a bug and stays one."""


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code of an error; 0 when Python itself raised it."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def explain(error: BaseException, path: Path) -> BaseException:
    """DatabaseUnavailable for a failure of the surroundings, the error itself for a bug."""
    if isinstance(error, sqlite3.Error):
        reason = _REASONS.get(primary_code(error))
        if reason is not None:
            return DatabaseUnavailable(f"the database {path} cannot be used: {reason} (SQLite: {error})")
    return error
