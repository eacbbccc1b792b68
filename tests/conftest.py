# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What every test gets: asyncio as the only event loop, and no network but the loopback."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.services.lacking import missing_servers

BACKEND = re.compile(r"\[(embedded|weaviate|chroma|neo4j|sqlite|postgres|file|local|redis)\b")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Refuses connections that would leave this machine, so that no test depends on the world."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = str(address[0])
            if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                raise ConnectionRefusedError(f"tests must not reach {host}")
        connect(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


class ByFile(LoadScopeScheduling):
    """Tests of one file run in one process, for what they share; where they run on several backends, those of one."""

    def _split_scope(self, nodeid: str) -> str:
        backend = BACKEND.search(nodeid)
        return f"{nodeid.partition('::')[0]} {backend[1] if backend else ''}"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """How tests are spread over processes."""
    return ByFile(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Counts the coverage of the processes that a test starts where it asks for that: it doubles their time."""
    if item.get_closest_marker("measured") is None or not item.config.pluginmanager.hasplugin("_cov"):
        return (yield)
    os.environ["COVERAGE_PROCESS_START"] = str(item.config.inipath)
    try:
        return (yield)
    finally:
        del os.environ["COVERAGE_PROCESS_START"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names, in the run's last lines, the servers that this machine lacks and how to have them."""
    for server in missing_servers(terminalreporter.getreports("skipped")):
        terminalreporter.write_line(f"Tests of a real server were left out. Missing: {server}", yellow=True)
