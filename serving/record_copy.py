"""The record of the one SQLite file goes to Postgres, table by table, and is compared there row for row."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from memory.postgres_link import READ, WRITE, Address, Again, Link, Lost
from memory.sql import DatabaseUnavailable, Value
from memory.sqlite import VERSION, from_sql
from memory.sqlite_errors import explain
from memory.sqlite_upgrade import version_of

TABLES = (
    "keys", "threads", "messages", "runs", "events", "feedback", "idempotency", "checkpoints", "checkpointwrites",
    "jobs", "jobitems", "documents", "documents_begun",
)  # fmt: skip
"""In this order, since messages refer to threads."""
ROWS_AT_ONCE, BYTES_AT_ONCE = 1000, 4_000_000
SECONDS = 600.0
"""The longest that one statement may take."""
SHOWN = 5
"""Rows that differ, as a table's difference names them."""

Row = tuple[Value, ...]


class NotCopied(Exception):
    """The record cannot be copied, or what was copied is not the same; the text says why."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as SQLite describes it; on Postgres it has the same columns."""

    name: str
    columns: tuple[str, ...]
    blobs: frozenset[str]
    key: tuple[str, ...]

    @property
    def select(self) -> str:
        """All its rows, in the order of its key."""
        return f"SELECT {_list(self.columns)} FROM {self.name} ORDER BY {_list(self.key)}"

    @property
    def insert(self) -> str:
        """One row."""
        return f"INSERT INTO {self.name} ({_list(self.columns)}) VALUES ({', '.join('?' * len(self.columns))})"

    def name_of(self, row: Row) -> str:
        """What tells the row from the others, for people."""
        values = dict(zip(self.columns, row, strict=True))
        return ", ".join(f"{column} {values[column]!r}" for column in self.key)


@dataclass(slots=True)
class Digest:
    """A number of rows and the sum of their hashes: the same for the same rows in any order. Texts that are no
    Unicode sort differently in the two databases."""

    rows: int = 0
    total: int = 0

    def add(self, row: Row) -> None:
        """Counts a row in."""
        self.rows += 1
        self.total = (self.total + int.from_bytes(_hash(row))) % (1 << 256)

    @property
    def text(self) -> str:
        """The hash in hexadecimal."""
        return f"{self.total:064x}"


@dataclass(frozen=True, slots=True)
class Compared:
    """A table on both sides."""

    table: str
    source: Digest
    target: Digest
    differing: tuple[str, ...] = ()
    """Some of the rows that are not the same, in words."""

    @property
    def is_same(self) -> bool:
        """Whether all rows are the same."""
        return self.source == self.target


class Source:
    """The SQLite file, which nobody else writes to as long as this is open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Use `open_source`."""
        self._connection = connection
        self.tables = [self._table(name) for name in TABLES]

    def count(self, table: Table) -> int:
        """Rows of a table."""
        (rows,) = self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()
        return rows

    def rows(self, table: Table, start: int = 0) -> Iterator[Row]:
        """A table's rows from number `start` (from 0) on, in order."""
        running = table.columns.index("status") if table.name == "jobs" else None
        for row in self._connection.execute(f"{table.select} LIMIT -1 OFFSET ?", (start,)):
            values = [
                from_sql(value) if isinstance(value, bytes) and column not in table.blobs else value
                for column, value in zip(table.columns, row, strict=True)
            ]
            if running is not None and values[running] == "running":
                values[running] = "queued"  # how far DBOS was with it is not copied: what is left of it begins anew
            yield tuple(values)

    def _table(self, name: str) -> Table:
        columns = self._connection.execute(f"PRAGMA table_info({name})").fetchall()
        keys = sorted((place, column) for _, column, _, _, _, place in columns if place)
        return Table(
            name,
            tuple(column for _, column, *_ in columns),
            frozenset(column for _, column, kind, *_ in columns if kind == "BLOB"),
            tuple(column for _, column in keys),
        )


class Target:
    """The tables on Postgres, as their owner."""

    def __init__(self, link: Link) -> None:
        """Use `open_target`."""
        self._link = link

    def count(self, table: Table) -> int:
        """Rows of a table."""
        with self._transaction(READ):
            (rows,) = self._link.execute(f"SELECT count(*) FROM {table.name}").fetchone()
        return rows

    def rows(self, table: Table) -> Iterator[Row]:
        """A table's rows, in order."""
        key = _list(table.key)
        marks = ", ".join("?" * len(table.key))
        places = [table.columns.index(column) for column in table.key]
        sql = f"SELECT {_list(table.columns)} FROM {table.name} {{}} ORDER BY {key} LIMIT {ROWS_AT_ONCE}"
        where, after = "", list[Value]()
        while True:
            with self._transaction(READ):
                found: list[Row] = self._link.execute(sql.format(where), after).fetchall()
            yield from found
            if len(found) < ROWS_AT_ONCE:
                return
            where, after = f"WHERE ({key}) > ({marks})", [found[-1][place] for place in places]

    def add(self, table: Table, rows: Sequence[Row]) -> None:
        """Stores rows in one transaction."""
        with self._transaction(WRITE):
            self._link.executemany(table.insert, rows)

    def analyze(self) -> None:
        """Lets Postgres look at what it holds now, so that it plans well from the first query on."""
        for name in TABLES:
            with self._transaction(WRITE):
                self._link.execute(f"ANALYZE {name}")

    @contextmanager
    def _transaction(self, how: str) -> Generator[None]:
        """A transaction; one that fails ends with the connection, for nothing can go on after it."""
        try:
            self._link.begin(how, "every")
            yield
            self._link.commit()
        except (Lost, Again) as error:
            raise DatabaseUnavailable(f"the connection to Postgres broke: {error}; go on with --resume") from error


@contextmanager
def open_source(file: Path) -> Generator[Source]:
    """The file of a data folder. As long as it is open every other process waits that wants to write to it.

    Raises:
        NotCopied: it is none, or of another version.
        DatabaseUnavailable: another process writes to it.
    """
    if not file.is_file():
        raise NotCopied(f"there is no database {file}")
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            version = version_of(connection)
            if version != VERSION:
                raise NotCopied(
                    f"the database {file} is of version {version} and this Parley copies version {VERSION}; `parley"
                    " doctor` upgrades an older one"
                )
            connection.execute("BEGIN IMMEDIATE")
            yield Source(connection)
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        told = explain(error, file)
        if told is error:
            raise
        raise told from error


@contextmanager
def open_target(owner_url: str) -> Generator[Target]:
    """The database whose tables have been made.

    Raises:
        DatabaseUnavailable: it is away, or does not let us in.
    """
    link = Link(Address.of(owner_url), SECONDS)
    try:
        yield Target(link)
    finally:
        link.close()


def copy(source: Source, target: Target, *, resume: bool, tell: Callable[[str, int], None]) -> None:
    """Copies all rows, some in each transaction. `resume`: those that an earlier copy has brought are left out.
    `tell`: is told a table's name and how many more of its rows are there.

    Raises:
        NotCopied: the target holds rows, or with `resume` rows that the source has not.
        DatabaseUnavailable: a database cannot be reached; what was copied stays, for `resume`.
    """
    there = {table.name: target.count(table) for table in source.tables}
    if not resume and any(there.values()):
        held = ", ".join(f"{rows} in {name}" for name, rows in there.items() if rows)
        raise NotCopied(
            f"the Postgres database holds rows already ({held}): --resume goes on with a copy that was broken off;"
            " else name an empty database"
        )
    for table in source.tables:
        held = there[table.name]
        if held and _digest(islice(source.rows(table), held)) != _digest(target.rows(table)):
            wrong = "; ".join(_differing(source, target, table, so_far=held))
            raise NotCopied(
                f"the table {table.name} on Postgres holds other rows than this file ({wrong}): a server has worked"
                " there, or the file has changed since; name an empty database"
            )
        tell(table.name, held)
        for rows in _batches(source.rows(table, held)):
            target.add(table, rows)
            tell(table.name, len(rows))
    target.analyze()


def compare(source: Source, target: Target, tell: Callable[[str, int], None]) -> list[Compared]:
    """Reads every row of every table on both sides. `tell`: as in `copy`.

    Raises:
        DatabaseUnavailable: a database cannot be reached.
    """
    found: list[Compared] = []
    for table in source.tables:
        ours, theirs = _digest(source.rows(table)), _digest(target.rows(table))
        differing = () if ours == theirs else tuple(_differing(source, target, table))
        found.append(Compared(table.name, ours, theirs, differing))
        tell(table.name, ours.rows)
    return found


def _differing(source: Source, target: Target, table: Table, so_far: int | None = None) -> list[str]:
    """Some rows that are not the same, in words; of the source the first `so_far` count, or all."""
    ours = {table.name_of(row): _hash(row) for row in islice(source.rows(table), so_far)}
    theirs = {table.name_of(row): _hash(row) for row in target.rows(table)}
    told = [f"{name}: only in the file" for name in ours if name not in theirs]
    told += [f"{name}: only on Postgres" for name in theirs if name not in ours]
    told += [f"{name}: not the same" for name, hashed in ours.items() if theirs.get(name, hashed) != hashed]
    return told[:SHOWN]


def _digest(rows: Iterable[Row]) -> Digest:
    digest = Digest()
    for row in rows:
        digest.add(row)
    return digest


def _hash(row: Row) -> bytes:
    """SHA-256 of a row as Python writes it, which tells every value and its type."""
    return hashlib.sha256(repr(row).encode()).digest()


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(batch) == ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _list(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
