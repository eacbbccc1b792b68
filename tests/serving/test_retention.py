"""Retention: what has grown old goes, what is needed stays, and doing it twice changes nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from knowledge.sql_catalog import SqlCatalog
from knowledge.types import Document
from memory.sql import Connection, SqlDatabase
from serving.idempotency import Claim
from serving.job_progress import JobProgress
from serving.job_records import NewItem, NewJob
from serving.job_store import JobStore, Owner
from serving.retention import AT_ONCE, PARTS, Retention
from serving.rows import RUN_COLUMNS, columns
from serving.times import stamp
from serving.uploads import GRACE_SECONDS, Parcel, Uploads
from tests.databases import database, postgres_made, postgres_urls

__all__ = ["database", "postgres_made", "postgres_urls"]

NOW = datetime.now(UTC)


class Desk:
    """Retention over a database of its own."""

    def __init__(self, database: SqlDatabase, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.store = JobStore(database)
        self.progress = JobProgress(database, self.store.bell)
        self.uploads = Uploads(folder / "uploads")
        self.catalog = SqlCatalog(database)
        self.retention = Retention(database, self.catalog, self.progress, self.uploads, event_hours=2)

    async def tidy(self) -> None:
        """All of it, twice."""
        for _ in range(2):
            for part in PARTS:
                await self.retention.part(part.name)

    def send(self, *contents: bytes, tenant: str = "t") -> Parcel:
        """Stages bytes."""
        parcel = self.uploads.parcel(tenant)
        for data in contents:
            parcel.begin("a.md")
            parcel.write(data)
            parcel.end()
        parcel.commit()
        return parcel

    def age(self) -> None:
        """Makes all uploads old."""
        for path in (self.folder / "uploads").rglob("*"):
            os.utime(path, (0, path.stat().st_mtime - GRACE_SECONDS - 1))

    def uploads_left(self) -> list[Path]:
        return [path for path in (self.folder / "uploads").rglob("*") if path.is_file()]

    async def rows(self, sql: str) -> list[str]:
        found = await self.database.read(lambda connection: connection.execute(sql).fetchall())
        return [str(row[0]) for row in found]


@pytest.fixture
def desk(database: SqlDatabase, tmp_path: Path) -> Desk:
    return Desk(database, tmp_path)


async def test_events_go_some_hours_after_their_run_ended_and_those_of_living_runs_stay(desk: Desk) -> None:
    def fill(connection: Connection) -> None:
        zeros = (*RUN_COLUMNS[RUN_COLUMNS.index("prompt_tokens") :][:4], "background", "answer", "cancelling")
        blank = dict.fromkeys(RUN_COLUMNS, "") | dict.fromkeys(zeros, 0)
        ends = {"old": stamp(NOW - timedelta(hours=3)), "new": stamp(NOW - timedelta(hours=1)), "running": None}
        ends |= {f"old{n}": ends["old"] for n in range(AT_ONCE)}
        for id, end in ends.items():
            values = blank | {"id": id, "finished_at": end, "status": "finished"}
            places = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO runs ({columns(list(values))}) VALUES ({places})", list(values.values()))
        connection.executemany(
            "INSERT INTO events (run, first, last, body) VALUES (?, ?, ?, ?)",
            [(id, first, first, b"0") for id in (*ends, "gone") for first in (1, 2)],
        )

    await desk.database.write(fill)
    await desk.tidy()
    assert await desk.rows("SELECT DISTINCT run FROM events ORDER BY run") == ["new", "running"]
    assert len(await desk.rows("SELECT id FROM runs")) == 3 + AT_ONCE


async def test_idempotency_keys_go_after_a_day(desk: Desk) -> None:
    for key in ("old", "new"):
        await desk.store.add(NewJob("t", "u", "title", (NewItem("x"),)), Claim("t", "u", key, "request"))

    def age(connection: Connection) -> None:
        values = (stamp(NOW - timedelta(hours=25)),)
        connection.execute("UPDATE idempotency SET created_at = ? WHERE key = 'old'", values)

    await desk.database.write(age)
    await desk.tidy()
    assert await desk.rows("SELECT key FROM idempotency") == ["new"]


async def test_uploads_stay_while_a_job_or_a_document_needs_them(desk: Desk) -> None:
    sent, nobody, gone = desk.send(b"waits", b"done"), desk.send(b"nobody"), desk.send(b"gone", tenant="gone")
    waits, done = (one.content for one in sent.received)
    desk.uploads.keep("gone", gone.id, gone.received[0].content, "d9")
    items = tuple(NewItem("a.md", content, "d1") for content in (waits, done))
    await desk.store.add(NewJob("t", "u", "ingest", items), id=sent.id)
    await desk.progress.take(sent.id, 1)
    await desk.progress.end_item(sent.id, 2)
    for document in ("d1", "removed"):
        desk.uploads.keep("t", sent.id, done, document)
    await desk.catalog.put(Document("d1", "t", "a.md", "A", "hash", 4, 1, "2026-11-21T10:00:00Z"))
    await desk.tidy()
    assert desk.uploads.read("t", nobody.id, nobody.received[0].content) == b"nobody"
    desk.age()
    await desk.tidy()
    assert sorted(path.name for path in desk.uploads_left()) == sorted([waits, done, "d1"])
    await desk.progress.end_item(sent.id, 1)
    await desk.tidy()
    assert [path.name for path in desk.uploads_left()] == ["d1"]
    assert desk.uploads.original("t", "d1") == b"done"


async def test_jobs_go_a_month_after_their_end(desk: Desk) -> None:
    made = [(await desk.store.add(NewJob("t", "u", "title", (NewItem("x"),))))[0] for _ in range(4)]
    for job in made[:3]:
        await desk.store.cancel(Owner("t", "u"), job.id)

    def age(connection: Connection) -> None:
        old = stamp(NOW - timedelta(days=31))
        connection.executemany("UPDATE jobs SET updated_at = ? WHERE id = ?", [(old, made[n].id) for n in (0, 1, 3)])

    await desk.database.write(age)
    await desk.tidy()
    left = [made[2].id, made[3].id]
    assert await desk.rows("SELECT id FROM jobs ORDER BY id") == left
    assert await desk.rows("SELECT job FROM jobitems ORDER BY job") == left
