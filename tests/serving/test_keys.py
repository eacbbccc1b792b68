"""Access keys: how they are stored, and the commands that make, list and revoke them."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.sql import SqlDatabase
from serving.commands.keys import expiry
from serving.database import DATABASE
from serving.keys import Bearer, Keys
from serving.principal import Principal, checked_name
from serving.times import stamp
from tests.databases import database, postgres_made, postgres_urls
from tests.serving.in_process import Parley, commands, settled

__all__ = ["database", "postgres_made", "postgres_urls"]

ALICE = Principal("acme", "alice", "admin")
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""


# -- the store -----------------------------------------------------------------------------------------------------


async def test_a_key_speaks_for_whom_it_was_made(database: SqlDatabase) -> None:
    keys = Keys(database)
    assert not await keys.any()
    made, key = await keys.create(ALICE)
    assert await keys.any()
    assert await keys.bearer(key) == Bearer(made.id, ALICE)
    assert re.fullmatch(r"parley_[0-9a-f]{12}_[0-9a-f]{48}", key)
    assert key.split("_")[1] == made.prefix


async def test_two_keys_of_one_user_share_nothing_and_end_apart(database: SqlDatabase) -> None:
    keys = Keys(database)
    (first, one), (_, two) = await keys.create(ALICE), await keys.create(ALICE)
    mixed = "_".join((*one.split("_")[:2], two.split("_")[2]))
    assert await keys.bearer(mixed) is None
    await keys.revoke(first.id)
    assert await keys.bearer(one) is None
    assert await keys.bearer(two) is not None


async def test_what_is_stored_is_a_salted_hash(database: SqlDatabase) -> None:
    made, key = await Keys(database).create(ALICE)
    rows = await database.read(lambda c: c.execute("SELECT * FROM keys").fetchall())
    salt, hash = await database.read(lambda c: c.execute("SELECT salt, hash FROM keys").fetchone())
    secret = key.rpartition("_")[2]
    assert len(salt) == 16
    assert hash == hmac.new(salt, secret.encode(), hashlib.sha256).digest()
    assert secret not in str(rows)
    assert made.prefix in str(rows)


async def test_a_revoked_key_keeps_the_time_of_its_end(database: SqlDatabase) -> None:
    keys = Keys(database)
    made, _ = await keys.create(ALICE)
    first = await keys.revoke(made.id)
    assert first is not None
    assert (first.state(), await keys.revoke(made.id)) == ("revoked", first)
    assert await keys.all() == [first]
    assert await keys.any()
    assert await keys.revoke("none") is None


async def test_a_tenant_sees_and_revokes_its_own_keys_only(database: SqlDatabase) -> None:
    keys = Keys(database)
    mine, _ = await keys.create(ALICE)
    other, key = await keys.create(Principal("globex", "bob"))
    assert await keys.all("acme") == [mine]
    assert await keys.all() == [mine, other]
    assert await keys.revoke(other.id, "acme") is None
    assert await keys.bearer(key) is not None


@given(st.text())
def test_a_name_is_kept_or_refused_never_changed(name: str) -> None:
    try:
        assert checked_name(name, "user") == name
    except ValueError as error:
        assert "cannot name a user" in str(error)
        return
    assert re.fullmatch(r"[A-Za-z0-9._@+-]{1,100}", name)
    assert name[0] not in "._@+-"


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("12h", NOW + timedelta(hours=12)),
        ("30d", NOW + timedelta(days=30)),
        ("2w", NOW + timedelta(weeks=2)),
        ("1y", NOW + timedelta(days=365)),
        ("2026-11-21", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2027-01-31", datetime(2027, 2, 1, tzinfo=UTC)),
        ("2026-11-21T13:00", datetime(2026, 11, 21, 13, tzinfo=UTC)),
        ("2026-11-21T12:30:00+00:00", datetime(2026, 11, 21, 12, 30, tzinfo=UTC)),
        ("2026-11-21T13:30:00+01:00", datetime(2026, 11, 21, 12, 30, tzinfo=UTC)),
        ("2026-11-21T12:30:00Z", datetime(2026, 11, 21, 12, 30, tzinfo=UTC)),
    ],
)
def test_a_key_ends_after_a_period_or_at_a_time(text: str, until: datetime) -> None:
    assert expiry(text, NOW) == stamp(until)


@pytest.mark.parametrize(
    "text", ["soon", "0d", "-1d", "30", "30m", "2026-11-20", "2026-11-21T11:59", "2026-02-30", "999999y", "9999-12-31"]
)
def test_an_end_that_is_none_or_over_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="use a period such as 12h, 30d, 8w or 1y, or a day"):
        expiry(text, NOW)


# -- the commands --------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, which does not exist yet; the working folder is beside it."""
    return settled(tmp_path, monkeypatch) / "data"


@pytest.fixture
def parley(data: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Parley]:
    """Runs one command in this process."""
    with commands(capsys) as run:
        yield run


def test_a_key_is_shown_once_and_the_rest_is_said_beside_it(parley: Parley, data: Path) -> None:
    made = parley("keys", "create", "--tenant", "acme", "--user", "alice")
    key = made.out.strip()
    assert made.status == 0
    assert re.fullmatch(r"parley_\w{12}_\w{48}", key)
    assert "shown once" in made.err
    assert "answers nobody without a key" in made.err
    second = parley("--tenant", "acme", "keys", "create", "--user", "bob", "--role", "admin", "--expires", "30d")
    assert "answers nobody" not in second.err
    listed = parley("keys", "list")
    for shown in ("alice", "bob", "acme", "admin", "never", "valid", f"parley_{key.split('_')[1]}_"):
        assert shown in listed.out
    secret = key.rpartition("_")[2]
    assert secret not in listed.out + parley("keys", "list", "--json").out
    assert not [file for file in data.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]


def test_json_has_the_key_and_what_it_is_for(parley: Parley) -> None:
    made = json.loads(parley("keys", "create", "--tenant", "acme", "--user", "alice", "--json").out)
    assert list(made) == ["id", "key", "tenant", "user", "role", "expires_at"]
    assert (made["tenant"], made["user"], made["role"], made["expires_at"]) == ("acme", "alice", "user", None)
    ends = json.loads(
        parley("keys", "create", "--tenant", "acme", "--user", "a", "--expires", "2099-01-31", "--json").out
    )
    assert ends["expires_at"] == "2099-02-01T00:00:00.000Z"
    listed = json.loads(parley("keys", "list", "--json").out)["keys"]
    assert [key["id"] for key in listed] == [made["id"], ends["id"]]
    assert listed[0]["prefix"] == made["key"].split("_")[1]
    assert listed[0]["state"] == "valid"
    revoked = json.loads(parley("keys", "revoke", made["id"], "--json").out)
    assert (revoked["id"], revoked["state"]) == (made["id"], "revoked")
    assert revoked["revoked_at"]


def test_revoking_the_last_valid_key_says_what_that_means(parley: Parley) -> None:
    one, two = (
        json.loads(parley("keys", "create", "--tenant", "acme", "--user", user, "--json").out)["id"] for user in "ab"
    )
    first = parley("keys", "revoke", one)
    assert (first.status, first.out) == (0, "")
    assert first.err.splitlines() == [f"revoked the key {one} of a in acme"]
    last = parley("keys", "revoke", two)
    assert "No valid key is left, so the HTTP API answers nobody" in last.err
    assert "revoked" in parley("keys", "list").out


def test_a_tenant_named_with_a_list_or_a_revocation_bounds_it(parley: Parley) -> None:
    mine = json.loads(parley("keys", "create", "--tenant", "acme", "--user", "a", "--json").out)["id"]
    other = json.loads(parley("keys", "create", "--tenant", "globex", "--user", "b", "--json").out)["id"]
    assert [key["id"] for key in json.loads(parley("keys", "list", "--tenant", "acme", "--json").out)["keys"]] == [mine]
    assert parley("keys", "revoke", other, "--tenant", "acme").status == 1
    assert parley("keys", "revoke", other, "--tenant", "globex").status == 0


def test_an_empty_list_says_how_to_make_a_key(parley: Parley) -> None:
    ended = parley("keys", "list")
    assert (ended.status, ended.out) == (0, "")
    assert "parley keys create --tenant T --user U" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--user", "u"), "name the tenant"),
        (("create", "--tenant", "a b", "--user", "u"), "'a b' cannot name a tenant"),
        (("create", "--tenant", "a", "--user", "../u"), "'../u' cannot name a user"),
        (("create", "--tenant", "a", "--user", "u", "--role", "root"), "there are user and admin"),
        (("create", "--tenant", "a", "--user", "u", "--expires", "2000-01-01"), "is over already"),
        (("revoke", "none"), "there is no key none"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(parley: Parley, arguments: tuple[str, ...], said: str) -> None:
    ended = parley("keys", *arguments)
    assert (ended.status, ended.out) == (1, "")
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


def test_keys_of_a_file_that_cannot_be_read_are_one_clear_line(parley: Parley, data: Path) -> None:
    data.mkdir()
    (data / DATABASE).write_bytes(b"no database" * 1_000)
    ended = parley("keys", "list")
    assert ended.status == 1
    assert len(ended.err.splitlines()) == 1


def serve_elsewhere(data: Path) -> subprocess.CompletedProcess[str]:
    """Tries to serve on an address that this machine has not (RFC 5737), so that nothing is ever opened."""
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", "serve", "--data-dir", str(data), "--host", "192.0.2.1", "--port", "0"],
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip


def test_serving_other_machines_needs_a_key_first(parley: Parley, data: Path) -> None:
    refused = serve_elsewhere(data)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no access keys yet" in refused.stderr
    assert "parley keys create --tenant T --user U" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert parley("keys", "create", "--tenant", "acme", "--user", "alice").status == 0
    tried = serve_elsewhere(data)
    assert tried.returncode == 1
    assert "192.0.2.1 cannot be used" in tried.stderr


def test_commands_on_the_data_folder_work_for_the_tenant_that_is_named(parley: Parley, data: Path) -> None:
    Path("mill.md").write_text("# Mill\n\nThe Old Mill was built by Tomas Reed.\n", encoding="utf-8")
    assert parley("ingest", "mill.md", "--tenant", "acme").status == 0
    assert "Old Mill" in parley("--tenant", "acme", "search", "old mill").out
    assert "Nothing found" in parley("search", "old mill").out
    assert "Nothing found" in parley("search", "old mill", "--tenant=globex").out
    assert "mill.md" in parley("documents", "list", "--tenant", "acme").out
    assert "no documents yet" in parley("documents", "list").err
    assert parley("documents", "remove", "mill.md").status == 1
    assert "Tomas Reed" in parley("ask", "Who built the Old Mill?", "--tenant", "acme").out
    assert "Tomas Reed" not in parley("ask", "Who built the Old Mill?").out
    with closing(sqlite3.connect(data / DATABASE)) as database:
        owners = database.execute("SELECT tenant, user FROM runs ORDER BY id").fetchall()
    assert owners == [("acme", "local"), ("local", "local")]
    wrong = parley("documents", "list", "--tenant", "a/b")
    assert (wrong.status, wrong.err.splitlines()) == (1, [wrong.err.strip()])
    assert "cannot name a tenant" in wrong.err
