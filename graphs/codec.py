# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""StateCodec: a run's state as msgpack and back, exactly, for the types of a run's state and no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import ForwardRef, NamedTuple, TypeGuard, cast, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_NUMPY_ARRAY,
    JsonPlusSerializer,
)
from langgraph.types import Interrupt, Send

from tools.types import JsonValue

COLLECTIONS: Mapping[tuple[str, str], Callable[[object], object]] = {
    ("builtins", "set"): lambda items: set(cast(list[object], items)),
    ("builtins", "frozenset"): lambda items: frozenset(cast(list[object], items)),
}
NUMBERS = "fiub"
"""Kinds of numpy arrays that are read: floats, integers, booleans."""


class CheckpointUnreadable(Exception):
    """A checkpoint holds what a run's state never does, is damaged, or was written by another version."""


class _Made(NamedTuple):
    """How a value of one of our types is made from its decoded fields."""

    make: type
    tuples: frozenset[str]
    """Fields that are tuples: msgpack knows lists only."""


class StateCodec:
    """LangGraph's serializer protocol over LangGraph's own format.

    What is written names its types by module and name, as LangGraph does. What is read is looked up in a table made
    from the annotations of the state, and never imported: bytes that name anything else run no code and raise.
    """

    def __init__(self, *states: type) -> None:
        """`states`: the typed dicts whose values are allowed, with all types that their annotations name."""
        known = _types_of(states)
        self._types = {(one.__module__, one.__name__): _made(one) for one in known}
        self._types[(Interrupt.__module__, Interrupt.__name__)] = _Made(Interrupt, frozenset())
        self._format = JsonPlusSerializer(allowed_msgpack_modules=None, __unpack_ext_hook__=self._extension)

    @property
    def types(self) -> frozenset[tuple[str, str]]:
        """Module and name of every type that is read."""
        return frozenset(self._types)

    def dumps_typed(self, obj: object) -> tuple[str, bytes]:
        """The kind of bytes, and the bytes."""
        return self._format.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> object:
        """The value again.

        Raises:
            CheckpointUnreadable: see there.
        """
        try:
            return self._decoded(data)
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            raise CheckpointUnreadable(
                "the checkpoint is damaged, was written by another version of Parley, or holds what no run writes"
            ) from error

    def _decoded(self, data: tuple[str, bytes]) -> object:
        kind, body = data
        if kind not in ("msgpack", "null"):
            raise ValueError(f"bytes of the kind {kind} are not read")
        return self._format.loads_typed((kind, body))

    def _extension(self, code: int, body: bytes) -> object:
        """Called by msgpack for every value that is not plain; what it raises comes out as a ValueError."""
        parts = cast(list[object], self._decoded(("msgpack", body)))
        if code == EXT_NUMPY_ARRAY:
            return _array(parts)
        name = (str(parts[0]), str(parts[1]))
        match code:
            case _ if code == EXT_CONSTRUCTOR_KW_ARGS and name in self._types:
                make, tuples = self._types[name]
                values = cast(dict[str, list[object]], parts[2])
                return make(**{key: tuple(value) if key in tuples else value for key, value in values.items()})
            case _ if code == EXT_CONSTRUCTOR_SINGLE_ARG and name in COLLECTIONS:
                return COLLECTIONS[name](parts[2])
            case _ if code == EXT_CONSTRUCTOR_POS_ARGS and name == (Send.__module__, Send.__name__):
                node, argument, *_ = cast(list[object], parts[2])
                return Send(str(node), argument)
            case _:
                raise ValueError(f"values of the type {'.'.join(name)} are not read")


def _array(parts: list[object]) -> object:
    kind, shape, order, body = parts
    dtype = np.dtype(str(kind))
    if dtype.kind not in NUMBERS:
        raise ValueError(f"arrays of the type {kind} are not read")
    flat = np.frombuffer(cast(bytes, body), dtype)
    return flat.reshape(cast(list[int], shape), order="F" if order == "F" else "C").copy(order="K")


def _types_of(states: tuple[type, ...]) -> set[type]:
    """These typed dicts, and every dataclass and named tuple that their annotations reach."""
    found: set[type] = set()
    waiting: list[object] = list(states)
    seen: list[object] = []
    while waiting:
        hint = waiting.pop()
        if isinstance(hint, (str, ForwardRef)) or hint in seen:
            continue
        seen.append(hint)
        waiting.extend(get_args(hint))
        if _has_fields(hint):
            waiting.extend(_hints(hint).values())
            found.add(hint)
    return found


def _has_fields(hint: object) -> TypeGuard[type]:
    return isinstance(hint, type) and (hasattr(hint, "_fields") or is_typeddict(hint) or is_dataclass(hint))


def _hints(of: type) -> dict[str, object]:
    # JsonValue names itself, and is found by this name only in its own module
    return get_type_hints(of, localns={"JsonValue": JsonValue})


def _made(one: type) -> _Made:
    hints = _hints(one)
    tuples = frozenset(name for name, hint in hints.items() if get_origin(hint) is tuple)
    inner = [part for name, hint in hints.items() for part in (get_args(hint) if name in tuples else (hint,))]
    if any(_holds_tuple(part) for part in inner):
        raise TypeError(f"{one.__name__}: a tuple inside another type would come back from a checkpoint as a list")
    return _Made(one, tuples)


def _holds_tuple(hint: object) -> bool:
    origin = get_origin(hint)
    return origin is tuple or (origin is not np.ndarray and any(_holds_tuple(part) for part in get_args(hint)))
