"""parley jobs: list, show, start, retry and cancel background jobs. It only notes what is wanted in the data folder;
a server carries it out, at once or when one starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from knowledge.graph import GraphUnavailable
from knowledge.sql_catalog import SqlCatalog
from memory.sql import SqlDatabase
from serving.commands.shell import DONE, CommandFailed, Shell, console, opened_database, say, write_json
from serving.job_records import Item, Job, NewItem, NewJob, NothingToRetry, UnknownJob
from serving.job_shapes import item_json, job_json
from serving.job_store import JobStore, Owner
from serving.paging import MAX_LIMIT, walk
from serving.retention import PARTS
from tools.types import JsonObject

KINDS = ("reembed", "retention")
"""What may be started by hand."""


@dataclass(frozen=True, slots=True)
class _Desk:
    """What a command works with: the jobs of a tenant, of all its users, and those of the server itself."""

    shell: Shell
    database: SqlDatabase
    store: JobStore
    owner: Owner


def list_jobs(shell: Shell) -> int:
    """All jobs, newest first."""
    return _at_desk(shell, _list)


async def _list(desk: _Desk) -> int:
    found = [job async for job in walk(lambda cursor: desk.store.list(desk.owner, cursor, MAX_LIMIT))]
    if desk.shell.json:
        write_json({"jobs": [_json(job) for job in found]})
        return DONE
    if not found:
        say("There are no jobs.")
        return DONE
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "kind", "status", "done", "failed", "made", "user", "error", box=None, pad_edge=False)
    for job in found:
        cells = (job.id, job.kind, job.status, f"{job.done}/{job.total}", str(job.failed), job.created_at[:16])
        table.add_row(*(Text(cell) for cell in (*cells, job.user or "(server)", job.error)))
    console().print(table)
    return DONE


def show_job(shell: Shell, id: str) -> int:
    """One job and its parts.

    Raises:
        CommandFailed: there is no such job.
    """
    return _at_desk(shell, lambda desk: _show(desk, id))


async def _show(desk: _Desk, id: str) -> int:
    job = await desk.store.get(desk.owner, id)
    if job is None:
        raise UnknownJob(f"there is no job {id}")
    items = await desk.store.all_items(desk.owner, id)
    if desk.shell.json:
        write_json({**_json(job), "items": [item_json(item) for item in items]})
        return DONE
    _tell(job)
    from rich.text import Text

    for item in items:
        console().print(Text(_line(item)), style="red" if item.status == "failed" else None)
    return DONE


def start_job(shell: Shell, kind: str) -> int:
    """Queues a job: `reembed` reads every document of the tenant again, `retention` removes what has grown old.

    Raises:
        CommandFailed: no such kind may be started, or there are no documents.
    """
    if kind not in KINDS:
        raise CommandFailed(f"{kind!r} cannot be started; what can is {' and '.join(KINDS)}")
    return _at_desk(shell, lambda desk: _start(desk, kind))


async def _start(desk: _Desk, kind: str) -> int:
    if kind == "retention":
        new = NewJob("", "", "retention", PARTS)
    else:
        tenant = desk.owner.tenant
        documents = await SqlCatalog(desk.database).below(tenant, "")
        items = tuple(NewItem(one.path, document=one.id) for one in documents)
        if not items:
            raise CommandFailed("there are no documents; `parley ingest FOLDER` takes some in")
        new = NewJob(tenant, desk.shell.principal.user, "reembed", items)
    job, _ = await desk.store.add(new)
    return _done(desk, [job], "queued")


def retry_jobs(shell: Shell, ids: list[str]) -> int:
    """Queues again what failed or was cancelled of jobs that are over.

    Raises:
        CommandFailed: one does not exist, is under way, or all of it is done.
    """
    return _at_desk(shell, lambda desk: _retry(desk, ids))


async def _retry(desk: _Desk, ids: list[str]) -> int:
    return _done(desk, [await desk.store.retry(desk.owner, id) for id in ids], "queued again")


def cancel_jobs(shell: Shell, ids: list[str]) -> int:
    """Cancels jobs: those that wait at once, those that run after the part under way.

    Raises:
        CommandFailed: one of them does not exist.
    """
    return _at_desk(shell, lambda desk: _cancel(desk, ids))


async def _cancel(desk: _Desk, ids: list[str]) -> int:
    return _done(desk, [await desk.store.cancel(desk.owner, id) for id in ids], "cancelled what had not begun")


def _done(desk: _Desk, jobs: list[Job], what: str) -> int:
    if desk.shell.json:
        write_json({"jobs": [_json(job) for job in jobs]})
        return DONE
    for job in jobs:
        say(f"{what}: the {job.kind} job {job.id}, {job.status}, {job.done} of {job.total} parts done")
    return DONE


def _tell(job: Job) -> None:
    from rich.text import Text

    out = console()
    for name, value in _json(job).items():
        if value is not None:
            out.print(Text(f"{name:<11}{value}"))


def _line(item: Item) -> str:
    return f"{item.number:>6}  {item.status:<10}{item.name}" + (f": {item.error}" if item.error else "")


def _json(job: Job) -> JsonObject:
    return {**job_json(job), "user": job.user or None, "created_at": job.created_at, "updated_at": job.updated_at}


def _at_desk(shell: Shell, work: Callable[[_Desk], Awaitable[int]]) -> int:
    async def run() -> int:
        owner = Owner(shell.principal.tenant, None)
        async with opened_database(shell.settings().settings) as database:
            try:
                return await work(_Desk(shell, database, JobStore(database), owner))
            except (UnknownJob, NothingToRetry, GraphUnavailable) as error:
                raise CommandFailed(f"{error}; `parley jobs list` shows all") from error

    return asyncio.run(run())
