"""Events as they are shown and kept: what comes back is what went in, and a kept blob is small."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.types import Citation, CitationSpan, Draft, Note, Usage, Verdict
from graphs.events import (
    AnswerRestarted,
    ApprovalRequested,
    Cited,
    Event,
    Noted,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunIncomplete,
    RunStarted,
    Sequenced,
    StepFinished,
    StepStarted,
    Token,
)
from serving.event_log import (
    DICTIONARY,
    FORMAT,
    LEVEL,
    MEMORY,
    WINDOW_BITS,
    Said,
    event_json,
    pack,
    so_far,
    unpack,
)
from tools.types import JsonValue, ToolCall

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
RUN = "0199-run"


@st.composite
def citations(draw: st.DrawFn) -> Citation:
    index = draw(st.integers(1, 3))
    page = draw(st.none() | st.integers(1, 9))
    return Citation(index, "d1", f"d1.{index}", draw(TEXT), "guide.md", draw(TEXT), page, "Start", 3, 9)


DRAFTS = st.builds(
    Draft,
    TEXT,
    st.sampled_from(["answered", "not_found", "refused"]),
    st.sampled_from(["stop", "length", "tool_calls"]),
    TEXT,
    st.lists(citations(), max_size=3).map(tuple),
    st.lists(st.builds(CitationSpan, st.integers(1, 3), st.integers(0, 9), st.integers(0, 9)), max_size=2).map(tuple),
    st.lists(st.builds(Note, TEXT, TEXT), max_size=2).map(tuple),
    st.lists(st.builds(Verdict, st.booleans(), TEXT, TEXT, confidence=st.floats(0, 1), withheld=TEXT)).map(tuple),
    st.lists(st.builds(ToolCall, TEXT, TEXT, TEXT), max_size=1).map(tuple),
    st.builds(Usage, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.just(RunStarted(RUN)),
    st.builds(StepStarted, TEXT),
    st.builds(StepFinished, TEXT, st.floats(0, 1e6)),
    st.builds(Token, TEXT),
    st.builds(Token, TEXT),
    st.builds(Cited, citations()),
    st.builds(Noted, st.builds(Note, TEXT, TEXT)),
    st.just(AnswerRestarted()),
    st.builds(ApprovalRequested, TEXT, st.none() | st.lists(st.integers(-5, 5)) | st.dictionaries(TEXT, st.booleans())),
    st.builds(RunFinished, DRAFTS),
    st.builds(RunFailed, TEXT, TEXT),
    st.builds(RunCancelled, TEXT),
    st.builds(RunIncomplete, TEXT, TEXT),
)


@given(st.lists(EVENTS, max_size=12), st.builds(Said, TEXT, st.lists(citations(), max_size=2).map(tuple)))
def test_what_is_unpacked_is_what_was_packed(events: list[Event], said: Said) -> None:
    assert unpack(RUN, pack(events)) == events
    assert unpack(RUN, pack(events, said), said) == events


@given(st.lists(EVENTS, max_size=12))
def test_an_answer_that_its_message_keeps_comes_back_from_there(events: list[Event]) -> None:
    said = so_far(events)
    whole = [*events, RunCancelled(said.text)]
    assert unpack(RUN, pack(whole, said), said) == whole


def test_an_answer_counts_from_its_last_restart() -> None:
    first = Citation(1, "d", "d.0", "A", "a", "q", None, "", 0, 1)
    second = Citation(2, "d", "d.1", "B", "b", "r", 4, "", 2, 3)
    events = [Token("Old"), Cited(first), AnswerRestarted(), Token("New "), Cited(second), Token("words")]
    assert so_far(events) == Said("New words", (second,))


def test_a_usual_answer_of_a_kilobyte_is_kept_in_half_of_it_and_less_beside_its_message() -> None:
    words = [f"word{number} " for number in range(140)]
    steps = [event for step in ("begin", "screen", "understand", "recall", "plan", "answer", "check", "remember")
             for event in (StepStarted(step), StepFinished(step, 0.001234))]  # fmt: skip
    quote = "Turn it on." * 9
    citation = Citation(1, "0199-document", "0199-document.3", "Guide", "guide.md", quote, None, "Start", 0, 99)
    answer = "".join(words)
    draft = Draft(answer, "answered", "stop", "model", (citation,), (CitationSpan(1, 4, 7),), verdicts=(Verdict(True),))
    events = [RunStarted(RUN), *steps[:11], *map(Token, words), Cited(citation), *steps[11:], RunFinished(draft)]
    assert len(answer) > 900
    assert len(pack(events)) < 600
    assert len(pack(events, Said(answer, (citation,)))) < 200


def test_an_event_of_another_version_is_refused_and_not_misread() -> None:
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW_BITS, MEMORY, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    blob = FORMAT + deflate.compress(b'["",false,[],[["run.teleported"]]]') + deflate.flush()
    with pytest.raises(ValueError, match=r"run\.teleported"):
        unpack(RUN, blob)


CITATION = Citation(1, "d1", "d1.0", "Guide", "guide.md", "Use it.", 2, "Setup", 0, 7)
PLAIN: JsonValue = {
    "index": 1, "document": "d1", "passage": "d1.0", "title": "Guide", "path": "guide.md", "quote": "Use it.",
    "page": 2, "heading": "Setup", "start": 0, "end": 7, "url": "",
}  # fmt: skip
SHOWN: list[tuple[Event, JsonValue]] = [
    (RunStarted(RUN), {"type": "run.started"}),
    (StepStarted("plan"), {"type": "step.started", "step": "plan"}),
    (StepFinished("plan", 0.5), {"type": "step.finished", "step": "plan", "seconds": 0.5}),
    (Token("Use"), {"type": "token", "text": "Use"}),
    (Cited(CITATION), {"type": "citation", "citation": PLAIN}),
    (Noted(Note("budget", "Enough.")), {"type": "note", "note": {"code": "budget", "text": "Enough."}}),
    (AnswerRestarted(), {"type": "answer.restarted"}),
    (ApprovalRequested("a1", {"tool": "send"}), {"type": "approval.requested", "id": "a1", "value": {"tool": "send"}}),
    (RunFailed("broken", "Us"), {"type": "run.failed", "error": "broken", "answer": "Us"}),
    (RunIncomplete("died", "Us"), {"type": "run.incomplete", "error": "died", "answer": "Us"}),
    (RunCancelled("Us"), {"type": "run.cancelled", "answer": "Us"}),
]


@pytest.mark.parametrize(("event", "shown"), SHOWN)
def test_every_event_is_shown_with_its_run_and_its_number(event: Event, shown: dict[str, JsonValue]) -> None:
    assert event_json(Sequenced(RUN, 7, event)) == {"run_id": RUN, "seq": 7} | shown


def test_a_finished_run_is_shown_without_what_moderation_withheld() -> None:
    verdict = Verdict(False, "secret", "no keys", "rules", 1.0, "sk-123")
    draft = Draft("Use it.", "answered", "stop", "m", (CITATION,), notes=(Note("withheld", "Some."),),
                  verdicts=(verdict,), usage=Usage(1, 2, 3, 4))  # fmt: skip
    assert event_json(Sequenced(RUN, 9, RunFinished(draft))) == {
        "type": "run.finished", "run_id": RUN, "seq": 9, "answer": "Use it.", "outcome": "answered", "finish": "stop",
        "model": "m", "citations": [PLAIN], "notes": [{"code": "withheld", "text": "Some."}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "model_calls": 3, "tool_calls": 4},
    }  # fmt: skip
