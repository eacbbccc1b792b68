"""Who runs what: a port that says which processes live, and its twin for processes that share a data folder.

There each process leaves a locked file; the lock ends with the process. The kernel drops it however a process ends, so
a number that another process got later, a stepped clock or a new container on the same folder fool nobody."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from memory.file_lock import locked
from serving.ids import uuid7

FOLDER = "processes"


MARK = "#"
"""Between a process's name and the number of its lease, where it has one."""


class Presence(Protocol):
    """This process among those that work on the same rows. A run's row holds the name of the process that works on
    it; only under that name are the run's events and its end stored, so the name is the fence."""

    @property
    def name(self) -> str:
        """What the rows of runs that begin now say. No other process ever has it."""
        ...

    async def gone(self, names: Collection[str]) -> set[str]:
        """Those of the names whose processes have ended, or count as ended. None when that cannot be known now.
        This process is never among them, under none of its names."""
        ...

    def is_mine(self, name: str) -> bool:
        """Whether this process has, or had, that name."""
        ...

    async def close(self) -> None:
        """Leaves: whatever this process still says it runs is now without one."""
        ...


def new_name() -> str:
    """A name for this process: host and number for people; the rest makes it the only one."""
    return f"{socket.gethostname().replace('/', '-')}:{os.getpid()}:{uuid7()}"


def without_token(name: str) -> str:
    """The part of a process's name that stays the same as long as it lives."""
    return name.partition(MARK)[0]


class FolderPresence:
    """A process on a data folder, for as long as it is open."""

    def __init__(self, data: Path) -> None:
        """`data`: the data folder, which must exist. What ended processes left there is removed."""
        self._folder = data / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for file in self._folder.iterdir():
            self._is_gone(file.name)
        self.name = new_name()
        self._file = self._folder / self.name
        self._release = weakref.finalize(self, os.close, _locked(self._file))

    async def close(self) -> None:
        """Leaves."""
        await asyncio.to_thread(self._file.unlink, missing_ok=True)
        self._release()

    def is_mine(self, name: str) -> bool:
        """Its one name."""
        return name == self.name

    async def gone(self, names: Collection[str]) -> set[str]:
        """Those whose files are not locked; the files are removed."""
        others = [name for name in names if name != self.name]
        return await asyncio.to_thread(lambda: {name for name in others if self._is_gone(name)}) if others else set()

    def _is_gone(self, name: str) -> bool:
        file = self._folder / name
        try:
            handle = os.open(file, os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            if not locked(handle):
                return False
            file.unlink(missing_ok=True)  # while it is locked: whoever has just made it sees that it has gone
        finally:
            os.close(handle)
        return True


def _locked(file: Path) -> int:
    """The handle of a new file that nobody else can have locked: one that is looked at before its lock is taken
    is removed, and made again."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if file.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)
