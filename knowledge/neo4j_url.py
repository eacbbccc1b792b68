"""The URL of a Neo4j server, as PARLEY_KNOWLEDGE_URL holds it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")
FORM = "neo4j://user:password@host:port or neo4j://user:password@host:port/database (also neo4j+s, neo4j+ssc, bolt, \
bolt+s and bolt+ssc; signs such as @ : / in a password as %40 %3A %2F)"


@dataclass(frozen=True, slots=True)
class Neo4jAddress:
    """Where a server is and who asks it."""

    uri: str
    """For the driver: scheme, host and port, and for neo4j:// the routing context; no password."""
    place: str
    """host:port, for messages."""
    user: str
    password: str = field(repr=False)
    database: str | None
    """None: the user's home database."""


def parse_url(url: str) -> Neo4jAddress:
    """The parts of a URL of the form FORM; the port is 7687 where none is given. A server that asks for no password is
    written without user and password.

    Raises:
        ValueError: it has another form. The message says which is right and nothing of the URL, which holds a password.
    """
    wrong = ValueError(f"the URL of Neo4j is not of the form {FORM}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 7687
    except ValueError:
        raise wrong from None  # its own message may quote the URL
    database = unquote(parts.path.removeprefix("/"))
    if (
        parts.scheme not in SCHEMES
        or not host
        or not host.strip()
        or "/" in database
        or parts.fragment
        or bool(parts.username) != bool(parts.password)
        or (parts.query and not parts.scheme.startswith("neo4j"))
    ):
        raise wrong
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    uri = f"{parts.scheme}://{place}" + (f"?{parts.query}" if parts.query else "")
    return Neo4jAddress(uri, place, unquote(parts.username or ""), unquote(parts.password or ""), database or None)
