"""UUIDv7 (RFC 9562): ids that sort by the time of their making; the standard library has them from Python 3.14 only."""

from __future__ import annotations

import secrets
import threading
import time

_lock = threading.Lock()
_last = 0


def uuid7() -> str:
    """A new id as canonical text: 48 bits of Unix milliseconds, then a counter seeded at random (RFC 9562, 6.2
    method 2), so that ids made by one process never go back, not even within a millisecond or when the clock steps."""
    global _last
    fresh = (time.time_ns() // 1_000_000) << 74 | secrets.randbits(73)  # the counter's top bit is free to grow into
    with _lock:
        _last = fresh if fresh >> 74 > _last >> 74 else _last + 1 + secrets.randbits(32)
        ordered = _last
    return as_text(ordered)


def as_text(ordered: int) -> str:
    """An id in canonical text, from its 48 bits of Unix milliseconds and the 74 bits that follow."""
    value = (ordered >> 74) << 80 | 0x7 << 76 | (ordered >> 62 & 0xFFF) << 64 | 0b10 << 62 | ordered & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
