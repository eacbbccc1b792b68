"""The breaker in front of a server that may be gone."""

from __future__ import annotations

from memory.breaker import Breaker
from tests.clock import Clock


def test_after_a_failure_calls_are_refused_with_its_reason_until_the_pause_is_over() -> None:
    clock = Clock()
    breaker = Breaker(1.0, 2.5, clock)
    assert breaker.refusal() == ""
    breaker.failed("gone")
    assert breaker.refusal() == "gone"
    clock.now += 1.0
    assert breaker.refusal() == ""


def test_one_call_at_a_time_tries_whether_the_server_is_back() -> None:
    clock = Clock()
    breaker = Breaker(1.0, 2.5, clock)
    breaker.failed("gone")
    clock.now += 1.5
    assert [breaker.refusal() for _ in range(3)] == ["", "gone", "gone"]
    clock.now += 2.5  # the one that tried was cancelled and told nothing
    assert [breaker.refusal() for _ in range(2)] == ["", "gone"]


def test_a_success_lets_everybody_through_again() -> None:
    clock = Clock()
    breaker = Breaker(1.0, 2.5, clock)
    breaker.failed("gone")
    clock.now += 1.5
    assert breaker.refusal() == ""
    breaker.succeeded()
    assert [breaker.refusal() for _ in range(3)] == ["", "", ""]
