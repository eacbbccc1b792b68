# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Quantities with units: the one file that imports pint, only when it is wanted because that costs most of a second."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Protocol, cast


class UnitError(Exception):
    """An unknown unit, or units that do not go together; the message says which."""


class Measure(Protocol):
    """A number with a unit."""

    def __add__(self, other: Measure | float) -> Measure: ...
    def __radd__(self, other: Measure | float) -> Measure: ...
    def __sub__(self, other: Measure | float) -> Measure: ...
    def __rsub__(self, other: Measure | float) -> Measure: ...
    def __mul__(self, other: Measure | float) -> Measure: ...
    def __rmul__(self, other: Measure | float) -> Measure: ...
    def __truediv__(self, other: Measure | float) -> Measure: ...
    def __rtruediv__(self, other: Measure | float) -> Measure: ...
    def __pow__(self, other: float) -> Measure: ...
    def __neg__(self) -> Measure: ...


class _Quantity(Measure, Protocol):
    """What is used of pint's own type, which is only half known to the type checker."""

    @property
    def magnitude(self) -> float: ...
    @property
    def units(self) -> object: ...
    def to(self, unit: object) -> Measure: ...


class _Registry(Protocol):
    def Quantity(self, value: float, unit: object) -> Measure: ...
    def parse_units(self, name: str) -> object: ...


class Units:
    """The unit registry, made by `load`; safe from any thread."""

    def __init__(
        self,
        unit: Callable[[str], Measure],
        convert: Callable[[Measure, Measure], Measure],
        split: Callable[[Measure], tuple[float, str]],
    ) -> None:
        self._unit, self._convert, self._split = unit, convert, split

    def unit(self, name: str) -> Measure:
        """One of a unit, for example 1 mile.

        Raises:
            UnitError: there is no such unit.
        """
        try:
            return self._unit(name)
        except failures() as error:
            raise UnitError(f'"{name}" is not a unit I know') from error

    def convert(self, value: Measure, target: Measure) -> Measure:
        """The same quantity in the unit of `target`.

        Raises:
            UnitError: the two measure different things.
        """
        try:
            return self._convert(value, target)
        except failures() as error:
            raise UnitError(str(error)) from error

    def split(self, value: Measure) -> tuple[float, str]:
        """Number and unit sign, for example (8.04672, "km"); the sign is "" for a bare number."""
        return self._split(value)


_lock = threading.Lock()


def load() -> Units:
    """The registry; the first call imports pint and reads its definitions (0.9 s of one core): make it in a thread."""
    with _lock:
        return _load()


@cache
def _load() -> Units:
    import pint

    registry = cast(_Registry, pint.UnitRegistry(autoconvert_offset_to_baseunit=True))

    def unit(name: str) -> Measure:
        return registry.Quantity(1, registry.parse_units(name))

    def convert(value: Measure, target: Measure) -> Measure:
        return cast(_Quantity, value).to(cast(_Quantity, target).units)

    def split(value: Measure) -> tuple[float, str]:
        quantity = cast(_Quantity, value)
        return quantity.magnitude, f"{quantity.units:~P}"

    unit("kilometer")  # the first use fills the registry's caches
    return Units(unit, convert, split)


def failures() -> tuple[type[Exception], ...]:
    """What arithmetic of measures raises when their units do not fit."""
    import pint

    return (pint.PintError, AttributeError, ValueError)
