"""parley chat: a conversation at the terminal, over a pipe and over a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

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
    assert ended.stderr.splitlines() == ["there is no conversation none; /threads in `parley chat` lists them"]


class Terminal:
    """A person at a terminal."""

    def __init__(self, work: Path, *arguments: str) -> None:
        self._end, other = pty.openpty()
        self.process = subprocess.Popen(
            command(*arguments), cwd=work, env=environ(work), stdin=other, stdout=other, stderr=other,
            start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.seen = ""

    def wait_for(self, text: str) -> str:
        """Reads until the text stands on the screen; returns what was read since the last call."""
        read = ""
        while text not in read:
            try:
                piece = os.read(self._end, 4096).decode(errors="replace")
            except OSError:  # the other end is closed
                piece = ""
            assert piece, f"{text!r} never came, only {read!r}"
            read += piece
        return read

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def close(self) -> int:
        """The exit status."""
        os.close(self._end)
        return self.process.wait(DEADLINE)


def test_a_person_edits_lines_drops_one_with_ctrl_c_and_ends_with_ctrl_d(work: Path) -> None:
    for _ in range(2):  # the second time with the lines of the first
        terminal = Terminal(work, "chat")
        terminal.wait_for("> ")
        terminal.type("not this one")
        terminal.wait_for("one")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("> ")
        terminal.type("When is the library open on Saturday?\r")
        assert "10:00 to 16:00" in terminal.wait_for("note: ")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert terminal.process.wait(DEADLINE) == 0
        terminal.close()
    kept = work / "data" / "chat_history"
    assert "Saturday" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
