"""make and bootstrap.sh: what is installed when, and what is said when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SYSTEM = ("sh", "dirname", "uname", "cat", "cksum", "grep", "ldd", "rm", "mkdir", "chmod", "ln", "bash")
PYTHONS = ("python3", "python3.11", "python3.12", "python3.13", "python3.14")

UV = """#!/bin/sh
echo "uv $*" >> "$LOG"
case "$1 $2" in
    "venv "*) for home; do :; done; mkdir -p "$home/bin"; ln -s "$GOOD" "$home/bin/python" ;;
    "pip install") : > "$VIRTUAL_ENV/bin/parley"; chmod +x "$VIRTUAL_ENV/bin/parley" ;;
    "python find") exit 1 ;;
esac
"""
"""A stand-in for uv that writes down what it was asked and makes the files that count."""

GOOD = """#!/bin/sh
case "$2" in *ensurepip*) exit "${VENV:-0}" ;; esac
exit 0
"""
BAD = """#!/bin/sh
case "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac
"""


@dataclass(frozen=True)
class Machine:
    """A new machine: a fresh clone, and a PATH with nothing but what the test put there."""

    clone: Path
    bin: Path

    def put(self, name: str, text: str) -> None:
        file = self.bin / name
        file.write_text(text)
        file.chmod(0o755)

    def bootstrap(self, want: str, **environ: str) -> subprocess.CompletedProcess[str]:
        known = {"PATH": str(self.bin), "LOG": str(self.clone / "log"), "GOOD": str(self.bin / "good")}
        return subprocess.run(
            ["sh", "bootstrap.sh", want],
            cwd=self.clone,
            env=known | environ,
            capture_output=True,
            text=True,
            check=False,
        )

    def asked(self) -> list[str]:
        """What uv was asked since the last look."""
        log = self.clone / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    clone, programs = tmp_path / "clone", tmp_path / "bin"
    clone.mkdir()
    programs.mkdir()
    locks = ("requirements.lock", "requirements-dev.lock", "requirements-studio.lock")
    for name in ("bootstrap.sh", "pyproject.toml", *locks):
        shutil.copy(ROOT / name, clone)
    for name in SYSTEM:
        found = shutil.which(name)
        if found is not None:
            (programs / name).symlink_to(found)
    new = Machine(clone, programs)
    new.put("good", GOOD)
    new.put("python3", GOOD)
    new.put("uv", UV)
    return new


def test_the_first_start_installs_the_users_lock_by_hash_and_the_project_without_dependencies(machine: Machine) -> None:
    assert machine.bootstrap("run").returncode == 0
    made, synced, installed = machine.asked()
    assert made.startswith("uv venv")
    assert synced == "uv pip sync --quiet --require-hashes requirements.lock"
    assert installed == "uv pip install --quiet --no-deps --editable ."


def test_nothing_is_installed_twice_however_make_run_and_make_test_take_turns(machine: Machine) -> None:
    machine.bootstrap("run")
    machine.asked()
    machine.bootstrap("run")
    assert machine.asked() == []
    machine.bootstrap("dev")
    assert [line for line in machine.asked() if "sync" in line] == [
        "uv pip sync --quiet --require-hashes requirements-dev.lock"
    ]
    for want in ("run", "dev", "run"):
        machine.bootstrap(want)
        assert machine.asked() == []


def test_studio_has_an_environment_of_its_own_that_is_made_once_and_takes_nothing_from_the_other(
    machine: Machine,
) -> None:
    machine.bootstrap("dev")
    machine.asked()
    assert machine.bootstrap("studio").returncode == 0
    made, synced, _ = machine.asked()
    assert made.endswith(" .venv-studio")
    assert synced == "uv pip sync --quiet --require-hashes requirements-studio.lock"
    for want in ("studio", "dev", "run"):
        machine.bootstrap(want)
        assert machine.asked() == []
    with (machine.clone / "requirements-studio.lock").open("a") as file:
        file.write("\n# changed\n")
    machine.bootstrap("studio")
    assert machine.asked()[0] == synced


@pytest.mark.parametrize(
    ("before", "changed", "lock"),
    [
        ("run", "requirements.lock", "requirements.lock"),
        ("run", "pyproject.toml", "requirements.lock"),
        ("dev", "requirements.lock", "requirements-dev.lock"),
    ],
)
def test_a_changed_lock_is_installed_at_the_next_start_and_takes_no_tools_away(
    machine: Machine, before: str, changed: str, lock: str
) -> None:
    machine.bootstrap(before)
    machine.asked()
    with (machine.clone / changed).open("a") as file:
        file.write("\n# changed\n")
    machine.bootstrap("run")
    assert machine.asked()[0] == f"uv pip sync --quiet --require-hashes {lock}"


def test_an_installation_that_broke_off_is_done_again(machine: Machine) -> None:
    machine.put("uv", UV.replace('"pip install")', '"pip sync") exit 1 ;;\n    "pip install")'))
    assert machine.bootstrap("run").returncode != 0
    machine.asked()
    machine.put("uv", UV)
    assert machine.bootstrap("run").returncode == 0
    assert len(machine.asked()) == 2


@pytest.mark.parametrize(
    ("system", "helps"),
    [("Linux", "python3"), ("Darwin", "brew install python@3.12")],
)
def test_a_missing_python_is_named_with_the_one_command_that_helps(machine: Machine, system: str, helps: str) -> None:
    for name in PYTHONS:
        machine.put(name, BAD)
    (machine.bin / "uname").unlink()
    machine.put("uname", f"#!/bin/sh\ncase $1 in -m) echo arm64 ;; *) echo {system} ;; esac\n")
    ended = machine.bootstrap("run")
    assert ended.returncode == 1
    assert "Parley needs Python 3.11 to 3.14 (found: Python 3.9.2). This helps:" in ended.stderr
    assert helps in ended.stderr.splitlines()[1]
    assert not (machine.clone / ".venv").exists()


def test_a_missing_venv_module_is_named_with_the_one_command_that_helps(machine: Machine) -> None:
    (machine.bin / "uv").unlink()
    ended = machine.bootstrap("run", VENV="1")
    assert ended.returncode == 1
    assert "Parley needs Python's venv module" in ended.stderr
    assert "python3" in ended.stderr.splitlines()[1]


def test_without_uv_it_comes_from_the_package_index_into_a_folder_of_its_own(machine: Machine) -> None:
    (machine.bin / "uv").unlink()
    machine.put("uv-to-come", UV)
    machine.put(
        "python3",
        """#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p .venv-uv/bin; ln -s "$PIP" .venv-uv/bin/python ;;
esac
exit 0
""",
    )
    machine.put("pip", '#!/bin/sh\necho "python $*" >> "$LOG"; ln -s "$UV" .venv-uv/bin/uv\n')
    ended = machine.bootstrap("run", PIP=str(machine.bin / "pip"), UV=str(machine.bin / "uv-to-come"))
    assert ended.returncode == 0, ended.stderr
    asked = machine.asked()
    assert asked[0].startswith("python -m pip install")
    assert asked[2] == "uv pip sync --quiet --require-hashes requirements.lock"


@pytest.mark.parametrize(
    ("kernel", "processor", "libc", "says"),
    [("Darwin", "x86_64", "", "Apple silicon"), ("Linux", "x86_64", "musl libc (x86_64)", "glibc")],
)
def test_a_machine_that_cannot_run_parley_is_told_why(
    machine: Machine, kernel: str, processor: str, libc: str, says: str
) -> None:
    for name, text in (
        ("uname", f"case $1 in -m) echo {processor} ;; *) echo {kernel} ;; esac"),
        ("ldd", f"echo {libc!r} >&2"),
    ):
        (machine.bin / name).unlink(missing_ok=True)
        machine.put(name, f"#!/bin/sh\n{text}\n")
    ended = machine.bootstrap("run")
    assert ended.returncode == 1
    assert says in ended.stderr


def make(*arguments: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    ).stdout


def test_make_without_a_verb_lists_the_verbs() -> None:
    verbs = [line.split()[1] for line in make().splitlines()]
    assert {"run", "studio", "test", "check", "bench", "bench-knowledge", "lock", "clean"} <= set(verbs)


def test_make_run_takes_in_parleys_own_documents_and_make_test_measures_branches() -> None:
    assert "--ingest README.md --ingest 'docs/*.md'" in make("-n", "run")
    assert "--cov" in make("-n", "test")
    assert "--port 2024 --no-browser" in make("-n", "studio")
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
