"""The record of conversations and runs, on a real file."""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agents.types import Citation, Draft, Message, Note, Usage, Verdict
from memory.sql import SqlDatabase
from memory.types import TRUST_USER, Label
from serving.conversations import Conversations
from serving.ids import uuid7
from serving.principal import Principal
from serving.processes import FolderPresence
from serving.records import Answer, NewRun, RunEnd, Thread, UnknownThread
from serving.repository import SCHEMA, Repository
from serving.tables import POSTGRES_FILE, postgres_schema, schema
from tests.databases import database, postgres_made, postgres_urls

__all__ = ["database", "postgres_made", "postgres_urls"]

ME = ("acme", "ann")
CITATION = Citation(1, "d1", "d1.0.3", "Guide", "/docs/guide.md", "Turn it on.", 2, "Setup > Start", 10, 21)


@pytest.fixture
def repository(database: SqlDatabase, tmp_path: Path) -> Repository:
    return Repository(database, FolderPresence(tmp_path))


def said(text: str) -> Message:
    return Message("user", text, Label("acme", "user", TRUST_USER))


async def new_thread(repository: Repository, owner: tuple[str, str], title: str = "") -> Thread:
    return await Conversations(repository.database).create(Principal(*owner), title)


def run_in(thread: str = "") -> NewRun:
    return NewRun(uuid7(), *ME, thread=thread, caller_user="end-user-7", metadata={"trace": "é"})


async def test_a_conversation_keeps_its_messages_in_order_with_citations(repository: Repository) -> None:
    thread = await new_thread(repository, ME, title="First steps")
    run = run_in(thread.id)
    await repository.begin(run, [said("How do I start? 🙂")])
    draft = Draft("Turn it on. [1]", "answered", "stop", "extractive", (CITATION,))
    await repository.finish_run(
        run.id, repository.presence.name, RunEnd.of(draft), Answer(draft.text, citations=draft.citations)
    )
    messages = await repository.messages(*ME, thread.id)
    assert [(message.number, message.role, message.content) for message in messages] == [
        (1, "user", "How do I start? 🙂"),
        (2, "assistant", "Turn it on. [1]"),
    ]
    assert messages[0].run == run.id
    assert messages[1].citations == (CITATION,)
    assert messages[1].run == run.id


async def test_the_newest_messages_come_when_a_limit_is_set(repository: Repository) -> None:
    thread = await new_thread(repository, ME)
    for text in ("one", "two", "three", "four"):
        run = run_in(thread.id)
        await repository.begin(run, [said(text)])
        await repository.finish_run(run.id, repository.presence.name, RunEnd("cancelled"))
    newest = await repository.messages(*ME, thread.id, limit=2)
    assert [message.content for message in newest] == ["three", "four"]
    later = await repository.messages(*ME, thread.id, after=3)
    assert [message.number for message in later] == [4]


async def test_an_answer_that_broke_off_is_stored_as_incomplete(repository: Repository) -> None:
    thread = await new_thread(repository, ME)
    run = run_in(thread.id)
    await repository.begin(run, [said("Tell me")])
    await repository.finish_run(
        run.id, repository.presence.name, RunEnd("failed", error="the model broke off"), Answer("Once", "incomplete")
    )
    answer = (await repository.messages(*ME, thread.id))[-1]
    assert (answer.content, answer.status) == ("Once", "incomplete")


async def test_a_message_to_a_thread_of_someone_else_stores_nothing(repository: Repository) -> None:
    thread = await new_thread(repository, ("acme", "bob"))
    run = run_in(thread.id)
    with pytest.raises(UnknownThread, match=thread.id):
        await repository.begin(run, [said("let me in")])
    assert await repository.run(*ME, run.id) is None
    assert await repository.messages("acme", "bob", thread.id) == []


async def test_conversations_and_runs_are_seen_by_their_owner_only(repository: Repository) -> None:
    thread = await new_thread(repository, ME, title="mine")
    run = run_in(thread.id)
    await repository.begin(run, [said("secret")])
    for stranger in (("acme", "bob"), ("other", "ann")):
        assert await repository.thread(*stranger, thread.id) is None
        assert await repository.messages(*stranger, thread.id) == []
        assert await repository.run(*stranger, run.id) is None
        await repository.set_summary(*stranger, thread.id, "overwritten", 1)
    mine = await repository.thread(*ME, thread.id)
    assert mine is not None
    assert (mine.title, mine.summary) == ("mine", "")


async def test_a_summary_is_replaced_by_a_newer_one_and_never_by_an_older(repository: Repository) -> None:
    thread = await new_thread(repository, ME)
    await repository.set_summary(*ME, thread.id, "up to eight", 8)
    await repository.set_summary(*ME, thread.id, "up to four", 4)
    found = await repository.thread(*ME, thread.id)
    assert found is not None
    assert (found.summary, found.summary_upto) == ("up to eight", 8)


async def test_a_run_is_recorded_with_what_it_cost_and_how_it_ended(repository: Repository) -> None:
    run = run_in()
    await repository.begin(run)
    started = await repository.run(*ME, run.id)
    assert started is not None
    assert (started.status, started.finished_at, started.process) == ("running", None, repository.presence.name)
    assert started.process.startswith(f"{socket.gethostname()}:{os.getpid()}:")
    verdict = Verdict(False, "secret", "no keys", "rules", 1.0, "sk-123")
    draft = Draft(
        "Hm", "refused", "content_filter", "m", notes=(Note("withheld", "A sentence is missing."),),
        verdicts=(verdict,), usage=Usage(10, 5, 2, 1),
    )  # fmt: skip
    await repository.finish_run(run.id, repository.presence.name, RunEnd.of(draft))
    ended = await repository.run(*ME, run.id)
    assert ended is not None
    assert ended.finished_at is not None
    assert (ended.status, ended.model, ended.outcome, ended.finish) == ("finished", "m", "refused", "content_filter")
    assert (ended.usage, ended.verdicts, ended.notes) == (Usage(10, 5, 2, 1), (verdict,), draft.notes)
    assert (ended.caller_user, ended.metadata) == ("end-user-7", {"trace": "é"})


async def test_the_end_of_a_run_that_nobody_started_changes_nothing(repository: Repository) -> None:
    await repository.finish_run("missing", repository.presence.name, RunEnd("failed"), Answer("lost"))
    assert await repository.run(*ME, "missing") is None


def test_the_schema_text_is_what_the_tables_say() -> None:
    assert schema() == SCHEMA, "run python -m serving.tables"
    assert postgres_schema() == POSTGRES_FILE.read_text(encoding="utf-8"), "run python -m serving.tables"


def test_the_schema_can_be_applied_twice_and_removes_messages_with_their_thread() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.executescript(SCHEMA)
        connection.executescript(SCHEMA)
        connection.execute("INSERT INTO threads VALUES ('t', 'a', 'u', '', '', '', '', 0)")
        connection.execute("INSERT INTO messages VALUES ('t', 1, 'm', 'user', 'hi', 'complete', '', '[]', '')")
        connection.execute("DELETE FROM threads")
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)


def test_ids_sort_by_the_time_of_their_making_and_never_repeat() -> None:
    ids = [uuid7() for _ in range(20_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {(id[14], id[19] in "89ab") for id in ids} == {("7", True)}
