"""A lock on an open file that ends with the process which holds it, however that ends."""

from __future__ import annotations

import fcntl


def locked(descriptor: int) -> bool:
    """Takes the lock if nobody else holds it, and says whether it did; closing the file gives it back."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
