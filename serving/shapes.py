"""Conversations and runs as JSON: one shape for the API, the command line and an export."""

from __future__ import annotations

from dataclasses import asdict

from serving.feedback import Feedback
from serving.records import Answer, Run, StoredMessage, Thread
from tools.types import JsonObject, JsonValue


def thread_json(thread: Thread) -> JsonObject:
    """A conversation without its messages."""
    return {
        "id": thread.id,
        "title": thread.title,
        "created_at": thread.created_at,
        "updated_at": thread.updated_at,
    }


def message_json(message: StoredMessage) -> JsonObject:
    """A message of a conversation."""
    return {
        "id": message.id,
        "role": message.role,
        "content": message.content,
        "status": message.status,
        "run_id": message.run or None,
        "citations": list[JsonValue](asdict(citation) for citation in message.citations),
        "created_at": message.created_at,
    }


def run_json(run: Run, answer: Answer | None) -> JsonObject:
    """A run with what it said; the answer is whole only when the status is "finished"."""
    return {
        "id": run.id,
        "thread_id": run.thread or None,
        "status": run.status,
        "answer": None if answer is None else answer.content,
        "citations": list[JsonValue](asdict(citation) for citation in answer.citations) if answer else [],
        "usage": asdict(run.usage),
        "notes": list[JsonValue](asdict(note) for note in run.notes),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "error": run.error or None,
    }


def feedback_json(feedback: Feedback) -> JsonObject:
    """What a user thinks of an answer."""
    return {
        "run_id": feedback.run,
        "rating": feedback.rating,
        "reason": feedback.reason or None,
        "created_at": feedback.created_at,
    }
