"""parley keys: make, list and revoke the access keys of the HTTP API. Works on the data folder, server or not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from serving.commands.shell import DONE, CommandFailed, Shell, console, opened_database, say, write_json
from serving.keys import Key, Keys
from serving.principal import ROLES, Principal, checked_name
from serving.times import stamp

_PERIOD = re.compile(r"([1-9][0-9]{0,5})([hdwy])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}


def create(shell: Shell, user: str, role: str, expires: str) -> int:
    """Makes a key and shows it, this once.

    Raises:
        CommandFailed: no tenant was named, or a name, role or time is none.
    """
    if not shell.tenant:
        raise CommandFailed("name the tenant that the key is for: parley keys create --tenant T --user U")
    if role not in ROLES:
        raise CommandFailed(f"{role!r} is no role; there are {' and '.join(ROLES)}")
    try:
        who = Principal(shell.principal.tenant, checked_name(user, "user"), ROLES[role])
        until = expiry(expires, datetime.now(UTC)) if expires else None
    except ValueError as error:
        raise CommandFailed(str(error)) from error
    return _with_keys(shell, lambda keys: _create(shell, keys, who, until))


async def _create(shell: Shell, keys: Keys, who: Principal, until: str | None) -> int:
    is_first = not await keys.any()
    made, key = await keys.create(who, until)
    if shell.json:
        write_json({"id": made.id, "key": key, "tenant": made.tenant, "user": made.user, "role": made.role,
                    "expires_at": made.expires_at})  # fmt: skip
        return DONE
    console().print(key, markup=False)
    say(f"This key is shown once: keep it safe, and send it as `Authorization: Bearer`. Its id is {made.id}.")
    if is_first:
        say("From now on the HTTP API answers nobody without a key, on this machine too.")
    return DONE


def show(shell: Shell) -> int:
    """All keys ever made, of the tenant that `--tenant` names or of every one."""
    return _with_keys(shell, lambda keys: _show(shell, keys))


async def _show(shell: Shell, keys: Keys) -> int:
    found = await keys.all(_tenant(shell))
    if shell.json:
        write_json({"keys": [_json(key) for key in found]})
        return DONE
    if not found:
        say("There are no keys; `parley keys create --tenant T --user U` makes one.")
        return DONE
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "key", "tenant", "user", "role", "made", "expires", "state", box=None, pad_edge=False)
    for key in found:
        cells = (key.id, f"parley_{key.prefix}_…", key.tenant, key.user, key.role, key.created_at[:16])
        table.add_row(*(Text(cell) for cell in (*cells, (key.expires_at or "never")[:16], key.state())))
    console().print(table)
    return DONE


def revoke(shell: Shell, id: str) -> int:
    """Ends a key, for good and at once.

    Raises:
        CommandFailed: there is none of that id.
    """
    return _with_keys(shell, lambda keys: _revoke(shell, keys, id))


async def _revoke(shell: Shell, keys: Keys, id: str) -> int:
    revoked = await keys.revoke(id, _tenant(shell))
    if revoked is None:
        raise CommandFailed(f"there is no key {id}; `parley keys list` shows all with their ids")
    if shell.json:
        write_json(_json(revoked))
        return DONE
    say(f"revoked the key {revoked.id} of {revoked.user} in {revoked.tenant}")
    if not any(key.state() == "valid" for key in await keys.all()):
        say("No valid key is left, so the HTTP API answers nobody; `parley keys create --tenant T --user U` makes one.")
    return DONE


def expiry(text: str, now: datetime) -> str:
    """The end that a period (`30d`), a day or a time (RFC 3339) means, as it is stored. A day counts to its end in
    UTC, as does a time without a zone.

    Raises:
        ValueError: it is none of these, or over.
    """
    allowed = "use a period such as 12h, 30d, 8w or 1y, or a day such as 2027-01-31"
    period = _PERIOD.fullmatch(text)
    try:
        if period is not None:
            until = now + timedelta(hours=int(period[1]) * _HOURS[period[2]])
        else:
            until = datetime.fromisoformat(text)
            until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
            until = until + timedelta(days=1) if len(text) == len("2027-01-31") else until
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time that a key can expire at; {allowed}") from None
    if until <= now:
        raise ValueError(f"{text!r} is over already; {allowed}")
    return stamp(until)


def _tenant(shell: Shell) -> str:
    """The tenant that was named, "" for none."""
    return shell.principal.tenant if shell.tenant else ""


def _with_keys(shell: Shell, work: Callable[[Keys], Awaitable[int]]) -> int:
    async def run() -> int:
        async with opened_database(shell.settings().settings) as database:
            return await work(Keys(database))

    return asyncio.run(run())


def _json(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "prefix": key.prefix,
        "tenant": key.tenant,
        "user": key.user,
        "role": key.role,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "state": key.state(),
    }
