"""Commands in the test's own process, in a folder of their own."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import TypeAdapter

from serving.cli import main

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


def settled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes `folder` the working folder, with no setting but the data folder in it, which does not exist yet."""
    for name in [name for name in os.environ if name.startswith("PARLEY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PARLEY_DATA_DIR", str(folder / "data"))
    monkeypatch.chdir(folder)
    return folder


@contextmanager
def commands(capsys: pytest.CaptureFixture[str]) -> Generator[Parley]:
    """Runs one command after the other; the log of the last one is closed at the end."""
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
