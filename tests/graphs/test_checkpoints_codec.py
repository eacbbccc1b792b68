"""A run's state as bytes: it comes back as it was, and bytes of anything else run no code."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict, TypeVar, cast

import numpy as np
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from langgraph.types import Interrupt, Send

from agents.retrieve import Recalled
from agents.types import Citation, CitationSpan, Draft, Evidence, Intent, Note, Plan, Step, Usage, Verdict
from graphs.codec import CheckpointUnreadable, StateCodec
from graphs.state import ChatState, StepState
from knowledge.types import Block, Document, Found, Passage, Unit
from memory.types import Hit, Label, PartVectors, Score, Vector
from tools.types import JsonValue, ToolCall, ToolResult

T = TypeVar("T")

CODEC = StateCodec(ChatState, StepState)

whole = st.integers(-(2**63), 2**63)
page = st.none() | whole
json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | whole | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
vectors = arrays(np.float32, array_shapes(max_dims=1, max_side=32), elements=st.floats(-1, 1, width=32))


def some(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


labels = st.builds(Label, trust=whole)
evidence = st.builds(Evidence, index=whole, start=whole, page=page, label=labels, headings=some(st.text()))
units = st.builds(Unit, start=whole, end=whole, block=whole)
blocks = st.builds(Block, start=whole, end=whole)
passages = st.builds(
    Passage, index=whole, start=whole, end=whole, page=page, headings=some(st.text()), blocks=some(blocks),
    units=some(units),
)  # fmt: skip
parts = st.builds(PartVectors, arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=8)), vectors)
found = st.builds(
    Found, st.builds(Document, bytes=whole, passages=whole), passages, label=labels, vectors=st.none() | parts,
    parts=st.dictionaries(st.text(max_size=5), st.floats(), max_size=2),
)  # fmt: skip
recalled = st.builds(Recalled, found=some(found), memories=some(evidence), notes=some(st.builds(Note)))
steps = st.builds(
    Step,
    st.text(),
    st.sampled_from(["tool", "retrieve"]),
    arguments=st.dictionaries(st.text(), json_values, max_size=3),
)
drafts = st.builds(
    Draft,
    citations=some(st.builds(Citation, index=whole, start=whole, end=whole, page=page)),
    spans=some(st.builds(CitationSpan, whole, whole, whole)),
    notes=some(st.builds(Note)),
    verdicts=some(st.builds(Verdict)),
    tool_calls=some(st.builds(ToolCall)),
    usage=st.builds(Usage, whole, whole, whole, whole),
)
CHANNELS: dict[str, st.SearchStrategy[object]] = {
    "question": st.text(),
    "vector": st.none() | vectors,
    "rules": st.none() | st.builds(Intent),
    "verdict": st.builds(Verdict),
    "intent": st.builds(Intent),
    "recalled": recalled,
    "plan": st.builds(Plan, steps=some(steps)),
    "retrieved": st.lists(recalled, max_size=2),
    "results": st.lists(st.builds(ToolResult, data=json_values, label=labels), max_size=2),
    "draft": drafts,
    "notes": st.lists(st.builds(Note), max_size=2),
}


def same(one: object, other: object) -> bool:
    """Equal in value and type, arrays and all."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        first, second = cast("np.ndarray[tuple[int, ...], np.dtype[np.float32]]", one), cast(Vector, other)
        return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()
    if is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, dict):
        items, others = cast(dict[object, object], one), cast(dict[object, object], other)
        return items.keys() == others.keys() and all(same(items[key], others[key]) for key in items)
    if isinstance(one, (list, tuple)):
        row, column = cast(list[object], one), cast(list[object], other)
        return len(row) == len(column) and all(map(same, row, column))
    return one == other or (one != one and other != other)  # not a number is never equal to itself


@pytest.mark.parametrize("channel", CHANNELS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_value_of_the_state_comes_back_exactly(channel: str, data: st.DataObject) -> None:
    value = data.draw(CHANNELS[channel])
    assert same(CODEC.loads_typed(CODEC.dumps_typed(value)), value)


def test_every_channel_of_the_state_is_tried() -> None:
    assert set(ChatState.__annotations__) == set(CHANNELS)


def test_a_fanned_out_step_and_an_interrupt_come_back() -> None:
    vector = np.array([0.5, -1.0], np.float32)
    sent = Send("retrieve", StepState(step=Step("r1", "retrieve", query="q"), vector=vector))
    restored = CODEC.loads_typed(CODEC.dumps_typed([sent, Interrupt({"ask": "send?"}, "a" * 32)]))
    back, interrupt = cast(tuple[Send, Interrupt[object]], restored)
    assert same(back.arg, sent.arg)
    assert (back.node, interrupt.value, interrupt.id) == ("retrieve", {"ask": "send?"}, "a" * 32)


def test_arrays_come_back_in_their_own_order_and_can_be_written_to() -> None:
    rows = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    back = cast("np.ndarray[tuple[int, ...], np.dtype[np.float32]]", CODEC.loads_typed(CODEC.dumps_typed(rows)))
    assert back.tolist() == rows.tolist()
    back[0, 0] = 7.0


class _Tally(NamedTuple):
    hit: Hit
    words: frozenset[str]


class _Other(TypedDict):
    tallies: list[_Tally]


def test_named_tuples_and_sets_come_back_as_what_they_were() -> None:
    state = {"tallies": [_Tally(Hit("a", "b", Score(0.5, 2.0)), frozenset({"x", "y"}))], "free": {1, 2}}
    codec = StateCodec(_Other)
    assert same(codec.loads_typed(codec.dumps_typed(state)), state)


@dataclass(frozen=True)
class _Nested:
    pairs: list[tuple[int, int]]


class _Lossy(TypedDict):
    nested: _Nested


def test_an_annotation_that_would_not_come_back_is_refused_at_the_start() -> None:
    with pytest.raises(TypeError, match="_Nested: a tuple inside another type"):
        StateCodec(_Lossy)


def test_all_that_a_state_can_hold_is_allowed_and_little_else() -> None:
    modules = {module for module, _ in CODEC.types}
    assert ("agents.types", "Evidence") in CODEC.types
    assert modules == {
        "agents.types",
        "agents.retrieve",
        "graphs.state",
        "knowledge.types",
        "memory.types",
        "tools.types",
        "langgraph.types",
    }


def hostile(marker: Path) -> dict[str, tuple[str, bytes]]:
    """Checkpoints that would make a file if reading them ran anything."""
    touch = f"touch {marker}"

    def named(code: int, *parts: object) -> tuple[str, bytes]:
        return "msgpack", ormsgpack.packb({"draft": ormsgpack.Ext(code, ormsgpack.packb(parts))})

    return {
        "a function of one argument": named(0, "os", "system", touch),
        "a function of several": named(1, "os", "system", [touch]),
        "a function with names": named(2, "subprocess", "getoutput", {"cmd": touch}),
        "a method": named(3, "pathlib", "Path", str(marker), "touch"),
        "a model of pydantic 1": named(4, "subprocess", "getoutput", {"cmd": touch}, "construct"),
        "a model of pydantic 2": named(5, "subprocess", "getoutput", {"cmd": touch}, "model_validate_json"),
        "a function in the place of a type of ours": named(2, "agents.types", "last_said", {"messages": []}),
        "a type of ours with the wrong fields": named(2, "agents.types", "Note", {"code": "x", "body": "y"}),
        "an array of objects": named(6, "|O", [1], "C", b"01234567"),
        "an array that is shorter than it says": named(6, "<f4", [9], "C", b"0123"),
        "something unheard of": named(99, "agents.types", "Note", {"code": "x", "text": "y"}),
        "a pickle": ("pickle", b"cos\nsystem\n(S'" + touch.encode() + b"'\ntR."),
        "json with a constructor": (
            "json",
            b'{"lc": 2, "type": "constructor", "id": ["os", "system"], "args": ["' + touch.encode() + b'"]}',
        ),
        "half a checkpoint": ("msgpack", b"\x81\xa5draft\xc7"),
    }


@pytest.mark.parametrize("kind", sorted(hostile(Path("marker"))))
def test_what_no_run_writes_is_refused_and_runs_nothing(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with pytest.raises(CheckpointUnreadable, match="damaged, was written by another version"):
        CODEC.loads_typed(hostile(marker)[kind])
    assert not marker.exists()


def test_what_cannot_be_read_is_not_written() -> None:
    with pytest.raises(TypeError):
        CODEC.dumps_typed({"draft": object()})
