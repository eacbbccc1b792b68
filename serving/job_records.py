"""Data of background jobs: what is to be done, in which parts, and how far it has come."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Kind = Literal["ingest", "reembed", "retention", "title"]
KINDS: dict[str, Kind] = {kind: kind for kind in ("ingest", "reembed", "retention", "title")}
JobStatus = Literal["queued", "running", "finished", "failed", "cancelled"]
JOB_STATUS: dict[str, JobStatus] = {
    status: status for status in ("queued", "running", "finished", "failed", "cancelled")
}
ItemStatus = Literal["queued", "done", "failed", "cancelled"]
ITEM_STATUS: dict[str, ItemStatus] = {status: status for status in ("queued", "done", "failed", "cancelled")}


@dataclass(frozen=True, slots=True)
class NewItem:
    """One part of a job that is to be made."""

    name: str
    """An upload's or a document's path, a conversation's id, or the part of the data that is tidied."""
    content: str = ""
    """Hash of an upload's bytes."""
    document: str = ""
    """Id of the document that it makes."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is to be made; its owner is a user, or nobody ("" and "") for what the server does by itself."""

    tenant: str
    user: str
    kind: Kind
    items: tuple[NewItem, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A background job as its owner sees it."""

    id: str
    tenant: str
    user: str
    kind: Kind
    status: JobStatus
    done: int
    """Parts that are done; those that failed are not among them."""
    total: int
    failed: int
    error: str
    """What went wrong, in words a person understands; "" when nothing did."""
    version: int
    """Grows with every change: the id of its events."""
    attempt: int
    """From 1; a retry begins a new one."""
    created_at: str
    updated_at: str

    @property
    def is_over(self) -> bool:
        """Whether nothing happens to it any more by itself."""
        return self.status in ("finished", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Item:
    """One part of a job."""

    number: int
    """From 1, in the order in which they are done."""
    name: str
    content: str
    document: str
    status: ItemStatus
    error: str

    @property
    def key(self) -> str:
        """What it is about: the same key is the same work. It tells nobody what that is, for it is noted where no
        deleted document is looked for."""
        return hashlib.sha256(f"{self.name}@{self.content}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


class UnknownJob(Exception):
    """The owner has no such job."""


class NothingToRetry(Exception):
    """The job is under way, or all its parts are done."""
