"""OutputScreen: what a model writes goes out as it comes; only where a secret or a number may grow is it held back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from agents.leaks import HELD, Leak, held_from, leaks, may_grow
from agents.screen import RULES, smells
from agents.types import Verdict

_PLAIN = re.compile(r"[A-Za-z\s,.;'’!?()\"“”]*")
"""Signs of ordinary prose: no rule can begin in such a piece unless the word at its end may grow into one."""
_STOP = re.compile(r"[.!?\n。！？]")
_WORD_AT_END = re.compile(r"[\w-]*$")
_END = re.compile(r"[.!?。！？]+[\"'”’)\]]*\s|\n")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence that has gone out, for a second look."""

    text: str
    start: int
    """Where it begins in all that went out."""


@dataclass(frozen=True, slots=True)
class Screened:
    """What a piece of the answer led to."""

    text: str
    """What may go out now."""
    verdict: Verdict | None = None
    """Set when something is withheld: the answer ends here."""
    cut: int = 0
    """With a verdict: length of all that went out that the stored answer keeps (up to the sentence's start)."""
    doubtful: tuple[Sentence, ...] = ()
    """Sentences that ended and hold a word of a moderation category: to be judged."""


class OutputScreen:
    """Screens one answer, piece by piece."""

    def __init__(self, known: Callable[[], tuple[str, str]]) -> None:
        """`known` gives what the user said and what the evidence holds; it is asked only when something is found."""
        self._known = known
        self._held = ""
        self._out = 0
        self._sentence: list[str] = []
        self._sentence_start = 0
        self._tail = ""
        self._word = ""
        self._stopped = False

    def feed(self, text: str) -> Screened:
        """The next piece."""
        if not self._held and _PLAIN.fullmatch(text):
            self._word = _last_word(text) if not text.isalpha() else (self._word + text)[-HELD:]
            if not may_grow(self._word):
                return self._let_out(text)
        whole = self._held + text
        place = held_from(self._tail + whole) - len(self._tail)
        self._word = _last_word(whole)
        return self._checked(whole, max(0, place), final=False)

    def finish(self) -> Screened:
        """The end of the answer: what was held back, and the last sentence."""
        screened = self._checked(self._held, len(self._held), final=True)
        if screened.verdict is not None:
            return screened
        last = self._ended(final=True)
        return Screened(screened.text, doubtful=(*screened.doubtful, *last))

    def _checked(self, whole: str, place: int, *, final: bool) -> Screened:
        if whole:
            found = next(leaks(self._tail + whole, final=final), None)
            if found is not None:
                said, evidence = self._known()
                found = next(leaks(self._tail + whole, final=final, said=said, evidence=evidence), None)
            if found is not None and found.end > len(self._tail):
                return self._withheld(found, whole)
        self._held = "" if final else whole[place:]
        return self._let_out(whole[: len(whole) - len(self._held)])

    def _withheld(self, leak: Leak, whole: str) -> Screened:
        before = whole[: max(0, leak.start - len(self._tail))]
        self._held = ""
        sentence = "".join(self._sentence) + whole
        cut = self._sentence_start
        ends = list(_END.finditer(before))
        if ends:
            cut, sentence = self._out + ends[-1].end(), whole[ends[-1].end() :]
        verdict = Verdict(False, leak.category, RULES[leak.category], withheld=sentence.strip())
        self._out += len(before)
        return Screened(before, verdict, cut)

    def _let_out(self, text: str) -> Screened:
        if not text:
            return _NOTHING
        self._out += len(text)
        self._tail = (self._tail + text)[-HELD:]
        self._sentence.append(text)
        stopped = _STOP.search(text) is not None
        if stopped or self._stopped:  # an end of a sentence is only seen with the space after it
            self._stopped = stopped
            return Screened(text, doubtful=self._ended(final=False))
        return Screened(text)

    def _ended(self, *, final: bool) -> tuple[Sentence, ...]:
        """Takes the sentences that are complete off the front of what is collected."""
        whole = "".join(self._sentence)
        start, doubtful = 0, list[Sentence]()
        ends = [match.end() for match in _END.finditer(whole)]
        for end in [*ends, len(whole)] if final else ends:
            sentence = whole[start:end]
            if sentence.strip() and smells(sentence):
                doubtful.append(Sentence(sentence, self._sentence_start + start))
            start = end
        self._sentence = [whole[start:]] if start < len(whole) else []
        self._sentence_start += start
        return tuple(doubtful)


_NOTHING = Screened("")


def _last_word(text: str) -> str:
    return _WORD_AT_END.findall(text[-HELD:])[0]
