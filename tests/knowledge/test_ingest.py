"""Taking documents in: what is new, changed, gone, skipped or failed, and that nothing is lost or left behind."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
import pytest

from knowledge.catalog import Catalog
from knowledge.ingest import Ingest, NotFound, Progress
from knowledge.open import SCHEMAS, open_knowledge
from knowledge.parse import ParseFailed, Parser
from knowledge.search import Search
from knowledge.types import Document, IngestReport, SearchQuery
from memory.embedded import SCHEMA, EmbeddedMemory
from memory.embedding import HashEmbedder
from memory.sqlite import Database
from memory.store import MemoryStore, MemoryUnavailable
from memory.types import Record, Scope

EMBEDDER = HashEmbedder(64)
PASSAGES = Scope("t", "passages")


@dataclass(frozen=True)
class Base:
    """The parts of one process, and the folder that it takes in."""

    database: Database
    memory: MemoryStore
    catalog: Catalog
    parser: Parser
    ingest: Ingest
    search: Search
    docs: Path

    async def close(self) -> None:
        await self.parser.close()
        await self.database.close()

    def write(self, name: str, text: str) -> Path:
        path = self.docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    async def take(self, *named: Path | str) -> dict[str, int]:
        """Ingests and gives the counts that are not 0."""
        return counts(await self.ingest.paths("t", [str(name) for name in named or (self.docs,)]))

    async def paths(self) -> list[str]:
        return [document.path for document in await self.catalog.below("t", "")]

    async def at(self, path: Path) -> Document:
        found = await self.catalog.at("t", str(path))
        assert found is not None
        return found

    async def best(self, question: str) -> str:
        """Path and text of the best passage."""
        found = await self.search("t", SearchQuery(question, (await EMBEDDER.embed([question]))[0]), 1)
        return f"{found[0].document.path}: {found[0].passage.text}" if found else ""

    async def stored(self) -> tuple[int, int]:
        """Visible passages by the memory, and by the catalog."""
        statistics = await self.memory.statistics(PASSAGES, [])
        return statistics.records, sum(document.passages for document in await self.catalog.below("t", ""))


def book(word: str, parts: int = 80) -> str:
    """A text of so many passages: more than one transaction takes, when there are over 32."""
    filler = "and so it goes on until the line is long enough to stand alone. " * 4
    return "# Book\n\n" + "\n\n".join(f"## Part {n}\n\n{word} {n} {filler}" for n in range(parts))


def counts(report: IngestReport) -> dict[str, int]:
    found = {name: value for name, value in asdict(report).items() if name not in ("seconds", "failed", "passages")}
    return {name: value for name, value in (*found.items(), ("failed", len(report.failed))) if value}


class Failing(EmbeddedMemory):
    """A memory that is gone for some of the calls."""

    gone: str = ""
    gone_for: range = range(0)
    """Writes that fail, counted from 0."""
    writes: int = 0

    async def stage(self, scope: Scope, source: str, version: str, records: Sequence[Record]) -> None:
        self._reach("stage")
        await super().stage(scope, source, version, records)

    async def publish(self, scope: Scope, source: str, version: str | None, count: int) -> None:
        self._reach("publish")
        await super().publish(scope, source, version, count)

    def _reach(self, what: str) -> None:
        self.writes += 1
        if self.gone == what or self.writes - 1 in self.gone_for:
            raise MemoryUnavailable("it is gone")


async def opened(path: Path, docs: Path, *, apart: bool = False) -> Base:
    database = await Database.open(path, [SCHEMA, *SCHEMAS])
    memory = Failing(database, EMBEDDER.name, EMBEDDER.dimensions)
    knowledge = open_knowledge(database)
    parser = Parser()
    transaction = None if apart else database.transaction
    ingest = Ingest(parser, EMBEDDER, memory, knowledge.graph, knowledge.catalog, transaction, pauses=(0, 0))
    search = Search(memory, knowledge.graph, knowledge.catalog)
    return Base(database, memory, knowledge.catalog, parser, ingest, search, docs)


@pytest.fixture
async def base(tmp_path: Path) -> AsyncIterator[Base]:
    docs = tmp_path / "docs"
    docs.mkdir()
    found = await opened(tmp_path / "data" / "parley.sqlite", docs.resolve())
    yield found
    await found.close()


async def test_files_are_new_then_unchanged_then_updated_then_removed(base: Base) -> None:
    base.write("a.md", "# Apples\n\nApples are red.")
    pears = base.write("sub/b.md", "# Pears\n\nPears are green.")
    assert await base.take() == {"new": 2}
    assert await base.take() == {"unchanged": 2}
    base.write("a.md", "# Apples\n\nApples are yellow now.")
    assert await base.take() == {"updated": 1, "unchanged": 1}
    assert "yellow" in await base.best("Which colour have apples?")
    pears.unlink()
    assert await base.take() == {"removed": 1, "unchanged": 1}
    assert await base.paths() == [str(base.docs / "a.md")]
    assert await base.stored() == (1, 1)


async def test_a_document_row_says_what_the_file_was(base: Base) -> None:
    path = base.write("a.md", "# Apples\n\nApples are red.")
    report = await base.ingest.paths("t", [str(path)])
    assert (report.passages, report.seconds > 0) == (1, True)
    document = await base.at(path)
    assert (document.title, document.bytes, document.passages) == ("Apples", path.stat().st_size, 1)
    assert document.updated_at.endswith("Z")
    await base.ingest.paths("t", [str(path)])
    assert await base.at(path) == document


async def test_equal_content_at_two_paths_is_two_documents(base: Base) -> None:
    for name in ("a.md", "b.md"):
        base.write(name, "# Same\n\nThe same text.")
    assert await base.take() == {"new": 2}
    (one, two) = await base.catalog.below("t", "")
    assert one.id != two.id
    assert await base.stored() == (2, 2)


async def test_a_document_keeps_its_id_when_its_content_changes(base: Base) -> None:
    path = base.write("a.md", "First.")
    await base.take()
    before = await base.at(path)
    base.write("a.md", "Second.")
    await base.take()
    after = await base.at(path)
    assert (after.id, after.sha256 == before.sha256) == (before.id, False)


async def test_a_changed_file_leaves_nothing_of_its_old_text(base: Base) -> None:
    base.write("a.md", "# Xylograph\n\nThe Quorndon Zibeline is kept in Xylograph.")
    await base.take()
    base.write("a.md", "# Other\n\nNothing of the kind.")
    await base.take()
    await base.take()

    def rows(connection: sqlite3.Connection) -> list[str]:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        names = [name for (name,) in tables if not name.endswith(("_data", "_idx", "_config", "_vocabulary"))]
        return [str(row).lower() for name in names for row in connection.execute(f"SELECT * FROM {name}")]

    assert [row for row in await base.database.read(rows) if "quorndon" in row or "xylograph" in row] == []


async def test_removal_takes_place_only_below_named_folders(base: Base) -> None:
    gone = base.write("one/a.md", "Apples.")
    other = base.write("two/b.md", "Pears.")
    kept = base.write("three/c.md", "Plums.")
    await base.take()
    for path in (gone, other):
        path.unlink()
    assert await base.take(kept) == {"unchanged": 1}
    assert await base.take(str(base.docs / "*" / "*.md")) == {"unchanged": 1}
    assert await base.take(base.docs / "one") == {"removed": 1}
    assert await base.paths() == [str(kept), str(other)]


async def test_a_folder_whose_name_begins_alike_is_another_folder(base: Base) -> None:
    base.write("docs/a.md", "Apples.")
    base.write("docs2/b.md", "Pears.")
    await base.take()
    (base.docs / "docs2" / "b.md").unlink()
    assert await base.take(base.docs / "docs") == {"unchanged": 1}


async def test_a_missing_name_is_an_error_and_nothing_is_touched(base: Base) -> None:
    path = base.write("a.md", "Apples.")
    await base.take()
    path.unlink()
    base.write("b.md", "Pears.")
    for missing in (base.docs / "none", base.docs / "none.md", base.docs / "*.pdf"):
        with pytest.raises(NotFound, match=str(missing.name).replace("*", r"\*")):
            await base.take(base.docs, missing)
    (base.docs / "nowhere").symlink_to(base.docs / "none")
    with pytest.raises(NotFound, match="nowhere"):
        await base.take(base.docs / "nowhere")
    assert await base.paths() == [str(path)]


async def test_a_folder_that_has_gone_removes_nothing(base: Base) -> None:
    path = base.write("sub/a.md", "Apples.")
    await base.take()
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(NotFound):
        await base.take(path.parent)
    assert await base.paths() == [str(path)]
    assert await base.take() == {"removed": 1}


async def test_what_is_no_document_is_skipped_and_counted(base: Base) -> None:
    base.write("a.md", "Apples.")
    base.write("photo.jpg", "no document")
    base.write("empty.txt", "")
    os.mkfifo(base.docs / "pipe.md")
    with socket.socket(socket.AF_UNIX) as server:
        old = Path.cwd()
        os.chdir(base.docs)  # a socket's path must be short
        server.bind("socket.md")
        os.chdir(old)
        with anyio.fail_after(30):
            assert await base.take() == {"new": 1, "skipped": 4}


async def test_a_pipe_that_is_named_is_skipped_too(base: Base) -> None:
    os.mkfifo(base.docs / "pipe.md")
    with anyio.fail_after(30):
        assert await base.take(base.docs / "pipe.md") == {"skipped": 1}


async def test_links_out_of_the_folder_in_circles_or_nowhere_are_skipped(base: Base, tmp_path: Path) -> None:
    base.write("a/x.md", "Apples.")
    (tmp_path / "secret.md").write_text("Secret.")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "y.md").write_text("Outside.")
    (base.docs / "out.md").symlink_to(tmp_path / "secret.md")
    (base.docs / "out").symlink_to(tmp_path / "outside")
    (base.docs / "nowhere.md").symlink_to(tmp_path / "none.md")
    (base.docs / "loop.md").symlink_to(base.docs / "loop.md")
    (base.docs / "a" / "self").symlink_to(base.docs / "a")
    (base.docs / "a" / "up").symlink_to(base.docs)
    with anyio.fail_after(30):
        assert await base.take() == {"new": 1, "skipped": 6}
    assert await base.paths() == [str(base.docs / "a" / "x.md")]


async def test_links_inside_the_folder_are_followed_once(base: Base) -> None:
    base.write("a/x.md", "Apples.")
    base.write("b/y.md", "Pears.")
    (base.docs / "alias.md").symlink_to(base.docs / "a" / "x.md")
    (base.docs / "a" / "b").symlink_to(base.docs / "b")
    (base.docs / "b" / "a").symlink_to(base.docs / "a")
    with anyio.fail_after(30):
        report = await base.take()
    assert str(base.docs / "alias.md") in await base.paths()
    assert str(base.docs / "a" / "b" / "y.md") in await base.paths()
    assert report["new"] == len(await base.paths()) <= 6
    assert report["skipped"] >= 1


async def test_hidden_things_and_caches_are_passed_over_and_not_removed(base: Base) -> None:
    base.write("a.md", "Apples.")
    for name in (".git/x.md", "__pycache__/x.py", "node_modules/x/readme.md", ".hidden.md"):
        base.write(name, "Not this.")
    assert await base.take() == {"new": 1}
    assert await base.take(base.docs / ".git") == {"new": 1}
    assert await base.take() == {"unchanged": 1}
    assert len(await base.paths()) == 2


async def test_a_file_that_became_a_link_out_is_removed(base: Base, tmp_path: Path) -> None:
    path = base.write("a.md", "Apples.")
    await base.take()
    (tmp_path / "secret.md").write_text("Secret.")
    path.unlink()
    path.symlink_to(tmp_path / "secret.md")
    assert await base.take() == {"skipped": 1, "removed": 1}
    path.unlink()
    path.mkdir()
    assert await base.take() == {}


async def test_a_file_that_cannot_be_taken_in_fails_and_keeps_its_passages(base: Base) -> None:
    path = base.docs / "a.pdf"
    await base.ingest.content("t", str(path), "a.txt", b"The apple is red.")
    path.write_bytes(b"%PDF-1.7 broken")
    report = await base.ingest.paths("t", [str(base.docs)])
    assert [failure.path for failure in report.failed] == [str(path)]
    assert report.failed[0].reason
    assert counts(report) == {"failed": 1}
    assert "red" in await base.best("Which colour has the apple?")


async def test_a_named_file_of_an_unknown_kind_fails_with_its_reason(base: Base) -> None:
    report = await base.ingest.paths("t", [str(base.write("photo.jpg", "no document"))])
    assert [failure.reason for failure in report.failed] == ["files of this kind cannot be taken in"]
    assert await base.take(str(base.docs / "*")) == {"skipped": 1}


async def test_a_file_that_vanishes_on_the_way_fails_and_keeps_its_passages(base: Base) -> None:
    base.write("a.md", "Apples.")
    last = base.write("z.md", "Zebras are striped.")
    await base.take()
    (base.docs / "a.md").write_text("Apples again.")

    def vanish(progress: Progress) -> None:
        if progress.path.endswith("a.md"):
            last.unlink(missing_ok=True)

    report = await base.ingest.paths("t", [str(base.docs / "a.md"), str(last)], vanish)
    assert counts(report) == {"updated": 1, "failed": 1}
    assert report.failed[0].reason == "it vanished before it could be read"
    assert "striped" in await base.best("zebras")


async def test_a_file_that_turns_into_a_pipe_on_the_way_is_not_waited_for(base: Base) -> None:
    base.write("a.md", "Apples.")
    last = base.write("z.md", "Zebras.")

    def turn(progress: Progress) -> None:
        if progress.path.endswith("a.md") and last.is_file():
            last.unlink()
            os.mkfifo(last)

    with anyio.fail_after(30):
        report = await base.ingest.paths("t", [str(base.docs)], turn)
    assert [failure.reason for failure in report.failed] == ["it is no longer a regular file"]


async def test_what_may_not_be_read_fails_and_below_it_nothing_is_removed(base: Base) -> None:
    secret = base.write("secret/a.md", "Apples.")
    locked = base.write("locked.md", "Plums.")
    await base.take()
    secret.unlink()
    secret.parent.chmod(0)
    locked.chmod(0)
    try:
        readable = os.access(locked, os.R_OK)
        report = await base.ingest.paths("t", [str(base.docs)])
    finally:
        secret.parent.chmod(0o700)
    if readable:  # run by root, whom no mode keeps out
        assert counts(report) == {"unchanged": 1, "removed": 1}
    else:
        assert counts(report) == {"failed": 2}
        assert {failure.reason for failure in report.failed} == {"no permission to read it"}
        assert await base.stored() == (2, 2)


async def test_a_file_that_was_emptied_has_no_passages_any_more(base: Base) -> None:
    path = base.write("a.md", "Apples.")
    await base.take()
    path.write_text("")
    assert await base.take() == {"updated": 1}
    assert await base.take() == {"unchanged": 1}
    assert await base.stored() == (0, 0)


async def test_a_name_that_is_no_utf8_is_taken_in_and_found_again(base: Base) -> None:
    path = base.docs / os.fsdecode(b"caf\xe9.md")
    try:
        path.write_text("Espresso is short.")
    except OSError:
        assert sys.platform == "darwin"  # its file system takes UTF-8 names only, so no such file can come
        return
    assert await base.take() == {"new": 1}
    assert await base.take() == {"unchanged": 1}
    assert await base.paths() == [str(base.docs / r"caf\xe9.md")]


async def test_many_named_files_and_a_file_named_twice_count_once_each(base: Base) -> None:
    files = [base.write(f"{n}.txt", f"Text number {n}.") for n in range(120)]
    assert await base.take(*files, base.docs, files[0]) == {"new": 120}
    assert await base.take(*files) == {"unchanged": 120}


async def test_a_long_document_appears_at_once_and_whole(base: Base) -> None:
    base.write("long.md", book("Gears", parts=200))
    seen: list[tuple[int, int]] = []
    reader = await opened(base.database.path, base.docs)

    async def watch(done: anyio.Event) -> None:
        while not done.is_set():
            seen.append(await reader.stored())

    done = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch, done)
        await base.take()
        done.set()
    after = await reader.stored()
    await reader.close()
    assert after == (200, 200)
    assert {records for records, _ in seen} <= {0, 200}


async def test_progress_tells_how_far_it_is(base: Base) -> None:
    for n in range(5):
        base.write(f"{n}.md", f"Text {n}.")
    told: list[tuple[int, int, str]] = []
    await base.ingest.paths("t", [str(base.docs)], lambda p: told.append((p.done, p.total, Path(p.path).name)))
    assert told[0] == (0, 5, "0.md")
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][:2] == (5, 5)


async def test_a_cancelled_ingestion_keeps_what_it_reported_and_goes_on_later(base: Base) -> None:
    for n in range(60):
        base.write(f"{n:02}.md", f"# Text {n}\n\n" + "Some words. " * 40)
    reports: list[IngestReport] = []
    with anyio.CancelScope() as scope:

        def stop_after_some(progress: Progress) -> None:
            reports.append(progress.report)
            if progress.report.new >= 5:
                scope.cancel()

        await base.ingest.paths("t", [str(base.docs)], stop_after_some)
    assert scope.cancelled_caught
    kept = len(await base.paths())
    assert 5 <= reports[-1].new <= kept < 60
    rest = await base.take()
    assert (rest["unchanged"], rest["new"]) == (kept, 60 - kept)
    assert await base.stored() == (60, 60)


async def test_many_processes_may_take_in_the_same_folder(base: Base) -> None:
    for n in range(12):
        base.write(f"{n}.md", book(f"Words of {n}", parts=4 * n))
    others = [await opened(base.database.path, base.docs) for _ in range(2)]
    reports = await asyncio.gather(*(each.take() for each in (base, *others)))
    for each in others:
        await each.close()
    assert all("failed" not in report for report in reports)
    assert await base.take() == {"unchanged": 12}
    records, passages = await base.stored()
    assert records == passages


async def test_a_file_that_another_process_replaces_meanwhile_ends_as_one_of_the_two(base: Base) -> None:
    path = base.write("book.md", book("Alpha"))
    other = await opened(base.database.path, base.docs)
    reports: list[dict[str, int]] = []

    async def again() -> None:
        base.write("book.md", book("Beta"))
        reports.append(await other.take())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(again)
        reports.append(await base.take())
    assert all("failed" not in report for report in reports)
    await base.take()
    await other.close()
    records, passages = await base.stored()
    assert records == passages == (await base.at(path)).passages
    assert "Beta" in await base.best("Beta 7")


LONG = book("Words")


@pytest.mark.parametrize(("times", "why"), [(2, ""), (1000, "another process kept replacing it; ingest it again")])
async def test_what_another_process_removes_on_the_way_is_staged_again_once(base: Base, times: int, why: str) -> None:
    path = base.write("book.md", "Short.")
    await base.take()
    document = (await base.at(path)).id
    left = 0

    @asynccontextmanager
    async def robbed() -> AsyncGenerator[None]:
        nonlocal left
        async with base.database.transaction():
            yield
        if left > 0:
            left -= 1
            await base.memory.publish(PASSAGES, document, None, 0)

    knowledge = open_knowledge(base.database)
    ingest = Ingest(base.parser, EMBEDDER, base.memory, knowledge.graph, knowledge.catalog, robbed)
    left = times
    base.write("book.md", LONG)
    report = await ingest.paths("t", [str(path)])
    assert [failure.reason for failure in report.failed] == ([why] if why else [])
    left = times
    if why:
        with pytest.raises(MemoryUnavailable, match="kept replacing"):
            await ingest.content("t", str(path), "book.md", f"{LONG}!".encode())
    else:
        assert (await ingest.content("t", str(path), "book.md", f"{LONG}!".encode())).passages == 80
        assert await base.stored() == (80, 80)


async def test_what_a_killed_ingestion_left_of_a_file_that_is_gone_is_swept(base: Base) -> None:
    base.write("a.md", "Apples.")
    gone = base.docs / "gone.md"
    knowledge = open_knowledge(base.database)
    await knowledge.catalog.begin("t", str(gone), "left")
    await knowledge.catalog.begin("t", str(base.docs / "a.md"), "begun")
    assert await base.take() == {"new": 1}
    assert await knowledge.catalog.begun("t", "") == {}


async def test_content_becomes_a_document_at_its_path_and_is_replaced_there(base: Base) -> None:
    first = await base.ingest.content("t", "upload/a.md", "a.md", b"# Apples\n\nApples are red.")
    assert (first.path, first.title, first.passages) == ("upload/a.md", "Apples", 1)
    assert await base.ingest.content("t", "upload/a.md", "a.md", b"# Apples\n\nApples are red.") == first
    second = await base.ingest.content("t", "upload/a.md", "a.md", b"# Apples\n\nApples are green.")
    assert (second.id, await base.paths()) == (first.id, ["upload/a.md"])
    assert "green" in await base.best("colour of apples")
    with pytest.raises(ParseFailed):
        await base.ingest.content("t", "upload/a.md", "a.jpg", b"no document")
    assert await base.stored() == (1, 1)


async def test_a_document_is_removed_by_its_id_once(base: Base) -> None:
    document = await base.ingest.content("t", "a.md", "a.md", b"Apples.")
    assert not await base.ingest.remove("u", document.id)
    assert await base.ingest.remove("t", document.id)
    assert not await base.ingest.remove("t", document.id)
    assert await base.best("apples") == ""


async def test_when_nothing_can_be_stored_it_says_why_and_loses_nothing(base: Base) -> None:
    base.write("a.md", "Apples.")
    await base.take()
    base.write("b.md", LONG)

    def fill(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    await base.database.write(fill)
    with pytest.raises(MemoryUnavailable, match="disk is full"):
        await base.take()
    with pytest.raises(MemoryUnavailable, match="disk is full"):
        await base.ingest.content("t", "b.md", "b.md", LONG.encode())
    assert await base.stored() == (1, 1)
    assert "Apples" in await base.best("apples")


async def test_a_closed_database_is_named_whatever_is_asked(base: Base) -> None:
    path = base.write("a.md", "Apples.")
    document = await base.ingest.content("t", "b.md", "b.md", b"Pears.")
    await base.database.close()
    for call in (base.ingest.paths("t", [str(path)]), base.ingest.content("t", "c.md", "c.md", b"x")):
        with pytest.raises(Exception, match="closed"):
            await call
    with pytest.raises(Exception, match="closed"):
        await base.ingest.remove("t", document.id)


@pytest.mark.parametrize(
    ("first", "last", "finished", "waits"),  # writes that fail, counted from the last one that a good ingestion makes
    [(-8, -7, True, 2), (-2, -1, True, 2), (0, 1, True, 2), (-8, 99, False, 2), (-99, 99, False, 0)],
    ids=["staging", "publishing", "publishing another", "back too late", "never there"],
)
async def test_a_store_that_goes_away_in_the_middle_is_waited_for(
    first: int, last: int, finished: bool, waits: int, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    good = await opened(tmp_path / "good" / "parley.sqlite", docs.resolve(), apart=True)
    base = await opened(tmp_path / "data" / "parley.sqlite", docs.resolve(), apart=True)
    assert isinstance(base.memory, Failing)
    assert isinstance(good.memory, Failing)
    base.write("long.md", book("weir", 300))  # several batches
    base.write("short.md", "The mill is old.")
    assert await good.take() == {"new": 2}
    await good.close()
    base.memory.gone_for = range(good.memory.writes - 1 + first, good.memory.writes + last)
    told: list[str] = []

    def follow(progress: Progress) -> None:
        if progress.waiting not in told[-1:]:
            told.append(progress.waiting)

    try:
        report = await base.ingest.paths("t", [str(base.docs)], follow)
    except MemoryUnavailable as error:
        assert (str(error), finished) == ("it is gone", False)
    else:
        assert (counts(report), finished) == ({"new": 2}, True)
    assert told == ["", *(["it is gone", ""] * waits)]
    base.memory.gone_for = range(0)
    assert await base.take() == ({"unchanged": 2} if finished else {"new": 2})
    stored, listed = await base.stored()
    assert stored == listed >= 300
    await base.close()


@pytest.mark.parametrize("gone", ["stage", "publish"])
async def test_what_a_failure_between_two_stores_left_is_found_and_removed(gone: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    base = await opened(tmp_path / "data" / "parley.sqlite", docs.resolve(), apart=True)
    assert isinstance(base.memory, Failing)
    kept, lost = base.write("kept.md", "# Anna Karell\n\nAnna Karell is here."), base.write("lost.md", book("weir", 2))
    base.memory.gone = gone
    with pytest.raises(MemoryUnavailable, match="it is gone"):
        await base.take(lost)
    lost.unlink()
    base.memory.gone = ""
    assert await base.take() == {"new": 1}
    tables = ("documents_begun", "graph_titles WHERE surface = 'book'", "memory_records WHERE text LIKE '%weir%'")
    for table in tables:
        rows = await base.database.read(lambda db, table=table: db.execute(f"SELECT count(*) FROM {table}").fetchall())
        assert rows == [(0,)], table
    base.memory.gone = "publish"
    with pytest.raises(MemoryUnavailable, match="it is gone"):
        await base.ingest.remove("t", (await base.at(kept)).id)
    base.memory.gone = ""
    assert await base.paths() == [str(kept)], "a removal that failed can be repeated"
    assert await base.ingest.remove("t", (await base.at(kept)).id)
    assert await base.stored() == (0, 0)
    await base.close()
