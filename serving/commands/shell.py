"""Shell: what every command shares: its settings, its two output streams, and how it fails."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from serving.logs import log_to
from serving.principal import LOCAL, Principal, checked_name
from serving.settings import DataFolderUnusable, Loaded, Settings, SettingsError, load, open_data_dir

if TYPE_CHECKING:
    from rich.console import Console

    from memory.sql import SqlDatabase
    from serving.runtime import Runtime

DONE, FAILED, WRONG_USE = 0, 1, 2
WIDTH = 200
"""Columns of a table that is not shown on a terminal."""


class CommandFailed(Exception):
    """A command could not do what was asked; the text says why and what helps."""


@dataclass(frozen=True, slots=True)
class Shell:
    """One call of the command line."""

    flags: Mapping[str, str]
    """Settings given as flags, by name."""
    json: bool = False
    """One JSON object on stdout, and nothing else there."""
    tenant: str = ""
    """The tenant that `--tenant` named, "" for none."""

    @property
    def principal(self) -> Principal:
        """Who works on the data folder: the user `local` of the tenant, who may do everything there.

        Raises:
            CommandFailed: the name can be no tenant's.
        """
        try:
            return replace(LOCAL, tenant=checked_name(self.tenant, "tenant")) if self.tenant else LOCAL
        except ValueError as error:
            raise CommandFailed(str(error)) from error

    def settings(self) -> Loaded:
        """Reads the settings, makes the data folder, opens the log there and prints what looked wrong.

        Raises:
            SettingsError: a value is wrong.
            CommandFailed: the data folder cannot be used.
        """
        loaded = load(self.flags, os.environ, Path.cwd())
        for warning in loaded.warnings:
            say(f"warning: {warning}")
        try:
            log_to(open_data_dir(loaded.settings))
        except DataFolderUnusable as error:
            raise CommandFailed(str(error)) from error
        except OSError as error:
            raise CommandFailed(f"the log {error.filename} cannot be written: {error.strerror}") from error
        return loaded

    def run(self, work: Callable[[Runtime], Awaitable[int]]) -> int:
        """Runs `work` with everything open; Ctrl-C cancels it and waits for its clean end.

        Raises:
            CommandFailed: a backend cannot be reached.
        """
        return asyncio.run(self._with_runtime(work))

    async def _with_runtime(self, work: Callable[[Runtime], Awaitable[int]]) -> int:
        settings = self.settings().settings
        async with opened(settings) as runtime:
            return await work(runtime)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Runtime, None]:
    """The runtime; a part that cannot be reached, then or later, is a CommandFailed that says what to do."""
    from knowledge.graph import GraphUnavailable
    from memory.sql import DatabaseUnavailable
    from memory.store import MemoryUnavailable
    from serving.bus import BusUnavailable
    from serving.runtime import open_runtime

    try:
        async with open_runtime(settings) as runtime:
            yield runtime
    except (DatabaseUnavailable, MemoryUnavailable, GraphUnavailable, BusUnavailable) as error:
        raise CommandFailed(str(error)) from error


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncGenerator[SqlDatabase, None]:
    """The record alone, for commands that need nothing else; what is wrong with it is a CommandFailed."""
    from memory.sql import DatabaseUnavailable
    from serving.database import open_record

    try:
        database = await open_record(settings)
        try:
            yield database
        finally:
            await database.close()
    except DatabaseUnavailable as error:
        raise CommandFailed(str(error)) from error


def console(*, stderr: bool = False) -> Console:
    """Rich on stdout, or on stderr for progress; text sent elsewhere than a terminal is not wrapped."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH
    return Console(file=stream, highlight=False, soft_wrap=width is not None, width=width)


def say(line: str) -> None:
    """One line to stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def typed(text: str) -> str:
    """Text from the command line as Unicode: bytes that are no UTF-8 become the replacement sign."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def write_json(value: object) -> None:
    """One JSON value as one line on stdout."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=not unicode) + "\n")
    sys.stdout.flush()


def log_bug(shell: Shell, error: Exception) -> str:
    """Writes a bug's traceback to the log; returns where that is, "" when there is none."""
    try:
        file = log_to(open_data_dir(load(shell.flags, os.environ, Path.cwd()).settings))
    except (SettingsError, DataFolderUnusable, OSError):
        return ""
    logging.getLogger("serving.cli").error("bug", exc_info=error)
    return str(file)
