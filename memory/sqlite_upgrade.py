"""An older file becomes one of the present version: alone with the file, after a copy of it, all or nothing."""

from __future__ import annotations

import filecmp
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from memory.file_lock import locked
from memory.sql import DatabaseUnavailable
from memory.sqlite_errors import explain, primary_code

Upgrade = Callable[[sqlite3.Connection, int], None]
"""Brings the file from the given version to the present one, PRAGMA user_version included, in one transaction that
it begins and commits; what it raises has rolled back. The connection holds the file alone; foreign keys are off."""

TURN = 600.0
"""Seconds that a process waits while another upgrades the file."""
_POLL = 0.02


def refuse(connection: sqlite3.Connection, version: int) -> None:
    """The upgrade of those who know of no older version."""
    raise sqlite3.NotSupportedError(f"nothing here knows version {version}")


def version_of(connection: sqlite3.Connection) -> int:
    """PRAGMA user_version: 0 for a new file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return version


def upgrade_file(path: Path, present: int, upgrade: Upgrade, patience: float, *, turn: float = TURN) -> None:
    """Upgrades the file unless another process just did; tells on stderr where the copy is.

    The lock is SQLite's own exclusive one, which processes of every version respect, and which ends with its process.
    A process that has the file open, an earlier version's server for example, would break on the new tables: the
    upgrade waits `patience` seconds for its end and then refuses. `turn`: seconds to wait for another's upgrade.

    Raises:
        DatabaseUnavailable: another's upgrade takes longer, the file is open elsewhere, no copy can be made, or the
            upgrade failed; the file is as it was.
    """
    with _turn(path, turn), closing(_alone(path, patience)) as connection:
        version = version_of(connection)
        if version >= present:
            return
        copy = _copied(connection, path, version)
        _say(f"Upgrading the database {path} from version {version} to {present}; a copy of it is {copy}")
        try:
            upgrade(connection, version)
        except sqlite3.Error as error:
            told = explain(error, path)
            why = str(told) if told is not error else f"the upgrade of the database {path} failed ({error})"
            raise DatabaseUnavailable(
                f"{why}; it is as it was (version {version}), and a copy of it is {copy}"
            ) from error


def wait_for_upgrade(path: Path, *, turn: float = TURN) -> bool:
    """Waits for the end of another process's upgrade; False when there is none.

    Raises:
        DatabaseUnavailable: it takes very long.
    """
    lock = _lock_file(path)
    if not lock.exists():
        return False
    descriptor = os.open(lock, os.O_RDWR)
    try:
        if locked(descriptor):
            return False
        _wait(descriptor, path, turn)
    finally:
        os.close(descriptor)
    return True


def copies(path: Path) -> list[Path]:
    """The copies made before upgrades, oldest first."""
    return sorted(path.parent.glob(f"{path.name}.v*.backup"), key=lambda copy: copy.stat().st_mtime)


@contextmanager
def _turn(path: Path, turn: float) -> Generator[None]:
    """One upgrading process at a time: those who wait have the file closed, else nobody would ever be alone."""
    try:
        descriptor = os.open(_lock_file(path), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DatabaseUnavailable(
            f"the database {path} is of an older version and cannot be upgraded: its folder cannot be written to"
            f" ({error.strerror})"
        ) from error
    try:
        if not locked(descriptor):
            _wait(descriptor, path, turn)
        yield
    finally:
        os.close(descriptor)


def _wait(descriptor: int, path: Path, turn: float) -> None:
    _say(f"Waiting for another process that upgrades the database {path} ...")
    until = time.monotonic() + turn
    while not locked(descriptor):
        if time.monotonic() > until:
            raise DatabaseUnavailable(
                f"another process has been upgrading the database {path} for over {turn:.0f} seconds;"
                " start again when it is done"
            )
        threading.Event().wait(_POLL)


def _lock_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.upgrade-lock")


def _alone(path: Path, patience: float) -> sqlite3.Connection:
    """A connection beside which there is none, of any process, until it is closed."""
    until = time.monotonic() + patience
    while True:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")  # the lock stays
        except sqlite3.Error as error:
            connection.close()
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > until:
                raise DatabaseUnavailable(
                    f"the database {path} is of an older version and must be upgraded, but another process has it"
                    " open; stop that one (a running server?) and try again"
                ) from error
        else:
            return connection
        threading.Event().wait(_POLL)


def _copied(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """A copy of the whole file, for its owner only. An upgrade that fails at every start leaves one copy, not many."""
    part = path.with_name(f"{path.name}.backup-part")  # one name: what a killed process left is written over
    copy = path.with_name(f"{path.name}.v{version}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.backup")
    try:
        _remove(part)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(part)) as target:
            connection.backup(target)
        for older in copies(path):
            if older.name.startswith(f"{path.name}.v{version}-") and filecmp.cmp(older, part, shallow=False):
                _remove(part)
                return older
        part.rename(copy)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            _remove(part)
        size = path.stat().st_size / 1e6
        raise DatabaseUnavailable(
            f"the database {path} is of an older version, and the copy that is made before its upgrade could not be"
            f" written ({error}); nothing was changed: free at least {max(1.0, 2 * size):.0f} MB there and try again"
        ) from error
    return copy


def _remove(part: Path) -> None:
    for file in (part, part.with_name(f"{part.name}-journal")):
        with suppress(FileNotFoundError):
            file.unlink()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
