"""Access keys: made, found again by their first characters, listed and revoked; the key itself is stored nowhere."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Literal

from memory.sql import Connection, SqlDatabase, every_tenant
from serving.ids import uuid7
from serving.principal import ROLES, Principal, Role
from serving.times import now

MARK = "parley"
PREFIX = 12
"""Characters after the mark by which a key is found: 48 bits, in no way secret."""
SECRET = 48
"""Characters of the secret: 192 bits, so that one fast salted hash is as safe as a slow one."""

_KEY = 'id, prefix, tenant, "user", role, created_at, expires_at, revoked_at'
INSERT_KEY = f"""INSERT INTO keys ({_KEY}, salt, hash)
VALUES (:id, :prefix, :tenant, :user, :role, :now, :expires, NULL, :salt, :hash)"""
SELECT_KEYS = f"SELECT {_KEY} FROM keys WHERE :tenant IN ('', tenant) ORDER BY id"
REVOKE_KEY = f"""UPDATE keys SET revoked_at = coalesce(revoked_at, :now) WHERE id = :id AND :tenant IN ('', tenant)
RETURNING {_KEY}"""
SELECT_CALLER = """SELECT id, salt, hash, tenant, "user", role, expires_at FROM keys
WHERE prefix = ? AND revoked_at IS NULL"""
SELECT_ANY = "SELECT 1 FROM keys LIMIT 1"

_NOBODY = ("", bytes(16), bytes(32), "", "", "user", None)
"""What an unknown prefix is compared with, so that it takes as long as a known one."""

Caller = tuple[str, bytes, bytes, str, str, str, str | None]
State = Literal["valid", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key."""

    id: str
    prefix: str
    """What the key starts with, after "parley_"."""
    tenant: str
    user: str
    role: Role
    created_at: str
    """RFC 3339, UTC."""
    expires_at: str | None
    """None: never."""
    revoked_at: str | None

    def state(self) -> State:
        """Whether it opens anything now."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now() else "valid"


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a valid key speaks for."""

    key: str
    """The key's id."""
    principal: Principal


class Keys:
    """The keys of one installation, of all tenants. Each look reads the table itself, so that what another process made
    or revoked counts from the next request on."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def create(self, principal: Principal, expires_at: str | None = None) -> tuple[Key, str]:
        """A new key for someone, and the key itself, which nobody can read again.

        Args:
            principal: for whom, with names that `checked_name` let pass.
            expires_at: from when on it opens nothing, RFC 3339 in UTC as `serving.times.stamp` writes it.
        """
        prefix, secret, salt = secrets.token_hex(PREFIX // 2), secrets.token_hex(SECRET // 2), secrets.token_bytes(16)
        who = principal
        key = Key(uuid7(), prefix, who.tenant, who.user, who.role, now(), expires_at, None)
        values: dict[str, str | bytes | None] = {
            "id": key.id, "prefix": prefix, "tenant": key.tenant, "user": key.user, "role": key.role,
            "now": key.created_at, "expires": expires_at, "salt": salt, "hash": _hash(salt, secret),
        }  # fmt: skip

        def insert(connection: Connection) -> None:
            connection.execute(INSERT_KEY, values)

        with every_tenant():
            await self._database.write(insert)
        return key, f"{MARK}_{prefix}_{secret}"

    async def all(self, tenant: str = "") -> list[Key]:
        """Every key ever made, of one tenant or ("") of all, oldest first."""
        with every_tenant():
            rows = await self._database.read(
                lambda connection: connection.execute(SELECT_KEYS, {"tenant": tenant}).fetchall()
            )
        return [_key(row) for row in rows]

    async def revoke(self, id: str, tenant: str = "") -> Key | None:
        """Ends a key of one tenant or ("") of any, for good: no request that comes after this is let in by it. None
        when there is none of that id."""
        values = {"id": id, "tenant": tenant, "now": now()}
        with every_tenant():
            rows = await self._database.write(lambda connection: connection.execute(REVOKE_KEY, values).fetchall())
        return _key(rows[0]) if rows else None

    async def any(self) -> bool:
        """Whether a key was ever made, be it revoked or expired: from then on nobody is let in without one."""
        with every_tenant():
            return bool(await self._database.look(_any))

    async def bearer(self, key: str) -> Bearer | None:
        """Who speaks with this key; None for one that is unknown, wrong, revoked or expired."""
        parts = key.split("_")
        if len(parts) != 3 or parts[0] != MARK:
            return None
        _, prefix, secret = parts

        def find(connection: Connection) -> list[Caller]:
            return connection.execute(SELECT_CALLER, (prefix,)).fetchall()

        with every_tenant():
            id, salt, hash, tenant, user, role, expires_at = (await self._database.look(find) or [_NOBODY])[0]
        if not hmac.compare_digest(_hash(salt, secret), hash):
            return None
        if expires_at is not None and expires_at <= now():
            return None
        return Bearer(id, Principal(tenant, user, ROLES[role]))


def _any(connection: Connection) -> list[tuple[int]]:
    return connection.execute(SELECT_ANY).fetchall()


def _hash(salt: bytes, secret: str) -> bytes:
    return hmac.digest(salt, secret.encode("utf-8", "surrogateescape"), "sha256")


def _key(row: tuple[str, str, str, str, str, str, str | None, str | None]) -> Key:
    id, prefix, tenant, user, role, created_at, expires_at, revoked_at = row
    return Key(id, prefix, tenant, user, ROLES[role], created_at, expires_at, revoked_at)
