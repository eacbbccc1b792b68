"""Recount: questions about the conversation itself, recognised by patterns and answered from its messages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agents.citing import stems
from agents.summarise import lines
from agents.types import Message

_SAID = r"(?:ask|asked|say|said|tell|told|write|wrote|mention|mentioned|gave|discuss|discussed|answer|answered)"
_WHEN = (
    r"(?: (?:you|me|about|before|first|last|just|now|earlier|so far|today|until now|again|was|were|please|for me|"
    r"in (?:this|our) (?:conversation|chat)|a moment ago|at the beginning|right now))*"
)
_SPEECH = r"(?:question|answer|message|reply|response|thing|request)s?"
_ORDER = r"(?:very|last|first|second|third|previous|latest|next)"
_CONVERSATION = re.compile(
    "|".join(
        (
            rf"(?:what|which) (?:was|were|is|are) (?:my|your|our|the) (?:{_ORDER} )+{_SPEECH}{_WHEN}",
            rf"(?:what|which) (?:was|were|is|are) the (?:{_ORDER} )*{_SPEECH} (?:that )?(?:i|you|we) "
            rf"(?:just |have |had )*{_SAID}{_WHEN}",
            rf"(?:what|which \w+) (?:did|have|had) (?:i|you|we) (?:just |already |first |last |ever )*"
            rf"(?:{_SAID}|talk about|talked about){_WHEN}",
            rf"what (?:did|have) (?:i|you|we) (?:just |already )*{_SAID} (?:to me |me |you )?about .+ "
            r"(?:earlier|before|a moment ago|in (?:this|our) (?:chat|conversation)|at the beginning)",
            rf"(?:please |can you |could you )*(?:repeat|say|tell me|remind me of|quote|list) (?:all )?"
            rf"(?:of )?(?:my|your|our) (?:{_ORDER} )*{_SPEECH}{_WHEN}",
            rf"(?:please |can you |could you )*(?:say|repeat) (?:that|it|what you (?:just )?said){_WHEN}",
            r"(?:please |can you |could you )*(?:summari[sz]e|recap|sum up|(?:give|write) (?:me )?a (?:summary|recap) "
            r"of) (?:this|our|the) (?:whole |entire )?(?:conversation|chat|discussion|dialogue)" + _WHEN,
            rf"what (?:are|were) we (?:just )?(?:talking about|discussing){_WHEN}",
            rf"how many (?:questions|messages) (?:have|did) i (?:asked?|sent|send|written|write){_WHEN}",
            r"(?:was|worüber) (?:habe ich|hast du|haben wir) (?:dich |gerade |eben |zuletzt |mir |zuerst )*"
            r"(?:gefragt|gesagt|gesprochen|geantwortet)",
            r"(?:fasse?) (?:unser(?:e|en)?|das|die) (?:gespräch|unterhaltung|chat)(?: bisher)? zusammen",
            r"qu'ai-je (?:demandé|dit)(?: avant)?|résume (?:notre|cette) (?:conversation|discussion)",
            r"¿?qué te (?:pregunté|he preguntado)(?: antes)?|resume nuestra conversación",
        )
    ),
    re.IGNORECASE,
)
_END = re.compile(r"[\s?.!]+$")
_COUNT = re.compile(r"how many", re.IGNORECASE)
_WHOLE = re.compile(
    r"summari|recap|sum up|talk|discuss|list\b|questions|zusammen|résume|resume|gesprochen|worüber", re.IGNORECASE
)
_YOURS = re.compile(
    r"\byou(?:r)? (?:(?:very|just|last|first|previous|second|third|latest) )*(?:answer|say|said|repl|respon|tell|told|"
    r"mention|message)|\brepeat\b|say (?:that|it)|what (?:did|have) you|hast du",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"\babout (.+)", re.IGNORECASE)
_PLACE = {"first": 0, "beginning": 0, "second": 1, "third": 2, "zuerst": 0}


def about_conversation(text: str) -> bool:
    """Whether a whole message plainly asks about this conversation."""
    return len(text) <= 160 and _CONVERSATION.fullmatch(_END.sub("", text.strip())) is not None


def recount(text: str, messages: Sequence[Message], summary: str) -> str:
    """The answer to a question about the conversation, from the messages before it and the summary of older ones."""
    before = [message for message in messages[:-1] if message.content.strip()]
    asked = [message.content.strip() for message in before if message.role == "user"]
    told = [message.content.strip() for message in before if message.role == "assistant"]
    if not asked and not summary:
        return "This is the beginning of our conversation: nothing was said before."
    if _COUNT.search(text):
        return f"You have asked {len(asked)} question{'' if len(asked) == 1 else 's'} before this one."
    if _WHOLE.search(text) or not asked:
        return "\n".join(filter(None, ("So far in this conversation:", summary.strip(), lines(before))))
    place = next((_PLACE[word] for word in re.findall(r"\w+", text.lower()) if word in _PLACE), None)
    mine = not _YOURS.search(text)
    said = asked if mine else told
    if not said or (place is not None and place >= len(said)):
        return "There was no such message in this conversation."
    about = _ABOUT.search(text)
    if about:
        words = stems(about[1])
        quoted = max(said, key=lambda message: len(words & stems(message)))
        return f"About this {'you' if mine else 'I'} said:\n\n{quoted}"
    which = "first" if place == 0 else "last" if place is None else "second" if place == 1 else "third"
    quoted = said[-1 if place is None else place]
    if mine:
        return f"Your {which} message was: “{quoted}”"
    return f"My {which} answer was:\n\n{quoted}"
