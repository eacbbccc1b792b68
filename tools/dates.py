"""Dates and times: reading them from text, time zones by city, weekdays and differences."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

MONTHS = "january february march april may june july august september october november december".split()
_MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]*\.?"
_FORMS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<year>\d{4})-(?P<number>\d{1,2})-(?P<day>\d{1,2})",
        r"(?P<day>\d{1,2})\.(?P<number>\d{1,2})\.(?P<year>\d{4})",
        rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+(?P<year>\d{{4}})",
        rf"{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}})",
    )
)
_YEARLESS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}",
        rf"{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?",
    )
)
_FEASTS = {"christmas": (12, 25), "christmas eve": (12, 24), "new year": (1, 1), "new year's eve": (12, 31)}
_NEAR = {"today": 0, "tomorrow": 1, "yesterday": -1, "the day after tomorrow": 2, "the day before yesterday": -2}
_COUNTRIES = {
    "japan": "Asia/Tokyo", "china": "Asia/Shanghai", "beijing": "Asia/Shanghai", "india": "Asia/Kolkata",
    "mumbai": "Asia/Kolkata", "delhi": "Asia/Kolkata", "new delhi": "Asia/Kolkata", "bangalore": "Asia/Kolkata",
    "germany": "Europe/Berlin", "munich": "Europe/Berlin", "hamburg": "Europe/Berlin", "france": "Europe/Paris",
    "italy": "Europe/Rome", "milan": "Europe/Rome", "spain": "Europe/Madrid", "barcelona": "Europe/Madrid",
    "uk": "Europe/London", "england": "Europe/London", "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles", "california": "America/Los_Angeles", "boston": "America/New_York",
    "washington": "America/New_York", "miami": "America/New_York", "nyc": "America/New_York",
    "austin": "America/Chicago", "houston": "America/Chicago", "geneva": "Europe/Zurich",
    "switzerland": "Europe/Zurich", "abu dhabi": "Asia/Dubai", "rio de janeiro": "America/Sao_Paulo",
    "est": "America/New_York", "pst": "America/Los_Angeles", "cet": "Europe/Berlin", "gmt": "Etc/GMT",
}  # fmt: skip
"""Places that are no city of the time zone database."""


class DateError(Exception):
    """A date, time zone or combination that cannot be used; the message says what is expected."""


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """Lower-case zone names and their cities to the zone's key."""
    zones: dict[str, str] = {}
    for key in sorted(available_timezones(), key=lambda key: (key.startswith(("Etc/", "posix", "right")), key)):
        zones.setdefault(key.rpartition("/")[2].replace("_", " ").lower(), key)
        zones[key.lower()] = key
    return zones | _COUNTRIES


def prepare() -> None:
    """Reads the names of the time zones (25 ms of file system): call it in a thread while opening."""
    _zones()


def zone_of(place: str) -> str | None:
    """The time zone of a city, a country or a zone name; None when it is unknown."""
    return _zones().get(" ".join(place.replace("_", " ").lower().split())) or _zones().get(place.strip().lower())


def zone(place: str) -> ZoneInfo:
    """The time zone of a place.

    Raises:
        DateError: the place is not known.
    """
    key = zone_of(place)
    if key is None:
        raise DateError(f'"{place}" is not a time zone or city I know; write for example Europe/Paris')
    return ZoneInfo(key)


def read(text: str, today: date) -> date | None:
    """The date that a whole text names: 2026-11-21, 21 November 2026, November 21, tomorrow, Christmas; or None.

    Without a year it is the next such day from `today` on."""
    text = text.strip().lower().rstrip(".?! ")
    if text in _NEAR:
        return today + timedelta(days=_NEAR[text])
    feast = _FEASTS.get(text.removesuffix(" day").removesuffix("'s") if text.endswith("day") else text)
    if feast:
        return _next(*feast, today)
    for form in _FORMS:
        match = form.fullmatch(text)
        if match:
            groups = match.groupdict()
            return _made(int(match["year"]), _month(groups), int(match["day"]))
    for form in _YEARLESS:
        match = form.fullmatch(text)
        if match:
            return _next(_month(match.groupdict()), int(match["day"]), today)
    return None


def read_strictly(text: str, today: date) -> date:
    """`read`, but a text that is no date is an error.

    Raises:
        DateError: it is no date.
    """
    found = read(text, today)
    if found is None:
        raise DateError(f'"{text}" is not a date I can read; write it as 2026-11-21')
    return found


def now(place: str, instant: datetime) -> str:
    """Date and time of an instant in a place, as a sentence."""
    where = zone(place) if place else UTC
    local = instant.astimezone(where)
    key = getattr(where, "key", "UTC")
    return f"In {key} it is {local:%H:%M} on {day_name(local.date())} ({_offset(local)})."


def day_name(day: date) -> str:
    """A date with its weekday, for example "Saturday, 21 November 2026"."""
    return f"{day:%A}, {day.day} {day:%B} {day.year}"


def difference(first: date, second: date) -> str:
    """How long it is from one date to another, as a sentence."""
    days = abs((second - first).days)
    weeks = f" ({days // 7} weeks{f' and {days % 7} days' if days % 7 else ''})" if days >= 14 else ""
    return f"From {day_name(first)} to {day_name(second)} it is {days} day{'' if days == 1 else 's'}{weeks}."


def shifted(day: date, days: int) -> str:
    """The date so many days later (earlier when negative), as a sentence.

    Raises:
        DateError: it lies outside the years 1 to 9999.
    """
    try:
        target = day + timedelta(days=days)
    except OverflowError as error:
        raise DateError("that date lies outside the years 1 to 9999") from error
    word = "after" if days >= 0 else "before"
    return f"{abs(days)} day{'' if abs(days) == 1 else 's'} {word} {day_name(day)} is {day_name(target)}."


def _offset(local: datetime) -> str:
    minutes = int((local.utcoffset() or timedelta()).total_seconds() // 60)
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return f"UTC{sign}{minutes // 60:02}:{minutes % 60:02}"


def _month(groups: dict[str, str | None]) -> int:
    name = groups.get("month")
    if name is None:
        return int(groups["number"] or 0)
    return next(number for number, month in enumerate(MONTHS, 1) if month.startswith(name[:3].lower()))


def _made(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None


def _next(month: int, day: int, today: date) -> date | None:
    for year in range(today.year, today.year + 9):  # 29 February may be eight years away
        made = _made(year, month, day)
        if made is not None and made >= today:
            return made
    return None
