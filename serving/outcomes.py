"""How runs end: as it is told, as it is stored, and as a server that stops says it."""

from __future__ import annotations

from typing import Literal

from graphs.events import Ending, RunCancelled, RunFailed, RunFinished, RunIncomplete
from serving.event_log import KINDS
from serving.live import LiveRun
from serving.records import Answer, RunEnd

STOPPED = "the server was stopped before the answer was complete"
"""What an interactive run is told that a stopping server cuts."""


def outcome(
    live: LiveRun, last: RunFinished | RunFailed | None, raised: BaseException | None
) -> tuple[Ending, RunEnd, Answer | None]:
    """How a run ended: as it is told, and as it is stored; the message is what was said, with a fitting status.

    `last`: what the engine said; None when it was cut or raised.
    """
    if isinstance(last, RunFinished):
        draft = last.draft
        return last, RunEnd.of(draft), Answer(draft.text, "complete", draft.citations)
    said = live.said()
    status: Literal["failed", "cancelled", "incomplete"]
    ending: Ending
    if last is not None or isinstance(raised, Exception):  # the model broke, or a bug is on its way up
        status, error = "failed", last.error if last is not None else f"internal error: {type(raised).__name__}"
        ending = RunFailed(error, said.text)
    elif live.stop == "cancelled":
        status, error, ending = "cancelled", "", RunCancelled(said.text)
    else:
        status, error, ending = "incomplete", STOPPED, RunIncomplete(STOPPED, said.text)
    return ending, RunEnd(status, error=error), Answer(said.text, status, said.citations) if said.text else None


def fate(run: LiveRun) -> str:
    """What became of a run when the server was stopped."""
    if run.ended:
        return f"run {run.id} ended before the server did: {KINDS[type(run.events[-1].event)]}"
    if run.stop == "lost":
        return f"run {run.id} goes on in another server, which had found this one dead"
    if run.background:
        return f"run {run.id} is parked: the next server on this data folder goes on with it"
    return f"run {run.id} could not be stored before the server ended"
