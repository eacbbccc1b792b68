"""Where a Weaviate is and how it is opened: the URL of the setting MEMORY_URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

FORM = "weaviate://[:KEY@]HOST:PORT?grpc=PORT[&secure=true][&prefix=NAME]"
_PREFIX = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_KNOWN = frozenset({"grpc", "secure", "prefix"})


@dataclass(frozen=True, slots=True)
class Address:
    """A server, its two ports, and the names of our collections in it."""

    host: str
    port: int
    """Of REST."""
    grpc: int
    secure: bool = False
    """TLS on both ports."""
    prefix: str = "Parley"
    """Begins the names of all our collections, so that two Parleys may share a server."""
    key: str = field(default="", repr=False)


def parse_address(url: str) -> Address:
    """Reads `weaviate://[:KEY@]HOST:PORT?grpc=PORT[&secure=true][&prefix=NAME]`.

    Raises:
        ValueError: it has another form; the message says the form and never the key.
    """
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        values = {name: given[-1] for name, given in asked.items()}
        host, port, grpc = parts.hostname, parts.port, int(values.get("grpc", ""))
    except ValueError:
        raise _wrong("a part of it cannot be read") from None
    if parts.scheme != "weaviate" or parts.path not in ("", "/") or parts.fragment or parts.username:
        raise _wrong("it has parts that do not belong there")
    if not host or not port or not 0 < grpc < 65536:
        raise _wrong("the host and both ports are needed")
    if port == grpc:
        raise _wrong("REST and gRPC have a port each")
    if unknown := sorted(set(values) - _KNOWN):
        raise _wrong(f"{unknown[0]!r} is not known")
    secure, prefix = values.get("secure", "false"), values.get("prefix", "Parley")
    if secure not in ("true", "false"):
        raise _wrong("secure is true or false")
    if not _PREFIX.fullmatch(prefix):
        raise _wrong("the prefix is up to 64 letters and digits, a capital letter first")
    return Address(host, port, grpc, secure == "true", prefix, unquote(parts.password or ""))


def _wrong(why: str) -> ValueError:
    return ValueError(f"the address of Weaviate must have the form {FORM}: {why}")
