"""Reads the files of a multipart body to disk while they come: bounded, and durable before anything is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from serving.errors import ApiError
from serving.uploads import LONGEST_PATH, Parcel, StorageFull, StorageUnusable, Uploads, cleaned
from tools.types import JsonObject

FIELD = "files"
MAX_FIELD_BYTES = 100_000
"""All other fields of a form together; they are read and left."""
DRAIN_BYTES, DRAIN_SECONDS = 100_000_000, 10.0
"""A body that is refused is read on, unkept, up to so many bytes and so long: a client that is still sending would
lose the error message to a reset connection."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What one request may bring."""

    bytes: int
    """Of one file."""
    files: int


async def receive(request: Request, parcel: Parcel, limits: UploadLimits) -> None:
    """Writes every part `files` of the body into the parcel, which is still to be committed.

    Raises:
        ApiError: 400 no or broken form, 413 too large or too many, 415 no form, 507 or 503 it cannot be stored.
    """
    form = _Form(parcel, limits)
    parser = _parser(request, form)
    try:
        async with aclosing(request.stream()) as stream:
            refused = await _parsed(stream, parser, form)
            if refused is not None:
                refused.close = not await _drained(stream)
                raise refused
    except ClientDisconnect:
        raise ApiError(400, "the request broke off before its end") from None


async def _parsed(stream: AsyncGenerator[bytes, None], parser: MultipartParser, form: _Form) -> ApiError | None:
    """Reads on as long as nothing is wrong; what is."""
    try:
        async for chunk in stream:
            parser.write(chunk)
            await asyncio.to_thread(form.work)
    except (ApiError, FormParserError, StorageFull, StorageUnusable) as error:
        return _told(error)
    return form.missing()


async def commit(parcel: Parcel) -> None:
    """Puts all files of a parcel in their places.

    Raises:
        ApiError: 507 or 503, it cannot be stored.
    """
    try:
        await asyncio.to_thread(parcel.commit)
    except (StorageFull, StorageUnusable) as error:
        raise _told(error) from error


def _told(error: ApiError | FormParserError | StorageFull | StorageUnusable) -> ApiError:
    match error:
        case ApiError():
            return error
        case StorageFull():
            return ApiError(507, str(error), code="storage_full")
        case StorageUnusable():
            return ApiError(503, str(error), code="storage_unusable")
        case _:
            return ApiError(400, f"the body is no valid multipart form: {error}")


def _parser(request: Request, form: _Form) -> MultipartParser:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise ApiError(415, 'the files must be sent as multipart/form-data, each in a part called "files"')
    boundary = options.get(b"boundary")
    if not boundary:
        raise ApiError(400, "the Content-Type names no boundary between the parts")
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": form.part_begin,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_headers_finished": form.headers_finished,
                "on_part_data": form.part_data,
                "on_part_end": form.part_end,
                "on_end": form.end,
            },
        )
    except FormParserError as error:
        raise _told(error) from error


async def _drained(stream: AsyncGenerator[bytes, None]) -> bool:
    """Reads on without keeping anything; whether the end came soon."""
    left = DRAIN_BYTES
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in stream:
                left -= len(chunk)
                if left < 0:
                    return False
    except TimeoutError:
        return False
    return True


@dataclass(slots=True)
class _Form:
    """What the parser has told of the body; work on the disk is noted and done by `work`, in a thread."""

    parcel: Parcel
    limits: UploadLimits
    ended: bool = False
    files: int = 0
    _other: int = 0
    _is_file: bool = False
    _headers: dict[str, bytes] = field(default_factory=dict[str, bytes])
    _name: bytes = b""
    _value: bytes = b""
    _to_do: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    _size: int = 0

    def work(self) -> None:
        """Does what has been noted."""
        to_do, self._to_do = self._to_do, []
        for step in to_do:
            step()

    def missing(self) -> ApiError | None:
        """What is wrong with a body that has ended."""
        if not self.ended:
            return ApiError(400, "the body ends before its last boundary")
        if not self.files:
            return ApiError(400, f'no file: send each in a part called "{FIELD}", with a filename', param=FIELD)
        return None

    def part_begin(self) -> None:
        self._headers, self._name, self._value = {}, b"", b""

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value
        self._name = self._value = b""

    def headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        filename = options.get(b"filename")
        self._is_file = filename is not None
        if filename is None:
            return
        if options.get(b"name") != FIELD.encode():
            raise ApiError(400, f'a file must be sent in a part called "{FIELD}"', param=FIELD)
        self.files += 1
        if self.files > self.limits.files:
            raise ApiError(413, f"more than {self.limits.files} files, the most that one upload may bring", param=FIELD)
        path = cleaned(filename.decode("utf-8", "replace").replace("%22", '"'))  # so browsers write it
        if not path or len(path) > LONGEST_PATH:
            raise ApiError(400, f"a file needs a name of 1 to {LONGEST_PATH} characters", param=FIELD)
        self._size = 0
        self._to_do.append(partial(self.parcel.begin, path))

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._other += end - start
            if self._other > MAX_FIELD_BYTES:
                raise ApiError(413, f"more than {MAX_FIELD_BYTES} bytes in fields that are no files")
            return
        self._size += end - start
        if self._size > self.limits.bytes:
            raise ApiError(413, f"a file is larger than {self.limits.bytes} bytes, the most that may be uploaded")
        self._to_do.append(partial(self.parcel.write, data[start:end]))

    def part_end(self) -> None:
        if self._is_file:
            self._to_do.append(self.parcel.end)

    def end(self) -> None:
        self.ended = True


def files_body() -> JsonObject:
    """The `requestBody` of OpenAPI for a route that uses `receive`."""
    files: JsonObject = {
        "type": "array",
        "items": {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"},
        "minItems": 1,
        "description": "The filename of each is its document's path; folders in it are kept.",
    }
    schema: JsonObject = {"type": "object", "properties": {FIELD: files}, "required": [FIELD]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@asynccontextmanager
async def opened(uploads: Uploads, tenant: str) -> AsyncGenerator[Parcel]:
    """A parcel of which nothing half is left, whatever happens."""
    parcel = uploads.parcel(tenant)
    try:
        yield parcel
    finally:
        with anyio.CancelScope(shield=True):
            await asyncio.to_thread(parcel.close)
