"""Breaker: after several failures in a row a model is left alone for a while, so that every turn answers at once."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agents.model import ChatModel, ModelBroken, ModelDelta, ModelRefused, ModelRequest, ModelUnavailable


class Breaker:
    """A ChatModel in front of another.

    `failures` calls in a row that gave nothing open it for `seconds`; then one call is let through to try, and
    decides. A request that the server refused for itself counts as success: the server is well.
    """

    def __init__(
        self, model: ChatModel, failures: int = 3, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._model = model
        self._failures, self._seconds, self._clock = failures, seconds, clock
        self._failed = 0
        self._closed_again = 0.0
        self._reason = ""

    @property
    def name(self) -> str:
        """The model's own name."""
        return self._model.name

    async def window(self) -> int:
        """The model's own window."""
        return await self._model.window()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        """Streams from the model, or raises at once while the breaker is open.

        Raises:
            ModelUnavailable: the model gave nothing, or the breaker is open.
            ModelBroken: from the model.
        """
        self._admit()
        try:
            async with aclosing(self._model.stream(request)) as deltas:
                async for delta in deltas:
                    self._failed = 0
                    yield delta
        except (ModelRefused, ModelBroken):
            self._failed = 0
            raise
        except ModelUnavailable as error:
            self._failed += 1
            self._reason = str(error)
            self._closed_again = self._clock() + self._seconds
            raise

    def _admit(self) -> None:
        if self._failed < self._failures:
            return
        left = self._closed_again - self._clock()
        if left > 0:
            raise ModelUnavailable(f"{self._reason} (not asked again for {left:.0f} s)")
        self._closed_again = self._clock() + self._seconds  # the others wait for this one's result
