"""Documents and jobs as every door writes them."""

from __future__ import annotations

from knowledge.types import Document, Passage
from serving.job_records import Item, Job
from tools.types import JsonObject


def job_json(job: Job) -> JsonObject:
    """A job as every door shows it."""
    return {
        "id": job.id, "kind": job.kind, "status": job.status, "done": job.done, "total": job.total,
        "failed": job.failed, "error": job.error or None,
    }  # fmt: skip


def item_json(item: Item) -> JsonObject:
    """One part of a job."""
    return {
        "number": item.number, "name": item.name, "document": item.document or None, "status": item.status,
        "error": item.error or None,
    }  # fmt: skip


def document_json(document: Document) -> JsonObject:
    """A document that can be found."""
    return {
        "id": document.id, "path": document.path, "title": document.title, "status": "ready",
        "passages": document.passages, "bytes": document.bytes, "updated_at": document.updated_at,
        "url": document.url or None, "error": None,
    }  # fmt: skip


def pending_json(item: Item) -> JsonObject:
    """A document whose file waits, or could not be taken in."""
    return {
        "id": item.document, "path": item.name, "title": "", "status": _status(item), "passages": 0, "bytes": 0,
        "updated_at": None, "url": None, "error": item.error or None,
    }  # fmt: skip


def uploaded_json(item: Item) -> JsonObject:
    """A file of an upload."""
    return {"id": item.document, "path": item.name, "status": _status(item)}


def passage_json(passage: Passage) -> JsonObject:
    """A passage."""
    return {
        "id": passage.id, "text": passage.text, "heading": " > ".join(passage.headings), "page": passage.page,
        "start": passage.start, "end": passage.end,
    }  # fmt: skip


def _status(item: Item) -> str:
    return {"queued": "queued", "done": "ready"}.get(item.status, "failed")
