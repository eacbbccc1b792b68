"""parley chat: a conversation at the terminal, over a pipe and over a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.serving.blocking_model import model_server

pytestmark = pytest.mark.measured

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    shutil.copytree(ROOT / "docs" / "tour", folder / "papers")
    run(folder, ["ingest", "papers"])
    return folder


def environ(work: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    return kept | {"PARLEY_DATA_DIR": str(work / "data"), "TERM": "dumb"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "serving.cli", *arguments]


def run(work: Path, arguments: Sequence[str], typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=work, env=environ(work), input=typed, capture_output=True, text=True,
        timeout=DEADLINE, check=False,
    )  # fmt: skip


def test_a_conversation_is_kept_listed_and_gone_on_with(work: Path) -> None:
    first = run(
        work,
        ["chat"],
        "\n/sources\n/history\n/threads\nHow many books may I borrow at once?\n/sources\n/history\n/threads\n/help\n"
        "/nonsense\n/open 7\n/new\n/history\n/open 1\n/quit\nnever read\n",
    )
    assert first.returncode == 0, first.stderr
    assert "up to 12 books at once" in first.stdout
    assert "handbook.md" in first.stdout
    assert "user:" in first.stdout
    assert "/threads" in first.stdout
    assert "Going on with: How many books may I borrow at once?" in first.stdout
    assert "never read" not in first.stdout
    for said in (
        "quotes nothing",
        "conversation is empty",
        "no conversation yet",
        "no /nonsense",
        "/open takes a number",
    ):
        assert said in first.stderr
    row = next(line for line in first.stdout.splitlines() if line.strip().startswith("1  2"))
    second = run(work, ["chat", "--thread", row.split()[2]], "/history\n")
    assert second.returncode == 0
    assert "How many books may I borrow at once?" in second.stdout


def test_a_conversation_that_does_not_exist_ends_with_status_1(work: Path) -> None:
    ended = run(work, ["chat", "--thread", "none"])
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["there is no conversation none; `parley threads list` shows all"]


def test_a_model_that_breaks_off_is_said_and_the_conversation_goes_on(work: Path) -> None:
    with model_server(breaks=True) as (url, _):
        ended = run(work, ["chat", "--model-url", url, "--model", "m"], "What is the Elm Room?\n/history\n")
    assert ended.returncode == 0
    assert ended.stderr.strip()
    assert "user:" in ended.stdout


class Terminal:
    """A person at a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self._end = end
        self._read = ""

    def wait_for(self, text: str) -> str:
        """Reads until the text stands on the screen; returns what came since the last wait, up to its end."""
        while text not in self._read:
            ready, _, _ = select.select([self._end], [], [], DEADLINE)
            try:
                piece = os.read(self._end, 4096).decode(errors="replace") if ready else ""
            except OSError:  # the other end is closed
                piece = ""
            assert piece, f"{text!r} never came, only {self._read!r}"
            self._read += piece
        seen, _, self._read = self._read.partition(text)
        return seen + text

    def interrupt(self) -> None:
        """Ctrl-C once the program waits for a key: readline overlooks one that comes just before."""
        program = psutil.Process(self.process.pid)
        while program.status() != psutil.STATUS_SLEEPING:
            with pytest.raises(subprocess.TimeoutExpired):
                self.process.wait(0.02)
        self.process.send_signal(signal.SIGINT)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())


@contextmanager
def terminal(work: Path, *arguments: str) -> Generator[Terminal]:
    end, other = pty.openpty()
    with subprocess.Popen(
        command(*arguments), cwd=work, env=environ(work), stdin=other, stdout=other, stderr=other,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(other)
        try:
            yield Terminal(process, end)
        finally:
            process.kill()
            os.close(end)


def test_a_person_edits_lines_drops_one_with_ctrl_c_and_ends_with_ctrl_d(work: Path) -> None:
    for _ in range(2):  # the second time with the lines of the first
        with terminal(work, "chat") as person:
            person.wait_for("> ")
            person.type("not this one")
            person.wait_for("one")
            person.interrupt()
            person.wait_for("> ")
            person.type("How many books may I borrow at once?\r")
            assert "up to 12 books at once" in person.wait_for("note: ")
            person.wait_for("> ")
            person.type("\x04")
            assert person.process.wait(DEADLINE) == 0
    kept = work / "data" / "chat_history"
    assert "borrow" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on(work: Path) -> None:
    with (
        model_server(breaks=False) as (url, asked),
        terminal(work, "chat", "--model-url", url, "--model", "m") as person,
    ):
        person.wait_for("> ")
        person.type("What is the Elm Room?\r")
        assert asked.wait(DEADLINE)
        person.interrupt()
        person.wait_for("stopped")
        person.wait_for("> ")
        person.type("/quit\r")
        assert person.process.wait(DEADLINE) == 0
