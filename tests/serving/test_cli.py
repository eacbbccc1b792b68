"""The command line through its one door, main(): what each verb prints, and with which status it ends."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import TypeAdapter

from serving.cli import main

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "docs" / "tour"
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""

Json = dict[str, object]
OBJECT: TypeAdapter[Json] = TypeAdapter(Json)
OBJECTS: TypeAdapter[list[Json]] = TypeAdapter(list[Json])


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    def json(self) -> Json:
        """The one object on stdout."""
        return OBJECT.validate_python(json.loads(self.out))

    def list(self, key: str) -> list[Json]:
        """A list of objects in it."""
        return OBJECTS.validate_python(self.json()[key])


Parley = Callable[..., Ended]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the tour's papers; the data folder beside them."""
    shutil.copytree(TOUR, tmp_path / "papers")
    for name in [name for name in os.environ if name.startswith("PARLEY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PARLEY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def parley(work: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Parley]:
    """Runs one command in this process."""
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    root.handlers.clear()

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(arguments)
        status = left.value.code
        assert isinstance(status, int)
        said = capsys.readouterr()
        return Ended(status, said.out, said.err)

    yield run
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)  # closes the log
    root.handlers[:] = kept
    root.setLevel(level)


def start(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    """A command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "serving.cli", *arguments], env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


# -- wrong use ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("ingest",),
        ("ask",),
        ("ask", "a question", "--file", "a file"),
        ("search", "x", "--limit", "0"),
        ("--set", "no sign", "settings"),
        ("settings", "--data-dir"),
    ],
)
def test_wrong_use_ends_with_status_2(parley: Parley, arguments: tuple[str, ...]) -> None:
    ended = parley(*arguments)
    assert ended.status == 2
    assert "Traceback" not in ended.err


def test_help_names_every_verb_and_needs_none_of_the_slow_libraries() -> None:
    code = (
        "import sys, serving.cli\n"
        "try: serving.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'numpy', 'onnxruntime', 'langgraph', 'fastapi', 'pydantic', 'aiohttp'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for verb in ("ingest", "ask", "chat", "search", "documents", "doctor", "settings", "serve"):
        assert verb in ended.stdout


def test_a_wrong_setting_stops_every_verb_with_status_2(parley: Parley, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_PORT", "eighty")
    for arguments in (("settings",), ("documents", "list"), ("doctor",), ("serve",)):
        ended = parley(*arguments)
        assert ended.status == 2
        assert ended.out == ""
        assert "port is 'eighty' (environment PARLEY_PORT)" in ended.err


def test_a_data_folder_that_cannot_be_used_is_one_clear_line(parley: Parley, work: Path) -> None:
    (work / "file").touch()
    ended = parley("documents", "list", "--data-dir", "file/data")
    assert ended.status == 1
    assert "cannot be written to" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_log_that_cannot_be_written_is_one_clear_line(parley: Parley, work: Path) -> None:
    (work / "data" / "parley.log").mkdir(parents=True)
    ended = parley("documents", "list")
    assert ended.status == 1
    assert "parley.log cannot be written" in ended.err


def test_a_database_that_is_none_is_one_clear_line(parley: Parley, work: Path) -> None:
    (work / "data").mkdir()
    (work / "data" / "parley.sqlite").write_bytes(b"not a database, but long enough to be taken for one" * 100)
    ended = parley("documents", "list")
    assert ended.status == 1
    assert "parley.sqlite" in ended.err
    assert len(ended.err.splitlines()) == 1


# -- settings ----------------------------------------------------------------------------------------------------


def test_settings_are_listed_with_their_origin_and_secrets_hidden(parley: Parley, work: Path) -> None:
    (work / ".env").write_text("PARLEY_MODEL_KEY=s3cret\nPARLEY_MODEL_URL=http://127.0.0.1:9/v1\nPARLEY_MODLE=x")
    ended = parley("settings", "--set", "turn-seconds=60", "--model=qwen")
    assert ended.status == 0
    assert "s3cret" not in ended.out + ended.err
    rows = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert rows["model_key"].split()[1] == "***"
    assert "command line" in rows["turn_seconds"]
    assert "qwen" in rows["model"]
    assert "nearest is PARLEY_MODEL" in ended.err
    assert not (work / "data").exists()


def test_settings_as_json(parley: Parley) -> None:
    ended = parley("settings", "--json", "--model-url=http://127.0.0.1:9/v1")
    found = {str(line["name"]): line for line in ended.list("settings")}
    assert found["model_url"]["value"] == "http://127.0.0.1:9/v1"
    assert set(found["port"]) == {"name", "meaning", "value", "origin", "allowed"}


# -- documents ---------------------------------------------------------------------------------------------------


def test_ingest_reports_what_it_did_as_one_object(parley: Parley, work: Path) -> None:
    (work / "papers" / "broken.pdf").write_bytes(b"%PDF-1.7 no more than that")
    first = parley("ingest", "papers", "--json")
    assert first.status == 0
    report = first.json()
    assert set(report) == {"new", "unchanged", "updated", "removed", "skipped", "failed", "passages", "seconds"}
    assert (report["new"], report["unchanged"], report["updated"], report["removed"]) == (3, 0, 0, 0)
    (failed,) = first.list("failed")
    assert str(failed["path"]).endswith("broken.pdf")
    assert failed["reason"]
    (work / "papers" / "broken.pdf").unlink()
    (work / "papers" / "fees.csv").unlink()
    (work / "papers" / "handbook.md").write_text("# Handbook\n\nEvery reader may borrow one book at once.\n")
    again = parley("ingest", "papers", "--json").json()
    assert (again["new"], again["unchanged"], again["updated"], again["removed"]) == (0, 1, 1, 1)


def test_ingest_for_people_names_each_failure(parley: Parley, work: Path) -> None:
    (work / "papers" / "broken.pdf").write_bytes(b"%PDF-1.7 no more than that")
    ended = parley("ingest", "papers")
    assert ended.status == 0
    assert "3 new, 1 failed" in ended.out
    assert "broken.pdf: " in ended.out


def test_ingest_fails_when_a_named_path_is_missing_or_nothing_can_be_read(parley: Parley, work: Path) -> None:
    missing = parley("ingest", "papers/none.md", "--json")
    assert missing.status == 1
    assert "none.md" in missing.err
    (work / "broken.pdf").write_bytes(b"%PDF-1.7 no more than that")
    unreadable = parley("ingest", "broken.pdf", "--json")
    assert unreadable.status == 1
    assert "nothing could be read" in unreadable.err
    assert len(unreadable.list("failed")) == 1


def test_documents_are_listed_shown_and_removed(parley: Parley, work: Path) -> None:
    assert parley("documents", "list", "--json").list("documents") == []
    assert "parley ingest" in parley("documents", "list").err
    parley("ingest", "papers")
    listed = parley("documents", "list", "--json").list("documents")
    assert len(listed) == 3
    assert set(listed[0]) == {"id", "title", "path", "passages", "bytes", "updated_at"}
    table = parley("documents", "list")
    assert all(str(document["id"]) in table.out for document in listed)
    fees = next(document for document in listed if str(document["path"]).endswith("fees.csv"))
    shown = parley("documents", "show", str(fees["id"]), "--json")
    assert {name: shown.json()[name] for name in fees} == fees
    assert len(shown.list("content")) == fees["passages"]
    assert "Interlibrary loan" in parley("documents", "show", "papers/fees.csv").out
    assert str(fees["id"]) in parley("documents", "show", "papers/fees.csv").out
    assert parley("documents", "remove", str(fees["id"]), "papers/handbook.md", "--json").status == 0
    assert "removed" in parley("documents", "remove", str(work / "papers" / "opening-hours.html")).err
    assert parley("documents", "list", "--json").list("documents") == []
    assert (work / "papers" / "fees.csv").exists()


@pytest.mark.parametrize("verb", ["show", "remove"])
def test_a_document_that_does_not_exist_ends_with_status_1(parley: Parley, verb: str) -> None:
    ended = parley("documents", verb, "nothing", "--json")
    assert (ended.status, ended.out) == (1, "")
    assert "there is no document nothing" in ended.err


def test_search_shows_passages_with_the_parts_of_their_score(parley: Parley) -> None:
    assert parley("search", "anything", "--json").json() == {"hits": []}
    assert "Nothing found" in parley("search", "anything").out
    parley("ingest", "papers")
    hits = parley("search", "meeting room projector", "--limit", "2", "--json").list("hits")
    assert len(hits) == 2
    assert set(hits[0]) == {
        "document", "title", "path", "text", "page", "heading", "start", "end", "score", "parts",
    }  # fmt: skip
    assert "Elm Room" in str(hits[0]["text"])
    for_people = parley("search", "meeting room projector").out
    assert "dense" in for_people
    assert "handbook.md" in for_people
    assert parley("search", " ").status == 1


# -- answers -----------------------------------------------------------------------------------------------------


def test_ask_answers_with_its_source(parley: Parley) -> None:
    parley("ingest", "papers")
    ended = parley("ask", "How many books may I borrow at once?", "--json")
    answer = ended.json()
    assert (ended.status, ended.err) == (0, "")
    assert set(answer) == {"answer", "outcome", "citations", "notes", "model", "seconds"}
    assert answer["outcome"] == "answered"
    first = ended.list("citations")[0]
    assert set(first) == {"index", "document", "title", "path", "quote", "page", "heading", "start", "end"}
    assert first["index"] == 1
    assert "up to 12 books" in str(first["quote"])
    assert "[1]" in str(answer["answer"])
    for_people = parley("ask", "How many books may I borrow at once?")
    assert "up to 12 books" in for_people.out
    assert "handbook.md" in for_people.out
    assert "note: " in for_people.out


def test_ask_of_a_file_answers_every_line_in_order(parley: Parley, work: Path) -> None:
    parley("ingest", "papers")
    (work / "questions.txt").write_text("How many books may I borrow at once?\n\nWhat does a lost card cost?\n")
    ended = parley("ask", "--file", "questions.txt")
    assert ended.status == 0
    first, second = (OBJECT.validate_python(json.loads(line)) for line in ended.out.splitlines())
    assert "12 books" in str(first["answer"])
    assert "4.50" in str(second["answer"])


def test_ask_of_a_file_that_cannot_be_read_ends_with_status_1(parley: Parley, work: Path) -> None:
    (work / "latin1.txt").write_bytes(b"caf\xe9?")
    for name in ("none.txt", "latin1.txt"):
        ended = parley("ask", "--file", name)
        assert ended.status == 1
        assert f"{name} cannot be read" in ended.err


def test_a_question_of_many_bytes_or_strange_signs_is_answered(parley: Parley) -> None:
    for question in ("\N{ZERO WIDTH SPACE}", "x" * 100_000, "\udcff\udcfe?"):
        assert parley("ask", question, "--json").status == 0


# -- doctor, bugs, processes -------------------------------------------------------------------------------------


def test_doctor_finds_everything_well_on_a_fresh_machine(parley: Parley, work: Path) -> None:
    ended = parley("doctor")
    assert ended.status == 0
    for name in ("data folder", "database", "embedder", "model", *(f"package {name}" for name in ("agents", "evals"))):
        assert name in ended.out
    assert "✗" not in ended.out
    checks = parley("doctor", "--json").list("checks")
    assert all(check["trouble"] == "" for check in checks)


def test_doctor_says_what_does_not_work(parley: Parley, work: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        (work / "data").mkdir(mode=0o755)
        ended = parley("doctor", "--json", "--model-url", url)
    assert ended.status == 1
    wrong = {str(check["name"]): str(check["trouble"]) for check in ended.list("checks") if check["trouble"]}
    assert set(wrong) == {"model", "data folder"}
    assert "chmod 700" in wrong["data folder"]
    (work / "data" / "parley.sqlite").write_bytes(b"no database" * 1000)
    assert "✗ parts: " in parley("doctor").out


def test_a_bug_is_one_line_and_a_traceback_in_the_log(parley: Parley, work: Path) -> None:
    parley("ingest", "papers")
    with sqlite3.connect(work / "data" / "parley.sqlite") as database:
        database.execute("ALTER TABLE documents RENAME COLUMN title TO gone")
    database.close()
    ended = parley("documents", "list")
    assert ended.status == 1
    assert "this is a bug in Parley" in ended.err
    assert "Traceback" not in ended.err
    assert "Traceback" in (work / "data" / "parley.log").read_text()
    with pytest.raises(sqlite3.OperationalError):
        main(["--debug", "documents", "list"])


def test_a_reader_that_goes_away_ends_the_command_quietly(work: Path) -> None:
    with start("settings") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_ctrl_c_stops_an_ingestion_cleanly_and_the_next_one_goes_on(work: Path) -> None:
    for number in range(400):
        text = f"# Note {number}\n\n" + "\n\n".join(f"Shelf {number} holds book {book}." for book in range(40))
        (work / "papers" / f"{number}.md").write_text(text)
    with start("ingest", "papers", COLUMNS="80") as process:
        log = work / "data" / "parley.sqlite"
        while not log.exists() and process.poll() is None:
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert "Traceback" not in said
