"""The command line through its one door, main(): what each verb prints, and with which status it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from serving.cli import main
from serving.logs import KEPT_BYTES
from tests.serving.blocking_model import model_server
from tests.serving.in_process import OBJECT, Parley, commands, settled

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "docs" / "tour"
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tour's papers, and a data folder that holds them."""
    folder = tmp_path_factory.mktemp("library")
    shutil.copytree(TOUR, folder / "papers")
    with start("ingest", str(folder / "papers"), PARLEY_DATA_DIR=str(folder / "data")) as process:
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    return folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with papers of its own; the data folder beside it does not exist yet."""
    shutil.copytree(TOUR, tmp_path / "papers")
    return settled(tmp_path, monkeypatch)


@pytest.fixture
def data(library: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library's data folder; the working folder is the library."""
    shutil.copytree(library / "data", work / "data")
    monkeypatch.chdir(library)
    return work / "data"


@pytest.fixture
def empty(work: Path) -> None:
    """A data folder without documents."""
    (work / "data").mkdir(mode=0o700)


@pytest.fixture
def parley(work: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Parley]:
    """Runs one command in this process."""
    with commands(capsys) as run:
        yield run


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


def test_an_old_log_of_many_megabytes_is_put_aside(parley: Parley, work: Path) -> None:
    (work / "data").mkdir()
    log = work / "data" / "parley.log"
    with log.open("wb") as file:
        file.truncate(KEPT_BYTES + 1)
    parley("ask", "--file", "none.txt")
    parley("search", "x")
    assert log.stat().st_size == 0
    assert (work / "data" / "parley.log.1").stat().st_size > KEPT_BYTES


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


@pytest.mark.usefixtures("empty")
def test_ingest_says_what_it_did(parley: Parley, work: Path) -> None:
    broken = work / "papers" / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7 no more than that")
    first = parley("ingest", "papers", "--json")
    assert first.status == 0
    report = first.json()
    assert set(report) == {"new", "unchanged", "updated", "removed", "skipped", "failed", "passages", "seconds"}
    assert (report["new"], report["unchanged"], report["updated"], report["removed"]) == (3, 0, 0, 0)
    (failed,) = first.list("failed")
    assert str(failed["path"]).endswith("broken.pdf")
    assert failed["reason"]
    alone = parley("ingest", "papers/broken.pdf", "--json")
    assert alone.status == 1
    assert "nothing could be read" in alone.err
    assert len(alone.list("failed")) == 1
    (work / "papers" / "fees.csv").unlink()
    (work / "papers" / "handbook.md").write_text("# Handbook\n\nEvery reader may borrow one book at once.\n")
    again = parley("ingest", "papers")
    assert again.status == 0
    assert "1 unchanged, 1 updated, 1 removed, 1 failed; 1 passages in" in again.out
    assert "broken.pdf: " in again.out


@pytest.mark.usefixtures("empty")
def test_ingest_of_a_path_that_does_not_exist_ends_with_status_1(parley: Parley) -> None:
    missing = parley("ingest", "papers/none.md", "--json")
    assert (missing.status, missing.out) == (1, "")
    assert "none.md" in missing.err


@pytest.mark.usefixtures("empty")
def test_without_documents_the_verbs_say_so(parley: Parley) -> None:
    assert parley("documents", "list", "--json").json() == {"documents": []}
    assert "parley ingest" in parley("documents", "list").err
    assert parley("search", "anything", "--json").json() == {"hits": []}
    assert "Nothing found" in parley("search", "anything").out


def test_documents_are_listed_shown_and_removed(parley: Parley, data: Path, library: Path) -> None:
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
    removed = parley("documents", "remove", str(fees["id"]), "papers/handbook.md", "--json")
    assert len(removed.list("removed")) == 2
    assert "removed" in parley("documents", "remove", str(library / "papers" / "opening-hours.html")).err
    assert parley("documents", "list", "--json").list("documents") == []
    assert (library / "papers" / "fees.csv").exists()


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("verb", ["show", "remove"])
def test_a_document_that_does_not_exist_ends_with_status_1(parley: Parley, verb: str) -> None:
    ended = parley("documents", verb, "nothing", "--json")
    assert (ended.status, ended.out) == (1, "")
    assert "there is no document nothing" in ended.err


@pytest.mark.usefixtures("data")
def test_what_looks_wrong_in_the_settings_is_a_warning_before_the_result(
    parley: Parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_PROT", "1")
    ended = parley("documents", "list", "--json")
    assert len(ended.list("documents")) == 3
    assert ended.err.startswith("warning: environment PARLEY_PROT")


@pytest.mark.usefixtures("data")
def test_search_shows_passages_with_the_parts_of_their_score(parley: Parley) -> None:
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


@pytest.mark.usefixtures("data")
def test_ask_answers_with_its_source(parley: Parley) -> None:
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


@pytest.mark.usefixtures("data")
def test_ask_of_a_file_answers_every_line_in_order(parley: Parley, work: Path) -> None:
    file = work / "questions.txt"
    strange = f"\N{ZERO WIDTH SPACE}\n{'x' * 100_000}\n"
    file.write_text(
        f"How many books may I borrow at once?\n\nWhat does a lost card cost?\n{strange}", encoding="utf-8-sig"
    )
    ended = parley("ask", "--file", str(file))
    assert ended.status == 0
    first, second, *others = (OBJECT.validate_python(json.loads(line)) for line in ended.out.splitlines())
    assert "12 books" in str(first["answer"])
    assert "4.50" in str(second["answer"])
    assert len(others) == 2


@pytest.mark.usefixtures("data")
def test_a_question_in_bytes_that_are_no_text_is_answered(parley: Parley) -> None:
    assert parley("ask", "\udcff\udcfe?", "--json").status == 0


def test_ask_of_a_file_that_cannot_be_read_ends_with_status_1(parley: Parley, work: Path) -> None:
    (work / "latin1.txt").write_bytes(b"caf\xe9?")
    for name in ("none.txt", "latin1.txt"):
        ended = parley("ask", "--file", name)
        assert ended.status == 1
        assert f"{name} cannot be read" in ended.err


@pytest.mark.usefixtures("data")
def test_a_model_that_breaks_off_ends_the_command_with_status_1(parley: Parley, work: Path) -> None:
    (work / "questions.txt").write_text("What is the Elm Room?\n")
    with model_server(breaks=True) as (url, _):
        one = parley("ask", "What is the Elm Room?", "--json", "--model-url", url, "--model", "m")
        many = parley("ask", "--file", str(work / "questions.txt"), "--model-url", url, "--model", "m")
    assert (one.status, one.out) == (1, "")
    assert one.err.strip()
    assert many.status == 1
    assert set(OBJECT.validate_python(json.loads(many.out))) == {"error"}
    assert "1 of 1 questions failed" in many.err


# -- doctor, bugs, processes -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("work")
def test_doctor_finds_everything_well_on_a_fresh_machine(parley: Parley) -> None:
    ended = parley("doctor")
    assert ended.status == 0
    for name in ("data folder", "data: ", "embedder", "model", "package agents", "package evals"):
        assert name in ended.out
    assert "✗" not in ended.out
    checks = parley("doctor", "--json").list("checks")
    assert all(check["trouble"] == "" for check in checks)


@pytest.mark.usefixtures("empty")
def test_doctor_says_what_does_not_work(parley: Parley, work: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        (work / "data").chmod(0o755)
        ended = parley("doctor", "--json", "--model-url", url)
    assert ended.status == 1
    wrong = {str(check["name"]): str(check["trouble"]) for check in ended.list("checks") if check["trouble"]}
    assert set(wrong) == {"model", "data folder"}
    assert "chmod 700" in wrong["data folder"]
    (work / "data" / "parley.sqlite").write_bytes(b"no database" * 1000)
    assert "✗ parts: " in parley("doctor").out


def test_a_bug_is_one_line_and_a_traceback_in_the_log(parley: Parley, data: Path) -> None:
    with sqlite3.connect(data / "parley.sqlite") as database:
        database.execute("ALTER TABLE documents RENAME COLUMN title TO gone")
    database.close()
    ended = parley("documents", "list")
    assert ended.status == 1
    assert "this is a bug in Parley" in ended.err
    assert "Traceback" not in ended.err
    assert "Traceback" in (data / "parley.log").read_text()
    with pytest.raises(sqlite3.OperationalError):
        main(["--debug", "documents", "list"])


def test_a_reader_that_goes_away_ends_the_command_quietly(work: Path) -> None:
    with start("settings") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.usefixtures("empty")
def test_ctrl_c_stops_an_ingestion_cleanly_and_the_next_one_goes_on(parley: Parley, work: Path) -> None:
    for number in range(150):
        text = "\n\n".join(f"Shelf {number} holds the book {book} of the series." for book in range(8))
        (work / "papers" / f"note-{number}.md").write_text(f"# Note {number}\n\n{text}\n")
    with start("ingest", "papers") as process:
        while not documents_in(work / "data" / "parley.sqlite"):
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.02)  # it works on; look again
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert "stopped; what was finished is kept (" in said
    assert "Traceback" not in said
    report = parley("ingest", "papers", "--json").json()
    assert isinstance(report["unchanged"], int)
    assert isinstance(report["new"], int)
    assert report["unchanged"] > 0
    assert report["new"] + report["unchanged"] == 153


def documents_in(file: Path) -> int:
    if not file.exists():
        return 0
    with closing(sqlite3.connect(file)) as database:
        try:
            count: int = database.execute("SELECT count(*) FROM documents").fetchone()[0]
        except sqlite3.OperationalError:  # not made yet
            return 0
    return count
