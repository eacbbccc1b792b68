"""parley chat: a stored conversation at the terminal. Ctrl-C stops an answer, Ctrl-D ends the chat."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from anyio.from_thread import BlockingPortal, start_blocking_portal

from agents.types import Draft
from serving.commands.ask import Asked, show_sources, turn, user_message
from serving.commands.shell import DONE, CommandFailed, Shell, console, opened, say
from serving.commands.threads import everything, recent
from serving.conversations import Conversations
from serving.principal import Principal
from serving.records import Thread, UnknownThread
from serving.settings import Settings
from serving.turns import TurnRequest

if TYPE_CHECKING:
    from rich.console import Console

    from serving.runtime import Runtime

HELP = """\
/new        start another conversation
/threads    list your conversations
/open N     go on with number N of that list
/history    show this conversation
/sources    show the passages that the last answer quotes
/help       show this
/quit       end (or Ctrl-D); Ctrl-C stops an answer"""

LISTED = 100
"""Conversations that /threads shows."""


def chat(shell: Shell, thread: str) -> int:
    """Talks until the input ends; the conversation is kept in the data folder."""
    settings = shell.settings().settings
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(opened(settings)) as runtime:
        _Chat(portal, runtime, console(), shell.principal).talk(settings, thread)
    return DONE


@dataclass(slots=True)
class _Chat:
    """The person's side: lines in, answers out. The event loop runs in the portal's thread, so that reading a
    line blocks nothing and Ctrl-C reaches this one."""

    portal: BlockingPortal
    runtime: Runtime
    out: Console
    principal: Principal
    thread: Thread | None = None
    listed: list[Thread] = field(default_factory=list[Thread])
    last: Draft | None = None

    @property
    def _conversations(self) -> Conversations:
        return Conversations(self.runtime.database)

    def talk(self, settings: Settings, thread: str) -> None:
        """Reads and answers line after line."""
        if thread:
            self._open(self._found(thread))
        if sys.stdin.isatty():
            model = self.runtime.model.model.name if self.runtime.model is not None else "no model: answers are quotes"
            self.out.print(f"Parley ({model}). /help shows the commands, Ctrl-D ends.", style="dim")
        with _line_editing(settings.data_dir / "chat_history"):
            while (line := _read_line()) is not None:
                if line.startswith("/"):
                    if line.split()[0] in ("/quit", "/exit"):
                        return
                    self._command(line)
                elif line:
                    self._answer(line)

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        match name:
            case "/new":
                self.thread, self.last = None, None
            case "/threads":
                self._list()
            case "/open":
                self._open_number(rest.strip())
            case "/history":
                self._history()
            case "/sources":
                self._sources()
            case "/help":
                self.out.print(HELP, markup=False)
            case _:
                say(f"there is no {name}; /help shows the commands")

    def _answer(self, question: str) -> None:
        if self.thread is None:
            self.thread = self.portal.call(self._conversations.create, self.principal)
        request = TurnRequest(self.principal, (user_message(question, self.principal),), thread=self.thread.id)
        asked = self._stoppable(lambda: turn(self.runtime, request, _write))
        _write("\n")
        if asked is None:
            say("stopped")
        elif asked.draft is None:
            say(asked.error)
        else:
            self.last = asked.draft
            show_sources(self.out, asked.draft)

    def _stoppable(self, work: Callable[[], Awaitable[Asked]]) -> Asked | None:
        """The work's result; None when Ctrl-C stopped it, which has then ended."""
        ended = Event()

        async def whole() -> Asked:
            try:
                return await work()
            finally:
                ended.set()

        future = self.portal.start_task_soon(whole)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            ended.wait()
            return None

    def _found(self, id: str) -> Thread:
        try:
            return self.portal.call(self._conversations.get, self.principal, id)
        except UnknownThread as error:
            raise CommandFailed(f"{error}; `parley threads list` shows all") from error

    def _open(self, thread: Thread) -> None:
        self.thread, self.last = thread, None
        self.out.print(f"Going on with: {thread.title}", style="dim", markup=False)

    def _list(self) -> None:
        self.listed = self.portal.call(recent, self._conversations, self.principal)[:LISTED]
        for number, thread in enumerate(self.listed, start=1):
            self.out.print(f"{number:>3}  {thread.updated_at[:16]}  {thread.id}  {thread.title}", markup=False)
        if not self.listed:
            say("there is no conversation yet")

    def _open_number(self, number: str) -> None:
        if number.isdecimal() and 1 <= int(number) <= len(self.listed):
            self._open(self.listed[int(number) - 1])
        else:
            say("/open takes a number of the list that /threads shows")

    def _history(self) -> None:
        if self.thread is None:
            say("this conversation is empty")
            return
        for message in self.portal.call(everything, self._conversations, self.principal, self.thread.id):
            self.out.print(f"{message.role}:", style="bold")
            self.out.print(message.content, markup=False)

    def _sources(self) -> None:
        if self.last is None or not self.last.citations:
            say("the last answer quotes nothing")
            return
        for citation in self.last.citations:
            self.out.print(f"[{citation.index}] {citation.title}  {citation.path}", style="cyan", markup=False)
            self.out.print(citation.quote, markup=False)


def _read_line() -> str | None:
    """The next line without blanks around it; None at the end of the input."""
    while True:
        try:
            return input("\n> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            continue  # Ctrl-C at the prompt drops the line


@contextmanager
def _line_editing(history: Path) -> Generator[None]:
    """Arrow keys and the lines of earlier chats, where this Python has readline and a person types."""
    try:
        import readline
    except ImportError:
        readline = None
    if readline is None or not sys.stdin.isatty():
        yield
        return
    if history.exists():
        readline.read_history_file(history)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        history.touch(mode=0o600)
        readline.write_history_file(history)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
