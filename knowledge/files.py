"""Which files a command means: named files, folders and globs. Blocking: to be run in a thread."""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from knowledge.types import Failure

_NOT_ENTERED = frozenset({"__pycache__", "node_modules"})


class NotFound(Exception):
    """A named file or folder does not exist, or a glob matches nothing; the text names it."""


@dataclass(slots=True)
class Selection:
    """What was found. Paths are absolute, with the links of their folders resolved."""

    files: dict[str, Path] = field(default_factory=dict[str, Path])
    """By the path as it is stored and shown (see `shown`)."""
    folders: list[str] = field(default_factory=list[str])
    """Named folders that could be listed: what has gone below them is to be removed."""
    unlisted: list[Failure] = field(default_factory=list[Failure])
    """What could not be looked into: nothing at or below it is to be removed."""
    special: set[str] = field(default_factory=set[str])
    """Pipes, sockets, devices, and links that lead out of the folder, in circles or nowhere."""
    others: int = 0
    """Files of kinds that cannot be taken in."""

    @property
    def skipped(self) -> int:
        """How many were left out."""
        return len(self.special) + self.others

    def has_gone(self, path: str) -> bool:
        """Whether nothing that could be taken in is at this path, below one of `folders`, any more."""
        if path in self.files or any(is_below(path, failure.path) for failure in self.unlisted):
            return False
        if path in self.special:
            return True
        try:
            found = _status(Path(path))
        except OSError:
            return False
        return found is None or not stat.S_ISREG(found.st_mode)


def is_below(path: str, folder: str) -> bool:
    """Whether a path lies below a folder, on a path boundary."""
    return path.startswith(folder.rstrip("/") + "/")


def shown(path: Path | str) -> str:
    """A path as text: bytes that are no UTF-8 as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def reason(error: OSError) -> str:
    """Why something cannot be read, in words."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "it vanished before it could be read"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return (error.strerror or str(error)).lower()


def select(named: Sequence[str], supported: Callable[[str], bool]) -> Selection:
    """The files that the names mean, each once; those of a folder in the order of their names.

    In folders and globs only `supported` names are taken; hidden files and folders, __pycache__ and node_modules
    are passed over. A name that exists is no glob; below a folder that a glob matches nothing is ever removed.

    Raises:
        NotFound: one of the names means nothing; none of the others is to be touched then.
    """
    found = Selection()
    starts = [(Path(match), match == name) for name in named for match in _matches(name, found)]
    for path, exact in starts:
        try:
            status = _status(path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                _Walk(found, path.resolve(), supported).run(removes=exact)
            elif status is not None and (exact or supported(path.name) or not stat.S_ISREG(status.st_mode)):
                _take(found, path.parent.resolve() / path.name, status)
            elif status is not None:
                found.others += 1
        except OSError as error:
            found.unlisted.append(Failure(shown(path.absolute()), reason(error)))
    return found


def _matches(name: str, found: Selection) -> list[str]:
    try:
        if _status(Path(name)) is not None:
            return [name]
    except OSError as error:
        found.unlisted.append(Failure(shown(Path(name).absolute()), reason(error)))
        return []
    if not glob.has_magic(name):
        raise NotFound(f"no such file or folder: {shown(name)}")
    matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    files = [match for match in matches if not ("**" in name and Path(match).is_dir())]
    if not files:
        raise NotFound(f"nothing matches {shown(name)}")
    return files


def _status(path: Path) -> os.stat_result | None:
    """What is at the path, links followed; None when there is nothing."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


def _take(found: Selection, path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        found.files[shown(path)] = path
    else:
        found.special.add(shown(path))


@dataclass(slots=True)
class _Walk:
    """One walk through a named folder."""

    found: Selection
    root: Path
    """Links resolved."""
    supported: Callable[[str], bool]
    followed: set[Path] = field(default_factory=set[Path])
    """Targets of links to folders: each is entered once, so that links cannot multiply a tree."""

    def run(self, *, removes: bool) -> None:
        """Adds all files below the root."""
        waiting: list[tuple[Path, tuple[Path, ...]]] = [(self.root, (self.root,))]
        while waiting:
            folder, above = waiting.pop()
            try:
                with os.scandir(folder) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError as error:
                self.found.unlisted.append(Failure(shown(folder), reason(error)))
                continue
            if removes and folder == self.root:
                self.found.folders.append(shown(folder))
            inner: list[tuple[Path, tuple[Path, ...]]] = []
            for entry in entries:
                if not entry.name.startswith(".") and entry.name not in _NOT_ENTERED:
                    self._enter(Path(entry.path), above, inner, linked=entry.is_symlink())
            waiting.extend(reversed(inner))

    def _enter(
        self, path: Path, above: tuple[Path, ...], inner: list[tuple[Path, tuple[Path, ...]]], *, linked: bool
    ) -> None:
        try:
            status = _status(path)
        except OSError as error:
            self.found.unlisted.append(Failure(shown(path), reason(error)))
            return
        real = path.resolve() if linked and status is not None else above[-1] / path.name
        if status is None or (linked and not real.is_relative_to(self.root)):
            self.found.special.add(shown(path))
        elif not stat.S_ISDIR(status.st_mode):
            if stat.S_ISREG(status.st_mode) and not self.supported(path.name):
                self.found.others += 1
            else:
                _take(self.found, path, status)
        elif linked and (real in self.followed or any(one.is_relative_to(real) for one in above)):
            self.found.special.add(shown(path))
        else:
            if linked:
                self.followed.add(real)
            inner.append((path, (*above, real)))
