"""DBOS: carries each job out once, step after step; what a killed server left is gone on with by the next one.

Importing this takes a second or two and some 40 MB: a server does it in a thread, once it listens; nothing else does.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos import error as dbos_errors
from sqlalchemy.exc import SQLAlchemyError

from memory.sqlite_errors import DatabaseUnavailable

NAME, VERSION = "parley", "1"
"""DBOS only goes on with what the same application began; a new VERSION would strand the jobs of an older one."""
CONNECTIONS = 4
OVER = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
FORGOTTEN_AT_ONCE = 100


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

    def __init__(self, database: Path, steps: Steps) -> None:
        """Starts DBOS on the database, with what it had begun before.

        Raises:
            DatabaseUnavailable: it cannot keep its own tables there.
        """
        logger = logging.getLogger("dbos")
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # else it would write to stderr; so it goes to our log alone
        config: DBOSConfig = {
            "name": NAME,
            "application_version": VERSION,
            "executor_id": NAME,  # one runner per data folder: whoever runs takes everything up
            "system_database_url": f"sqlite:///{database}",
            "sys_db_pool_size": CONNECTIONS,
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        DBOS(config=config)

        @DBOS.workflow(name="job")
        def carry_out(job: str, attempt: int) -> None:
            steps.enter(job)
            try:
                while parts := DBOS.run_step({"name": "take"}, steps.take, job, attempt):
                    for number, key in parts:
                        DBOS.run_step({"name": key}, steps.part, job, attempt, number)
                DBOS.run_step({"name": "end"}, steps.end, job, attempt)
            finally:
                steps.leave(job, attempt, _told(sys.exception()))

        self._carry_out = carry_out
        try:
            DBOS.launch()
        except (SQLAlchemyError, dbos_errors.DBOSException) as error:
            DBOS.destroy(destroy_registry=True)
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
        with suppress(SQLAlchemyError):
            DBOS.destroy(destroy_registry=True)


def _told(error: BaseException | None) -> BaseException | None:
    """What broke a job off, in the words of our own layers."""
    if isinstance(error, SQLAlchemyError):
        return DatabaseUnavailable(f"what was done could not be noted: {error}")
    return error


def _id(job: str, attempt: int) -> str:
    """The same attempt is the same workflow, which DBOS carries out once."""
    return f"{job}.{attempt}"
