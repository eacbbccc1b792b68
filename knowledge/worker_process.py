"""The parse worker as seen from its parent: started on use, asked one file at a time, killed when it is late."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import anyio

from knowledge.kinds import ParseFailed
from knowledge.parse_worker import OUT_OF_MEMORY, head, read_answer, sizes
from knowledge.types import ParsedDocument

_ROOT = str(Path(__file__).resolve().parent.parent)
_SECRET = ("PARLEY_", "KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


def _environment() -> dict[str, str]:
    """The parent's environment without what a parser of untrusted files must not see."""
    kept = {name: value for name, value in os.environ.items() if not any(sign in name.upper() for sign in _SECRET)}
    return kept | {"PYTHONPATH": _ROOT}


class WorkerProcess:
    """One child process; files queue for it."""

    def __init__(self, *, seconds: float, megabytes: int, expanded: int, idle: float) -> None:
        """Limits of one file: `seconds` of time, `megabytes` of memory, `expanded` megabytes of an archive's
        contents; the process ends when it was `idle` for so many seconds."""
        self._seconds = seconds
        self._megabytes = megabytes
        self._arguments = (str(megabytes), str(expanded), str(idle))
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def ask(self, name: str, data: bytes) -> ParsedDocument:
        """The document of a file.

        Raises:
            ParseFailed: it cannot be read, took too long, or brought the worker down.
        """
        async with self._turn:
            used = self.pid is not None
            answer = await self._ask(name, data)
            if answer is None and used:  # it ended while it was idle, for which this file is not to blame
                answer = await self._ask(name, data)
            if answer is None:
                raise ParseFailed(self._reason())
            return read_answer(answer)

    def _reason(self) -> str:
        status = self._process.returncode if self._process else None
        if status == OUT_OF_MEMORY:
            return f"needs more than {self._megabytes} MB of memory to read"
        return f"the parser crashed on this file (status {status}; broken, or more than {self._megabytes} MB of memory)"

    async def _ask(self, name: str, data: bytes) -> bytes | None:
        """The worker's answer, None when it ended instead."""
        process = await self._running()
        assert process.stdin and process.stdout
        answer, ending = None, 0
        try:
            async with asyncio.timeout(self._seconds):
                path = name.encode()
                process.stdin.write(head(len(path), len(data)) + path)
                process.stdin.write(data)
                await process.stdin.drain()
                length, ending = sizes(await process.stdout.readexactly(8))
                answer = await process.stdout.readexactly(length)
        except TimeoutError as error:
            raise ParseFailed(f"took longer than {self._seconds:g} s") from error
        except (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError):
            await process.wait()
        finally:
            if answer is None:
                await self._end(process)
        if ending:
            await process.wait()
        return answer

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "knowledge.parse_worker",
                *self._arguments,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
        return self._process

    async def _end(self, process: Process) -> None:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def close(self) -> None:
        """Ends the process; a file that is being read fails."""
        process = self._process
        if process is not None and process.returncode is None:
            if self._turn.locked():
                process.kill()
            else:
                process.terminate()
            await process.wait()
