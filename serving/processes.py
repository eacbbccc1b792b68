"""Who runs what: each process that opens the data folder leaves a locked file there; the lock ends with the process.

The kernel drops the lock however a process ends, so a number that another process got later, a stepped clock or a
new container on the same folder fool nobody."""

from __future__ import annotations

import fcntl
import os
import socket
import weakref
from pathlib import Path

from memory.file_lock import locked
from serving.ids import uuid7

FOLDER = "processes"


class Presence:
    """This process on a data folder, for as long as it is open."""

    def __init__(self, data: Path) -> None:
        """`data`: the data folder, which must exist. What ended processes left there is removed."""
        self._folder = data / FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for file in self._folder.iterdir():
            self.is_gone(file.name)
        self.name = f"{socket.gethostname().replace('/', '-')}:{os.getpid()}:{uuid7()}"
        """Host and number for people; the rest makes it the only one."""
        self._file = self._folder / self.name
        self._release = weakref.finalize(self, os.close, _locked(self._file))

    def close(self) -> None:
        """Leaves: whatever this process still says it runs is now without one."""
        self._file.unlink(missing_ok=True)
        self._release()

    def is_gone(self, name: str) -> bool:
        """Whether the process of that name has ended. Its file is removed with it."""
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
