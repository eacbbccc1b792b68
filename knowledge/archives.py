"""Zip files that would fill the memory: refused by what they declare, before anything is expanded."""

from __future__ import annotations

import io
import zipfile

from knowledge.kinds import ParseFailed

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MOST_ENTRIES = 20_000
_MOST_RATIO = 200
_SMALL = 20_000_000  # bytes below which a good ratio is no sign of evil
_DEPTH = 3


def check_archive(data: bytes, expanded: int) -> None:
    """Looks through the central directory, and those of archives within.

    Raises:
        ParseFailed: no zip file, encrypted, or it declares more than `expanded` bytes in all.
    """
    if data.startswith(_OLE):
        raise ParseFailed("encrypted, or in the old binary Office format: save it again without a password")
    _check(data, expanded, 0)


def _check(data: bytes, left: int, depth: int) -> int:
    megabytes = left // 1_000_000
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError, UnicodeDecodeError) as error:
        raise ParseFailed("broken file: its zip container cannot be read") from error
    with archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        if total > left or depth > _DEPTH:
            raise ParseFailed(f"expands to more than {megabytes} MB (zip bomb?)")
        if len(entries) > _MOST_ENTRIES:
            raise ParseFailed(f"holds more than {_MOST_ENTRIES} files (zip bomb?)")
        if total > _SMALL and total > _MOST_RATIO * len(data):
            raise ParseFailed(f"expands to {total // len(data)} times its size (zip bomb?)")
        for entry in entries:
            if entry.flag_bits & 1:
                raise ParseFailed("the file is encrypted")
            if entry.file_size > 3:
                total += _inner(archive, entry, left - total, depth)
        return total


def _inner(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int, depth: int) -> int:
    """Bytes that an entry which is an archive itself expands to."""
    try:
        with archive.open(entry) as file:
            if file.read(4) != b"PK\x03\x04":
                return 0
            return _check(b"PK\x03\x04" + file.read(), left, depth + 1)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise ParseFailed("broken file: its zip container is damaged") from error
    except ParseFailed as failure:
        if "cannot be read" in str(failure):
            return 0  # begins like an archive and is none
        raise
