"""Files as documents: plain kinds here in a thread, the others in a process of their own, since they are untrusted."""

from __future__ import annotations

import asyncio

from knowledge.kinds import EXTENSIONS, ParseFailed, kind_of, supported
from knowledge.text_files import PLAIN, read
from knowledge.types import ParsedDocument
from knowledge.worker_process import WorkerProcess

__all__ = ["EXTENSIONS", "VERSION", "ParseFailed", "Parser", "supported"]

VERSION = "1"
"""Changes whenever the same file would give another document: files then count as changed."""
_LARGEST = 200  # megabytes of a file
_INLINE = 65536  # bytes up to which a plain file is read at once: a thread would cost more than the work


class Parser:
    """Turns a file's bytes into a document; any number of files may be given at once."""

    def __init__(self, *, seconds: float = 60, megabytes: int = 1500, expanded: int = 500, idle: float = 60) -> None:
        """Limits of one file that needs a parser: `seconds` of time, `megabytes` of memory, `expanded` megabytes
        of an archive's contents. Its process ends by itself when it was `idle` for so many seconds."""
        self._worker = WorkerProcess(seconds=seconds, megabytes=megabytes, expanded=expanded, idle=idle)

    async def parse(self, data: bytes, name: str) -> ParsedDocument:
        """The document of a file; `name` is its file name or path, whose extension tells the kind.

        Raises:
            ParseFailed: it cannot be taken in; the message says why.
        """
        kind = kind_of(name)
        name = name.encode("utf-8", "replace").decode()  # a path's broken bytes must not get into the title
        if kind is None:
            raise ParseFailed("files of this kind cannot be taken in")
        if not data:
            raise ParseFailed("empty file")
        if len(data) > _LARGEST * 1_000_000:
            raise ParseFailed(f"larger than {_LARGEST} MB")
        if kind not in PLAIN:
            return await self._worker.ask(name, data)
        if len(data) <= _INLINE:
            return read(data, name, kind)
        return await asyncio.to_thread(read, data, name, kind)

    @property
    def worker(self) -> int | None:
        """Process id of the worker, None while none runs."""
        return self._worker.pid

    async def close(self) -> None:
        """Ends the worker."""
        await self._worker.close()
