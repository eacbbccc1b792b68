# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""compose.yaml: every setting exists, every secret is asked for, every version is one that the tests know."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeGuard, cast

import psycopg
import pytest
import redis.asyncio
import yaml

from serving.settings import NAMES, Settings
from tests.services import neo4j_server, postgres_server, weaviate_server
from tests.services.found import service
from tests.services.private import private

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:[-?+])?")
PARLEY = ("postgres", "redis", "weaviate", "neo4j")
LANGFUSE = ("langfuse", "langfuse-worker", "clickhouse", "minio", "langfuse-redis")

TESTED = {
    # image: its tag, and the client in requirements.lock that is tested with it
    "semitechnologies/weaviate": (weaviate_server.VERSION, "weaviate-client", "4.24."),
    "neo4j": (f"{neo4j_server.VERSION}-community", "neo4j", "6.4."),
    "postgres": ("15.18", "psycopg", "3.3."),
    "redis": ("7.2.14-alpine", "redis", "8.1."),
}
"""Weaviate and Neo4j are of the very version that `make services` runs, Postgres and Redis of its major version. A new
client or server is tried against the other first; then its row changes."""

Node = dict[str, object]


def is_node(value: object) -> TypeGuard[Node]:
    return isinstance(value, dict)


def node(value: object) -> Node:
    assert is_node(value), value
    return value


def items(value: object) -> list[object]:
    assert isinstance(value, list), value
    return cast(list[object], value)


FILE = node(yaml.safe_load(TEXT))
SERVICES = {name: node(value) for name, value in node(FILE["services"]).items()}


def example(*, blank: bool | None = None) -> set[str]:
    """The variables of .env.example: all, those that get a secret, or those that are optional."""
    found = {name: mark != "#" and not value for mark, name, value in re.findall(r"^(#?) ?(\w+)=(.*)$", EXAMPLE, re.M)}
    return {name for name, secret in found.items() if blank is None or secret == blank}


def filled(text: str) -> str:
    """A value as compose fills it in when every secret is "secret"."""
    return re.sub(r"\$\{\w+:[?+].*\}", "secret", re.sub(r"\$\{\w+:\?[^}]*\}", "secret", text))


def image(name: str) -> tuple[str, str]:
    """An image and its tag."""
    repository, _, tag = str(SERVICES[name]["image"]).partition(":")
    return repository, tag


def test_every_server_that_parley_uses_is_there_and_the_heavy_ones_are_asked_for() -> None:
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    assert [name for name, profile in profiles.items() if profile is None] == ["parley", *PARLEY]
    assert {name for name, profile in profiles.items() if profile == ["langfuse"]} == set(LANGFUSE)
    assert profiles["vllm"] == ["vllm"]
    assert profiles["prometheus"] == profiles["grafana"] == ["observe"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_a_pinned_image_and_a_place_for_its_data(name: str) -> None:
    service = SERVICES[name]
    assert node(service["healthcheck"])["test"]
    assert re.search(r"\d+\.\d+|\d{4}-\d\d-\d\d", image(name)[1]), image(name)
    assert service["restart"] == "unless-stopped"
    if name not in ("langfuse", "langfuse-worker"):
        (volume,) = items(service["volumes"])
        assert str(volume).partition(":")[0] in node(FILE["volumes"])
    for needed in node(service.get("depends_on", {})).values():
        assert needed == {"condition": "service_healthy"}
    for needed in node(service.get("depends_on", {})):
        assert "healthcheck" in SERVICES[needed]
    for port in items(service.get("ports", [])):
        assert str(port).startswith("127.0.0.1:")
    assert all(node(config)["source"] in node(FILE["configs"]) for config in items(service.get("configs", [])))


def test_every_variable_of_parley_is_a_setting_that_is_allowed() -> None:
    environment = {name: str(value) for name, value in node(SERVICES["parley"]["environment"]).items()}
    assert all(name.removeprefix("PARLEY_").lower() in NAMES for name in environment)
    others = {name for name in re.findall(r"\bPARLEY_[A-Z_]+", TEXT) if name not in environment}
    assert {name.removeprefix("PARLEY_").lower() for name in others} <= set(NAMES)
    Settings.model_validate(
        {
            name.removeprefix("PARLEY_").lower(): filled(value)
            for name, value in environment.items()
            if "{MODEL" not in value
        }
    )


def test_every_variable_is_in_the_example_and_the_example_has_no_other() -> None:
    used = {name for name, _ in VARIABLE.findall(TEXT)}
    assert used == example()


def test_a_missing_secret_stops_compose_with_what_to_do() -> None:
    kinds: dict[str, set[str]] = {}
    for name, kind in VARIABLE.findall(TEXT):
        kinds.setdefault(name, set()).add(kind)
    assert {name for name, kind in kinds.items() if kind == {":?"}} == example(blank=True)
    assert all(text == "make .env from .env.example" for text in re.findall(r":\?([^}]*)}", TEXT))
    for part in SERVICES.values():
        for name, value in node(part.get("environment", {})).items():
            assert not re.search(r"(PASSWORD|SECRET|SALT|AUTH|KEYS?)$", name) or "${" in str(value), name


def test_the_command_of_the_page_fills_every_secret_with_one_of_its_own(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "services.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^umask 077.*$", page, re.MULTILINE)
    (tmp_path / ".env.example").write_text(EXAMPLE)
    subprocess.run(["sh", "-euc", command], cwd=tmp_path, check=True)
    made = tmp_path / ".env"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    secrets = dict(re.findall(r"^(\w+)=([0-9a-f]{64})$", made.read_text(), re.MULTILINE))
    assert set(secrets) == example(blank=True)
    assert len(set(secrets.values())) == len(secrets)


@pytest.mark.parametrize("repository", TESTED)
def test_every_server_is_of_the_version_that_is_tested_with_our_client(repository: str) -> None:
    version, client, tested = TESTED[repository]
    tags = {tag for name in SERVICES for found, tag in [image(name)] if found == repository}
    assert tags == {version}
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (pinned,) = re.findall(rf"^{client}==(\S+)", lock, re.MULTILINE)
    assert pinned.startswith(tested), (
        f"try {repository}:{version} with {client} {pinned}, then change its row in TESTED"
    )


async def test_the_tests_postgres_and_redis_are_of_the_same_major_version() -> None:
    address = service("postgres")["PARLEY_DATABASE_URL"].replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(address) as connection:
        row = await (await connection.execute("SHOW server_version")).fetchone()
    assert row is not None
    async with redis.asyncio.from_url(service("redis")["PARLEY_REDIS_URL"]) as client:
        told = str((await client.info("server"))["redis_version"])
    for name, version in (("postgres", str(row[0])), ("redis", told)):
        assert image(name)[1].partition(".")[0] == version.partition(".")[0]


async def test_the_roles_of_the_compose_file_are_made_by_a_real_postgres() -> None:
    script = str(node(node(FILE["configs"])["postgres-roles"])["content"]).replace("$$", "$")
    assert "set -u" not in script, "the image sources it into its own shell"
    psql = postgres_server.Postgres().program("psql")
    assert psql is not None
    async with private("postgres") as (_, server):
        superuser = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": server.secret("postgres")}
        environ = {"PATH": f"{psql.parent}:{os.environ['PATH']}", "PGUSER": "postgres", "PGDATABASE": "postgres"}
        passwords = {"OWNER_PASSWORD": "o'wn", "APP_PASSWORD": "app", "LANGFUSE_PASSWORD": "lang"}
        clean = "psql -qc 'DROP DATABASE parley' && psql -qc 'DROP ROLE parley' && psql -qc 'DROP ROLE parley_app'\n"
        subprocess.run(["bash", "-euc", clean + script], env=superuser | environ | passwords, check=True)
        for role, password, database in (("parley", "o'wn", "parley"), ("langfuse", "lang", "langfuse")):
            async with await psycopg.AsyncConnection.connect(
                host="127.0.0.1", port=server.port, user=role, password=password, dbname=database
            ) as connection:
                await connection.execute("CREATE TABLE public.its_own (id int)")


def test_langfuse_and_its_worker_are_of_one_version_and_share_every_setting() -> None:
    assert image("langfuse")[1] == image("langfuse-worker")[1]
    assert SERVICES["langfuse"]["environment"] == SERVICES["langfuse-worker"]["environment"]


def test_the_image_holds_what_the_installation_reads_and_neither_secrets_nor_tests() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert ignored[0] == "*"
    kept = [line[1:].rstrip("/") for line in ignored if line.startswith("!")]
    assert [name for name in kept if not (ROOT / name).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(kept)
    assert {"bootstrap.sh", "pyproject.toml", "requirements.lock", "requirements-dev.lock", "app.py"} <= set(kept)
    assert not [name for name in kept if name.startswith((".env", "tests", ".services"))]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "./bootstrap.sh run" in dockerfile
    assert "USER parley" in dockerfile
    assert 'CMD ["serve", "--host", "0.0.0.0"]' in dockerfile
    (version,) = re.findall(r"^FROM python:(3\.\d+)\.\d+-slim", dockerfile, re.MULTILINE)
    assert fnmatch(version, "3.1[1-4]")
