"""One connection to Postgres: transactions, the tenant of row-level security, and what its errors mean."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import conninfo

from memory.postgres_text import is_marked, read, stored, translated
from memory.sql import DatabaseUnavailable, Value, Values

if TYPE_CHECKING:
    from memory.sql import Row

CONNECT_SECONDS = 2
OLDEST = 15
"""The major version of the server from which on all of this works."""
SHAPE = "postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE"

READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT set_config('parley.tenant', '{acting}', true), ''"
WRITE = (
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE;"
    " SELECT set_config('parley.tenant', '{acting}', true), pg_current_xact_id()::text"
)
"""How a transaction begins, in one trip to the server. The last column is what `fate` is asked with."""

_PATIENT: dict[str, str | int] = {
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "parley",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,  # ms
}
"""A machine that has gone is missed after some seconds, not after Linux's two hours."""
_SETTINGS = (
    "SET statement_timeout = '{seconds}s'; SET idle_in_transaction_session_timeout = '{seconds}s';"
    " SET standard_conforming_strings = on"
)
_READ_ONLY = "25006"
_STALE = "cached plan must not change result type"
"""What a statement says that was prepared before a table got another column; a new connection prepares it anew."""
_AGAIN = frozenset({"40001", "40P01"})
_PASSING = {
    "08": "the connection failed; check the server and the network",
    _READ_ONLY: "it takes no writes, as a standby does; give the address of the primary",
    "53": "it is out of disk, memory or connections; free some and try again",
    "55P03": "others have kept it locked; try again",
    "57": "it was too slow or is being stopped; try again",
    "58": "its disk reports an error; look into the server's log",
}
"""Failures of the surroundings by SQLSTATE or its class; every other one is a bug and stays one."""
_REFUSED = {
    "password authentication failed": "correct the user or the password in the URL",
    "no pg_hba.conf entry": "let this user in from here, in the server's pg_hba.conf",
    "does not exist": "make that database, or correct the URL",
}
"""What helps when the server answers and lets nobody in, by its words: a failed connection has no SQLSTATE."""


class Lost(Exception):
    """The connection has broken; what its transaction did is kept only if it was being committed."""


class Again(Exception):
    """Another transaction came in between: the same work, done again, may succeed."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is, and who asks."""

    name: str
    """Host, port and database, for messages."""
    user: str
    conninfo: str = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """The address that a URL means.

        Raises:
            DatabaseUnavailable: it is none; the message does not repeat it, for it may hold a password.
        """
        try:
            parts = conninfo.conninfo_to_dict(url.replace("postgresql+psycopg://", "postgresql://", 1))
        except psycopg.Error:
            parts = {}
        if not parts.get("dbname") or not parts.get("user"):
            raise DatabaseUnavailable(f"the URL of the database cannot be read; write {SHAPE}")
        name = f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts['dbname']}"
        return cls(name, str(parts["user"]), conninfo.make_conninfo("", **{**_PATIENT, **parts}))


class Found:
    """What a statement gave, see memory.sql.Rows."""

    def __init__(self, rows: list[Row], rowcount: int) -> None:
        self.rowcount = rowcount
        self._rows = iter(rows)

    def fetchone(self) -> Row:
        """See memory.sql.Rows."""
        return next(self._rows, None)

    def fetchall(self) -> list[Row]:
        """See memory.sql.Rows."""
        return list(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return self._rows


class Link:
    """A connection, used by one thread; `cut` alone may come from another. It is a memory.sql.Connection."""

    def __init__(self, address: Address, seconds: float) -> None:
        """Connects; no statement will take longer than `seconds`.

        Raises:
            DatabaseUnavailable: the server is away, too old, or does not let us in.
        """
        self._name = address.name
        self._acting = self._marked = ""
        self._reads = False
        self._closing = threading.Lock()
        try:
            self._connection = psycopg.connect(address.conninfo, autocommit=True)
        except psycopg.Error as error:
            raise self._away(error) from error
        version = self._connection.info.server_version // 10_000
        if version < OLDEST:
            self.close()
            raise DatabaseUnavailable(
                f"the database {self._name} is Postgres {version}; Parley needs version {OLDEST} or newer"
            )
        try:
            self._run(_SETTINGS.format(seconds=seconds))
        except (Lost, psycopg.Error) as error:
            self.close()
            raise self._away(error) from error

    def begin(self, how: str, acting: str) -> str:
        """Begins a transaction, READ or WRITE, for whom `memory.sql.acting` names; returns the number of a WRITE.

        Raises:
            Lost: the connection has broken.
            DatabaseUnavailable: the server takes no such transaction now.
        """
        self._acting, self._reads = acting, how == READ
        try:
            cursor = self._run(how.format(acting=stored(acting).replace("'", "''")))
        except psycopg.Error as error:  # a standby, for example
            raise self._away(error) from error
        cursor.nextset()
        return str((cursor.fetchone() or ("", ""))[1])

    def act_for(self, acting: str) -> None:
        """The rest of the transaction is for somebody else."""
        if acting != self._acting:
            self.execute("SELECT set_config('parley.tenant', ?, true)", (acting,))
            self._acting = acting

    def commit(self) -> None:
        """Commits.

        Raises:
            Again: nothing is kept, for another transaction came in between.
            Lost: nobody knows yet whether it is kept; ask `fate` of another connection.
        """
        if self._run("COMMIT").statusmessage != "COMMIT":
            raise RuntimeError("a statement of the transaction failed, and its error was swallowed")

    def rollback(self, savepoint: str = "") -> None:
        """Undoes the transaction, or what came after a savepoint."""
        self._run(f"ROLLBACK TO {savepoint}" if savepoint else "ROLLBACK")
        self._acting = self._marked  # the setting goes back with the rest

    def savepoint(self, name: str) -> None:
        """Marks where a rollback may go back to."""
        self._run(f"SAVEPOINT {name}")
        self._marked = self._acting

    def fate(self, transaction: str) -> str:
        """What became of a transaction: "committed", "aborted", "in progress", or "" when that is forgotten."""
        row = self.execute("SELECT pg_xact_status(?::xid8)", (transaction,)).fetchone()
        return row[0] or ""

    def execute(self, sql: str, values: Values = (), /) -> Found:
        """See memory.sql.Connection."""
        try:
            cursor = self._connection.execute(translated(sql), _stored(values))
            return Found([_read(row) for row in cursor] if cursor.description else [], cursor.rowcount)
        except psycopg.Error as error:
            raise self._meant(error) from error

    def executemany(self, sql: str, values: Iterable[Values], /) -> Found:
        """See memory.sql.Connection."""
        try:
            cursor = self._connection.cursor()
            cursor.executemany(translated(sql), [_stored(one) for one in values])
            return Found([], cursor.rowcount)
        except psycopg.Error as error:
            raise self._meant(error) from error

    def cut(self) -> None:
        """Breaks the connection, from another thread: whoever waits for it gets Lost at once."""
        with self._closing:
            if self._connection.closed:
                return
            with socket.socket(fileno=os.dup(self._connection.fileno())) as handle:
                handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends the connection."""
        with self._closing:
            self._connection.close()

    def _run(self, statements: str) -> psycopg.Cursor[tuple[object, ...]]:
        """Runs statements without values in one trip."""
        try:
            return self._connection.execute(statements.encode(), prepare=False)
        except psycopg.Error as error:
            raise self._meant(error) from error

    def _meant(self, error: psycopg.Error) -> Exception:
        """What an error of a statement means: Lost, Again, DatabaseUnavailable, or a bug, which stays as it is."""
        state = error.sqlstate or ""
        if self._connection.closed or state.startswith("57P") or _STALE in str(error):
            return Lost(_line(error))
        if state in _AGAIN:
            return Again(_line(error))
        reason = _PASSING.get(state) or _PASSING.get(state[:2])
        if reason is None or (state == _READ_ONLY and self._reads):
            return error
        return DatabaseUnavailable(f"the database {self._name} cannot be used: {reason} (Postgres: {_line(error)})")

    def _away(self, error: Exception) -> DatabaseUnavailable:
        said = _line(error)
        helps = next(
            (what for words, what in _REFUSED.items() if words in said), "check that the server runs and can be reached"
        )
        return DatabaseUnavailable(f"the database {self._name} cannot be used: {said}; {helps}")


def _stored(values: Values) -> Values:
    if isinstance(values, Mapping):
        return {name: _value(value) for name, value in values.items()}
    return [_value(value) for value in values]


def _value(value: Value) -> Value:
    return stored(value) if isinstance(value, str) else value


def _read(row: tuple[object, ...]) -> tuple[object, ...]:
    if any(isinstance(value, str) and is_marked(value) for value in row):
        return tuple(read(value) if isinstance(value, str) else value for value in row)
    return row


def _line(error: Exception) -> str:
    """An error in one line; libpq's have several, and never a password."""
    return " ".join(str(error).split())
