"""How long a caller can wait for a store that is silent: a turn hardly, an ingestion of hours for some seconds."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_patient: ContextVar[bool] = ContextVar("patient", default=False)


@contextmanager
def patience() -> Generator[None]:
    """What is asked of stores inside, also by tasks started there, would rather come late than not at all. For those
    that tell a silent server from a slow one, as Weaviate's does; others wait as long for everybody."""
    before = _patient.set(True)
    try:
        yield
    finally:
        _patient.reset(before)


def is_patient() -> bool:
    """Whether the caller would rather wait."""
    return _patient.get()
