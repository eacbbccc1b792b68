"""The threads that work on Postgres: each with a connection of its own, which it makes anew when it breaks."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType

from memory.postgres_link import Address, Again, Link, Lost
from memory.sql import DatabaseUnavailable

BRIDGE_SECONDS = 2.0
"""So long a server that went away is waited for, as one that restarts; after that everybody is told at once."""
RETRY_SECONDS = 0.1
PROBE_SECONDS = 0.5
"""Least time between two tries to reach a server that is known to be away."""
PAUSE_SECONDS = 0.005
"""At most so long, times the tries so far, before work is done again that another transaction came in between."""
GONE = "the connection broke while the change was being stored: it may be kept or not; look before you repeat it"


@dataclass(slots=True, eq=False)
class Job:
    """Work for one transaction (or its share of one), and the future that tells when it is durable."""

    work: Callable[[Link], None]
    acting: str
    """See memory.sql.acting."""
    until: float
    """When it is given up, by time.monotonic."""
    future: Future[None] = field(default_factory=Future[None])
    error: BaseException | None = None
    link: Link | None = None
    _taken: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> bool:
        """Whether it is the caller's to do; it is nobody's else then."""
        return self._taken.acquire(blocking=False)

    def give_up(self, why: str) -> None:
        """It has taken too long: one that waits fails, one that is being done loses its connection."""
        if self.take():
            if self.future.set_running_or_notify_cancel():
                self.future.set_exception(DatabaseUnavailable(why))
        elif self.link is not None:
            self.link.cut()

    def settle(self) -> None:
        """Tells the caller how it went."""
        if self.error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(self.error)


class Server:
    """What all threads know of the server."""

    def __init__(self, address: Address, seconds: float) -> None:
        """`seconds`: no statement may take longer."""
        self.address, self._seconds = address, seconds
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._tried = 0.0
        self._why = ""

    def connect(self) -> Link:
        """A new connection; waits a little for a server that has just gone away.

        Raises:
            DatabaseUnavailable: it stays away, or does not let us in.
        """
        nothing = threading.Event()
        while True:
            with self._lock:
                since, now = self._away_since, time.monotonic()
                if since is not None and now > since + BRIDGE_SECONDS and now < self._tried + PROBE_SECONDS:
                    raise DatabaseUnavailable(self._why)
                self._tried = now
            try:
                link = Link(self.address, self._seconds)
            except DatabaseUnavailable as error:
                with self._lock:
                    self._away_since = self._away_since or now
                    self._why = str(error)
                    if time.monotonic() > self._away_since + BRIDGE_SECONDS:
                        raise
            else:
                with self._lock:
                    self._away_since = None
                return link
            nothing.wait(RETRY_SECONDS)


class Queue:
    """Jobs in the order of their coming."""

    def __init__(self, name: str) -> None:
        """`name`: the database's, for messages."""
        self._name = name
        self._jobs: deque[Job] = deque()
        self._news = threading.Condition()
        self._closed = False

    def put(self, job: Job) -> None:
        """Adds a job.

        Raises:
            DatabaseUnavailable: the database has been closed.
        """
        with self._news:
            if self._closed:
                raise DatabaseUnavailable(f"the database {self._name} has been closed")
            self._jobs.append(job)
            self._news.notify()

    def take(self, most: int) -> list[Job]:
        """Waits for jobs; none when closed and done."""
        with self._news:
            while not self._jobs and not self._closed:
                self._news.wait()
            return [self._jobs.popleft() for _ in range(min(most, len(self._jobs)))]

    def close(self) -> None:
        """What waits is still done."""
        with self._news:
            self._closed = True
            self._news.notify_all()


class Worker:
    """One thread; does the jobs of a queue one after the other, or some in one transaction."""

    def __init__(self, server: Server, queue: Queue, how: str, *, group: int, name: str) -> None:
        """`how`: READ or WRITE; `group`: so many jobs that wait share a transaction."""
        self._server, self._queue, self._how, self._group = server, queue, how, group
        self._link: Link | None = None
        self._thread = threading.Thread(target=self._loop, name=f"postgres-{name}", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Waits for its end, once the queue has been closed."""
        self._thread.join()

    def _loop(self) -> None:
        while jobs := self._queue.take(self._group):
            self._carry_out([job for job in jobs if job.take() and job.future.set_running_or_notify_cancel()])
        self._drop()

    def _carry_out(self, jobs: list[Job]) -> None:
        """Does the jobs, again where that helps, and tells their callers."""
        nothing = threading.Event()
        tries = 0
        while jobs:
            for job in jobs:
                job.error = None
            try:
                with _Kept(jobs):
                    self._attempt(jobs)
                break
            except Again:
                self._rollback()
                if len(jobs) > 1:
                    for job in jobs:
                        self._carry_out([job])
                    return
                why = "others change the same again and again; try again"
            except Lost as error:
                self._drop()
                why = f"the connection broke ({error}); try again"
            jobs = self._in_time(jobs, why)
            tries += 1
            nothing.wait(secrets.randbelow(100) / 100 * PAUSE_SECONDS * tries)
        for job in jobs:
            job.settle()

    def _in_time(self, jobs: list[Job], why: str) -> list[Job]:
        """The jobs that may be tried again; the others have failed."""
        now = time.monotonic()
        for job in jobs:
            if now >= job.until:
                job.error = DatabaseUnavailable(f"the database {self._server.address.name} cannot be used: {why}")
                job.settle()
        return [job for job in jobs if now < job.until]

    def _attempt(self, jobs: Sequence[Job]) -> None:
        """One transaction: each job then has its error or is durable.

        Raises:
            Again, Lost: nothing is kept of any.
        """
        link = self._link = self._link or self._server.connect()
        for job in jobs:
            job.link = link
        try:
            number = link.begin(self._how, jobs[0].acting)
        except DatabaseUnavailable:
            self._drop()  # what failed to begin would be in the way of the next
            raise
        for job in jobs:
            if len(jobs) > 1:
                link.savepoint("job")
            with _Kept([job]):
                job.work(link)
            if job.error is not None:
                link.rollback("job" if len(jobs) > 1 else "")
        if len(jobs) > 1 or jobs[0].error is None:
            self._commit(link, number)

    def _commit(self, link: Link, number: str) -> None:
        try:
            link.commit()
        except Lost:
            self._drop()
            if not number or self._fate(number) == "aborted":
                raise

    def _fate(self, number: str) -> str:
        """Whether a transaction was "committed" or "aborted" whose connection broke meanwhile.

        Raises:
            DatabaseUnavailable: that cannot be found out.
        """
        until = time.monotonic() + 2 * BRIDGE_SECONDS
        nothing = threading.Event()
        why = ""
        while time.monotonic() < until:
            try:
                link = self._link = self._link or self._server.connect()
                found = link.fate(number)
            except Lost:
                self._drop()
            except DatabaseUnavailable as error:
                why = f" ({error})"
                break
            else:
                if found in ("committed", "aborted"):
                    return found
            nothing.wait(RETRY_SECONDS)  # the server may not have seen yet that we have gone
        raise DatabaseUnavailable(f"the database {self._server.address.name}: {GONE}{why}")

    def _rollback(self) -> None:
        if self._link is not None:
            try:
                self._link.rollback()
            except (Lost, DatabaseUnavailable):
                self._drop()

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


class _Kept:
    """Keeps what its body raises for the callers of these jobs; what is to be tried again passes."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if error is None or isinstance(error, (Again, Lost)):
            return False
        for job in self._jobs:
            job.error = job.error or error
        return True
