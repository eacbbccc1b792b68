"""Cursors: opaque, bound to their list, and never a way to break a query."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.paging import Page, WrongCursor, cursor, key_of, number_of, page, walk


@given(st.text(min_size=1))
def test_a_cursor_gives_back_its_key_and_is_safe_in_an_address(key: str) -> None:
    try:
        made = cursor("threads", key)
    except UnicodeEncodeError:  # a lone surrogate is no key
        return
    assert made.replace("-", "").replace("_", "").isalnum()
    assert key_of("threads", made) == key


@given(st.text())
def test_whatever_else_is_sent_as_a_cursor_is_refused(text: str) -> None:
    with pytest.raises(WrongCursor, match="next_cursor"):
        key_of("threads", text)


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(WrongCursor):
        key_of("threads", cursor("messages", "7"))
    assert number_of("messages", cursor("messages", "7")) == 7


@pytest.mark.parametrize("key", ["-1", "1e3", "٣", "9" * 19, " 1"])
def test_a_number_is_ascii_digits_that_fit_a_column(key: str) -> None:
    with pytest.raises(WrongCursor):
        number_of("messages", cursor("messages", key))


@pytest.mark.parametrize("count", range(8))
async def test_a_walk_sees_every_item_once(count: int) -> None:
    async def read(after: str | None) -> Page[int]:
        start = number_of("all", after) if after else 0
        return page("all", list(range(count))[start : start + 3], 2, lambda item: str(item + 1))

    assert [item async for item in walk(read)] == list(range(count))
