"""Uploaded bytes on disk: whole or not at all, and there as long as somebody needs them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.uploads import GRACE_SECONDS, Parcel, StorageUnusable, Uploads, cleaned, tenant_folder

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
"""Of the bytes "test"."""


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


def sent(uploads: Uploads, *pieces: bytes, path: str = "a.md") -> Parcel:
    parcel = uploads.parcel("t")
    parcel.begin(path)
    for piece in pieces:
        parcel.write(piece)
    parcel.end()
    return parcel


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def age(folder: Path) -> None:
    """Makes everything old enough to be removed."""
    for path in folder.rglob("*"):
        os.utime(path, (0, path.stat().st_mtime - GRACE_SECONDS - 1))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.md", "a.md"),
        ("sub/deep/a.md", "sub/deep/a.md"),
        ("../../a.md", "a.md"),
        ("/etc/../a.md", "etc/a.md"),
        ("C:\\Users\\me\\a.md", "Users/me/a.md"),
        ("./ a .md ", "a .md"),
        ("a\x00\n\x1b[31m.md", "a[31m.md"),
        ("u\u0308.md", "\u00fc.md"),
        ("a\ud800.md", "a.md"),
        ("..", ""),
        ("", ""),
    ],
)
def test_a_name_becomes_a_relative_path_without_steps_up_or_control_characters(name: str, path: str) -> None:
    assert cleaned(name) == path


def test_bytes_are_found_under_their_hash_once_all_files_have_come(uploads: Uploads, tmp_path: Path) -> None:
    parcel = sent(uploads, b"te", b"st")
    with pytest.raises(FileNotFoundError):
        uploads.read("t", parcel.id, HASH)
    parcel.commit()
    parcel.close()
    assert [(one.path, one.content, one.size) for one in parcel.received] == [("a.md", HASH, 4)]
    assert uploads.read("t", parcel.id, HASH) == b"test"
    assert files(tmp_path) == [HASH]
    for tenant, job in (("another", parcel.id), ("t", "another")):
        with pytest.raises(FileNotFoundError):
            uploads.read(tenant, job, HASH)


def test_a_parcel_that_is_given_up_leaves_nothing(uploads: Uploads, tmp_path: Path) -> None:
    parcel = sent(uploads, b"test")
    parcel.begin("b.md")
    parcel.write(b"half")
    parcel.close()
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "uploads").write_text("no folder")
    with pytest.raises(StorageUnusable, match="Not a directory"):
        Uploads(tmp_path / "uploads").parcel("t").begin("a.md")


def test_an_original_is_kept_without_a_second_copy_and_replaced_by_the_next(uploads: Uploads, tmp_path: Path) -> None:
    first, second = sent(uploads, b"test"), sent(uploads, b"newer")
    first.commit()
    second.commit()
    for _ in range(2):  # a killed step is done twice
        uploads.keep("t", first.id, HASH, "d1")
    (kept,) = tmp_path.rglob("d1")
    assert kept.stat().st_nlink == 2
    uploads.done("t", first.id)
    uploads.done("t", first.id)
    assert uploads.original("t", "d1") == b"test"
    uploads.keep("t", second.id, second.received[0].content, "d1")
    assert uploads.original("t", "d1") == b"newer"
    assert uploads.originals(tenant_folder("t")) == ["d1"]
    uploads.forget("t", "d1")
    uploads.forget("t", "d1")
    assert uploads.original("t", "d1") is None
    with pytest.raises(FileNotFoundError):
        uploads.keep("t", second.id, "0" * 64, "d2")


def test_only_what_is_old_is_asked_about_and_what_broke_off_is_removed(uploads: Uploads, tmp_path: Path) -> None:
    folder = tenant_folder("t")
    assert uploads.tenants() == []
    parcel = sent(uploads, b"test")
    parcel.commit()
    sent(uploads, b"broke off")
    assert uploads.tenants() == [folder]
    assert uploads.waiting(folder) == []
    assert len(files(tmp_path)) == 2
    age(tmp_path)
    assert uploads.waiting(folder) == [parcel.id]
    assert files(tmp_path) == [HASH]
    uploads.discard("t", parcel.id, HASH)
    uploads.discard("t", parcel.id, HASH)
    uploads.clear(folder, parcel.id)
    assert uploads.waiting(folder) == []
    assert files(tmp_path) == []
