"""Pages of a list: a cursor holds the key of the last item seen, so that what is made, changed or removed meanwhile
makes no other item come twice or not at all."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
LAST = "￿"
"""Sorts after every id: where a list that begins with the newest starts."""
NUMBER = re.compile(r"[0-9]{1,18}")
NOT_OURS = "cursor: this is no next_cursor of this list; leave it out to begin at the start"


class WrongCursor(Exception):
    """The cursor is none that this list has given."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items of a list, in its order."""

    items: tuple[T, ...]
    next_cursor: str | None
    """Where the next page begins; None after the last item."""


def page(list: str, rows: Sequence[T], limit: int, key: Callable[[T], str]) -> Page[T]:
    """The page of `rows`, which were asked for with a limit one above `limit` to see whether there are more."""
    items = tuple(rows[:limit])
    return Page(items, cursor(list, key(items[-1])) if len(rows) > limit else None)


async def walk(read: Callable[[str | None], Awaitable[Page[T]]]) -> AsyncGenerator[T, None]:
    """All items of a list, page by page; `read` gives the page of a cursor."""
    after: str | None = None
    while True:
        read_now = await read(after)
        for item in read_now.items:
            yield item
        after = read_now.next_cursor
        if after is None:
            return


def cursor(list: str, key: str) -> str:
    """The cursor that goes on after `key` in the list of that name."""
    return base64.urlsafe_b64encode(f"{list}:{key}".encode()).decode().rstrip("=")


def key_of(list: str, cursor: str) -> str:
    """The key that `cursor` was made from.

    Raises:
        WrongCursor: it is none of this list.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    name, _, key = text.partition(":")
    if name != list or not key:
        raise WrongCursor(NOT_OURS)
    return key


def number_of(list: str, cursor: str) -> int:
    """The number that `cursor` was made from, in a list that is ordered by one.

    Raises:
        WrongCursor: it is none of this list.
    """
    key = key_of(list, cursor)
    if not NUMBER.fullmatch(key):
        raise WrongCursor(NOT_OURS)
    return int(key)
