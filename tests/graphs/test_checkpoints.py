# pyright: reportMissingTypeStubs=false
"""The saver: LangGraph's own conformance suite, and what ours does beyond it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import BASE_CAPABILITIES

from graphs.checkpoints import Checkpoints
from memory.sql import Connection, SqlDatabase
from memory.sqlite import Database
from tests.databases import database, postgres_made, postgres_urls

__all__ = ["database", "postgres_made", "postgres_urls"]

SCHEMA = (Path(__file__).parents[2] / "serving" / "schema.sql").read_text(encoding="utf-8")


async def rows(database: SqlDatabase) -> tuple[int, int]:
    """How many checkpoints and writes are stored."""
    return await database.read(
        lambda connection: (
            int(connection.execute("SELECT count(*) FROM checkpoints").fetchone()[0]),
            int(connection.execute("SELECT count(*) FROM checkpointwrites").fetchone()[0]),
        )
    )


def at(run: str, checkpoint: str = "", namespace: str = "") -> RunnableConfig:
    return {"configurable": {"thread_id": run, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}}


async def put(saver: Checkpoints, run: str, id: str, *, parent: str = "", step: int = 0) -> RunnableConfig:
    checkpoint = empty_checkpoint()
    checkpoint["id"] = id
    checkpoint["channel_values"] = {"question": f"{run} {id}"}
    about: CheckpointMetadata = {"source": "loop", "step": step, "parents": {}}
    return await saver.aput(at(run, parent), checkpoint, about, {})


def emptied(connection: Connection) -> None:
    connection.execute("DELETE FROM checkpoints")
    connection.execute("DELETE FROM checkpointwrites")


async def test_langgraph_s_conformance_suite_passes(database: SqlDatabase) -> None:
    async def opened() -> AsyncGenerator[BaseCheckpointSaver[int], None]:
        yield Checkpoints(database, history=True)
        await database.write(emptied)

    report = await validate(checkpointer_test(name="Checkpoints")(opened))
    assert report.passed_all_base(), [result.failures for result in report.results.values()]
    tried = {name for name, result in report.results.items() if result.detected}
    assert tried == {capability.value for capability in BASE_CAPABILITIES}


async def test_only_the_last_checkpoint_of_a_run_is_kept_and_its_writes(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    first = await put(saver, "run", "1")
    await saver.aput_writes(first, [("question", "a"), ("notes", [])], "task")
    assert await rows(database) == (1, 2)
    second = await put(saver, "run", "2", parent="1")
    await saver.aput_writes(second, [("question", "b")], "task")
    assert await rows(database) == (1, 1)
    last = await saver.last("run")
    assert last is not None
    assert last.checkpoint["channel_values"] == {"question": "run 2"}
    assert last.pending_writes == [("task", "question", "b")]


async def test_the_last_checkpoint_is_what_was_put_last_though_the_clock_stepped_back(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    await put(saver, "run", "1f0c9000-0000-6000-8000-000000000000")
    await put(saver, "run", "1f0c8000-0000-6000-8000-000000000000")  # ids carry the time
    last = await saver.last("run")
    assert last is not None
    assert last.checkpoint["id"].startswith("1f0c8")


async def test_runs_and_their_namespaces_do_not_touch_each_other(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    for run in ("a", "b"):
        await put(saver, run, "1")
    await saver.aput(at("a", namespace="child"), empty_checkpoint(), {"source": "loop", "step": 0}, {})
    assert await rows(database) == (3, 0)
    await saver.forget("a")
    assert await rows(database) == (1, 0)
    assert await saver.last("a") is None
    assert await saver.last("b") is not None


async def test_a_task_s_writes_count_once_and_its_last_interrupt_or_error_counts(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    place = await put(saver, "run", "1")
    for said in ("first", "second"):
        await saver.aput_writes(place, [("question", said)], "task")
        await saver.aput_writes(place, [("__interrupt__", said)], "task")
    last = await saver.last("run")
    assert last is not None
    assert sorted(last.pending_writes or []) == [("task", "__interrupt__", "second"), ("task", "question", "first")]


async def test_writes_come_back_in_the_order_of_the_tasks_paths(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    place = await put(saver, "run", "1")
    await saver.aput_writes(place, [("notes", [2])], "a-task", "~2")
    await saver.aput_writes(place, [("notes", [1])], "b-task", "~1")
    last = await saver.last("run")
    assert last is not None
    assert [value for _, _, value in last.pending_writes or []] == [[1], [2]]


async def test_forgetting_belongs_to_the_transaction_that_ends_the_run(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    await put(saver, "a", "1")
    await put(saver, "b", "1")
    with pytest.raises(ZeroDivisionError):
        async with database.transaction():
            await saver.forget("a", "b")
            raise ZeroDivisionError
    assert await rows(database) == (2, 0)
    async with database.transaction():
        await saver.forget("a", "b")
        assert await rows(database) == (2, 0)
    assert await rows(database) == (0, 0)


async def test_a_held_run_is_on_disk_when_it_is_kept_and_not_before(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    saver.hold("run", new=True)
    place = await put(saver, "run", "1")
    await saver.aput_writes(place, [("__interrupt__", "?")], "task")
    assert await rows(database) == (0, 0)
    assert await saver.last("run") is None
    await saver.keep("run")
    assert await rows(database) == (1, 1)
    last = await saver.last("run")
    assert last is not None
    assert last.pending_writes == [("task", "__interrupt__", "?")]


async def test_a_held_run_that_is_dropped_was_never_there(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    saver.hold("run", new=True)
    await put(saver, "run", "1")
    saver.drop("run")
    saver.drop("another")
    assert await saver.last("run") is None
    assert await rows(database) == (0, 0)


async def test_a_held_run_that_was_stored_before_reads_what_is_stored(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    await put(saver, "run", "1")
    saver.hold("run", new=False)
    await put(saver, "run", "2", parent="1")
    last = await saver.last("run")
    assert last is not None
    assert last.checkpoint["id"] == "1"
    await saver.keep("run")
    assert await rows(database) == (1, 0)


async def test_whatever_langgraph_would_allow_the_codec_stays_as_it_is(database: SqlDatabase) -> None:
    saver = Checkpoints(database)
    assert saver.with_allowlist({("os", "system")}) is saver


async def test_checkpoints_are_listed_newest_first_across_runs(database: SqlDatabase) -> None:
    saver = Checkpoints(database, history=True)
    for id, run in enumerate("abab"):
        await put(saver, run, str(id), step=id)
    listed = [found async for found in saver.alist(None)]
    assert [found.checkpoint["id"] for found in listed] == ["3", "2", "1", "0"]
    some = [found async for found in saver.alist(at("a", "0"), filter={"step": 0})]
    assert [found.checkpoint["id"] for found in some] == ["0"]
    assert [found async for found in saver.alist(None, limit=0)] == []


async def test_the_disk_that_runs_take_does_not_grow_with_their_number(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "runs.sqlite", [SCHEMA])
    saver = Checkpoints(database)

    async def pages() -> int:
        return await database.read(lambda connection: cast(int, connection.execute("PRAGMA page_count").fetchone()[0]))

    async def one(run: str) -> None:
        for step in range(5):
            place = await put(saver, run, f"{step}", parent=f"{step - 1}" if step else "")
            await saver.aput_writes(place, [("question", "word " * 4_000)], "task")
        await saver.forget(run)

    await one("first")
    before = await pages()
    for number in range(20):
        await one(str(number))
    assert await pages() <= before + 1
    assert await rows(database) == (0, 0)
    await database.close()
