"""Arguments of a call checked against the tool's JSON Schema: the part of the schema language that tools here use."""

from __future__ import annotations

from typing import cast

import orjson

from tools.types import JsonObject, JsonValue

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


class ArgumentError(Exception):
    """The arguments are no JSON object or do not fit the schema; the message says where and what is allowed."""


def parse(arguments: str, schema: JsonObject) -> JsonObject:
    """The arguments of a call as JSON, checked; "" counts as no arguments.

    Raises:
        ArgumentError: they are malformed or do not fit.
    """
    try:
        value: JsonValue = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError as error:
        raise ArgumentError(f"the arguments are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArgumentError("the arguments must be a JSON object")
    problem = fault(schema, value, "arguments")
    if problem:
        raise ArgumentError(problem)
    return value


def fault(schema: JsonObject, value: JsonValue, where: str) -> str | None:
    """What is wrong with a value, or None; knows type, enum, required, properties, additionalProperties, items,
    minimum, maximum, minLength and maxLength, and lets what it does not know pass."""
    kind = schema.get("type")
    if isinstance(kind, str) and not _is(kind, value):
        return f"{where} must be {'an' if kind[0] in 'aio' else 'a'} {kind}"
    allowed = schema.get("enum")
    if isinstance(allowed, list) and value not in allowed:
        return f"{where} must be one of {', '.join(map(str, allowed))}"
    match value:
        case bool() | None:
            return None
        case str():
            return _outside(schema, "minLength", "maxLength", len(value), f"the length of {where}")
        case int() | float():
            return _outside(schema, "minimum", "maximum", value, where)
        case list():
            return _items(schema, value, where)
        case dict():
            return _properties(schema, value, where)


def _is(kind: str, value: JsonValue) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS.get(kind, (object,)))


def _outside(schema: JsonObject, least: str, most: str, value: float, where: str) -> str | None:
    low, high = schema.get(least), schema.get(most)
    if isinstance(low, int | float) and value < low:
        return f"{where} must be at least {low}"
    if isinstance(high, int | float) and value > high:
        return f"{where} must be at most {high}"
    return None


def _items(schema: JsonObject, values: list[JsonValue], where: str) -> str | None:
    items = schema.get("items")
    if not isinstance(items, dict):
        return None
    faults = (fault(items, value, f"{where}[{index}]") for index, value in enumerate(values))
    return next((problem for problem in faults if problem), None)


def _properties(schema: JsonObject, value: JsonObject, where: str) -> str | None:
    known = schema.get("properties")
    properties = known if isinstance(known, dict) else {}
    required = schema.get("required")
    for name in required if isinstance(required, list) else []:
        if name not in value:
            return f"{where} lacks {name}"
    for name, item in value.items():
        inner = properties.get(name)
        if isinstance(inner, dict):
            problem = fault(cast(JsonObject, inner), item, name)
            if problem:
                return problem
        elif schema.get("additionalProperties") is False:
            return f"{where} has no {name}; there are {', '.join(properties) or 'none'}"
    return None
