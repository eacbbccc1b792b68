"""How long a caller can wait for a store that is silent: a turn hardly, an ingestion of hours for some seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

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


async def patiently(
    work: Callable[[], Awaitable[T]],
    pauses: Sequence[float],
    passing: tuple[type[Exception], ...],
    wait: Callable[[Exception, float], Awaitable[None]],
) -> T:
    """What the work gives, which is done again after each failure that may pass, and raises what the last try does.

    Args:
        pauses: seconds before each further try.
        wait: waits for so long after a failure, or raises to give up.
    """
    for pause in pauses:
        try:
            return await work()
        except passing as error:
            await wait(error, pause)
    return await work()
