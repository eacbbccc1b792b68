"""What Postgres reads otherwise: placeholders in statements, and characters that its texts cannot hold."""

from __future__ import annotations

import re
from functools import lru_cache

STATEMENTS = 2048
"""Statements whose translation is remembered; the product has a few hundred."""

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|::|:([a-z_][a-z_0-9]*)|\?|%")
_MARK = "\ufdd0"
"""A noncharacter, which no text means: before another character it stands for one that cannot be stored."""
_FORBIDDEN = re.compile("[\x00\ud800-\udfff\ufdd0]")
_MARKED = re.compile(f"{_MARK}(.)", re.DOTALL)
_SHIFT = 0xF0000
"""The start of a private plane: the marked character stands there at its own number."""


@lru_cache(STATEMENTS)
def translated(sql: str) -> bytes:
    """A statement with psycopg's placeholders for `?` and `:name`."""
    return _TOKEN.sub(_placeholder, sql).encode()


def _placeholder(token: re.Match[str]) -> str:
    text = token.group()
    if text == "?":
        return "%s"
    if token.group(1):
        return f"%({token.group(1)})s"
    return text.replace("%", "%%")


def stored(text: str) -> str:
    """A text as Postgres can hold it: NUL and lone surrogates become two characters."""
    if text.isascii() and "\x00" not in text:
        return text
    return _FORBIDDEN.sub(lambda found: f"{_MARK}{chr(_SHIFT + ord(found.group()))}", text)


def is_marked(text: str) -> bool:
    """Whether `read` would change it."""
    return _MARK in text


def read(text: str) -> str:
    """The text that `stored` was given."""
    return _MARKED.sub(lambda found: chr(ord(found.group(1)) - _SHIFT), text)
