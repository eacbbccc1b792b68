"""Conversations as their owner manages them: make, list, search, rename, delete, and read page by page."""

from __future__ import annotations

from memory.sql import Connection, SqlDatabase, acting_for
from serving.idempotency import Claim, keep
from serving.ids import uuid7
from serving.paging import LAST, Page, key_of, number_of, page
from serving.principal import Principal
from serving.records import Answer, Run, StoredMessage, Thread, ThreadBusy, UnknownThread
from serving.rows import ACTIVE, MESSAGE_COLUMNS, RUN_COLUMNS, columns, message_of, run_of
from serving.times import now

THREADS, MESSAGES, RUNS = "threads", "messages", "runs"
"""Names of the lists, which their cursors carry."""

_THREAD = 'id, tenant, "user", title, created_at, updated_at, summary, summary_upto'
_RUN = columns(RUN_COLUMNS)
_MESSAGE = ", ".join(MESSAGE_COLUMNS)
_OWNED = 'tenant = :tenant AND "user" = :user'
INSERT = f"INSERT INTO threads ({_THREAD}) VALUES (:id, :tenant, :user, :title, :now, :now, '', 0)"
SELECT = f"SELECT {_THREAD} FROM threads WHERE id = :id AND {_OWNED}"
RENAME = f"UPDATE threads SET title = :title, updated_at = :now WHERE id = :id AND {_OWNED} RETURNING {_THREAD}"
SELECT_PAGE = f"SELECT {_THREAD} FROM threads WHERE {_OWNED} AND id < :after"
NEWEST_FIRST = "ORDER BY id DESC LIMIT :limit"
SELECT_MESSAGES = f"SELECT {_MESSAGE} FROM messages WHERE thread = :id AND number > :after ORDER BY number LIMIT :limit"
SELECT_RUNS = f"SELECT {_RUN} FROM runs WHERE thread = :id AND {_OWNED} AND id < :after {NEWEST_FIRST}"
SELECT_ANSWERS = f"SELECT {_MESSAGE} FROM messages WHERE thread = ? AND number IN "
SELECT_ACTIVE = f"SELECT id FROM runs WHERE thread = :id AND {ACTIVE}"
_ITS_RUNS = "(SELECT id FROM runs WHERE thread = :id)"
DELETE = (
    f"DELETE FROM events WHERE run IN {_ITS_RUNS}",
    f"DELETE FROM checkpoints WHERE run IN {_ITS_RUNS}",
    f"DELETE FROM checkpointwrites WHERE run IN {_ITS_RUNS}",
    f"DELETE FROM feedback WHERE {_OWNED} AND run IN {_ITS_RUNS}",
    f"DELETE FROM idempotency WHERE {_OWNED} AND (made = :id OR made IN {_ITS_RUNS})",
    "DELETE FROM runs WHERE thread = :id",
    "DELETE FROM threads WHERE id = :id",  # its messages go with it
)


class Conversations:
    """Reads and writes the rows of one owner at a time; another owner's are as unknown as those that never were."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def create(self, who: Principal, title: str = "", claim: Claim | None = None) -> Thread:
        """A new, empty conversation.

        Raises:
            AlreadyMade: `claim` came before; nothing is made.
            KeyReused: the claim's key came before with another request.
        """
        thread = Thread(uuid7(), who.tenant, who.user, title, at := now(), at)

        def insert(connection: Connection) -> None:
            if claim is not None:
                keep(connection, claim, thread.id)
            connection.execute(INSERT, {**_owner(who), "id": thread.id, "title": title, "now": at})

        with acting_for(who.tenant):
            await self._database.write(insert)
        return thread

    async def get(self, who: Principal, id: str) -> Thread:
        """The conversation of that id.

        Raises:
            UnknownThread: the owner has none.
        """
        with acting_for(who.tenant):
            return await self._database.read(lambda connection: _thread(connection, who, id))

    async def page(self, who: Principal, after: str | None, limit: int, query: str = "") -> Page[Thread]:
        """Conversations, newest made first: an order that no later turn changes. `query`: only those that say each
        of its words, in whatever case, in the title or in a message; a word may be part of a longer one.

        Raises:
            WrongCursor: `after` is no cursor of this list.
        """
        words = list(dict.fromkeys(query.casefold().split()))
        start = key_of(THREADS, after) if after else LAST
        values: dict[str, str | int] = {**_owner(who), "after": start, "limit": limit + 1}
        values |= {f"word{number}": _pattern(word) for number, word in enumerate(words)}
        like = self._database.dialect.like
        conditions = "".join(f" AND {_says(number, word, like)}" for number, word in enumerate(words))

        def select(connection: Connection) -> list[Thread]:
            rows = connection.execute(f"{SELECT_PAGE}{conditions} {NEWEST_FIRST}", values)
            return [Thread(*row) for row in rows]

        with acting_for(who.tenant):
            found = await self._database.read(select)
        return page(THREADS, found, limit, lambda thread: thread.id)

    async def rename(self, who: Principal, id: str, title: str) -> Thread:
        """Gives a conversation another title.

        Raises:
            UnknownThread: the owner has none of that id.
        """
        values = {**_owner(who), "id": id, "title": title, "now": now()}

        def update(connection: Connection) -> Thread:
            row = connection.execute(RENAME, values).fetchone()
            if row is None:
                raise _unknown(id)
            return Thread(*row)

        with acting_for(who.tenant):
            return await self._database.write(update)

    async def delete(self, who: Principal, id: str) -> None:
        """Removes a conversation and all that came from it: messages, runs, events, checkpoints, feedback.

        Raises:
            UnknownThread: the owner has none of that id.
            ThreadBusy: a run of it is not over; nothing is removed.
        """
        values = {**_owner(who), "id": id}

        def remove(connection: Connection) -> None:
            _thread(connection, who, id)
            active = connection.execute(SELECT_ACTIVE, values).fetchone()
            if active is not None:
                raise ThreadBusy(active[0])
            for statement in DELETE:
                connection.execute(statement, values)

        with acting_for(who.tenant):
            await self._database.write(remove)

    async def messages(self, who: Principal, id: str, after: str | None, limit: int) -> Page[StoredMessage]:
        """Messages of a conversation, oldest first.

        Raises:
            UnknownThread: the owner has none of that id.
            WrongCursor: `after` is no cursor of this list.
        """
        values = {"id": id, "after": number_of(MESSAGES, after) if after else 0, "limit": limit + 1}

        def select(connection: Connection) -> list[StoredMessage]:
            _thread(connection, who, id)
            return [message_of(row) for row in connection.execute(SELECT_MESSAGES, values)]

        with acting_for(who.tenant):
            found = await self._database.read(select)
        return page(MESSAGES, found, limit, lambda message: str(message.number))

    async def runs(self, who: Principal, id: str, after: str | None, limit: int) -> Page[tuple[Run, Answer | None]]:
        """Runs of a conversation with their answers, newest first.

        Raises:
            UnknownThread: the owner has none of that id.
            WrongCursor: `after` is no cursor of this list.
        """
        start = key_of(RUNS, after) if after else LAST
        values = {**_owner(who), "id": id, "after": start, "limit": limit + 1}

        def select(connection: Connection) -> list[tuple[Run, Answer | None]]:
            _thread(connection, who, id)
            runs = [run_of(row) for row in connection.execute(SELECT_RUNS, values)]
            asked = [id, *(run.answer for run in runs if run.answer)]
            places = ", ".join("?" * (len(asked) - 1))
            rows = connection.execute(f"{SELECT_ANSWERS} ({places})", asked).fetchall() if places else []
            said = {message.number: message for message in map(message_of, rows)}
            return [(run, _answer(said.get(run.answer))) for run in runs]

        with acting_for(who.tenant):
            found = await self._database.read(select)
        return page(RUNS, found, limit, lambda ran: ran[0].id)


def _owner(who: Principal) -> dict[str, str | int]:
    return {"tenant": who.tenant, "user": who.user}


def _thread(connection: Connection, who: Principal, id: str) -> Thread:
    row = connection.execute(SELECT, {**_owner(who), "id": id}).fetchone()
    if row is None:
        raise _unknown(id)
    return Thread(*row)


def _unknown(id: str) -> UnknownThread:
    return UnknownThread(f"there is no conversation {id}")


def _answer(message: StoredMessage | None) -> Answer | None:
    return None if message is None else Answer(message.content, message.status, message.citations)


def _says(number: int, word: str, like: str) -> str:
    """The condition that a word is said. The databases know upper and lower case of ASCII only, in fast C; for any
    other word the text is folded first."""
    if word.isascii():
        test = f"{{}} {like} :word{number} ESCAPE '!'"
    else:
        test = f"folded({{}}) LIKE folded(:word{number}) ESCAPE '!'"
    said = f"SELECT 1 FROM messages WHERE thread = threads.id AND {test.format('content')}"
    return f"({test.format('title')} OR EXISTS ({said}))"


def _pattern(word: str) -> str:
    for special in "!%_":
        word = word.replace(special, f"!{special}")
    return f"%{word}%"
