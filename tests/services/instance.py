"""One started server: its folder, ports and secrets, its process, and how it is asked whether it is ready."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio.to_thread
import psutil

START_SECONDS = 240.0
"""Bound for a start, generous because the machine may be busy building something else."""
STOP_SECONDS = 60.0
ASK_SECONDS = 0.1
"""Between two questions whether a starting server is ready."""
LOG_LINES = 25


class Missing(Exception):
    """A server cannot be had on this machine; the text says how to have it."""


class NotStarted(Exception):
    """A server was found but did not become ready; the text holds the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A command that runs a server in the foreground.

    `marks` are parts of its command line that tell it from every other process, also after it renamed itself.
    """

    argv: Sequence[str]
    marks: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    user: str | None = None


class Kind(Protocol):
    """How one sort of server is had, configured, run and asked."""

    @property
    def name(self) -> str:
        """As in `.services/<name>/`."""
        ...

    @property
    def ports(self) -> Sequence[str]:
        """What it listens for, the main port first."""
        ...

    @property
    def kill_signal(self) -> signal.Signals:
        """Ends it at once, as a crash would."""
        ...

    @property
    def stop_signal(self) -> signal.Signals:
        """Ends it in good order."""
        ...

    @property
    def how(self) -> str:
        """The one sentence that says how to have it."""
        ...

    def found(self) -> bool:
        """Whether it can be started now, with nothing to install or build."""
        ...

    def obtain(self) -> None:
        """Installs or builds it, where this machine can.

        Raises:
            Missing: it cannot.
        """
        ...

    async def fill(self, instance: Instance) -> None:
        """Writes what it needs before each start: folders and configuration."""
        ...

    def launch(self, instance: Instance) -> Launch:
        """The command for an instance that is filled."""
        ...

    async def wanting(self, instance: Instance) -> str:
        """Why it is not ready yet, "" when it answers to our credentials; seeds it on the way."""
        ...

    def urls(self, instance: Instance) -> dict[str, str]:
        """The lines of `.services/env` that reach it."""
        ...

    def drop(self, instance: Instance) -> None:
        """Removes what an instance keeps outside its own folder."""
        ...


@dataclass(slots=True)
class Instance:
    """A server of one kind in one folder, started or not."""

    kind: Kind
    home: Path
    config: str = ""
    """The whole configuration, for kinds that have none of their own (nginx)."""
    ports: dict[str, int] = field(default_factory=dict[str, int])
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    notes: dict[str, str] = field(default_factory=dict[str, str])
    """What a kind remembers between starts."""

    def __post_init__(self) -> None:
        if self.state.exists():
            kept = json.loads(self.state.read_text(encoding="utf-8"))
            self.ports, self.secrets, self.notes = kept["ports"], kept["secrets"], kept["notes"]

    @property
    def state(self) -> Path:
        """Ports, secrets and notes, kept between starts."""
        return self.home / "instance.json"

    @property
    def log(self) -> Path:
        """All that the server says."""
        return self.home / f"{self.kind.name}.log"

    @property
    def pid_file(self) -> Path:
        """Holds the process's number while it runs."""
        return self.home / f"{self.kind.name}.pid"

    @property
    def port(self) -> int:
        """The main port."""
        return self.ports[self.kind.ports[0]]

    @property
    def urls(self) -> dict[str, str]:
        """The lines of `.services/env` that reach it."""
        return self.kind.urls(self)

    def secret(self, name: str) -> str:
        """A password, made at random on first use."""
        return self.secrets.setdefault(name, secrets.token_urlsafe(18))

    def save(self) -> None:
        """Keeps ports, secrets and notes, readable by their owner only."""
        text = json.dumps({"ports": self.ports, "secrets": self.secrets, "notes": self.notes}, indent=1)
        write_private(self.state, text)

    def process(self) -> psutil.Process | None:
        """The running server; None when it does not run or the pid now belongs to another program."""
        try:
            process = psutil.Process(int(self.pid_file.read_text(encoding="ascii")))
            command = " ".join(process.cmdline())
            running = process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, ValueError, psutil.Error):
            return None
        ours = self.ports and all(mark in command for mark in self.kind.launch(self).marks)
        return process if running and ours else None

    async def start(self, configured: Mapping[str, int] | None = None) -> bool:
        """Starts the server where it does not run, and waits until it answers.

        Args:
            configured: ports that must be these; the others stay what they were, or are free ones.

        Returns:
            Whether it had to be started.

        Raises:
            Missing: the program is not on this machine.
            NotStarted: a port is taken, or the server ended or stayed silent; the text holds the end of its log.
        """
        wanted = dict(configured or {})
        process = self.process()
        if process is not None:
            if all(self.ports[role] == port for role, port in wanted.items()):
                await self._wait_until_ready(process)
                return False
            await self.stop()
        if not self.kind.found():
            raise Missing(f"{self.kind.name}: {self.kind.how}")
        self.home.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._choose_ports(wanted)
        self.save()
        await self.kind.fill(self)
        self.kind.urls(self)  # makes every password
        self.save()
        launch = self.kind.launch(self)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                launch.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home, start_new_session=True,
                env={**_plain_environment(), **launch.environ}, user=launch.user, group=launch.user,
                extra_groups=None if launch.user is None else [],
            )  # fmt: skip
        _children[child.pid] = child
        write_private(self.pid_file, f"{child.pid}\n")
        await self._wait_until_ready(psutil.Process(child.pid))
        return True

    async def stop(self) -> None:
        """Ends the server in good order, and waits until it is gone."""
        await self._end(self.kind.stop_signal)

    async def kill(self) -> None:
        """Ends the server at once, as a crash would, and waits until it is gone."""
        await self._end(self.kind.kill_signal)

    async def remove(self) -> None:
        """Stops the server and deletes all that it wrote."""
        await self._end(signal.SIGKILL)
        self.kind.drop(self)
        await anyio.to_thread.run_sync(partial(shutil.rmtree, self.home, ignore_errors=True))

    async def _end(self, number: signal.Signals) -> None:
        process = self.process()
        if process is not None:
            children = process.children(recursive=True)
            process.send_signal(number)
            if not await _gone(process, STOP_SECONDS):
                process.kill()
                await _gone(process, STOP_SECONDS)
            for child in children:  # a killed parent leaves its workers alive, on its port
                if number == signal.SIGKILL and child.is_running():
                    child.kill()
                await _gone(child, STOP_SECONDS)
        self.pid_file.unlink(missing_ok=True)

    def _choose_ports(self, wanted: Mapping[str, int]) -> None:
        for role in self.kind.ports:
            port = wanted.get(role)
            if port is not None and not is_free(port):
                variable = port_variable(self.kind, role)
                raise NotStarted(
                    f"{self.kind.name}: port {port} is taken by another program; "
                    f"end that program, or set {variable} to a free port or to nothing"
                )
            if port is None:
                kept = self.ports.get(role)
                port = kept if kept is not None and is_free(kept) else free_port()
            self.ports[role] = port

    async def _wait_until_ready(self, process: psutil.Process) -> None:
        wanting = "it said nothing"
        with anyio.move_on_after(START_SECONDS):
            while True:
                wanting = await self.kind.wanting(self)
                if not wanting:
                    self.save()
                    return
                if await _gone(process, ASK_SECONDS):
                    wanting = "it ended"
                    break
        await self._end(signal.SIGKILL)
        raise NotStarted(f"{self.kind.name} did not start: {wanting}. The end of {self.log}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of the log, without our secrets."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        for secret in self.secrets.values():
            text = text.replace(secret, "***")
        return "\n".join(f"    {line}" for line in text.splitlines()[-LOG_LINES:])


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers that this very process started: kept until they end, so that none becomes a zombie."""


async def _gone(process: psutil.Process, seconds: float) -> bool:
    """Whether a process ends within that time."""
    child = _children.get(process.pid)
    wait = child.wait if child is not None else process.wait
    try:
        await anyio.to_thread.run_sync(partial(wait, timeout=seconds), abandon_on_cancel=True)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        return False
    except psutil.NoSuchProcess:
        pass
    _children.pop(process.pid, None)
    return True


def _plain_environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "JAVA_HOME")
    return {name: os.environ[name] for name in kept if name in os.environ}


def port_variable(kind: Kind, role: str) -> str:
    """The environment's name for a configured port."""
    middle = "" if role == kind.ports[0] else f"{role.upper()}_"
    return f"PARLEY_SERVICES_{kind.name.upper()}_{middle}PORT"


def configured_ports(kind: Kind, environ: Mapping[str, str]) -> dict[str, int]:
    """Ports that the environment asks for.

    Raises:
        NotStarted: one is no port.
    """
    found: dict[str, int] = {}
    for role in kind.ports:
        variable = port_variable(kind, role)
        text = environ.get(variable, "").strip()
        if text:
            if not text.isdecimal() or not 0 < int(text) < 65536:
                raise NotStarted(
                    f"{variable} is {text!r}; allowed is a port from 1 to 65535, or nothing for a free one"
                )
            found[role] = int(text)
    return found


def is_free(port: int) -> bool:
    """Whether a server can listen on this port of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_given: set[int] = set()
"""Ports that this process gave to servers, which may not listen on them yet."""


def free_port() -> int:
    """A free port below the range from which the system takes those of outgoing connections."""
    picks = (random.randrange(20_000, 32_000) for _ in range(1_000))
    port = next(port for port in picks if port not in _given and is_free(port))
    _given.add(port)
    return port


def write_private(file: Path, text: str) -> None:
    """Replaces a file at once by one that only its owner can read."""
    new = file.with_name(f"{file.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8")
    new.replace(file)
