"""Documents and jobs as the API's description shows them (serving/job_shapes.py makes them)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from serving.wires.record_models import TIME

JOB = "0198c0e0-3b7d-7a11-8d4e-6f708192a3b4"
DOCUMENT = "9f86d081884c7d659a2feaa0"
EXAMPLE = """id: 4
event: job.progress
data: {"type":"job.progress","id":"0198c0e0-3b7d-7a11-8d4e-6f708192a3b4","kind":"ingest","status":"running","done":2,\
"total":3,"failed":0,"error":null}

id: 6
event: job.finished
data: {"type":"job.finished","id":"0198c0e0-3b7d-7a11-8d4e-6f708192a3b4","kind":"ingest","status":"finished","done":3,\
"total":3,"failed":0,"error":null}

"""


class UploadedModel(BaseModel):
    """A file that has arrived, and the document that it will be."""

    id: str = Field(examples=[DOCUMENT], description="Id of the document; the same path has the same id.")
    path: str = Field(examples=["handbook/opening-hours.md"], description="The file's name as it was sent, cleaned.")
    status: Literal["queued", "ready", "failed"]


class AcceptedModel(BaseModel):
    """An upload that is stored and will be taken in."""

    job_id: str = Field(examples=[JOB])
    documents: list[UploadedModel]


class DocumentModel(BaseModel):
    """A document."""

    id: str = Field(examples=[DOCUMENT])
    path: str = Field(examples=["handbook/opening-hours.md"])
    title: str
    status: Literal["queued", "ready", "failed"] = Field(
        description="queued: its file waits to be taken in; failed: it could not be, and `error` says why."
    )
    passages: int
    bytes: int
    updated_at: str | None = Field(examples=[TIME])
    url: str | None = Field(description="The source's own address, when the document names one.")
    error: str | None


class DocumentPage(BaseModel):
    """Some documents, by path."""

    items: list[DocumentModel]
    next_cursor: str | None


class PassageModel(BaseModel):
    """A piece of a document, which a search finds as a whole."""

    id: str
    text: str
    heading: str = Field(description="Heading path, joined by ` > `.")
    page: int | None
    start: int = Field(description="Where it starts in the document's parsed text, in characters.")
    end: int


class PassagePage(BaseModel):
    """Some passages, in order."""

    items: list[PassageModel]
    next_cursor: str | None


class JobModel(BaseModel):
    """A background job."""

    id: str = Field(examples=[JOB])
    kind: Literal["ingest", "reembed", "retention", "title"]
    status: Literal["queued", "running", "finished", "failed", "cancelled"]
    done: int = Field(description="Parts that are done.")
    total: int
    failed: int = Field(description="Parts that could not be done; they are not among `done`.")
    error: str | None = Field(description="What went wrong, in words a person understands.")


class JobPage(BaseModel):
    """Some jobs, newest first."""

    items: list[JobModel]
    next_cursor: str | None


class ItemModel(BaseModel):
    """One part of a job, for example an uploaded file."""

    number: int
    name: str = Field(examples=["handbook/opening-hours.md"])
    document: str | None = Field(examples=[DOCUMENT])
    status: Literal["queued", "done", "failed", "cancelled"]
    error: str | None


class ItemPage(BaseModel):
    """Some parts of a job, in order."""

    items: list[ItemModel]
    next_cursor: str | None
