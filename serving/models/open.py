"""From the settings to a model: the server's client with the breaker in front."""

from __future__ import annotations

from dataclasses import dataclass

from serving.models.breaker import Breaker
from serving.models.openai_compatible import OpenAICompatibleModel


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model in use; whoever opened it closes the server's connections."""

    model: Breaker
    """What turns use."""
    server: OpenAICompatibleModel
    """What readiness and `parley doctor` ask."""


async def open_model(
    url: str, model: str = "", key: str = "", window: int | None = None, first_token_seconds: float = 30.0
) -> OpenModel:
    """Connects to nothing yet: the server is asked when it is first needed."""
    server = OpenAICompatibleModel(url, model, key, window, first_token_seconds=first_token_seconds)
    return OpenModel(Breaker(server), server)
