"""The runner of background jobs: one in a server, one at a time on a data folder, off the way of every request."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Container, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio

from memory.sql import DatabaseUnavailable
from serving.database import DATABASE
from serving.job_places import FilePlace, Place, ServerPlace
from serving.job_progress import JobProgress
from serving.job_records import Job, NewJob
from serving.job_store import JobStore
from serving.job_work import Work
from serving.retention import PARTS, Retention

if TYPE_CHECKING:
    from serving.jobs import Workflows
    from serving.runtime import Runtime
    from serving.settings import Settings

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""How soon a job that another process has queued is seen."""
RELAUNCH_SECONDS = 2.0
"""How soon DBOS is started again when it could not be."""
CHECK_SECONDS = 5.0
"""How often it is looked whether a job was lost."""
RETENTION_HOURS = 1.0
HEAVY = frozenset({"ingest", "reembed"})
"""Kinds that work for long: one at a time for a tenant, so that its uploads keep their order."""
HEAVY_AT_ONCE, LIGHT_AT_ONCE = 2, 2

log = logging.getLogger(__name__)


class Runner:
    """Starts what is queued, in its order, and lets DBOS carry it out."""

    def __init__(
        self,
        store: JobStore,
        progress: JobProgress,
        work: Work,
        place: Place,
        *,
        retention_hours: float = RETENTION_HOURS,
    ) -> None:
        """`place`: the database that the store is in. `retention_hours`: between two passes."""
        self._store, self._progress, self._place = store, progress, place
        self._retention = timedelta(hours=retention_hours)
        self._go = asyncio.Event()
        self._work = work
        self._steps = _Steps(work)
        self._closing = threading.Event()
        self._started: dict[str, int] = {}
        self._next_check = 0.0
        self._next_retention = 0.0

    def start(self) -> None:
        """Begins; before that nothing is imported, read or written."""
        self._go.set()

    def stop(self) -> None:
        """To be called before `run` is cancelled: a server that is away is no longer waited for."""
        self._closing.set()

    async def run(self) -> None:
        """Runs jobs until it is cancelled; then what is under way is broken off, for the next runner to go on with.
        So it is when another process has taken over, as after a Postgres that was out of reach."""
        await self._go.wait()
        while True:
            async with self._place.alone() as lost, anyio.create_task_group() as tasks:
                tasks.start_soon(self._carry_out)
                await lost()
                log.warning("another process runs the background jobs now")
                self._closing.set()
                tasks.cancel_scope.cancel()
            self._steps, self._started, self._closing = _Steps(self._work), {}, threading.Event()

    async def _carry_out(self) -> None:
        workflows = await self._launch()
        try:
            with self._store.bell.listening() as heard:
                while True:
                    try:
                        await self._turn(workflows)
                    except DatabaseUnavailable as error:
                        log.warning("background jobs wait: %s", error)
                        await asyncio.sleep(LOOK_SECONDS)
                    await heard.wait(LOOK_SECONDS)
        finally:
            self._closing.set()
            with anyio.CancelScope(shield=True):
                await self._steps.close()
                await asyncio.to_thread(workflows.close)
                await self._steps.close()  # of a job that was just being started

    async def _launch(self) -> Workflows:
        """DBOS, imported and started in a thread; tried again while the database cannot be used."""
        while True:
            start = partial(_launch, self._place, self._steps, self._closing)
            launching = asyncio.create_task(asyncio.to_thread(start))
            try:
                with anyio.CancelScope(shield=True):  # half a start could not be ended
                    return await launching
            except DatabaseUnavailable as error:
                log.warning("%s", error)
                await asyncio.sleep(RELAUNCH_SECONDS)

    async def _turn(self, workflows: Workflows) -> None:
        """One look at what is to be done."""
        for job, (attempt, error) in list(self._steps.broken.items()):
            await self._progress.fail(job, attempt, error)
            del self._steps.broken[job]
        await self._tidy_at_times(workflows)
        unfinished = await self._progress.unfinished()
        await self._check(workflows, unfinished)
        known = {job.id: job.attempt for job in unfinished}
        self._started = {id: attempt for id, attempt in self._started.items() if known.get(id) == attempt}
        for job in startable(unfinished, self._started.keys()):
            await asyncio.to_thread(workflows.start, job.id, job.attempt)
            self._started[job.id] = job.attempt

    async def _check(self, workflows: Workflows, unfinished: Sequence[Job]) -> None:
        """A job that nothing goes on with any more has failed: its owner may retry it."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + CHECK_SECONDS
        for job in unfinished:
            begun = job.status == "running" or self._started.get(job.id) == job.attempt
            if begun and job.id not in self._steps.inside and await asyncio.to_thread(
                workflows.is_lost, job.id, job.attempt
            ):  # fmt: skip
                await self._progress.fail(job.id, job.attempt, "it broke off, and the log tells why")

    async def _tidy_at_times(self, workflows: Workflows) -> None:
        """Queues retention when the last one was begun long enough ago, by this server or another one."""
        if time.monotonic() < self._next_retention:
            return
        self._next_retention = time.monotonic() + min(60.0, self._retention.total_seconds())
        last = await self._progress.newest("", "", "retention")
        now = datetime.now(UTC)
        if last is not None and now - self._retention < datetime.fromisoformat(last.created_at) <= now:
            return
        await asyncio.to_thread(workflows.forget, now - self._retention)
        await self._store.add(NewJob("", "", "retention", PARTS))


class _Steps:
    """The bridge from DBOS's threads to the event loop: every step is a task here, which this object owns."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing = False
        self._empty = asyncio.Event()
        self._empty.set()
        self.inside: dict[str, int] = {}
        """Jobs that a thread works on, and how many threads do."""
        self.broken: dict[str, tuple[int, str]] = {}
        """Jobs that broke off: the attempt, and why in words."""

    def enter(self, job: str) -> None:
        """See serving.jobs.Steps."""
        self._loop.call_soon_threadsafe(self._entered, job)

    def leave(self, job: str, attempt: int, error: BaseException | None) -> None:
        """See serving.jobs.Steps."""
        self._loop.call_soon_threadsafe(self._left, job, attempt, error)

    def take(self, job: str, attempt: int) -> Sequence[tuple[int, str]]:
        """See serving.jobs.Steps."""
        return self._call(lambda: self._work.take(job, attempt))

    def part(self, job: str, attempt: int, number: int) -> None:
        """See serving.jobs.Steps."""
        self._call(lambda: self._work.part(job, attempt, number))

    def end(self, job: str, attempt: int) -> None:
        """See serving.jobs.Steps."""
        self._call(lambda: self._work.end(job, attempt))

    async def close(self) -> None:
        """Breaks off every step and waits until every thread has left its job."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await self._empty.wait()

    def _call(self, step: Callable[[], Coroutine[None, None, T]]) -> T:
        """Runs a step on the loop and waits for it, in a thread of DBOS."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._loop.call_soon_threadsafe(self._begin, step, future)
        return future.result()

    def _begin(self, step: Callable[[], Coroutine[None, None, T]], future: concurrent.futures.Future[T]) -> None:
        if self._closing:
            future.set_exception(_stopping())
            return
        task = asyncio.create_task(step())
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(done, future))

    def _done(self, task: asyncio.Task[T], future: concurrent.futures.Future[T]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            future.set_exception(_stopping())
        elif error := task.exception():
            future.set_exception(error)
        else:
            future.set_result(task.result())

    def _entered(self, job: str) -> None:
        self._empty.clear()
        self.inside[job] = self.inside.get(job, 0) + 1

    def _left(self, job: str, attempt: int, error: BaseException | None) -> None:
        self.inside[job] -= 1
        if not self.inside[job]:
            del self.inside[job]
        if isinstance(error, Exception):
            text = str(error) if isinstance(error, DatabaseUnavailable) else f"internal error: {type(error).__name__}"
            self.broken[job] = attempt, text
            log.error("the job %s broke off", job, exc_info=error)
        if not self.inside:
            self._empty.set()


def runner_of(runtime: Runtime) -> Runner:
    """The runner over a process's open parts."""
    progress = JobProgress(runtime.database, runtime.jobs.bell)
    retention = Retention(
        runtime.database, runtime.catalog, progress, runtime.uploads, event_hours=runtime.settings.event_hours
    )
    work = Work(
        progress, runtime.uploads, retention, database=runtime.database, ingest=runtime.ingest,
        catalog=runtime.catalog, repository=runtime.repository, deps=runtime.deps,
    )  # fmt: skip
    return Runner(runtime.jobs, progress, work, place_of(runtime.settings))


def place_of(settings: Settings) -> Place:
    """Where the jobs are by these settings."""
    if settings.database_url:
        return ServerPlace(settings.database_url, settings.database_owner_url)
    return FilePlace(Path(settings.data_dir) / DATABASE)


def startable(unfinished: Sequence[Job], started: Container[str]) -> list[Job]:
    """Which of the jobs that wait may begin now: few at a time, the oldest first; of a tenant one long one."""
    busy = [job for job in unfinished if job.status == "running" or job.id in started]
    found: list[Job] = []
    for job in unfinished:
        if job in busy:
            continue
        heavy = job.kind in HEAVY
        alike = [one for one in busy if (one.kind in HEAVY) == heavy]
        room = len(alike) < (HEAVY_AT_ONCE if heavy else LIGHT_AT_ONCE)
        if room and not (heavy and any(one.tenant == job.tenant for one in alike)):
            busy.append(job)
            found.append(job)
    return found


def _launch(place: Place, steps: _Steps, closing: threading.Event) -> Workflows:
    """Imports and starts DBOS; in a thread."""
    from serving.jobs import Workflows

    return Workflows(place.url, steps, closing, owner_url=place.owner_url)


def _stopping() -> BaseException:
    from serving.jobs import Stopping

    return Stopping()


@asynccontextmanager
async def working(runner: Runner) -> AsyncGenerator[Runner]:
    """Runs jobs while its body does; they begin with `start`."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run)
        try:
            yield runner
        finally:
            runner.stop()
        tasks.cancel_scope.cancel()
