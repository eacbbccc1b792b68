"""README.md and docs/ work as typed: every block of sh and python is run against a started server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serving.settings import NAMES, Settings

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")
READY = re.compile(r"Parley is ready on http://127\.0\.0\.1:(\d+) ")
DEADLINE = 120
"""Seconds; a bound for what hangs, not a measure."""


def blocks(page: Path, *languages: str) -> list[str]:
    found: list[tuple[str, str]] = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


@dataclass(frozen=True)
class Tour:
    """What a reader has after `make run`: the clone, the server, and a second terminal."""

    folder: Path
    environ: dict[str, str]
    port: str
    asked: list[str] = field(default_factory=list[str])

    def type(self, block: str, *program: str) -> str:
        """Runs a block as it stands in the page; only the server's port differs."""
        typed = block.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        ended = subprocess.run(
            [*program, typed], cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{block}\n{ended.stdout}"
        assert "Traceback" not in ended.stdout
        return ended.stdout

    def ask(self, question: str) -> str:
        """The server's answer."""
        body = json.dumps({"model": "parley", "messages": [{"role": "user", "content": question}]}).encode()
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            self.asked.append(question)
            return str(json.load(answer)["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    folder = tmp_path_factory.mktemp("tour")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "README.md", folder)
    (folder / ".venv").symlink_to(sys.prefix)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    environ |= {"PARLEY_DATA_DIR": str(folder / "data"), "PARLEY_PORT": "0"}
    with subprocess.Popen(
        [".venv/bin/parley", "serve", "--ingest", "README.md", "--ingest", "docs/*.md"],
        cwd=folder, env=environ, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            ready = next(found for line in server.stdout if (found := READY.search(line)))
            yield Tour(folder, environ, ready.group(1))
        finally:
            server.send_signal(signal.SIGTERM)
            status = server.wait(DEADLINE)
    assert status == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_works_as_typed(tour: Tour, page: Path) -> None:
    for block in blocks(page, "sh"):
        tour.type(block, "sh", "-euc")
    for block in blocks(page, "python"):
        assert tour.type(block, sys.executable, "-W", "error", "-c").strip()


@pytest.mark.parametrize(
    ("question", "quote"),
    [
        ("How many books may I borrow at once?", "up to 12 books at once"),
        ("What does the replacement of a lost card cost?", "4.50"),
        ("What are the opening hours on Saturday?", "Saturday: 10:00 to 16:00"),
    ],
)
def test_the_tours_questions_are_answered_from_the_right_place(tour: Tour, question: str, quote: str) -> None:
    assert question in (ROOT / "README.md").read_text(encoding="utf-8")
    if not tour.asked:
        tour.type(".venv/bin/parley ingest docs/tour", "sh", "-euc")
    assert quote in tour.ask(question)


@pytest.mark.parametrize(
    ("question", "quote"),
    [
        ("Which file types does Parley read?", "PowerPoint"),
        ("How do I change the port?", "PARLEY_PORT=9000"),
        ("Where is the data folder on macOS?", "Library/Application Support/parley"),
        ("How do I connect Ollama?", "11434"),
        ("What is sent to OpenAI?", "the passages found"),
        ("How do I delete all data?", "delete the data folder"),
    ],
)
def test_parley_answers_questions_about_itself_from_these_pages(tour: Tour, question: str, quote: str) -> None:
    assert quote in tour.ask(question)


def test_the_page_on_settings_names_each_with_its_default() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows: list[tuple[str, str]] = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == list(NAMES)
    default = Settings()
    for name, shown in rows[1:]:
        value: object = getattr(default, name)
        assert shown == ("none" if value in ("", None) else f"{value:g}" if isinstance(value, float) else str(value))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "AGENTS.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_link_and_every_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(text):
        assert (page.parent / target).exists(), target
    for named in re.findall(r"`((?:agents|evals|graphs|knowledge|memory|serving|tools|tests|docs)/[\w./-]+)`", text):
        assert (ROOT / named).exists(), named


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    pages = sorted(page.name for page in folder.glob("[0-9]*.md"))
    assert [page for page in pages if f"]({page})" not in index] == []
    numbers = [page[:4] for page in pages]
    assert sorted(set(numbers)) == numbers
