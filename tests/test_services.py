"""The servers of `make services`: started once, found by tests, stopped, and named where they are missing."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
import redis.asyncio

from tests.services.found import service
from tests.services.instance import Instance, NotStarted
from tests.services.private import private
from tests.services.shared import KINDS, SHARED, shared

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 100
"""Seconds; a bound for what hangs, not a measure."""


@dataclass(frozen=True)
class Machine:
    """A checkout that has started nothing yet, with the programs that a test leaves it."""

    folder: Path
    environ: dict[str, str]

    def type(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=self.environ | environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip

    def services(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.type("-m", "tests.services", *arguments, **environ)

    def pid(self, name: str) -> int:
        return int((self.folder / name / f"{name}.pid").read_text())

    def env(self) -> dict[str, str]:
        lines = (self.folder / "env").read_text().splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    kept = ("PATH", "HOME", "LANG", "XDG_CACHE_HOME")
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    return Machine(tmp_path / "services", environ | {"PARLEY_SERVICES_DIR": str(tmp_path / "services")})


@pytest.fixture
def bare(machine: Machine, tmp_path: Path) -> Machine:
    """A machine with no programs and no cache."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return Machine(machine.folder, machine.environ | {"PATH": str(empty), "XDG_CACHE_HOME": str(empty)})


def test_what_runs_and_answers_is_left_and_what_was_stopped_comes_back_as_it_was(machine: Machine) -> None:
    service("redis")
    try:
        first = machine.services("start", "redis")
        assert first.returncode == 0, first.stderr
        assert "redis: ready on port" in first.stderr
        pid, env = machine.pid("redis"), machine.env()
        assert list(env) == ["PARLEY_REDIS_URL"]
        again = machine.services("start", "redis")
        assert "redis: runs on port" in again.stderr
        assert (machine.pid("redis"), machine.env()) == (pid, env)
        assert machine.services("stop", "redis").returncode == 0
        assert not psutil.pid_exists(pid)
        assert machine.env() == {}
        machine.services("start", "redis")
        assert machine.env() == env
    finally:
        machine.services("stop")


def test_passwords_are_for_the_owner_only(machine: Machine) -> None:
    service("redis")
    try:
        machine.services("start", "redis")
        for file in ("env", "redis/instance.json", "redis/redis.conf"):
            assert stat.S_IMODE((machine.folder / file).stat().st_mode) == 0o600
        password = machine.env()["PARLEY_REDIS_URL"].split(":")[2].partition("@")[0]
        assert len(password) >= 20
        assert password not in " ".join(psutil.Process(machine.pid("redis")).cmdline())
    finally:
        machine.services("stop")


def test_a_pid_file_that_names_another_programs_process_ends_nothing(machine: Machine) -> None:
    service("redis")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        try:
            machine.services("start", "redis")
            ours = machine.pid("redis")
            (machine.folder / "redis" / "redis.pid").write_text(f"{other.pid}\n")
            machine.services("stop", "redis")
            assert other.poll() is None
            os.kill(ours, signal.SIGTERM)
            psutil.wait_procs([psutil.Process(ours)] if psutil.pid_exists(ours) else [], DEADLINE)
            (machine.folder / "redis" / "redis.pid").write_text(f"{other.pid}\n")
            assert "redis: ready" in machine.services("start", "redis").stderr
            assert machine.pid("redis") not in (ours, other.pid)
            assert other.poll() is None
        finally:
            machine.services("stop")
            other.kill()


def test_a_configured_port_is_taken_up_and_one_that_is_taken_is_named(machine: Machine) -> None:
    service("redis")
    try:
        machine.services("start", "redis")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            ended = machine.services("start", "redis", PARLEY_SERVICES_REDIS_PORT=port)
            assert ended.returncode == 1
            assert f"redis: port {port} is taken" in ended.stderr
            assert "PARLEY_SERVICES_REDIS_PORT" in ended.stderr
        moved = machine.services("start", "redis", PARLEY_SERVICES_REDIS_PORT=port)
        assert f"redis: ready on port {port}" in moved.stderr
        assert f"127.0.0.1:{port}/" in machine.env()["PARLEY_REDIS_URL"]
    finally:
        machine.services("stop")
    wrong = machine.services("start", "redis", PARLEY_SERVICES_REDIS_PORT="many")
    assert "allowed is a port" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_a_server_that_cannot_be_had_is_named_with_what_helps_and_is_an_error_under_ci(
    bare: Machine, ci: str, status: int
) -> None:
    ended = bare.services("start", "weaviate", "neo4j", "redis", CI=ci)
    assert ended.returncode == status
    assert "missing weaviate: install Go" in ended.stderr
    assert "missing neo4j: install Java (17 or newer) and Maven" in ended.stderr
    assert "missing redis: install it (`sudo apt-get install -y redis-server`" in ended.stderr
    assert not ci or not (bare.folder / "env").exists()


@pytest.mark.parametrize(
    ("ci", "status", "counted"), [("", 0, "1 passed, 2 skipped"), ("true", 1, "2 failed, 1 passed")]
)
def test_tests_of_a_missing_server_are_left_out_and_the_last_lines_name_it_but_under_ci_they_fail(
    bare: Machine, tmp_path: Path, ci: str, status: int, counted: str
) -> None:
    file = tmp_path / "test_needs.py"
    file.write_text(
        "from tests.services.found import service\nfrom tests.services.private import private\n"
        "def test_shared() -> None:\n    service('redis')\n"
        "async def test_own() -> None:\n    async with private('weaviate'):\n        pass\n"
        "def test_other() -> None:\n    pass\n"
    )
    plugins = ("-p", "tests.conftest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"))
    ended = bare.type("-m", "pytest", "-q", *plugins, str(file), CI=ci)
    assert ended.returncode == status, ended.stdout
    *lines, last = ended.stdout.strip().splitlines()
    assert counted in last
    if not ci:
        assert lines[-2].startswith("Tests of a real server were left out. Missing: redis: install it")
        assert lines[-1].startswith("Tests of a real server were left out. Missing: weaviate: install Go")


def test_under_ci_a_command_is_not_run_without_all_of_its_servers(bare: Machine) -> None:
    ended = bare.services("run", sys.executable, "-c", "print('told')", CI="true")
    assert ended.returncode == 1
    assert ended.stdout == ""


def test_a_server_that_there_is_not_gets_the_usage(bare: Machine) -> None:
    ended = bare.services("start", "mysql")
    assert ended.returncode == 2
    assert "python -m tests.services start" in ended.stderr


@pytest.mark.parametrize("name", SHARED)
def test_the_lines_of_a_shared_server_are_in_the_env_file(name: str) -> None:
    urls = service(name)
    assert urls
    assert all(line.startswith("PARLEY_") and "127.0.0.1" in value for line, value in urls.items())


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_server_listens_on_the_loopback_but_for_two_ports_of_weaviate(name: str) -> None:
    service(name)
    instance = shared(name)
    process = instance.process()
    assert process is not None
    listening = {link.laddr for link in process.net_connections() if link.status == psutil.CONN_LISTEN}
    open_to_all = {port for address, port in listening if address.removeprefix("::ffff:") not in ("127.0.0.1", "::1")}
    assert instance.port in {port for _, port in listening}
    assert open_to_all <= {port for role, port in instance.ports.items() if role in ("grpc", "data")}


def test_what_a_killed_test_run_left_of_its_private_servers_goes_with_the_others(machine: Machine) -> None:
    service("redis")
    left = machine.folder / "private" / "redis-left"
    start = f"Instance(KINDS['redis'], Path({str(left)!r})).start"
    imports = "import anyio; from pathlib import Path; from tests.services.shared import *"
    try:
        ended = machine.type("-c", f"{imports}; anyio.run({start})")
        assert ended.returncode == 0, ended.stderr
        pid = int((left / "redis.pid").read_text())
        assert psutil.pid_exists(pid)
    finally:
        machine.services("stop")
    assert not psutil.pid_exists(pid)
    assert not left.exists()


async def test_a_private_server_keeps_its_address_and_its_data_when_it_stops_and_when_it_is_killed() -> None:
    async with private("redis") as (urls, server):
        for number, end in enumerate((server.stop, server.kill)):
            async with redis.asyncio.from_url(urls["PARLEY_REDIS_URL"]) as client:
                assert await client.incr("starts") == number + 1
            await end()
            assert server.process() is None
            assert await server.start()
            assert not await server.start()
            assert server.urls == urls
        home = server.home
    assert server.process() is None
    assert not home.exists()


async def test_postgres_recovers_from_an_immediate_stop_and_its_application_role_can_bypass_nothing() -> None:
    async with private("postgres") as (urls, server):
        await server.kill()
        await server.start()
        address = urls["PARLEY_DATABASE_URL"].replace("+psycopg", "")
        async with await psycopg.AsyncConnection.connect(address) as connection:
            rights = (
                "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
            )
            assert await (await connection.execute(rights)).fetchone() == (False, False, False, False)
            owned = "SELECT count(*) FROM pg_shdepend WHERE refobjid = current_user::regrole AND deptype = 'o'"
            assert await (await connection.execute(owned)).fetchone() == (0,)
        data = Path(server.notes["data"])
        assert data.exists()
    assert not data.exists()


async def test_postgres_works_in_a_checkout_that_its_own_user_cannot_enter(machine: Machine) -> None:
    service("postgres")
    machine.folder.parent.chmod(0o700)
    try:
        ended = machine.services("start", "postgres")
        assert ended.returncode == 0, ended.stderr
        assert "PARLEY_DATABASE_OWNER_URL" in machine.env()
    finally:
        await Instance(KINDS["postgres"], machine.folder / "postgres").remove()


async def test_nginx_runs_with_the_configuration_of_a_test() -> None:
    config = (
        "events {}\nhttp {\n  include {home}/paths.conf;\n"
        "  server { listen 127.0.0.1:{port}; location / { return 200 'told'; } }\n}\n"
    )
    async with private("nginx", config) as (urls, server):
        assert urls["PARLEY_TEST_NGINX_URL"].endswith(str(server.port))
        await server.kill()
        assert await server.start()


async def test_a_failed_start_shows_the_end_of_the_log() -> None:
    with pytest.raises(NotStarted, match=r"(?s)nginx did not start: it ended.*unknown directive .dance."):
        async with private("nginx", "dance;"):
            pass


def test_every_kind_says_how_to_have_it() -> None:
    assert all(kind.how and kind.ports for kind in KINDS.values())
