"""Empty databases of one test's own on a Postgres server."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from tests.services.found import service

_END = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s AND usename = current_user"


@contextmanager
def own_database() -> Generator[dict[str, str]]:
    """A new database on the shared server, gone at the end with all who are connected to it: the two lines as
    `service("postgres")` gives them."""
    urls = service("postgres")
    name = f"parley_test_{secrets.token_hex(6)}"
    owner = urls["PARLEY_DATABASE_OWNER_URL"].replace("+psycopg", "")
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield {line: f"{url.rpartition('/')[0]}/{name}" for line, url in urls.items()}
    finally:
        with psycopg.connect(urls["PARLEY_DATABASE_URL"].replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(_END, [name])  # the owner may not end another role's sessions
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
