"""parley serve as a process: what it says, when it refuses, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READY = re.compile(r"Parley is ready on (http://\S+) ")
DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""


@contextmanager
def serving(work: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    with subprocess.Popen(
        [sys.executable, "-m", "serving.cli", "serve", *arguments],
        cwd=work, env=kept | {"PARLEY_DATA_DIR": str(work / "data")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def base(process: subprocess.Popen[str]) -> str:
    """Waits for the greeting."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := READY.search(line):
            return found.group(1)
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGTERM])
def test_it_greets_answers_and_ends_in_order(tmp_path: Path, ends: signal.Signals) -> None:
    with serving(tmp_path, "--port", "0") as process:
        url = base(process)
        assert json.loads(get(f"{url}/v1/models"))["data"][0]["id"] == "parley"
        process.send_signal(ends)
        assert process.stdout is not None
        rest = process.stdout.read()
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert "ingest FOLDER" in rest
    assert f"curl -N {url}/v1/chat/completions" in rest
    assert said == ""


def test_what_is_named_with_ingest_is_taken_in_before_the_first_request(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "tour", tmp_path / "papers")
    (tmp_path / "papers" / "broken.pdf").write_bytes(b"%PDF-1.7 no more than that")
    with serving(tmp_path, "--port", "0", "--ingest", "papers", "--host", "localhost") as process:
        url = base(process)
        body = json.dumps({"query": "meeting room", "limit": 1}).encode()
        request = urllib.request.Request(f"{url}/api/search", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            assert "Elm Room" in json.load(answer)["hits"][0]["text"]
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE)
    assert "could not take in" in said
    assert "broken.pdf" in said


def test_a_missing_first_path_is_one_clear_line(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0", "--ingest", "none") as process:
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "none" in said
    assert len(said.splitlines()) == 1


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with serving(tmp_path, "--port", str(port)) as process:
            out, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert out == ""
    assert len(said.splitlines()) == 1
    assert f"port {port} on 127.0.0.1 cannot be used" in said
    assert not (tmp_path / "data" / "parley.sqlite").exists()


def test_another_address_than_this_machine_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0") as process:
        _, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert "no access keys yet" in said


def test_with_keys_the_greeting_shows_how_to_send_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving.cli", "--data-dir", str(tmp_path / "data"), "keys", "create"]
    key = subprocess.run(
        [*command, "--tenant", "acme", "--user", "alice"], capture_output=True, text=True, check=True, timeout=DEADLINE
    ).stdout.strip()
    with serving(tmp_path, "--port", "0") as process:
        url = base(process)
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            get(f"{url}/v1/models")
        refused.value.close()
        request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            assert answer.headers["RateLimit-Policy"] == '"key";q=600;w=60'
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert '-H "Authorization: Bearer $KEY"' in process.stdout.read()
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
