"""Delivery: what a model writes on its way out: citation markers, the output screen, then the run's channel."""

from __future__ import annotations

from collections.abc import Sequence

from agents.citing import CitationFilter
from agents.context import RunContext
from agents.output import OutputScreen, Screened
from agents.screen import judge
from agents.types import Citation, CitationSpan, Evidence, Note, TextDelta, Verdict


class Delivery:
    """Sends one answer out, piece by piece, and keeps what the record needs of it."""

    def __init__(self, ctx: RunContext, evidence: Sequence[Evidence], said: str) -> None:
        """`said` is what the user wrote: it may be said back."""
        self._ctx = ctx
        self._evidence = list(evidence)
        self._filter = CitationFilter(evidence)
        self._screen = OutputScreen(lambda: (said, "\n".join(item.text for item in self._evidence)))
        self._sent: list[str] = []
        self._length = 0
        self._waiting: list[tuple[int, Citation]] = []
        self._passed = 0
        self._cut: int | None = None
        self.verdicts: list[Verdict] = []

    @property
    def withheld(self) -> bool:
        """Whether something was withheld: the answer is over."""
        return self._cut is not None

    @property
    def started(self) -> bool:
        """Whether anything has gone out."""
        return self._length > 0

    @property
    def text(self) -> str:
        """The answer as it is stored: what went out, without a withheld sentence."""
        text = "".join(self._sent)
        return text if self._cut is None else text[: self._cut].rstrip()

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The citations whose markers are in the text."""
        used = {span.index for span in self.spans}
        return tuple(citation for citation in self._filter.citations if citation.index in used)

    @property
    def spans(self) -> tuple[CitationSpan, ...]:
        """Where the markers stand in the text."""
        end = len(self.text) if self.withheld else self._length
        return tuple(span for span in self._filter.spans if span.end <= end)

    def add(self, evidence: Sequence[Evidence]) -> None:
        """More evidence that the model was shown and may cite."""
        self._evidence.extend(evidence)
        self._filter.add(evidence)

    async def say(self, text: str) -> bool:
        """Takes the next piece; False when the answer ends here because something was withheld."""
        for piece in self._filter.feed(text):
            if not await self._piece(piece):
                return False
        return True

    async def finish(self) -> bool:
        """Takes the end of the answer; False when something was withheld."""
        for piece in self._filter.finish():
            if not await self._piece(piece):
                return False
        return await self._out(self._screen.finish())

    async def _piece(self, piece: str | Citation) -> bool:
        if isinstance(piece, Citation):
            self._waiting.append((self._passed, piece))  # shown once the text before it has left the screen
            return True
        self._passed += len(piece)
        return await self._out(self._screen.feed(piece))

    async def _out(self, screened: Screened) -> bool:
        if screened.text:
            self._sent.append(screened.text)
            self._length += len(screened.text)
            await self._ctx.emit(TextDelta(screened.text))
        while self._waiting and self._waiting[0][0] < self._length:
            await self._ctx.emit(self._waiting.pop(0)[1])
        for sentence in screened.doubtful:
            verdict = await judge(sentence.text, self._ctx)
            if not verdict.allowed:
                return await self._stop(verdict, sentence.text, sentence.start)
        if screened.verdict is not None:
            return await self._stop(screened.verdict, screened.verdict.withheld, screened.cut)
        return True

    async def _stop(self, verdict: Verdict, withheld: str, cut: int) -> bool:
        self._cut = cut
        self.verdicts.append(
            Verdict(False, verdict.category, verdict.rule, verdict.by, verdict.confidence, withheld.strip())
        )
        await self._ctx.emit(self.note(verdict))
        return False

    @staticmethod
    def note(verdict: Verdict) -> Note:
        """What the user is told of a withheld sentence."""
        return Note("withheld", f"The answer was ended here. The rule: {verdict.rule}.")
