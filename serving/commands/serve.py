"""parley serve: the HTTP server; the port is taken before anything slow begins."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

import uvicorn
import uvloop

from serving.commands.shell import DONE, CommandFailed, Shell, opened, opened_database, say
from serving.http_protocol import BoundedHead
from serving.principal import Principal
from serving.settings import Settings, SettingsError, is_loopback

if TYPE_CHECKING:
    from serving.job_runner import Runner
    from serving.runtime import Runtime

BACKLOG = 1024
_COLLECTED = 10_000, 20, 20
"""Thresholds of the garbage collector: one search makes as many objects as Python's own let live until it looks for
cycles, of which searches and turns leave few."""
GRACE_SECONDS = 5
"""How long answers under way may go on after Ctrl-C; a second Ctrl-C cuts them."""
CUT_SECONDS = 2
"""How long those that are cut then have to store what was said."""


def serve(shell: Shell, first: list[str]) -> int:
    """Serves until Ctrl-C or SIGTERM; `first` are paths to take in before.

    Raises:
        SettingsError: other machines could reach it, and no access key was ever made.
        CommandFailed: the port is taken or may not be used.
    """
    gc.disable()  # a third of a start's time would be collections that find nothing
    sys.modules.setdefault("httpx._main", cast(ModuleType, None))  # httpx does without its own command line: a tenth
    settings = shell.settings().settings
    if not is_loopback(settings.host):
        asyncio.run(_refuse_without_keys(settings))
    with _listening(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, listener, shell.principal, first))


async def _refuse_without_keys(settings: Settings) -> None:
    from serving.keys import Keys

    async with opened_database(settings) as database:
        if not await Keys(database).any():
            raise SettingsError(
                f"host is {settings.host}, which other machines can reach, and there are no access keys yet; make one "
                "with `parley keys create --tenant T --user U`, or listen on 127.0.0.1"
            )


@contextmanager
def _listening(settings: Settings) -> Generator[socket.socket]:
    """A socket that holds the port; it answers once the server has started."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise CommandFailed(
                f"port {settings.port} on {settings.host} cannot be used: {error.strerror}; "
                "end the program that uses it, or choose another port with --port or PARLEY_PORT"
            ) from error
        yield listener


class _Server(uvicorn.Server):
    """Uvicorn that says when it is ready; signals are ours, so that the runtime closes in order."""

    def __init__(self, config: uvicorn.Config, greeting: str, runtime: Runtime, runner: Runner) -> None:
        super().__init__(config)
        self._greeting, self._runtime, self._runner = greeting, runtime, runner

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """First Ctrl-C or SIGTERM: no new requests, then the end; the second: the end at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to answer, then greets, then goes on with what an earlier server left."""
        await super().startup(sockets)
        sys.stdout.write(self._greeting)
        sys.stdout.flush()
        self._warming = asyncio.create_task(_warm(self._runtime, self._runner))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets answers under way end, parks what can go on later, then stops, and says what became of each run."""
        draining = asyncio.create_task(self._runtime.turns.drain(GRACE_SECONDS))
        await super().shutdown(sockets)
        if self.force_exit:
            await self._runtime.turns.drain()
        for fate in await draining:
            say(fate)
        await self._warming


async def _warm(runtime: Runtime, runner: Runner) -> None:
    """Loads what the first turns need, which lives as long as the process and is never collected; then takes up the
    background runs that have no process, and the background jobs."""
    await runtime.warm()
    gc.freeze()
    gc.set_threshold(*_COLLECTED)
    gc.enable()
    await runtime.turns.take_up()
    runner.start()


async def _serve(settings: Settings, listener: socket.socket, principal: Principal, first: list[str]) -> int:
    from serving.api import create_app
    from serving.job_runner import runner_of, working
    from serving.keys import Keys

    async with opened(settings) as runtime:
        if first:
            await _take_in(runtime, principal, first)
        config = uvicorn.Config(
            create_app(runtime),
            http=BoundedHead,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=GRACE_SECONDS + CUT_SECONDS,
        )
        async with working(runner_of(runtime)) as runner:
            greeting = _greeting(settings, listener, needs_key=await Keys(runtime.database).any())
            await _Server(config, greeting, runtime, runner).serve([listener])
    return DONE


async def _take_in(runtime: Runtime, principal: Principal, paths: list[str]) -> None:
    """Takes first knowledge in; what fails is named and does not keep the server from starting."""
    from serving.commands.ingest import take_in

    report = await take_in(runtime, principal, paths)
    for failure in report.failed:
        say(f"could not take in {failure.path}: {failure.reason}")


def _greeting(settings: Settings, listener: socket.socket, *, needs_key: bool) -> str:
    """What to do next, as commands that can be copied."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"http://{host}:{listener.getsockname()[1]}"
    parley = _program()
    model = (
        f"Answers come from {settings.model or 'the model'} at {settings.model_url}."
        if settings.model_url
        else "No language model is set, so answers quote your documents: docs/models.md says how to connect one."
    )
    key = ' -H "Authorization: Bearer $KEY"' if needs_key else ""
    question = '{"model": "parley", "stream": true, "messages": [{"role": "user", "content": "What is Parley?"}]}'
    return f"""
Parley is ready on {base} (Ctrl-C ends it). {model}

  take in your documents   {parley} ingest FOLDER
  talk with them           {parley} chat
  ask over HTTP            curl -N {base}/v1/chat/completions -H 'Content-Type: application/json'{key} \\
                             -d '{question}'
  the API                  {base}/docs

"""


def _program() -> str:
    """How the reader calls this program from where they are."""
    program = Path(sys.argv[0])
    if not program.is_file():
        return "parley"
    relative = os.path.relpath(program)
    return shlex.quote(relative if len(relative) < len(str(program)) else str(program))
