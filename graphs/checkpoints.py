# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Checkpoints: where a run that is not over can be taken up again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)

from graphs.codec import StateCodec
from graphs.state import ChatState, StepState
from memory.sql import Connection, SqlDatabase

Work = Callable[[Connection], None]

_CHECKPOINT = "run, namespace, checkpoint, parent, kind, body, metadata"
_WRITE = "run, namespace, checkpoint, task, number, channel, kind, body, path"
_FORGET = tuple(f"DELETE FROM {table} WHERE run = ?" for table in ("checkpoints", "checkpointwrites"))
_FORGET_OTHERS = tuple(f"{statement} AND namespace = ? AND checkpoint <> ?" for statement in _FORGET)
_PUT = f"""INSERT INTO checkpoints ({_CHECKPOINT}) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, namespace, checkpoint) DO UPDATE
SET parent = excluded.parent, kind = excluded.kind, body = excluded.body, metadata = excluded.metadata"""
_PUT_WRITE = f"""INSERT INTO checkpointwrites ({_WRITE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, namespace, checkpoint, task, number) DO """
_ONCE = f"{_PUT_WRITE}NOTHING"
_LAST = f"""{_PUT_WRITE}UPDATE
SET channel = excluded.channel, kind = excluded.kind, body = excluded.body, path = excluded.path"""


class _Place(NamedTuple):
    """Where LangGraph's config points."""

    run: str
    namespace: str
    checkpoint: str
    """"" for the last one."""


class _Row(NamedTuple):
    """A row of `checkpoints`."""

    run: str
    namespace: str
    checkpoint: str
    parent: str
    kind: str
    body: bytes
    metadata: bytes


class _Write(NamedTuple):
    """What of a row of `checkpointwrites` is read."""

    task: str
    channel: str
    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Held:
    """A run of durability "exit": what LangGraph put, not yet encoded."""

    new: bool
    made: list[Callable[[], Work]] = field(default_factory=list[Callable[[], Work]])


class Checkpoints(BaseCheckpointSaver[int]):
    """LangGraph's saver over the tables `checkpoints` and `checkpointwrites`; `thread_id` is the run's id.

    Only a run's last checkpoint is kept, with what was written after it: nothing else is needed to go on, the disk
    that a run takes does not grow with its steps, and "the last one" is what was put last whatever the clock says.
    Writes of LangGraph are durable in the order in which they were made. Async methods only.
    """

    def __init__(self, database: SqlDatabase, *, history: bool = False) -> None:
        """`history` keeps a run's earlier checkpoints too, in the order of their ids."""
        super().__init__(serde=StateCodec(ChatState, StepState))
        self._database, self._history = database, history
        self._held: dict[str, _Held] = {}

    def with_allowlist(self, extra_allowlist: object) -> Checkpoints:
        """The saver itself: its codec reads the types of the state and no others, whatever is asked."""
        return self

    def hold(self, run: str, *, new: bool) -> None:
        """Keeps what LangGraph puts for this run in memory, until `keep` or `drop`. `new`: nothing is stored of it."""
        self._held[run] = _Held(new)

    async def keep(self, run: str) -> None:
        """Writes what is held of a run to disk: it has paused. Nothing is to do for a run that is not held.

        Raises:
            DatabaseUnavailable: nothing was written.
        """
        held = self._held.pop(run, None)
        if held is not None:
            await self._database.write(partial(_all, [make() for make in held.made]))

    def drop(self, run: str) -> None:
        """Forgets what is held of a run; what is on disk stays."""
        self._held.pop(run, None)

    async def forget(self, *runs: str) -> None:
        """Deletes all that is stored of these runs, which are over; joins SqlDatabase.transaction().

        Raises:
            DatabaseUnavailable: nothing was deleted.
        """
        await self._database.write(partial(_delete, runs))

    async def last(self, run: str) -> CheckpointTuple | None:
        """Where a run can be taken up again; None when nothing is stored of it.

        Raises:
            CheckpointUnreadable: what is stored cannot be read.
        """
        return await self.aget_tuple({"configurable": {"thread_id": run}})

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the last one of its run."""
        place = _place(config)
        held = self._held.get(place.run)
        if held is not None and held.new:
            return None
        found = await self._database.read(partial(_one, place))
        return None if found is None else self._tuple(*found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, object] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints that `config` covers, newest first; `filter` compares metadata."""
        end = "" if before is None else _place(before).checkpoint
        wanted = {} if filter is None else filter
        given = 0
        for row, writes in await self._database.read(partial(_many, config, end)):
            if given == limit:
                return
            found = self._tuple(row, writes)
            if wanted.items() <= cast(dict[str, object], found.metadata).items():
                given += 1
                yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Stores a checkpoint; its parent is the one that `config` names."""
        parent = _place(config)
        await self._store(parent.run, partial(self._checkpoint, parent, checkpoint, config, metadata))
        return _config(parent._replace(checkpoint=checkpoint["id"]))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, object]], task_id: str, task_path: str = ""
    ) -> None:
        """Stores what a task wrote after the checkpoint that `config` names."""
        place = _place(config)
        await self._store(place.run, partial(self._writes, place, writes, task_id, task_path))

    async def adelete_thread(self, thread_id: str) -> None:
        """LangGraph's name of `forget`."""
        await self.forget(thread_id)

    async def _store(self, run: str, make: Callable[[], Work]) -> None:
        held = self._held.get(run)
        if held is None:
            await self._database.write(make())
        else:
            held.made.append(make)

    def _checkpoint(
        self, parent: _Place, checkpoint: Checkpoint, config: RunnableConfig, metadata: CheckpointMetadata
    ) -> Work:
        kind, body = self.serde.dumps_typed(checkpoint)
        _, about = self.serde.dumps_typed(get_checkpoint_metadata(config, metadata))
        row = _Row(parent.run, parent.namespace, checkpoint["id"], parent.checkpoint, kind, body, about)
        return partial(_put, row, self._history)

    def _writes(self, place: _Place, writes: Sequence[tuple[str, object]], task: str, path: str) -> Work:
        rows = [
            (*place, task, WRITES_IDX_MAP.get(channel, number), channel, *self.serde.dumps_typed(value), path)
            for number, (channel, value) in enumerate(writes)
        ]
        return partial(_put_writes, rows)

    def _tuple(self, row: _Row, writes: list[_Write]) -> CheckpointTuple:
        place = _Place(row.run, row.namespace, row.checkpoint)
        loads = self.serde.loads_typed
        return CheckpointTuple(
            _config(place),
            cast(Checkpoint, loads((row.kind, row.body))),
            cast(CheckpointMetadata, loads(("msgpack", row.metadata))),
            _config(place._replace(checkpoint=row.parent)) if row.parent else None,
            [(write.task, write.channel, loads((write.kind, write.body))) for write in writes],
        )


def _place(config: RunnableConfig) -> _Place:
    at = cast(dict[str, str], config.get("configurable", {}))
    return _Place(at["thread_id"], at.get("checkpoint_ns", ""), at.get("checkpoint_id") or "")


def _config(place: _Place) -> RunnableConfig:
    run, namespace, checkpoint = place
    return {"configurable": {"thread_id": run, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}}


def _all(work: Sequence[Work], connection: Connection) -> None:
    for part in work:
        part(connection)


def _put(row: _Row, history: bool, connection: Connection) -> None:
    if not history:
        for statement in _FORGET_OTHERS:
            connection.execute(statement, (row.run, row.namespace, row.checkpoint))
    connection.execute(_PUT, row)


def _put_writes(rows: Sequence[tuple[str | int | bytes, ...]], connection: Connection) -> None:
    for row in rows:
        special = cast(int, row[4]) < 0  # an interrupt or an error: the last one counts; else a task writes once
        connection.execute(_LAST if special else _ONCE, row)


def _delete(runs: Sequence[str], connection: Connection) -> None:
    for statement in _FORGET:
        connection.executemany(statement, [(run,) for run in runs])


def _one(place: _Place, connection: Connection) -> tuple[_Row, list[_Write]] | None:
    query = f"SELECT {_CHECKPOINT} FROM checkpoints WHERE run = ? AND namespace = ?"
    if place.checkpoint:
        row = connection.execute(f"{query} AND checkpoint = ?", place).fetchone()
    else:
        row = connection.execute(f"{query} ORDER BY checkpoint DESC LIMIT 1", place[:2]).fetchone()
    return None if row is None else _with_writes(connection, _Row(*row))


def _many(config: RunnableConfig | None, before: str, connection: Connection) -> list[tuple[_Row, list[_Write]]]:
    query, bound = f"SELECT {_CHECKPOINT} FROM checkpoints WHERE (checkpoint < ? OR ? = '')", [before, before]
    if config is not None:
        at = cast(dict[str, str], config.get("configurable", {}))
        for column, key in (("run", "thread_id"), ("namespace", "checkpoint_ns"), ("checkpoint", "checkpoint_id")):
            if key in at:
                query, bound = f"{query} AND {column} = ?", [*bound, at[key]]
    rows = connection.execute(f"{query} ORDER BY checkpoint DESC", bound).fetchall()
    return [_with_writes(connection, _Row(*row)) for row in rows]


def _with_writes(connection: Connection, row: _Row) -> tuple[_Row, list[_Write]]:
    """A checkpoint and its writes in the order in which a live run applies them."""
    found = connection.execute(
        "SELECT task, channel, kind, body FROM checkpointwrites WHERE run = ? AND namespace = ? AND checkpoint = ? "
        "ORDER BY path, task, number",
        (row.run, row.namespace, row.checkpoint),
    )
    return row, [_Write(*one) for one in found]
