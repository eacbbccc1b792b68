"""Uploaded bytes on disk: durable under their hash before anybody is told so, and kept as long as they are needed."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from serving.ids import uuid7

GRACE_SECONDS = 3600.0
"""A file younger than this is never taken for one that nobody needs: its rows may be on their way."""
LONGEST_PATH = 1_000
NEW = ".new"
"""Ends the name of a file that is being put in its place."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StorageFull(Exception):
    """There is no room for an upload; the text says what helps."""


class StorageUnusable(Exception):
    """Uploads cannot be written; the text says why."""


@dataclass(frozen=True, slots=True)
class Received:
    """A file whose bytes have arrived whole."""

    path: str
    content: str
    """SHA-256 of the bytes, in hex."""
    size: int


class Uploads:
    """The folder of uploads, one closed folder a tenant in it: `arriving` for what is being sent, `waiting` for what
    has come whole (a folder a job, the files named by their hash), `kept` for the originals of documents, named by the
    document's id.

    Its methods do short work on the disk: call them in a thread. Each raises OSError when the disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def parcel(self, tenant: str) -> Parcel:
        """A new request's files."""
        return Parcel(self._place(tenant, "arriving"), self._place(tenant, "waiting"))

    def read(self, tenant: str, job: str, content: str) -> bytes:
        """The bytes of that hash, which wait for that job.

        Raises:
            FileNotFoundError: there are none.
        """
        return (self._place(tenant, "waiting") / job / content).read_bytes()

    def keep(self, tenant: str, job: str, content: str, document: str) -> None:
        """Keeps those bytes as the original of a document, in place of an earlier one; costs no space."""
        source, folder = self._place(tenant, "waiting") / job / content, self._place(tenant, "kept")
        _make(folder)
        new = folder / f"{uuid7()}{NEW}"
        with self._lock:
            try:
                os.link(source, new)
                new.replace(folder / document)
            finally:
                new.unlink(missing_ok=True)  # nothing is moved onto a link to the same file

    def discard(self, tenant: str, job: str, content: str) -> None:
        """Removes bytes that wait for a job."""
        (self._place(tenant, "waiting") / job / content).unlink(missing_ok=True)

    def original(self, tenant: str, document: str) -> bytes | None:
        """The kept bytes of a document; None when it was not uploaded."""
        try:
            return (self._place(tenant, "kept") / document).read_bytes()
        except FileNotFoundError:
            return None

    def forget(self, tenant: str, document: str) -> None:
        """Removes the original of a document, where there is one."""
        self.drop(tenant_folder(tenant), document)

    def done(self, tenant: str, job: str) -> None:
        """Removes all that waits for a job."""
        self.clear(tenant_folder(tenant), job)

    # -- for retention, by the names of folders ----------------------------------------------------------------

    def tenants(self) -> list[str]:
        """The names of the tenants' folders."""
        return sorted(path.name for path in _listed(self._folder))

    def waiting(self, folder: str) -> list[str]:
        """The jobs for which something waits in a tenant's folder, for so long that their rows must be there if they
        are ever to be. What broke off while it arrived, that long ago, is removed."""
        oldest = time.time() - GRACE_SECONDS
        place = self._folder / folder
        with self._lock:
            for part in [*_listed(place / "arriving"), *place.glob(f"kept/*{NEW}")]:
                if _changed(part) < oldest:
                    part.unlink(missing_ok=True)
        return [path.name for path in _listed(place / "waiting") if _changed(path) < oldest]

    def originals(self, folder: str) -> list[str]:
        """Ids of the documents whose originals a tenant's folder keeps."""
        return [path.name for path in _listed(self._folder / folder / "kept") if path.suffix != NEW]

    def clear(self, folder: str, job: str) -> None:
        """Removes all that waits for a job from a tenant's folder; the documents' own names for it come first."""
        place = self._folder / folder
        files = _listed(place / "waiting" / job)
        if files:
            _sync(place / "kept")
        for file in files:
            file.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            (place / "waiting" / job).rmdir()

    def drop(self, folder: str, document: str) -> None:
        """Removes an original from a tenant's folder."""
        (self._folder / folder / "kept" / document).unlink(missing_ok=True)

    def _place(self, tenant: str, part: str) -> Path:
        return self._folder / tenant_folder(tenant) / part


class Parcel:
    """The files of one request on their way in: all of them are there after `commit`, else none is."""

    def __init__(self, arriving: Path, waiting: Path) -> None:
        self.id = uuid7()
        """Of the job that is to be made of it."""
        self._arriving, self._waiting = arriving, waiting / self.id
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._name = ""
        self._parts: list[tuple[Path, Received]] = []
        self._committed = False
        self.size = 0
        """Bytes of the file that is open."""

    @property
    def received(self) -> tuple[Received, ...]:
        """The files that have come whole, in their order."""
        return tuple(received for _, received in self._parts)

    def begin(self, path: str) -> None:
        """Opens the next file, which is to be known by `path`.

        Raises:
            StorageFull, StorageUnusable: it cannot be written.
        """
        self._name, self.size, self._digest = path, 0, hashlib.sha256()
        with _told():
            _make(self._arriving)
            self._file = (self._arriving / uuid7()).open("xb")

    def write(self, data: bytes) -> None:
        """Adds to the open file.

        Raises:
            StorageFull, StorageUnusable: it cannot be written.
        """
        assert self._file is not None
        self.size += len(data)
        self._digest.update(data)
        with _told():
            self._file.write(data)

    def end(self) -> None:
        """Closes the open file; its bytes are on the disk then.

        Raises:
            StorageFull, StorageUnusable: it cannot be written.
        """
        assert self._file is not None
        with _told():
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        received = Received(self._name, self._digest.hexdigest(), self.size)
        self._parts.append((Path(self._file.name), received))
        self._file = None

    def commit(self) -> None:
        """Puts every file in its place, durably.

        Raises:
            StorageFull, StorageUnusable: it cannot be written.
        """
        with _told():
            _make(self._waiting)
            for part, received in self._parts:
                part.replace(self._waiting / received.content)
            _sync(self._waiting)
            _sync(self._waiting.parent)
        self._committed = True

    def close(self) -> None:
        """Removes what has not been committed."""
        files = [] if self._committed else [part for part, _ in self._parts]
        if self._file is not None:
            files.append(Path(self._file.name))
            with suppress(OSError):  # what it still held does not fit; it goes anyway
                self._file.close()
        for file in files:
            file.unlink(missing_ok=True)


@contextmanager
def _told() -> Generator[None]:
    """Says what a failing disk means for an upload."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StorageFull(
                "the disk is full, so nothing of this upload was stored; free some space and send it again"
            ) from error
        raise StorageUnusable(f"uploads cannot be stored: {error.strerror}; check the data folder") from error


def tenant_folder(tenant: str) -> str:
    """The name of a tenant's folder: any name may be a tenant's, not any a folder's."""
    return hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def cleaned(name: str) -> str:
    """The path by which an upload is known: the name that it was sent with, its folders kept, as one relative path.
    "" when nothing is left of it.

    Both slashes part folders; steps up, empty parts and control characters are dropped; letters are composed (NFC),
    since some systems send them apart.
    """
    text = unicodedata.normalize("NFC", name.replace("\\", "/"))
    text = "".join(sign for sign in text if unicodedata.category(sign) not in ("Cc", "Cs"))
    parts = [part.strip() for part in text.split("/")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":  # a drive
        parts = parts[1:]
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _sync(folder: Path) -> None:
    """Makes the names in a folder durable."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _changed(path: Path) -> float:
    """When it was last written; now when it has gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
