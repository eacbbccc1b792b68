"""The one SQLite file: a small pool of readers and one writer."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from memory.sql import DatabaseUnavailable, Dialect
from memory.sql_transactions import Transactions
from memory.sqlite_errors import explain, primary_code
from memory.sqlite_upgrade import Upgrade, copies, refuse, upgrade_file, version_of, wait_for_upgrade
from memory.sqlite_writer import Job, Work, Writer

T = TypeVar("T")

VERSION = 3
"""PRAGMA user_version of the files that this code reads and writes: the number of the newest revision in
serving/migrations."""
READERS = 4
PATIENCE = 10.0
"""Seconds that anything waits for another process's lock."""


def to_sql(text: str) -> str | bytes:
    """A text as SQLite keeps it: lone surrogates, which UTF-8 has not, make it a BLOB."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_sql(value: str | bytes) -> str:
    """The text that `to_sql` was given."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


SQLITE = Dialect("sqlite", "LIKE", to_sql)


class Database(Transactions[sqlite3.Connection]):
    """Owner of the file, a SqlDatabase. Any number of processes may open it; what `write` acknowledged survives a
    crash. A failure of `write` means that nothing is kept."""

    dialect = SQLITE

    def __init__(self, path: Path, patience: float) -> None:
        """Use `open`, which also makes and checks the file."""
        super().__init__()
        self.path, self._patience = path, patience
        self._identity = _identity(path)
        self._threads = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._near: sqlite3.Connection | None = None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-reader")
        self._closed = False
        self._writer = Writer(path, _connect(path, patience), self._check_file, patience=patience)

    @classmethod
    async def open(
        cls, path: Path, schemas: Sequence[str], *, patience: float = PATIENCE, upgrade: Upgrade = refuse
    ) -> Database:
        """Opens the file, made on first use with mode 600 (a folder made for it: 700), and applies the DDL
        scripts, which must be repeatable (IF NOT EXISTS). An older file is upgraded first, see `upgrade_file`.
        `patience`: seconds to wait for another's lock.

        Raises:
            DatabaseUnavailable: folder not writable, disk full, file damaged or made by a newer version, or older
                and not to be upgraded now.
        """
        return await asyncio.to_thread(_open, path, schemas, patience, upgrade)

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """See SqlDatabase."""
        if self._closed:
            raise DatabaseUnavailable(f"the database {self.path} has been closed")
        return await asyncio.wrap_future(self._readers.submit(self._read, fn))

    async def look(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `fn`, which should be one look-up by index, at once in the event loop's own thread.

        For what every request reads: it takes some microseconds, a hop to a reader's thread some hundred. It never
        waits: what cannot be read at once, as while another process recovers the file, is left to `read`.

        Raises:
            DatabaseUnavailable: as `read`.
        """
        try:
            if self._closed:
                return await self.read(fn)
            if self._near is None:
                self._near = _connect(self.path, 0)
                self._near.execute("PRAGMA query_only = ON")
                self._opened.append(self._near)
            return fn(self._near)
        except sqlite3.Error:
            return await self.read(fn)

    async def close(self) -> None:
        """Finishes queued writes and closes every connection; reads and writes then raise."""
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.shutdown()
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    async def _submit(self, work: Work, bulk: bool) -> None:
        job = Job(work, bulk)
        self._writer.submit(job)
        await asyncio.wrap_future(job.future)

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._check_file()
            if not hasattr(self._threads, "connection"):
                self._threads.connection = _connect(self.path, self._patience)
                self._threads.connection.execute("PRAGMA query_only = ON")
                self._opened.append(self._threads.connection)
            connection: sqlite3.Connection = self._threads.connection
            connection.execute("BEGIN")
            try:
                return fn(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            told = explain(error, self.path)
            if told is error or primary_code(error) == sqlite3.SQLITE_READONLY:  # a bug: wrong SQL, or fn writes
                raise
            raise told from error

    def _check_file(self) -> None:
        """A removed file stays writable for those who hold it open: what is written there would be lost."""
        if _identity(self.path) != self._identity:
            raise DatabaseUnavailable(
                f"the database {self.path} was removed or replaced while in use; put it back or restart"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: Path, patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA cache_size = -8192")
    connection.create_function("folded", 1, str.casefold, deterministic=True)
    return connection


def _open(path: Path, schemas: Sequence[str], patience: float, upgrade: Upgrade) -> Database:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise DatabaseUnavailable(
            f"the database {path} cannot be made or opened: {error.strerror}; choose another data folder"
        ) from error
    until = time.monotonic() + patience
    while True:
        try:
            with closing(_connect(path, patience)) as connection:
                if not _is_older(connection, path):
                    _apply(connection, schemas)
                    return Database(path, patience)
            upgrade_file(path, VERSION, upgrade, patience)  # which needs the file closed
        except sqlite3.Error as error:  # turning to WAL does not wait for others that do the same
            told = explain(error, path)
            if told is error:
                raise
            if primary_code(error) != sqlite3.SQLITE_BUSY or (time.monotonic() > until and not wait_for_upgrade(path)):
                raise told from error
        threading.Event().wait(0.01)


def _is_older(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file must be upgraded first. While the connection is open nobody else can do that."""
    version = version_of(connection)
    if version > VERSION:
        before = [copy.name for copy in copies(path)]
        raise DatabaseUnavailable(
            f"the database {path} was written by a newer Parley (version {version} of the file, this one knows"
            f" {VERSION}); install that Parley again or choose another data folder"
            + (f"; copies from before its upgrades lie beside it: {', '.join(before)}" if before else "")
        )
    return 0 < version < VERSION


def _apply(connection: sqlite3.Connection, schemas: Sequence[str]) -> None:
    connection.execute("PRAGMA page_size = 8192")  # of a new file: three passages to a page, a fifth less disk
    connection.execute("PRAGMA journal_mode = WAL")
    mark = f"PRAGMA user_version = {VERSION}" if version_of(connection) != VERSION else ""
    connection.executescript("\n;\n".join(["BEGIN IMMEDIATE", *schemas, mark, "COMMIT"]))
