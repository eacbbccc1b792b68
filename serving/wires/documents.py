"""Documents over HTTP: upload, list, look at, delete."""

from __future__ import annotations

import asyncio

import anyio
import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from knowledge.ingest import document_id
from knowledge.types import Document
from serving.auth import principal
from serving.documents import passages_of, remove
from serving.errors import ApiError
from serving.job_records import Job, NewItem, NewJob
from serving.job_shapes import document_json, passage_json, pending_json, uploaded_json
from serving.job_store import Owner
from serving.paging import Page, WrongCursor, key_of, page
from serving.principal import Principal
from serving.runtime import Runtime
from serving.sse import Attended
from serving.uploads import Received
from serving.wires.claims import PARAMETER, REPLAYED, claim_of
from serving.wires.describe import PROBLEMS, problems
from serving.wires.job_models import AcceptedModel, DocumentModel, DocumentPage, PassagePage
from serving.wires.record_models import USUAL, Cursor, Limit
from serving.wires.reply import listed, reply
from serving.wires.upload_body import UploadLimits, commit, files_body, opened, receive
from tools.types import JsonValue


def document_routes(runtime: Runtime) -> APIRouter:
    """`/api/documents` and what lies below it."""
    router = APIRouter(prefix="/api/documents", tags=["Knowledge"])
    limits = UploadLimits(runtime.settings.max_upload_bytes, runtime.settings.max_upload_files)

    @router.post(
        "",
        summary="Upload documents",
        status_code=202,
        responses={202: {"model": AcceptedModel}, **PROBLEMS, **problems(409, 507)},
        openapi_extra={"parameters": [PARAMETER], **files_body()},
    )
    async def upload(request: Request) -> Response:
        """Every file is on the disk when the answer comes; a job takes them in after that, and goes on with it when
        the server is restarted. A file whose path there is already replaces that document. All or nothing is
        accepted; a file that turns out to be broken later counts as failed in the job, and the others go on."""
        who = principal(request)
        async with opened(runtime.uploads, who.tenant) as parcel:
            await receive(request, parcel, limits)
            claim = claim_of(request, who, orjson.dumps([(one.path, one.content) for one in parcel.received]))
            await commit(parcel)

        async def work() -> Response:
            new = NewJob(who.tenant, who.user, "ingest", tuple(_item(who.tenant, one) for one in parcel.received))
            made = False
            try:
                job, made = await runtime.jobs.add(new, claim, parcel.id)
            finally:
                if not made:
                    with anyio.CancelScope(shield=True):
                        await asyncio.to_thread(runtime.uploads.done, who.tenant, parcel.id)
            return await _accepted(runtime, job, new=made)

        return Attended(work())

    @router.get("", summary="List the documents", responses={200: {"model": DocumentPage}, **problems(400, 500, 503)})
    async def documents(request: Request, cursor: Cursor = None, limit: Limit = USUAL) -> Response:
        """All that can be found, of the whole tenant, by path. What is still to be taken in is in the job."""
        after = "" if cursor is None else key_of("documents", cursor)
        found = await runtime.catalog.after(principal(request).tenant, after, limit + 1)
        return listed(page("documents", found, limit, lambda document: document.path), document_json)

    @router.get(
        "/{document_id}",
        summary="Get a document",
        responses={200: {"model": DocumentModel}, **problems(404, 500, 503)},
    )
    async def get(request: Request, document_id: str) -> Response:
        """Also one whose file waits to be taken in, or could not be; `status` tells."""
        tenant = principal(request).tenant
        document = (await runtime.catalog.get(tenant, [document_id])).get(document_id)
        if document is not None:
            return reply(document_json(document))
        item = await runtime.jobs.pending(tenant, document_id)
        if item is None:
            raise _unknown(document_id)
        return reply(pending_json(item))

    @router.get(
        "/{document_id}/passages",
        summary="List the passages of a document",
        responses={200: {"model": PassagePage}, **problems(400, 404, 500, 503)},
    )
    async def passages(request: Request, document_id: str, cursor: Cursor = None, limit: Limit = USUAL) -> Response:
        """In the order of the document."""
        document = (await runtime.catalog.get(principal(request).tenant, [document_id])).get(document_id)
        if document is None:
            raise _unknown(document_id)
        start = 0 if cursor is None else _start(document, cursor)
        found = list(enumerate(await passages_of(runtime, document, start, limit + 1), start))
        numbered = page(_list_of(document), found, limit, lambda one: str(one[0]))
        return listed(Page(tuple(one for _, one in numbered.items), numbered.next_cursor), passage_json)

    @router.delete(
        "/{document_id}",
        summary="Delete a document",
        status_code=204,
        responses={204: {"description": "It is gone."}, **problems(404, 500, 503)},
    )
    async def delete(request: Request, document_id: str) -> Response:
        """With its passages and its uploaded original, and wherever it waits to be taken in. Whoever uploaded it may
        do so, and an admin."""
        who = principal(request)
        if not await _exists(runtime, who, document_id):
            raise _unknown(document_id)
        if not who.is_admin and not await runtime.jobs.uploaded(who.tenant, who.user, document_id):
            text = "only an admin or whoever uploaded it may remove this document"
            raise ApiError(403, text, code="not_yours")
        try:
            removed = await remove(runtime, who.tenant, document_id)
        except OSError as error:
            raise ApiError(503, f"its original cannot be removed: {error.strerror}; try again") from error
        if not removed:
            raise _unknown(document_id)
        return Response(status_code=204)

    return router


def _item(tenant: str, received: Received) -> NewItem:
    return NewItem(received.path, received.content, document_id(tenant, received.path))


async def _accepted(runtime: Runtime, job: Job, *, new: bool) -> Response:
    items = await runtime.jobs.all_items(Owner(job.tenant, job.user), job.id)
    headers = {"Location": f"/api/jobs/{job.id}"} | ({} if new else REPLAYED)
    documents: list[JsonValue] = [uploaded_json(item) for item in items]
    return reply({"job_id": job.id, "documents": documents}, 202, headers)


async def _exists(runtime: Runtime, who: Principal, document: str) -> bool:
    if await runtime.catalog.get(who.tenant, [document]):
        return True
    return await runtime.jobs.pending(who.tenant, document) is not None


def _unknown(document: str) -> ApiError:
    return ApiError(404, f"there is no document {document}")


def _list_of(document: Document) -> str:
    """The list's name in cursors: another version of the document has other passages."""
    return f"passages-{document.id}-{document.sha256[:12]}"


def _start(document: Document, cursor: str) -> int:
    key = key_of(_list_of(document), cursor)
    if not key.isdecimal():
        raise WrongCursor("cursor: not a next_cursor of this list; leave it out to begin at the start")
    return int(key) + 1
