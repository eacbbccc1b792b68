"""Which files a command means when the system refuses to show them: as a user who may not look everywhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from knowledge.files import select, shown
from knowledge.kinds import supported


@contextmanager
def nobody() -> Generator[None]:
    """Runs its body as a user whom modes keep out, when the tests are run by root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name).resolve()
        path.chmod(0o755)
        (path / "a.md").write_text("Apples.")
        (path / "locked").mkdir()
        (path / "locked" / "b.md").write_text("Pears.")
        (path / "link.md").symlink_to(path / "locked" / "b.md")
        (path / "locked").chmod(0)
        yield path
        (path / "locked").chmod(0o700)


def test_a_folder_that_may_not_be_listed_fails_and_keeps_what_lies_below(folder: Path) -> None:
    with nobody():
        found = select([str(folder)], supported)
        assert list(found.files) == [str(folder / "a.md")]
        assert [(failure.path, failure.reason) for failure in found.unlisted] == [
            (str(folder / "link.md"), "no permission to read it"),
            (str(folder / "locked"), "no permission to read it"),
        ]
        assert found.folders == [str(folder)]
        assert not found.has_gone(str(folder / "locked" / "b.md"))
        assert not found.has_gone(str(folder / "a.md"))
        assert found.has_gone(str(folder / "c.md"))


def test_a_name_that_may_not_be_looked_at_fails_and_removes_nothing(folder: Path) -> None:
    with nobody():
        found = select([str(folder / "locked" / "b.md"), str(folder / "locked")], supported)
        assert [failure.path for failure in found.unlisted] == [
            str(folder / "locked" / "b.md"),
            str(folder / "locked"),
        ]
        assert (found.files, found.folders) == ({}, [])
        other = select([str(folder / "a.md")], supported)
        assert not other.has_gone(str(folder / "locked" / "b.md"))


def test_a_glob_takes_files_of_known_kinds_and_walks_folders_without_removing(tmp_path: Path) -> None:
    for name in ("x.md", "photo.jpg", "sub/y.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Text.")
    found = select([str(tmp_path / "*")], supported)
    assert sorted(Path(path).name for path in found.files) == ["x.md", "y.md"]
    assert (found.folders, found.skipped) == ([], 1)
    assert sorted(select([str(tmp_path / "**")], supported).files) == sorted(found.files)


def test_a_name_with_a_zero_byte_or_far_too_long_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no such file"):
        select(["a\0b"], supported)
    found = select([str(tmp_path / ("x" * 300))], supported)
    assert [failure.reason for failure in found.unlisted] == ["file name too long"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "[draft].md").write_text("Text.")
    assert list(select([str(tmp_path / "[draft].md")], supported).files) == [shown(tmp_path / "[draft].md")]
