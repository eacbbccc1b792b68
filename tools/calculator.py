"""The calculator: arithmetic and units from plain text, evaluated on the syntax tree; nothing is ever executed."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from typing import cast

from tools.units import Measure, UnitError, failures, load

MAX_LENGTH = 300
"""Longest expression, in characters."""
MAX_DEPTH = 50
MAX_BITS = 8_000
"""Largest integer that a power or a factorial may make, in bits."""

Value = int | float | Measure


class CalculationError(Exception):
    """The expression cannot be calculated; the message says why."""


_CONSTANTS = {"pi": math.pi, "π": math.pi, "e": math.e, "tau": math.tau}
_Function = Callable[..., int | float]
_FUNCTIONS: dict[str, tuple[_Function, int, int]] = {
    "sqrt": (math.sqrt, 1, 1),
    "cbrt": (math.cbrt, 1, 1),
    "abs": (cast(_Function, abs), 1, 1),
    "round": (cast(_Function, round), 1, 2),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "exp": (math.exp, 1, 1),
    "ln": (math.log, 1, 1),
    "log": (math.log10, 1, 1),
    "log2": (math.log2, 1, 1),
    "sin": (math.sin, 1, 1),
    "cos": (math.cos, 1, 1),
    "tan": (math.tan, 1, 1),
    "min": (cast(_Function, min), 2, 20),
    "max": (cast(_Function, max), 2, 20),
    "gcd": (math.gcd, 2, 20),
}
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "²": "^2", "³": "^3", "\u00a0": " "})
_NUMBER = r"(?>(?<![\w.])(?:\d[\d_]*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)"
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"(?<=\d)\s*in(?=\s*(?:$|[-+*/)]|(?:to|in|into)\b))", " inch"),
        (r"(\d+)\s*(?:feet|foot|ft)\s+(\d+)\s*(?:inch(?:es)?|in)\b", r"(\1 ft + \2 inch)"),
        (r"°\s*([CF])\b", r"deg\1"),
        (r"\b(?:degrees?\s+)?celsius\b", "degC"),
        (r"\b(?:degrees?\s+)?fahrenheit\b", "degF"),
        (r"\bsquare root of\s+", "sqrt "),
        (r"\bcube root of\s+", "cbrt "),
        (r"√\s*", "sqrt "),
        (r"\b(sqrt|cbrt)\s+(\d+(?:\.\d+)?)", r"\1(\2)"),
        (rf"({_NUMBER})\s*(?:%|percent\b)\s*(?:of\b)\s*", r"(\1/100)*"),
        (rf"({_NUMBER})\s*(?:%(?!\s*[\d(])|percent\b)", r"(\1/100)"),
        (r"\bdivided by\b|\bover\b", "/"),
        (r"\bmultiplied by\b|\btimes\b", "*"),
        (r"(?<=[\d)])\s*x\s*(?=[\d(])", "*"),
        (r"\bplus\b", "+"),
        (r"\bminus\b", "-"),
        (r"\bto the power of\b|\braised to\b", "^"),
        (r"\bsquared\b", "^2"),
        (r"\bcubed\b", "^3"),
        (r"\bmod(?:ulo)?\b", "%"),
        (r"\bnautical miles?\b", "nautical_mile"),
        (r"\blight[- ]years?\b", "light_year"),
        (r"\bfluid ounces?\b", "fluid_ounce"),
        (r"\bmetric tonn?e?s?\b", "metric_ton"),
        (r"\b(?:square|sq)\s+([a-z]+)", r"\1^2"),
        (r"\bcubic\s+([a-z]+)", r"\1^3"),
        (r"\s+per\s+", "/"),
    )
)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_MANY_VALUES = re.compile(r"\b(?:min|max|gcd|round)\s*\(")
_MEASURED = re.compile(rf"({_NUMBER})\s*([A-Za-zµΩ_]+)(?!\s*\()(\s*\^\s*-?\d+)?")
CONVERSION = re.compile(r"^(.+?)\s+(?:in|to|into|as)\s+([A-Za-zµΩ°_][\w\s/^*°-]*)$", re.IGNORECASE)


def calculate(expression: str) -> str:
    """The result of an expression as text, for example "8.04672 km" for "5 miles in km".

    Knows numbers, + - * / // % ^, brackets, common functions, units and conversions. Units are loaded on first
    use, so call it in a thread.

    Raises:
        CalculationError: it is too long, malformed, not defined, too large, or the units do not fit.
    """
    text = expression.strip().rstrip("?=. ")
    if not text:
        raise CalculationError("there is nothing to calculate")
    if len(text) > MAX_LENGTH:
        raise CalculationError(f"the expression is longer than {MAX_LENGTH} characters")
    text = normalised(text)
    conversion = CONVERSION.match(text)
    try:
        value = _evaluate(conversion[1] if conversion else text)
        if conversion:
            target = _evaluate(conversion[2])
            if isinstance(value, int | float) or isinstance(target, int | float):
                raise CalculationError("a conversion needs a unit on both sides, for example 5 miles in km")
            value = load().convert(value, target)
        return _shown(value)
    except UnitError as error:
        raise CalculationError(str(error)) from error
    except ZeroDivisionError as error:
        raise CalculationError("division by zero is not defined") from error
    except OverflowError as error:
        raise CalculationError("the result is too large") from error
    except failures() as error:
        raise CalculationError(str(error)) from error


def _evaluate(text: str) -> Value:
    prepared = _MEASURED.sub(_bracketed, text).replace("^", "**")
    try:
        tree = ast.parse(prepared.strip(), mode="eval")
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise CalculationError(f'"{text.strip()}" is not an expression I can read') from error
    return _value(tree.body, 0)


def _value(node: ast.expr, depth: int) -> Value:
    if depth > MAX_DEPTH:
        raise CalculationError("the expression is nested too deeply")
    match node:
        case ast.Constant(value=bool() | str() | bytes() | None):
            raise CalculationError("only numbers and units can be calculated with")
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return _CONSTANTS[name] if name in _CONSTANTS else load().unit(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, depth + 1)
        case ast.BinOp(left=left, op=sign, right=right):
            return _combined(sign, _value(left, depth + 1), _value(right, depth + 1))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _called(name, [_value(argument, depth + 1) for argument in arguments])
        case _:
            raise CalculationError("only numbers, units, + - * / ^ %, brackets and common functions are allowed")


def _shown(value: Value) -> str:
    if isinstance(value, int | float):
        return _number(value)
    number, unit = load().split(value)
    return f"{_number(number)} {unit}".strip()


def normalised(text: str) -> str:
    """Words and typographic signs of an expression as operators: "15% of 80" is "(15/100)*80"."""
    text = text.translate(_SIGNS)
    if not _MANY_VALUES.search(text):
        text = _THOUSANDS.sub("", text)
    for pattern, replacement in _WORDS:
        text = pattern.sub(replacement, text)
    return text


def _bracketed(match: re.Match[str]) -> str:
    """A number with its unit binds closer than any operator: 60 km / 2 h is (60 km) / (2 h)."""
    if match[2] in _CONSTANTS or match[2] in {"in", "to", "as", "into"}:
        return f"({match[1]}*{match[2]})" if match[2] in _CONSTANTS else match[0]
    return f"({match[1]}*{match[2]}{match[3] or ''})"


def _combined(sign: ast.operator, left: Value, right: Value) -> Value:
    if isinstance(sign, ast.Add):
        return left + right
    if isinstance(sign, ast.Sub):
        return left - right
    if isinstance(sign, ast.Mult):
        return left * right
    if isinstance(sign, ast.Div):
        if isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
            return left // right
        return left / right
    if isinstance(sign, ast.Pow):
        return _power(left, right)
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        raise CalculationError("this operator works on plain numbers only")
    if isinstance(sign, ast.Mod):
        return left % right
    if isinstance(sign, ast.FloorDiv):
        return left // right
    raise CalculationError("only + - * / // % and ^ are allowed")


def _power(base: Value, exponent: Value) -> Value:
    if not isinstance(exponent, int | float):
        raise CalculationError("an exponent must be a plain number")
    if not isinstance(base, int | float):
        if abs(exponent) > 20:
            raise CalculationError("the exponent of a unit must be at most 20")
        return base**exponent
    if isinstance(base, int) and isinstance(exponent, int) and abs(exponent) * base.bit_length() > MAX_BITS:
        raise CalculationError("the result is too large")
    result: int | float | complex = base**exponent
    if isinstance(result, complex):
        raise CalculationError("the result is not a real number")
    return result


def _called(name: str, arguments: list[Value]) -> Value:
    if name == "factorial":
        return _factorial(arguments)
    if name not in _FUNCTIONS:
        raise CalculationError(f'"{name}" is not a function I know; there are {", ".join(sorted(_FUNCTIONS))}')
    function, least, most = _FUNCTIONS[name]
    if not least <= len(arguments) <= most:
        raise CalculationError(f"{name} takes {least if least == most else f'{least} to {most}'} values")
    numbers = [argument for argument in arguments if isinstance(argument, int | float)]
    if len(numbers) != len(arguments):
        raise CalculationError(f"{name} works on plain numbers only")
    try:
        return function(*numbers)
    except (ValueError, TypeError) as error:
        raise CalculationError(f"{name} is not defined for {', '.join(map(_number, numbers))}") from error


def _factorial(arguments: list[Value]) -> int:
    match arguments:
        case [int() as number] if 0 <= number <= 500:
            return math.factorial(number)
        case _:
            raise CalculationError("factorial takes one whole number from 0 to 500")


def _number(value: int | float) -> str:
    if isinstance(value, int):
        return str(value) if abs(value) < 10**40 else f"{value:.12e}" if abs(value) < 10**300 else _huge(value)
    if math.isinf(value) or math.isnan(value):
        raise CalculationError("the result is too large" if math.isinf(value) else "the result is not defined")
    rounded = f"{value:.12g}"
    return rounded.removesuffix(".0")


def _huge(value: int) -> str:
    digits = str(abs(value))
    return f"{'-' if value < 0 else ''}{digits[0]}.{digits[1:12]}e+{len(digits) - 1}"
