"""Jobs and their parts as rows."""

from __future__ import annotations

from memory.sql import Connection
from serving.job_records import ITEM_STATUS, JOB_STATUS, KINDS, Item, Job, NewItem, NewJob
from serving.times import now

JOB = 'id, tenant, "user", kind, status, done, total, failed, error, version, attempt, created_at, updated_at'
ITEM = "number, name, content, document, status, error"
CHANGED = "version = version + 1, updated_at = :now"

SELECT_JOB = f"SELECT {JOB} FROM jobs WHERE id = :id"
INSERT_JOB = f"""INSERT INTO jobs ({JOB})
VALUES (:id, :tenant, :user, :kind, 'queued', 0, :total, 0, '', 1, 1, :now, :now)"""
INSERT_ITEM = f"INSERT INTO jobitems (job, {ITEM}) VALUES (?, ?, ?, ?, ?, 'queued', '')"

DELETED = "its document was deleted"
"""Error of a part whose document was deleted before it was made."""

FORGET_DOCUMENT = "UPDATE jobitems SET name = '(deleted)', document = '' WHERE "
"""A part says nothing more of a document that was deleted."""

Value = str | int | None
JobRow = tuple[str, str, str, str, str, int, int, int, str, int, int, str, str]
ItemRow = tuple[int, str, str, str, str, str]


def insert_job(connection: Connection, id: str, new: NewJob) -> None:
    """Stores a new job inside a transaction; ring the store's bell after it."""
    values: dict[str, Value] = {
        "id": id, "tenant": new.tenant, "user": new.user, "kind": new.kind, "total": len(new.items),
        "now": now(),
    }  # fmt: skip
    connection.execute(INSERT_JOB, values)
    connection.executemany(INSERT_ITEM, [_item_values(id, number, item) for number, item in enumerate(new.items, 1)])


def job_of(row: JobRow) -> Job:
    """A job from its row."""
    id, tenant, user, kind, status, done, total, failed, error, version, attempt, created_at, updated_at = row
    return Job(
        id, tenant, user, KINDS[kind], JOB_STATUS[status], done, total, failed, error, version, attempt,
        created_at, updated_at,
    )  # fmt: skip


def item_of(row: ItemRow) -> Item:
    """A part from its row."""
    number, name, content, document, status, error = row
    return Item(number, name, content, document, ITEM_STATUS[status], error)


def _item_values(job: str, number: int, item: NewItem) -> tuple[str, int, str, str, str]:
    return job, number, item.name, item.content, item.document
