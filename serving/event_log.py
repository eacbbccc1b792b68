"""The events of a run as they are shown (JSON) and as they are kept: many in one small blob."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast

import orjson

from agents.types import Citation, CitationSpan, Draft, Finish, Note, Outcome, Usage, Verdict
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
from tools.types import JsonObject, JsonValue, ToolCall

FORMAT = b"\x01"
"""First byte of a blob. Whoever changes what follows, the dictionary included, writes another and reads both."""
DICTIONARY = (
    b'"approval.requested","cancelled","failed","incomplete",["answer.restarted"],"refused","content_filter",'
    b'"uncertain","not_found","length","tool_calls","no_model","withheld","budget",'
    b'["note","unsupported","Not supported by what was found:",'
    b'[["plan"]["act"]["retrieve"]["check",0.000'
    b'[["run.started"],["step.started","begin"],["step.finished","begin",0.00],["step.started","recall"],'
    b'["step.started","screen"],["step.started","understand"],["step.finished","screen",0.00],'
    b'["step.finished","understand",0.00],["step.finished","recall",0.00],["step.started","plan"],'
    b'["step.finished","plan",0.0000],["step.started","answer"],[4,5,3,6,2,7,4,3,5,4,1,8,5,4,6,3,4],["citation",0],'
    b'["step.finished","answer",0.0],["step.started","check"],["step.finished","check",0.000],'
    b'["step.started","remember"],["step.finished","remember",0.000],'
    b'["run.finished",null,"answered","stop","extractive",[0],[[1,0,0]],[],[[true,"","","rules",1.0,""]],[],[0,0,0,0]]]]'
)
"""What most blobs hold: a short one is mostly a few references into it."""
LEVEL, WINDOW_BITS, MEMORY = 6, -15, 8


@dataclass(frozen=True, slots=True)
class Said:
    """An answer as it was sent: what a message keeps, so that the run's events need not keep it once more."""

    text: str = ""
    citations: tuple[Citation, ...] = ()


NOTHING = Said()


def so_far(events: Iterable[Event]) -> Said:
    """The answer as far as these events tell it."""
    texts: list[str] = []
    citations: list[Citation] = []
    for event in events:
        match event:
            case Token(text):
                texts.append(text)
            case Cited(citation):
                citations.append(citation)
            case AnswerRestarted():
                texts.clear()
                citations.clear()
            case _:
                pass
    return Said("".join(texts), tuple(citations))


def event_json(numbered: Sequenced) -> JsonObject:
    """An event as every wire, the replay and the export show it. What moderation withheld is not in it."""
    head: JsonObject = {"type": _kind(numbered.event), "run_id": numbered.run, "seq": numbered.seq}
    return head | _fields(numbered.event)


def _kind(event: Event) -> str:
    return KINDS[type(event)]


KINDS: dict[type[Event], str] = {
    RunStarted: "run.started",
    StepStarted: "step.started",
    StepFinished: "step.finished",
    Token: "token",
    Cited: "citation",
    Noted: "note",
    AnswerRestarted: "answer.restarted",
    ApprovalRequested: "approval.requested",
    RunFinished: "run.finished",
    RunFailed: "run.failed",
    RunCancelled: "run.cancelled",
    RunIncomplete: "run.incomplete",
}
"""What each event is called on the wire and in a blob."""


def _fields(event: Event) -> JsonObject:
    match event:
        case StepStarted(step):
            return {"step": step}
        case StepFinished(step, seconds):
            return {"step": step, "seconds": seconds}
        case Token(text):
            return {"text": text}
        case Cited(citation):
            return {"citation": _plain(citation)}
        case Noted(note):
            return {"note": _plain(note)}
        case ApprovalRequested(id, value):
            return {"id": id, "value": value}
        case RunFinished(draft):
            return {
                "answer": draft.text, "outcome": draft.outcome, "finish": draft.finish, "model": draft.model,
                "citations": [_plain(citation) for citation in draft.citations],
                "notes": [_plain(note) for note in draft.notes], "usage": _plain(draft.usage),
            }  # fmt: skip
        case RunFailed(error, text) | RunIncomplete(error, text):
            return {"error": error, "answer": text}
        case RunCancelled(text):
            return {"answer": text}
        case RunStarted() | AnswerRestarted():
            return {}


def _plain(value: Citation | Note | Usage) -> JsonObject:
    return cast(JsonObject, asdict(value))


def pack(events: Sequence[Event], kept: Said = NOTHING) -> bytes:
    """Events as one blob: `[text, whether kept.text ends it, citations, entries]`, deflated. Tokens are one text and
    their lengths; a text and a citation that occur again are named, not repeated."""
    packing = _Packing(list(kept.citations))
    for event in events:
        packing.add(event)
    text = "".join(packing.texts)
    cut = bool(kept.text) and text.endswith(kept.text)
    if cut:
        text = text[: -len(kept.text)]
    body = orjson.dumps([text, cut, packing.citations[len(kept.citations) :], packing.entries])
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW_BITS, MEMORY, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    return FORMAT + deflate.compress(body) + deflate.flush()


def unpack(run: str, blob: bytes, kept: Said = NOTHING) -> list[Event]:
    """The events of a blob; `kept` must be what it was packed with."""
    inflate = zlib.decompressobj(WINDOW_BITS, DICTIONARY)
    text, cut, citations, entries = orjson.loads(inflate.decompress(blob[len(FORMAT) :]))
    known = [*kept.citations, *(Citation(**citation) for citation in citations)]
    unpacking = _Unpacking(run, text + kept.text if cut else text, known)
    for entry in entries:
        unpacking.add(entry)
    return unpacking.events


_DraftValues = tuple[
    str | None,
    Outcome,
    Finish,
    str,
    list[int],
    list[tuple[int, int, int]],
    list[tuple[str, str]],
    list[tuple[bool, str, str, Literal["rules", "examples", "model"], float, str]],
    list[tuple[str, str, str]],
    tuple[int, int, int, int],
]
"""A draft as `_Packing` lists it."""


class _Packing:
    """The entries of a blob as they grow."""

    def __init__(self, citations: list[Citation]) -> None:
        self.entries: list[list[JsonValue]] = []
        self.texts: list[str] = []
        self.citations = citations
        self._lengths: list[JsonValue] | None = None
        self._answer = 0
        """Where in `texts` the answer begins that counts."""

    def add(self, event: Event) -> None:
        if isinstance(event, Token):
            if self._lengths is None:
                self._lengths = []
                self.entries.append(self._lengths)
            self.texts.append(event.text)
            self._lengths.append(len(event.text))
            return
        self._lengths = None
        if isinstance(event, AnswerRestarted):
            self._answer = len(self.texts)
        self.entries.append([_kind(event), *self._values(event)])

    def _values(self, event: Event) -> list[JsonValue]:
        match event:
            case StepStarted(step):
                return [step]
            case StepFinished(step, seconds):
                return [step, seconds]
            case Cited(citation):
                return [self._named(citation)]
            case Noted(note):
                return [note.code, note.text]
            case ApprovalRequested(id, value):
                return [id, value]
            case RunFinished(draft):
                return self._draft(draft)
            case RunFailed(error, text) | RunIncomplete(error, text):
                return [error, self._unless_said(text)]
            case RunCancelled(text):
                return [self._unless_said(text)]
            case _:
                return []

    def _draft(self, draft: Draft) -> list[JsonValue]:
        usage = draft.usage
        return [
            self._unless_said(draft.text), draft.outcome, draft.finish, draft.model,
            [self._named(citation) for citation in draft.citations],
            [[span.index, span.start, span.end] for span in draft.spans],
            [[note.code, note.text] for note in draft.notes],
            [[v.allowed, v.category, v.rule, v.by, v.confidence, v.withheld] for v in draft.verdicts],
            [[call.id, call.name, call.arguments] for call in draft.tool_calls],
            [usage.prompt_tokens, usage.completion_tokens, usage.model_calls, usage.tool_calls],
        ]  # fmt: skip

    def _unless_said(self, text: str) -> str | None:
        return None if text == "".join(self.texts[self._answer :]) else text

    def _named(self, citation: Citation) -> int:
        if citation not in self.citations:
            self.citations.append(citation)
        return self.citations.index(citation)


class _Unpacking:
    """The events of a blob as they come back."""

    def __init__(self, run: str, text: str, citations: list[Citation]) -> None:
        self.events: list[Event] = []
        self._run, self._text, self._citations = run, text, citations
        self._at = 0
        self._answer = 0

    def add(self, entry: list[JsonValue]) -> None:
        if not entry or isinstance(entry[0], int):
            for length in cast(list[int], entry):
                self.events.append(Token(self._text[self._at : self._at + length]))
                self._at += length
            return
        if entry[0] == KINDS[AnswerRestarted]:
            self._answer = self._at
        self.events.append(self._event(entry))

    def _event(self, entry: list[JsonValue]) -> Event:
        match entry:
            case ["run.started"]:
                return RunStarted(self._run)
            case ["step.started", str(step)]:
                return StepStarted(step)
            case ["step.finished", str(step), float(seconds)]:
                return StepFinished(step, seconds)
            case ["citation", int(index)]:
                return Cited(self._citations[index])
            case ["note", str(code), str(text)]:
                return Noted(Note(code, text))
            case ["answer.restarted"]:
                return AnswerRestarted()
            case ["approval.requested", str(id), value]:
                return ApprovalRequested(id, value)
            case ["run.failed", str(error), text]:
                return RunFailed(error, self._or_said(text))
            case ["run.incomplete", str(error), text]:
                return RunIncomplete(error, self._or_said(text))
            case ["run.cancelled", text]:
                return RunCancelled(self._or_said(text))
            case ["run.finished", *values]:
                return RunFinished(self._draft(values))
            case _:
                raise ValueError(f"a stored event is none that this version knows: {entry[0]}")

    def _draft(self, values: list[JsonValue]) -> Draft:
        text, outcome, finish, model, citations, spans, notes, verdicts, calls, usage = cast(_DraftValues, values)
        return Draft(
            self._or_said(text), outcome, finish, model,
            tuple(self._citations[index] for index in citations), tuple(CitationSpan(*span) for span in spans),
            tuple(Note(*note) for note in notes), tuple(Verdict(*verdict) for verdict in verdicts),
            tuple(ToolCall(*call) for call in calls), Usage(*usage),
        )  # fmt: skip

    def _or_said(self, text: JsonValue) -> str:
        return text if isinstance(text, str) else self._text[self._answer : self._at]
