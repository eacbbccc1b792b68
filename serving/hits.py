"""What a search found, as the API and the command line both show it."""

from __future__ import annotations

from knowledge.types import Found
from tools.types import JsonObject, JsonValue


def hit(found: Found) -> JsonObject:
    """One hit as JSON; offsets count characters of the document's parsed text."""
    passage = found.passage
    return {
        "document": found.document.id,
        "title": found.document.title,
        "path": found.document.path,
        "text": passage.text,
        "page": passage.page,
        "heading": " > ".join(passage.headings),
        "start": passage.start,
        "end": passage.end,
        "score": round(float(found.score), 6),
        "parts": dict[str, JsonValue]({name: round(float(part), 6) for name, part in found.parts.items()}),
    }
