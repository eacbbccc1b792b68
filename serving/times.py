"""Times as they are stored and shown: RFC 3339 in UTC, to the millisecond, so that they sort as text."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """This moment."""
    return stamp(datetime.now(UTC))


def stamp(time: datetime) -> str:
    """A time that knows its zone, as text."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
