"""kill -9 in the middle of a background run: another process goes on where it stood."""

from __future__ import annotations

import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path

import anyio
import pytest

from agents.scripted import says
from graphs.checkpoints import Checkpoints
from graphs.control import Resume
from graphs.events import RunFinished, StepStarted, Token
from tests.graphs.background_run import RUN, background, opened

ROOT = Path(__file__).parents[2]
STEPS = ({"begin"}, {"screen", "understand", "recall"}, {"plan"}, {"answer"}, {"check"})
"""What runs at the same time, in order."""


async def killed_at(folder: Path, line: str) -> list[str]:
    """Runs in a process that is killed as soon as it says this; what it had said."""
    process = await create_subprocess_exec(
        sys.executable, "-m", "tests.graphs.background_run", str(folder), cwd=ROOT, stdout=PIPE
    )
    assert process.stdout is not None
    said: list[str] = []
    with anyio.fail_after(60):
        while not said or said[-1] != line:
            read = await process.stdout.readline()
            assert read, said
            said.append(read.decode().strip())
    process.kill()
    await process.communicate()
    return said


@pytest.mark.parametrize("line", ["started understand", "token"])
async def test_a_killed_background_run_goes_on_and_repeats_no_step_that_was_done(tmp_path: Path, line: str) -> None:
    said = await killed_at(tmp_path, line)
    # a step begins when what was done before is on disk
    done = max(place for place, steps in enumerate(STEPS) for step in steps if f"started {step}" in said)
    again: list[str] = []
    text = ""
    async with opened(tmp_path) as database:
        event = None
        async for event in background(tmp_path, database, says("It is 34 metres tall [1]."), Resume()):
            if isinstance(event, StepStarted):
                again.append(event.step)
            elif isinstance(event, Token):
                text += event.text
        assert isinstance(event, RunFinished)
        assert event.draft.text == text == "It is 34 metres tall [1]."
        assert set(again) <= set[str]().union(*STEPS[done:])
        assert {"answer", "check"} <= set(again)
        assert len(again) == len(set(again))
        await Checkpoints(database).forget(RUN)
        left = await database.read(
            lambda connection: connection.execute(
                "SELECT (SELECT count(*) FROM checkpoints) + (SELECT count(*) FROM checkpointwrites)"
            ).fetchone()
        )
        assert left == (0,)
