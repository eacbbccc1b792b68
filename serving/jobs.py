"""DBOS: carries each job out once, step after step; what a killed server left is gone on with by the next one.

In the one SQLite file DBOS makes its tables itself. On Postgres they have a schema of their own, which `prepare` makes
for the owner of the database; the application's role uses them and could not change them.

Importing this takes a second or two and some 40 MB: a server does it in a thread, once it listens; nothing else does.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos import error as dbos_errors
from sqlalchemy import Dialect, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from memory.sql import DatabaseUnavailable

NAME, VERSION = "parley", "1"
"""DBOS only goes on with what the same application began; a new VERSION would strand the jobs of an older one."""
CONNECTIONS = 4
"""At most, and only in the process that runs the jobs."""
SCHEMA = "dbos"
"""Where DBOS keeps its tables on Postgres. No tenant stands there: a job is reached by its id."""
RETRY_SECONDS = 0.5
"""How soon a server that is away is tried again."""
OVER = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
FORGOTTEN_AT_ONCE = 100


log = logging.getLogger(__name__)


class Stopping(BaseException):
    """The server is told to stop. No Exception: DBOS must take it for a crash and go on with the job another time."""


class Steps(Protocol):
    """What a job is made of. Called from DBOS's threads; each raises Stopping when the server is told to stop."""

    def enter(self, job: str) -> None:
        """A thread begins with a job, or goes on with it."""
        ...

    def leave(self, job: str, attempt: int, error: BaseException | None) -> None:
        """The thread has done with the job, because of `error` if there was one."""
        ...

    def take(self, job: str, attempt: int) -> Sequence[tuple[int, str]]:
        """The next parts, by number and key; none at the end."""
        ...

    def part(self, job: str, attempt: int, number: int) -> None:
        """Does one part; a second time changes nothing."""
        ...

    def end(self, job: str, attempt: int) -> None:
        """All parts are through."""
        ...


class Workflows:
    """DBOS in this process: at most one at a time. Its methods do blocking work: call them in a thread."""

    def __init__(self, url: str, steps: Steps, closing: threading.Event, *, owner_url: str = "") -> None:
        """Starts DBOS on a database, by SQLAlchemy's address of it, with what it had begun before. Once `closing` is
        set it no longer waits for a server that is away. `owner_url`: see `prepare`, which is done first; "" when
        the tables are ready.

        Raises:
            DatabaseUnavailable: it cannot keep its own tables there, or is closing.
        """
        logger = logging.getLogger("dbos")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # else it would write to stderr; so it goes to our log alone
        config: DBOSConfig = {
            "name": NAME,
            "application_version": VERSION,
            "executor_id": NAME,  # one runner per data folder: whoever runs takes everything up
            "system_database_url": url,
            "sys_db_pool_size": CONNECTIONS,
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        self._engine: Engine | None = None
        if not url.startswith("sqlite:"):
            if owner_url:
                prepare(owner_url, make_url(url).username or "")
            self._engine = _patient(url, closing)
            config["system_database_engine"] = self._engine
            config["dbos_system_schema"] = SCHEMA
            config["run_migrations"] = False  # the application's role may not
        DBOS(config=config)

        @DBOS.workflow(name="job")
        def carry_out(job: str, attempt: int) -> None:
            steps.enter(job)
            try:
                while parts := DBOS.run_step({"name": "take"}, steps.take, job, attempt):
                    for number, key in parts:
                        DBOS.run_step({"name": key}, steps.part, job, attempt, number)
                DBOS.run_step({"name": "end"}, steps.end, job, attempt)
            except DatabaseUnavailable as error:
                if closing.is_set():
                    raise Stopping from error  # the next runner goes on with it
                raise
            finally:
                steps.leave(job, attempt, _told(sys.exception()))

        self._carry_out = carry_out
        try:
            DBOS.launch()
        except (SQLAlchemyError, dbos_errors.DBOSException, DatabaseUnavailable) as error:
            self.close()
            raise DatabaseUnavailable(f"background jobs cannot be started: {error}") from error

    def start(self, job: str, attempt: int) -> None:
        """Starts an attempt; one that was started before is left alone.

        Raises:
            DatabaseUnavailable: it cannot be written down; try again.
        """
        try:
            with SetWorkflowID(_id(job, attempt)):
                DBOS.start_workflow(self._carry_out, job, attempt)
        except (SQLAlchemyError, dbos_errors.DBOSException) as error:
            raise DatabaseUnavailable(f"the job {job} cannot be started: {error}") from error

    def is_lost(self, job: str, attempt: int) -> bool:
        """Whether nothing will ever go on with an attempt: it is over, or unknown.

        Raises:
            DatabaseUnavailable: that cannot be looked up.
        """
        try:
            status = DBOS.get_workflow_status(_id(job, attempt))
        except (SQLAlchemyError, dbos_errors.DBOSException) as error:
            raise DatabaseUnavailable(f"the job {job} cannot be looked up: {error}") from error
        return status is None or status.status in OVER

    def forget(self, before: datetime) -> None:
        """Removes what was noted of the steps of attempts that were over before a time.

        Raises:
            DatabaseUnavailable: it cannot be removed now.
        """
        try:
            while old := DBOS.list_workflows(
                status=list(OVER), completed_before=before.isoformat(), limit=FORGOTTEN_AT_ONCE,
                load_input=False, load_output=False,
            ):  # fmt: skip
                for one in old:  # short transactions: a chat may wait for each
                    DBOS.delete_workflow(one.workflow_id)
        except (SQLAlchemyError, dbos_errors.DBOSException) as error:
            raise DatabaseUnavailable(f"the steps of old jobs cannot be removed: {error}") from error

    def close(self) -> None:
        """Ends DBOS; every job must have been left."""
        with suppress(SQLAlchemyError, DatabaseUnavailable):
            DBOS.destroy(destroy_registry=True)
        if self._engine is not None:
            self._engine.dispose()


def prepare(owner_url: str, role: str) -> None:
    """Makes or upgrades DBOS's tables on Postgres as their owner, and lets the application's role use them. Any number
    of processes may do so at once, and again.

    Raises:
        DatabaseUnavailable: the server is away, or the owner may not make a schema there.
    """
    engine = create_engine(owner_url, poolclass=NullPool, connect_args=_connect_args())
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as lock:
            lock.exec_driver_sql("SELECT pg_advisory_lock(hashtextextended('parley jobs', 0))")
            DBOS.migrate(owner_url, schema=SCHEMA, application_role=role)
    except (SQLAlchemyError, dbos_errors.DBOSException) as error:
        raise DatabaseUnavailable(
            f"the tables of background jobs cannot be made: {error}; check PARLEY_DATABASE_OWNER_URL"
        ) from error


def _patient(url: str, closing: threading.Event) -> Engine:
    """Connections that wait for a server that is away: DBOS goes on with what it did as soon as it is back. Its own
    tries grow as rare as one a minute, and nothing ends them."""
    engine = create_engine(
        url, pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=True, connect_args=_connect_args()
    )  # fmt: skip

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _record: object, given: list[str], named: dict[str, object]) -> DBAPIConnection:
        told = False
        while not closing.is_set():
            try:
                return dialect.connect(*given, **named)
            except dialect.loaded_dbapi.OperationalError as error:
                if not told:
                    log.warning("background jobs wait for Postgres: %s", error)
                told = True
                closing.wait(RETRY_SECONDS)
        raise DatabaseUnavailable("the runner of background jobs is stopping")

    return engine


def _connect_args() -> dict[str, str | int]:
    return {
        "application_name": "parley jobs", "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2,
        "keepalives_count": 3,
    }  # fmt: skip


def _told(error: BaseException | None) -> BaseException | None:
    """What broke a job off, in the words of our own layers."""
    if isinstance(error, SQLAlchemyError):
        return DatabaseUnavailable(f"what was done could not be noted: {error}")
    return error


def _id(job: str, attempt: int) -> str:
    """The same attempt is the same workflow, which DBOS carries out once."""
    return f"{job}.{attempt}"
