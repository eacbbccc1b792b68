"""The breaker in front of a model."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from agents.model import ModelBroken, ModelDelta, ModelRefused, ModelRequest, ModelUnavailable
from serving.models.breaker import Breaker

ASK = ModelRequest(())


@dataclass(slots=True)
class Scripted:
    """A model that fails as it is told; None is an answer."""

    script: list[Exception | None]
    asked: int = 0
    name: str = "scripted"
    now: float = 0.0
    deltas: tuple[ModelDelta, ...] = field(default=(ModelDelta("Yes"), ModelDelta(finish="stop")))

    async def window(self) -> int:
        return 77

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelDelta, None]:
        self.asked += 1
        failure = self.script.pop(0)
        if isinstance(failure, ModelUnavailable):
            raise failure
        yield self.deltas[0]
        if failure is not None:
            raise failure
        yield self.deltas[1]


def behind(model: Scripted) -> Breaker:
    return Breaker(model, failures=2, seconds=10, clock=lambda: model.now)


async def outcome(breaker: Breaker) -> str:
    try:
        return "".join([delta.text async for delta in breaker.stream(ASK)])
    except (ModelUnavailable, ModelBroken) as error:
        return f"{type(error).__name__}: {error}"


async def test_after_failures_in_a_row_the_model_is_left_alone_until_the_time_is_over() -> None:
    down = ModelUnavailable("down")
    model = Scripted([down, down, None, None])
    breaker = behind(model)
    assert [await outcome(breaker) for _ in range(2)] == ["ModelUnavailable: down"] * 2
    assert await outcome(breaker) == "ModelUnavailable: down (not asked again for 10 s)"
    model.now = 9.0
    assert await outcome(breaker) == "ModelUnavailable: down (not asked again for 1 s)"
    assert model.asked == 2
    model.now = 10.0
    assert [await outcome(breaker) for _ in range(2)] == ["Yes", "Yes"]


async def test_one_failed_try_leaves_it_alone_again() -> None:
    down = ModelUnavailable("down")
    model = Scripted([down, down, down])
    breaker = behind(model)
    for _ in range(2):
        await outcome(breaker)
    model.now = 10.0
    assert await outcome(breaker) == "ModelUnavailable: down"
    assert "not asked again" in await outcome(breaker)
    assert model.asked == 3


async def test_only_one_call_tries_while_the_others_are_still_turned_away() -> None:
    down = ModelUnavailable("down")
    model = Scripted([down, down, None])
    breaker = behind(model)
    for _ in range(2):
        await outcome(breaker)
    model.now = 10.0
    trying = breaker.stream(ASK)
    other = breaker.stream(ASK)
    assert (await anext(trying)).text == "Yes"
    await trying.aclose()
    await other.aclose()
    assert model.asked == 3


@pytest.mark.parametrize("failure", [None, ModelRefused("too long"), ModelBroken("cut")])
async def test_a_model_that_answers_at_all_starts_the_count_anew(failure: Exception | None) -> None:
    down = ModelUnavailable("down")
    model = Scripted([down, failure, down, None])
    breaker = behind(model)
    for _ in range(3):
        await outcome(breaker)
    assert await outcome(breaker) == "Yes"


async def test_name_and_window_are_the_models_own() -> None:
    breaker = behind(Scripted([]))
    assert (breaker.name, await breaker.window()) == ("scripted", 77)
