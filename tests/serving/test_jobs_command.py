"""parley jobs on a data folder: with a server that carries out what is asked for, and without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving.in_process import Ended, Parley, commands, settled

ROOT = Path(__file__).resolve().parents[2]
READY = re.compile(r"Parley is ready on (http://\S+) ")
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""

Json = dict[str, str]


def jobs(ended: Ended) -> list[Json]:
    """The jobs that a command told of."""
    assert ended.status == 0, ended.err
    return json.loads(ended.out)["jobs"]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settled(tmp_path, monkeypatch)


@pytest.fixture
def parley(work: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Parley]:
    """Runs one command in this process."""
    with commands(capsys) as run:
        yield run


@contextmanager
def serving(work: Path) -> Generator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "serving.cli", "serve", "--port", "0"], cwd=work,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            yield next((found[1] for line in server.stdout if (found := READY.search(line))), "")
        finally:
            server.kill()


def events(url: str, job: str) -> str:
    """What is told of a job until it is over."""
    with urllib.request.urlopen(f"{url}/api/jobs/{job}/events", timeout=DEADLINE) as told:
        return told.read().decode()


def test_jobs_are_started_cancelled_retried_and_carried_out_by_a_server(work: Path, parley: Parley) -> None:
    (work / "papers").mkdir()
    for name in ("mill", "weir"):
        (work / "papers" / f"{name}.md").write_text(f"# {name}\n\nThe {name} is old.\n")
    assert parley("ingest", "papers").status == 0
    assert parley("jobs", "list") == (0, "", "There are no jobs.\n")
    (started,) = jobs(parley("jobs", "start", "reembed", "--json"))
    assert (started["kind"], started["status"], started["total"]) == ("reembed", "queued", 2)
    (cancelled,) = jobs(parley("jobs", "cancel", started["id"], "--json"))
    assert cancelled["status"] == "cancelled"
    (work / "papers" / "weir.md").unlink()
    with serving(work) as url:
        told = parley("jobs", "retry", started["id"])
        assert told.err == f"queued again: the reembed job {started['id']}, queued, 0 of 2 parts done\n"
        assert "event: job.finished" in events(url, started["id"])
    (done, *_) = [job for job in jobs(parley("jobs", "list", "--json")) if job["kind"] == "reembed"]
    assert (done["status"], done["done"], done["failed"], done["user"]) == ("finished", 1, 1, "local")
    shown: dict[str, Sequence[Json]] = json.loads(parley("jobs", "show", started["id"], "--json").out)
    assert [item["status"] for item in shown["items"]] == ["done", "failed"]
    for_people = parley("jobs", "show", started["id"]).out
    assert "status     finished" in for_people
    assert "weir.md: the document stays as it is" in for_people
    assert started["id"] in parley("jobs", "list").out


def test_what_cannot_be_done_is_one_clear_line(parley: Parley) -> None:
    for arguments, says in (
        (("show", "none"), "there is no job none; `parley jobs list` shows all"),
        (("cancel", "none"), "there is no job none"),
        (("start", "ingest"), "'ingest' cannot be started; what can is reembed and retention"),
        (("start", "reembed"), "there are no documents"),
    ):
        refused = parley("jobs", *arguments)
        assert (refused.status, refused.out) == (1, "")
        assert refused.err.startswith(says)
        assert len(refused.err.splitlines()) == 1


def test_the_servers_own_jobs_are_shown_to_every_tenant_and_a_users_only_to_theirs(parley: Parley) -> None:
    (job,) = jobs(parley("jobs", "start", "retention", "--json"))
    assert (job["status"], job["user"]) == ("queued", None)
    assert "is queued" in parley("jobs", "retry", job["id"]).err
    assert jobs(parley("jobs", "list", "--tenant", "acme", "--json")) == [job]
    assert "(server)" in parley("jobs", "list").out
