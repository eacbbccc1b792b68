"""Keys: what an entry "key: value" of a list, or a table's row by its first cell, says something about."""

from __future__ import annotations

import re

from knowledge.types import Unit

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_ITEM = re.compile(r"([^:]{1,60}?)(?::\s|\s[-–—]\s)")
_ROW = re.compile(r"(?:[^:;]{1,80}: )?([^;]{1,60})(?:;|$)")
_OR = re.compile(r"\s*(?:[,/&]|\b(?:and|or)\b)\s*")
_RANGE = re.compile(
    r"\b(mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?\s*(?:-|–|to|till|until|through)\s*(mon|tue|wed|thu|fri|sat|sun)"
)


def keys(unit: Unit) -> list[str]:
    """What stands for an entry, each name of several alone, all days of a range of days; none for a sentence."""
    if unit.kind not in ("item", "row"):
        return []
    found = (_ITEM if unit.kind == "item" else _ROW).match(unit.text)
    if found is None:
        return []
    return [name for part in _OR.split(found[1]) for name in _days(part) or [part] if name]


def _days(key: str) -> list[str]:
    found = _RANGE.search(key.lower())
    if found is None:
        return []
    first, last = (next(at for at, day in enumerate(DAYS) if day.startswith(short)) for short in found.groups())
    return [DAYS[at % 7] for at in range(first, last + 1 if last >= first else last + 8)]
