"""parley migrate: makes the tables on Postgres, and brings the record of the one SQLite file there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from memory.sql import DatabaseUnavailable
from serving.addresses import DATABASE, address
from serving.commands.shell import DONE, FAILED, CommandFailed, Shell, console, say, write_json
from serving.database import DATABASE as FILE
from serving.processes import FOLDER, FolderPresence

if TYPE_CHECKING:
    from serving.record_copy import Compared, Source

SCHEME = "sqlite:"
SHORT = 12
"""Characters of a digest in the table."""
AFTER = """\
The record is on Postgres. Before the first server starts there:
  - PARLEY_DATABASE_URL names the database for the role {role}; keep PARLEY_DATA_DIR, where uploads wait.
  - Passages, vectors and the graph are not of the record. With PARLEY_MEMORY_URL or PARLEY_KNOWLEDGE_URL set, start a
    server and run `parley jobs start reembed` for each tenant (--tenant T): it reads every document again and stores
    it there. Uploads come from the data folder, other documents from their files; `parley ingest` takes in what has
    moved. What was remembered of users stays in the old file.
  - Jobs that wait or ran go on with what is left of them; DBOS's notes of their steps stay behind."""


def migrate(shell: Shell, source: str, to: str, resume: bool) -> int:
    """Makes or upgrades the tables at `to` for the role of DATABASE_URL, then copies the SQLite file `source` ("" for
    none) and compares both row for row.

    Raises:
        CommandFailed: a database cannot be used, a server works on the source, or the target holds rows.
    """
    settings = shell.settings().settings
    owner_url = _address(to or settings.database_owner_url)
    url = settings.database_url
    if not url:
        raise CommandFailed(
            "set PARLEY_DATABASE_URL to the address that the servers will use: the same database, with a role that owns"
            " nothing"
        )
    file = None if not source else _file(source)
    try:
        if file is None:
            _prepare(owner_url, url)
            say(f"the tables are ready for the role {_user(url)}")
            return DONE
        with _alone(file):
            _prepare(owner_url, url)
            return _copy(shell, file, owner_url, _user(url), resume)
    except DatabaseUnavailable as error:
        raise CommandFailed(str(error)) from error


def _prepare(owner_url: str, url: str) -> None:
    """Makes or upgrades all tables, and looks whether the servers' role can work with them."""
    from memory.postgres import PostgresDatabase
    from serving import jobs
    from serving.migrations import postgres

    async def check() -> None:
        await postgres.prepare(owner_url, url)
        await (await PostgresDatabase.open(url, postgres.REVISION)).close()

    asyncio.run(check())
    jobs.prepare(owner_url, _user(url))


def _copy(shell: Shell, file: Path, owner_url: str, role: str, resume: bool) -> int:
    from serving.record_copy import NotCopied, compare, copy, open_source, open_target

    try:
        with open_source(file) as source, open_target(owner_url) as target:
            with _bar("copying", source) as tell:
                copy(source, target, resume=resume, tell=tell)
            with _bar("comparing", source) as tell:
                compared = compare(source, target, tell)
    except NotCopied as error:
        raise CommandFailed(str(error)) from error
    except KeyboardInterrupt:
        say("stopped; what was copied stays there, and the same command with --resume goes on")
        raise
    return _told(shell, compared, role)


def _told(shell: Shell, compared: list[Compared], role: str) -> int:
    same = all(one.is_same for one in compared)
    if shell.json:
        write_json({"same": same, "tables": [_json(one) for one in compared]})
        return DONE if same else FAILED
    from rich.table import Table
    from rich.text import Text

    table = Table("table", "rows", "digest", "on Postgres", "digest", "", box=None, pad_edge=False)
    for one in compared:
        ours, theirs = one.source, one.target
        cells = (one.table, str(ours.rows), ours.text[:SHORT], str(theirs.rows), theirs.text[:SHORT])
        table.add_row(*(Text(cell) for cell in cells), "same" if one.is_same else "DIFFERENT")
    console().print(table)
    for one in compared:
        for row in one.differing:
            say(f"{one.table}: {row}")
    if not same:
        raise CommandFailed("not all rows are the same: use neither database for a server, and try with an empty one")
    for line in AFTER.format(role=role).splitlines():
        say(line)
    return DONE


@contextmanager
def _alone(file: Path) -> Generator[None]:
    """Refuses a data folder that a process works on, and counts as one itself.

    Raises:
        CommandFailed: one does.
    """
    presence = FolderPresence(file.parent)
    try:
        others = {one.name for one in (file.parent / FOLDER).iterdir()} - {presence.name}
        living = others - asyncio.run(presence.gone(others))
        if living:
            named = ", ".join(sorted(name.rpartition(":")[0] for name in living))
            raise CommandFailed(f"Parley works on {file.parent} ({named}): stop it, so that nothing is left behind")
        yield
    finally:
        asyncio.run(presence.close())


@contextmanager
def _bar(what: str, source: Source) -> Generator[Callable[[str, int], None]]:
    """A progress bar on stderr, where that is a terminal; what it yields is told of rows."""
    err = console(stderr=True)
    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[table]}", markup=False),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    ) as bars:
        bar = bars.add_task("rows", total=sum(map(source.count, source.tables)), table="")
        yield lambda table, rows: bars.update(bar, advance=rows, table=table)


def _file(source: str) -> Path:
    """The database that `sqlite:PATH` names: the file itself, or the data folder that it is in.

    Raises:
        CommandFailed: it names none.
    """
    if not source.startswith(SCHEME):
        raise CommandFailed(f"--from takes {SCHEME}PATH, the data folder or the file {FILE} in it")
    path = Path(source.removeprefix(SCHEME)).expanduser()
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise CommandFailed(f"there is no database {file}; --from takes the data folder or the file {FILE} in it")
    return file


def _address(url: str) -> str:
    """The address, which must be Postgres's.

    Raises:
        CommandFailed: it is not; the text shows no password.
    """
    if not url:
        raise CommandFailed(
            "name the Postgres database with --to postgresql+psycopg://OWNER:PASSWORD@HOST/DATABASE, or in"
            " PARLEY_DATABASE_OWNER_URL, which the list of processes does not show"
        )
    try:
        return address(url, DATABASE).replace("postgresql://", "postgresql+psycopg://", 1)
    except ValueError as error:
        raise CommandFailed(f"--to is no address of a Postgres database: {error}") from error


def _user(url: str) -> str:
    return unquote(urlsplit(url).username or "")


def _json(one: Compared) -> dict[str, object]:
    return {
        "table": one.table,
        "rows": one.source.rows,
        "rows_on_postgres": one.target.rows,
        "digest": one.source.text,
        "digest_on_postgres": one.target.text,
        "differing": list(one.differing),
    }
