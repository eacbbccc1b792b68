"""parley threads and parley chat --thread, as processes on a data folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.measured

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""


def run(work: Path, arguments: Sequence[str], typed: str = "") -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    return subprocess.run(
        [sys.executable, "-m", "serving.cli", *arguments], cwd=work,
        env=kept | {"PARLEY_DATA_DIR": str(work / "data"), "TERM": "dumb"}, input=typed, capture_output=True, text=True,
        timeout=DEADLINE, check=False,
    )  # fmt: skip


def told(work: Path, *arguments: str) -> dict[str, list[dict[str, str]]]:
    ended = run(work, [*arguments, "--json"])
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("threads")
    shutil.copytree(ROOT / "docs" / "tour", folder / "papers")
    assert run(folder, ["ingest", "papers"]).returncode == 0
    return folder


def test_conversations_are_listed_shown_gone_on_with_exported_and_deleted(work: Path) -> None:
    empty = run(work, ["threads", "list"])
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "no conversations yet" in empty.stderr
    said = run(work, ["chat"], "How many books may I borrow at once?\n/new\nHello there\n")
    assert said.returncode == 0, said.stderr
    second, first = told(work, "threads", "list")["threads"]
    assert (first["title"], second["title"]) == ("How many books may I borrow at once?", "Hello there")

    more = run(work, ["chat", "--thread", first["id"]], "And for how long?\n")
    assert more.returncode == 0, more.stderr
    assert "Going on with: How many books" in more.stdout
    assert [one["id"] for one in told(work, "threads", "list")["threads"]] == [first["id"], second["id"]]
    assert [one["id"] for one in told(work, "threads", "list", "--search", "BORROW books")["threads"]] == [first["id"]]
    table = run(work, ["threads", "list"]).stdout.splitlines()
    assert [line.split()[0] for line in table] == ["id", first["id"], second["id"]]

    shown = told(work, "threads", "show", first["id"])
    assert [one["role"] for one in shown["messages"]] == ["user", "assistant"] * 2
    assert shown["messages"][2]["content"] == "And for how long?"
    assert told(work, "threads", "export", first["id"]) == shown
    assert json.loads(run(work, ["threads", "export", first["id"]]).stdout) == shown
    markdown = run(work, ["threads", "export", first["id"], "--format", "markdown"]).stdout
    assert markdown == run(work, ["threads", "show", first["id"]]).stdout
    assert markdown.startswith("# How many books may I borrow at once?\n")

    gone = run(work, ["threads", "delete", first["id"]])
    assert (gone.returncode, gone.stderr) == (0, f"deleted {first['id']}  {first['title']}\n")
    assert told(work, "threads", "delete", second["id"], second["id"])["deleted"][0]["id"] == second["id"]
    assert told(work, "threads", "list") == {"threads": []}


def test_a_conversation_of_another_tenant_is_unknown(work: Path) -> None:
    assert run(work, ["chat"], "Hello\n").returncode == 0
    (thread,) = told(work, "threads", "list")["threads"]
    assert told(work, "threads", "list", "--tenant", "acme") == {"threads": []}
    for verb in ("show", "export", "delete"):
        refused = run(work, ["threads", verb, thread["id"], "--tenant", "acme"])
        assert refused.returncode == 1
        assert refused.stderr == f"there is no conversation {thread['id']}; `parley threads list` shows all\n"
    assert told(work, "threads", "list")["threads"] == [thread]
