"""Which built-in tool a message plainly asks for: patterns only, no model, far below a millisecond."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from tools.calculator import CONVERSION, normalised
from tools.dates import read, zone_of
from tools.types import JsonObject


@dataclass(frozen=True, slots=True)
class Wish:
    """A tool with the arguments that the message gives it."""

    tool: str
    arguments: JsonObject


def recognise(text: str) -> Wish | None:
    """The tool call that a whole message amounts to ("What is 15% of 80?"), or None when it asks something else."""
    if len(text) > 160:
        return None
    expression = calculation(text)
    if expression is not None:
        return Wish("calculate", {"expression": expression})
    arguments = date_or_time(text)
    return Wish("date_and_time", arguments) if arguments is not None else None


_LEAD = re.compile(
    r"^(?:(?:please|can you|could you|tell me|hey|so)\s+)*"
    r"(?:what(?:'s| is| are| does)|whats|how much (?:is|are)|calculate|compute|convert|evaluate|work out|solve|"
    r"wie ?viel (?:ist|sind)|was (?:ist|sind|ergibt)|combien (?:font|fait)|cu[aá]nto (?:es|son)|quanto (?:fa|é))\s+",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")
_TAIL = re.compile(r"\s*(?:equals?|=|please)?\s*[?.!=\s]*$", re.IGNORECASE)
_HOW_MANY = re.compile(
    r"^how (?:many|much) (?P<to>[a-z]+(?: [a-z]+)??)\s+(?:are|is|there are|does it take)?\s*(?:there\s+)?"
    r"(?:in|to|make|equal|is|are)\s+(?P<value>.+?)(?: (?:have|make))?\s*\??$",
    re.IGNORECASE,
)
_ARITHMETIC = re.compile(
    r"^[\d\s+\-*/^().,%]*(?:(?:sqrt|cbrt|abs|round|floor|ceil|exp|ln|log2|log|sin|cos|tan|min|max|gcd|factorial|pi)\b[\d\s+\-*/^().,%]*)*$"
)
_OPERATION = re.compile(r"[\d)]\s*(?:[+*/^%]|-\s)\s*[\d(]|\d\s*-\s*\d|[a-z0-9]\(")
_NOT_ARITHMETIC = re.compile(
    r"^\s*\d{1,4}\s*[-/]\s*\d{1,2}\s*[-/]\s*\d{1,4}\s*$|^[\d\s()+-]+$(?<!\d)|^\d{4}\s*-\s*\d{2,4}$"
)
UNIT_WORDS = frozenset(
    "mm cm dm m km in inch inches ft foot feet yd yard yards mi mile miles millimeter millimeters millimetre "
    "millimetres centimeter centimeters centimetre centimetres meter meters metre metres kilometer kilometers "
    "kilometre kilometres nautical_mile light_year mg g kg t gram grams kilogram kilograms milligram milligrams ton "
    "tons tonne tonnes metric_ton oz ounce ounces lb lbs pound pounds stone ml cl dl l liter liters litre litres "
    "milliliter milliliters millilitre millilitres gallon gallons pint pints quart quarts cup cups tablespoon "
    "tablespoons teaspoon teaspoons fluid_ounce ms s sec second seconds min minute minutes h hr hour hours day days "
    "week weeks month months year years mph kph km/h m/s knot knots degC degF K kelvin rad radian radians degree "
    "degrees byte bytes bit bits kB MB GB TB kilobyte kilobytes megabyte megabytes gigabyte gigabytes terabyte "
    "terabytes KiB MiB GiB TiB J kJ joule joules cal kcal calorie calories kWh Wh W kW MW watt watts hp horsepower Pa "
    "kPa bar psi atm hectare hectares acre acres N newton newtons V volt volts A ampere amperes Hz kHz MHz GHz "
    "hertz".split()
)
"""Units recognised in a question without reading the registry; the calculator itself knows many more."""
_UNIT = r"[A-Za-z_]+(?:/[A-Za-z_]+)?(?:\^\d)?"
_QUANTITY = re.compile(rf"^\(?\s*-?(?P<number>[\d.,]+(?:/100)?)\s*\)?\s*(?P<unit>{_UNIT})$")


def calculation(text: str) -> str | None:
    """The expression that a message asks to calculate ("What is 15% of 80?"), or None when it asks something else."""
    if len(text) > 160 or not (_DIGIT.search(text) or _HOW_MANY.match(text)):
        return None
    stripped = text.strip()
    many = _HOW_MANY.match(stripped)
    if many:
        value = re.sub(r"^(?:an?|one)\s+", "1 ", many["value"], flags=re.IGNORECASE)
        return _conversion(value, many["to"])
    body = _TAIL.sub("", _LEAD.sub("", stripped))
    plain = normalised(body)
    conversion = CONVERSION.match(plain)
    if conversion:
        return _conversion(re.sub(r"^(?:an?|one)\s+", "1 ", conversion[1], flags=re.IGNORECASE), conversion[2])
    lowered = plain.lower().strip()
    if _NOT_ARITHMETIC.match(lowered) or not _OPERATION.search(lowered) or not _ARITHMETIC.match(lowered):
        return None
    return body


def _conversion(value: str, target: str) -> str | None:
    source = _QUANTITY.match(normalised(value).strip())
    unit = normalised(target).strip()
    if source is None or not _known(source["unit"]) or not _known(unit):
        return None
    return f"{value.strip()} in {target.strip()}"


def _known(unit: str) -> bool:
    return all(part in UNIT_WORDS or part.lower() in UNIT_WORDS for part in re.sub(r"\^\d", "", unit).split("/"))


_NOW = re.compile(
    r"^¿?(?:please |can you |could you |hey |tell me |do you know )*"
    r"(?:(?:what(?:'s| is)|whats) the (?:current |local )?(?:time|date)(?: and (?:time|date))?|"
    r"what (?:time|day|date)(?: of the week)? is (?:it|today)|what day of the week is it|"
    r"what(?:'s| is) today(?:'s date)?|(?:current|local) (?:time|date)|what year is it|"
    r"wie sp(?:ä|ae)t ist es|wie viel uhr ist es|welcher tag ist heute|welches datum (?:ist|haben wir) heute|"
    r"quelle heure est-il|quel jour sommes-nous|qu[eé] hora es|qu[eé] d[ií]a es hoy|che ore sono|que horas s[ãa]o)"
    r"(?: (?:right )?now| today| currently| jetzt| heute)?"
    r"(?: (?:in|at|for|à|en|a) (?P<place>[\w .,/'-]+?))?(?: (?:right )?now| today| jetzt)?\s*[?.!]*$",
    re.IGNORECASE,
)
_WEEKDAY = re.compile(
    r"^(?:on )?(?:what|which) (?:week ?day|day of the week|day) (?:was|is|will|does|did)(?: it on)? "
    r"(?P<date>.+?)(?: be| fall on| on)?\s*\?*$",
    re.IGNORECASE,
)
_UNTIL = re.compile(
    r"^how (?:many days|long)(?: (?:is it|are there|are left|left|is left|do we have))? "
    r"(?:until|till|to|before) (?P<date>.+?)\s*\?*$",
    re.IGNORECASE,
)
_SINCE = re.compile(
    r"^how (?:many days|long)(?: (?:is it|is it been|has it been|have passed|ago))? since (?P<date>.+?)\s*\?*$",
    re.IGNORECASE,
)
_BETWEEN = re.compile(
    r"^how (?:many days|long)(?: (?:is it|are there|are|is|passed|lie))? (?:between|from) "
    r"(?P<first>.+?) (?:and|to|until|till) (?P<second>.+?)\s*\?*$",
    re.IGNORECASE,
)
_SHIFT = re.compile(
    r"^(?:what|which) (?:date|day) (?:is|will it be|was it|was|will be)\s*(?:in )?"
    r"(?P<count>\d{1,5}) (?P<unit>day|week)s?"
    r"(?: (?:after|from) (?P<after>.+?)| before (?P<before>.+?)| (?P<ago>ago)|)\s*\?*$",
    re.IGNORECASE,
)
_ANY_DAY = date(2000, 1, 1)
"""`read` is only asked whether a text is a date at all."""


def date_or_time(text: str) -> JsonObject | None:
    """The arguments of `date_and_time` that a message asks for, or None."""
    text = " ".join(text.split())
    match = _NOW.match(text)
    if match:
        place = match["place"]
        if place is None:
            return {"operation": "now"}
        return {"operation": "now", "zone": place.strip()} if zone_of(place) else None
    match = _WEEKDAY.match(text)
    if match and _is_date(match["date"]):
        return {"operation": "weekday", "date": match["date"]}
    match = _UNTIL.match(text) or _SINCE.match(text)
    if match and _is_date(match["date"]):
        return {"operation": "difference", "date": "today", "other": match["date"]}
    match = _BETWEEN.match(text)
    if match and _is_date(match["first"]) and _is_date(match["second"]):
        return {"operation": "difference", "date": match["first"], "other": match["second"]}
    return _shift(text)


def _shift(text: str) -> JsonObject | None:
    match = _SHIFT.match(text)
    if match is None:
        return None
    start = match["after"] or match["before"] or "today"
    start = "today" if start.lower() == "now" else start
    if not _is_date(start):
        return None
    days = int(match["count"]) * (7 if match["unit"].lower() == "week" else 1)
    return {"operation": "add", "date": start, "days": -days if match["before"] or match["ago"] else days}


def _is_date(text: str) -> bool:
    return read(text, _ANY_DAY) is not None
