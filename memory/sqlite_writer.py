"""The one thread that writes: chat before bulk, jobs that wait share a commit, one that fails rolls back alone."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from memory.sql import DatabaseUnavailable
from memory.sqlite_errors import explain, primary_code

Work = Callable[[sqlite3.Connection], None]

_GROUP = 32
_POLL, _BULK_POLL = 0.001, 0.01
"""Seconds between tries for the lock: bulk tries so rarely that a chat's write of any process comes first."""
_PAUSE = 0.005
"""Least seconds without bulk after a bulk transaction; half the transaction's time when that is more."""


@dataclass(slots=True)
class Job:
    """Work for one transaction (or its share of one), and the future that tells when it is durable."""

    work: Work
    bulk: bool
    future: Future[None] = field(default_factory=Future[None])
    error: BaseException | None = None
    tried: float | None = None
    """When the lock was first asked for."""

    def settle(self, path: Path) -> None:
        """Tells the caller how it went; called after the commit."""
        if self.error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(explain(self.error, path))


class _Savepoint:
    """Runs one job inside a transaction; what it raises is kept for its caller and undone alone."""

    def __init__(self, connection: sqlite3.Connection, job: Job) -> None:
        self._connection, self._job = connection, job

    def __enter__(self) -> None:
        self._connection.execute("SAVEPOINT job")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        self._job.error = error
        if self._connection.in_transaction:  # a full disk may have rolled back everything
            if error is not None:
                self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")
        return True


class Writer:
    """Owns the writing connection; `submit` may be called from any thread."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, check: Callable[[], None], *, patience: float
    ) -> None:
        """`check` raises when the file is no longer the one; `patience`: seconds to wait for another's lock."""
        self._path, self._connection, self._check, self._patience = path, connection, check, patience
        self._connection.execute("PRAGMA busy_timeout = 0")  # _begin waits itself
        self._chat: deque[Job] = deque()
        self._bulk: deque[Job] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._bulk_from = 0.0
        self._thread = threading.Thread(target=self._loop, name="sqlite-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queues a job.

        Raises:
            DatabaseUnavailable: the database has been closed.
        """
        with self._news:
            if self._closed:
                raise DatabaseUnavailable(f"the database {self._path} has been closed")
            (self._bulk if job.bulk else self._chat).append(job)
            self._news.notify()

    def close(self) -> None:
        """Finishes what is queued and closes the connection; waits for it."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _next(self) -> list[Job]:
        """The jobs of the next transaction; none when closed and done."""
        with self._news:
            while True:
                if self._chat:
                    return [self._chat.popleft() for _ in range(min(_GROUP, len(self._chat)))]
                wait = self._bulk_from - time.monotonic() if self._bulk else None
                if wait is not None and wait <= 0:
                    return [self._bulk.popleft()]
                if wait is None and self._closed:
                    return []
                self._news.wait(wait)

    def _loop(self) -> None:
        while jobs := self._next():
            wanted = [job for job in jobs if job.tried is not None or job.future.set_running_or_notify_cancel()]
            if wanted:
                self._take(wanted)
        self._connection.close()

    def _take(self, jobs: list[Job]) -> None:
        """Gets the lock and runs the jobs; a bulk job that finds it taken goes back to its queue."""
        now = time.monotonic()
        for job in jobs:
            job.tried = job.tried or now
        bulk = jobs[0].bulk
        try:
            self._check()
            self._begin(waits=not bulk, since=jobs[0].tried or now)
        except (sqlite3.Error, DatabaseUnavailable) as error:
            for job in jobs:
                job.error = error
                job.settle(self._path)
            return
        if not self._connection.in_transaction:
            with self._news:
                self._bulk.appendleft(jobs[0])
            self._bulk_from = time.monotonic() + _BULK_POLL
            return
        began = time.monotonic()
        self._commit(jobs)
        if bulk:
            ended = time.monotonic()
            self._bulk_from = ended + max(_PAUSE, (ended - began) / 2)

    def _begin(self, *, waits: bool, since: float) -> None:
        """Begins a transaction with the write lock; without `waits` it may come back without one.

        Polls itself, since SQLite's own waiting backs off to 0.1 s and then loses against a flood.
        """
        nothing = threading.Event()
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() - since > self._patience:
                    raise
            if not waits:
                return
            nothing.wait(_POLL)

    def _commit(self, jobs: list[Job]) -> None:
        """Runs the jobs in the open transaction; when it breaks as a whole, each again on its own."""
        whole = self._attempt(jobs)
        if not whole and len(jobs) > 1:
            for job in jobs:
                job.error = None
                self._take([job])
            return
        for job in jobs:
            job.settle(self._path)

    def _attempt(self, jobs: list[Job]) -> bool:
        """Whether the transaction held: each job then either has its error or is durable."""
        try:
            for job in jobs:
                with _Savepoint(self._connection, job):
                    job.work(self._connection)
                if not self._connection.in_transaction:
                    return False
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for job in jobs:
                job.error = job.error or error
            return False
        return True
