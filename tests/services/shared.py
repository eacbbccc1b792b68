"""The servers of `.services`: one of each kind, shared by all tests and by a developer's own Parley."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from tests.services.chroma_server import Chroma
from tests.services.instance import Instance, Kind, Missing, NotStarted, configured_ports, write_private
from tests.services.neo4j_server import NEWER, Neo4j, java
from tests.services.nginx_server import Nginx
from tests.services.postgres_server import Postgres
from tests.services.programs import is_ci
from tests.services.redis_server import Redis
from tests.services.weaviate_server import Weaviate

ROOT = Path(__file__).resolve().parent.parent.parent
NEO4J: tuple[Neo4j, ...] = (Neo4j(), NEWER) if java(NEWER.java) else (Neo4j(),)
"""The versions that this machine can run."""
KINDS: dict[str, Kind] = {kind.name: kind for kind in (Weaviate(), *NEO4J, Postgres(), Redis(), Chroma(), Nginx())}
"""Every server that Parley is tested with."""
SHARED = tuple(name for name in KINDS if name not in ("nginx", NEWER.name))
"""Those of which one is shared; nginx and the newer Neo4j are there as private servers only."""

Say = Callable[[str], None]


def services_folder() -> Path:
    """Where data, logs and the env file lie."""
    return Path(os.environ.get("PARLEY_SERVICES_DIR") or ROOT / ".services").absolute()


def private_folder() -> Path:
    """Where private servers of tests have their folders, as `<name>-<random>`."""
    return services_folder() / "private"


def shared(name: str) -> Instance:
    """The shared server of a kind, started or not."""
    return Instance(KINDS[name], services_folder() / name)


async def obtain_all(names: Sequence[str], say: Say) -> dict[str, str]:
    """Installs and builds at the same time what is not there yet.

    Returns:
        The servers that cannot be had here, each with how to have it.
    """
    missing: dict[str, str] = {}

    async def obtain(kind: Kind) -> None:
        if kind.found():
            return
        say(f"{kind.name}: installing ...")
        try:
            await anyio.to_thread.run_sync(kind.obtain)
            if not kind.found():
                raise Missing(f"{kind.name} was installed and is not found; {kind.how}")
            say(f"{kind.name}: installed")
        except Missing as error:
            missing[kind.name] = str(error)

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(obtain, KINDS[name])
    return missing


async def start_all(names: Sequence[str], say: Say) -> dict[str, str]:
    """Starts at the same time what does not run, seeds it, and writes the env file.

    Returns:
        The servers that cannot be had here, each with how to have it.

    Raises:
        NotStarted: one did not start; all were tried, and the text has a paragraph for each.
    """
    missing = await obtain_all(names, say)
    if missing and is_ci():
        return missing  # all is lost already
    failed: list[str] = []

    async def start(instance: Instance) -> None:
        name = instance.kind.name
        begun = anyio.current_time()
        try:
            ports = configured_ports(instance.kind, os.environ)
            if await instance.start(ports):
                say(f"{name}: ready on port {instance.port} after {anyio.current_time() - begun:.0f} s")
            else:
                say(f"{name}: runs on port {instance.port}")
        except NotStarted as error:
            failed.append(str(error))

    async with anyio.create_task_group() as group:
        for name in names:
            if name not in missing and name in SHARED:
                group.start_soon(start, shared(name))
    write_env()
    if failed:
        raise NotStarted("\n".join(failed))
    return missing


async def stop_all(names: Sequence[str], say: Say) -> None:
    """Stops at the same time what runs, and waits until it is gone.

    With all names: also what a test run that was killed has left of its private servers.
    """

    async def stop(instance: Instance) -> None:
        ran = instance.process() is not None
        await instance.stop()
        if ran:
            say(f"{instance.kind.name}: stopped")

    async with anyio.create_task_group() as group:
        for name in names:
            if name in SHARED:
                group.start_soon(stop, shared(name))
        for folder in private_folder().glob("*-*") if set(names) == set(KINDS) else ():
            group.start_soon(Instance(KINDS[folder.name.partition("-")[0]], folder).remove)
    write_env()


def running() -> list[str]:
    """The shared servers that run."""
    return [name for name in SHARED if shared(name).process() is not None]


def write_env() -> None:
    """Writes `.services/env` with the lines of every server that runs, readable by its owner only."""
    lines = [f"{name}={value}\n" for kind in SHARED for name, value in running_urls(kind).items()]
    folder = services_folder()
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    write_private(folder / "env", "".join(lines))


def running_urls(name: str) -> dict[str, str]:
    """The lines of a shared server that runs; none when it does not."""
    instance = shared(name)
    return instance.urls if instance.process() is not None else {}
