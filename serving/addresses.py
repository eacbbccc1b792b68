"""Addresses of the servers that may stand in for the embedded parts, and how they are shown without their password."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

MEMORY = ("weaviate", "chroma")
KNOWLEDGE = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")
DATABASE = ("postgresql+psycopg", "postgresql")
REDIS = ("redis", "rediss")

_PASSWORD = re.compile(r"(?<=://)([^/?#]*?):[^/?#]*(?=@)")


def address(url: str, schemes: tuple[str, ...]) -> str:
    """The address as it is.

    Raises:
        ValueError: it has another scheme, no host, or a port that is none; the text shows no password.
    """
    if not url or _is_folder(url):
        return url if not url or "chroma" in schemes else _refuse(schemes)
    parts = urlsplit(url)
    if parts.scheme not in schemes:
        return _refuse(schemes)
    try:
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError("its port is none; a password with / or @ in it must be written in percent signs") from None
    if not host or port == 0:
        raise ValueError("it names no host or no port")
    return url


def folder_of(url: str) -> str | None:
    """The folder of a `chroma:folder` address; None for any other."""
    return url.removeprefix("chroma:") if _is_folder(url) else None


def masked(url: str) -> str:
    """The address with *** for its password."""
    return _PASSWORD.sub(r"\1:***", url)


def _is_folder(url: str) -> bool:
    return url.startswith("chroma:") and not url.startswith("chroma://")


def _refuse(schemes: tuple[str, ...]) -> str:
    raise ValueError(f"it must begin with {' or '.join(f'{scheme}:' for scheme in schemes)}")
