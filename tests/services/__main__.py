"""`make services`, `make services-stop`, and what `make test` needs of them."""

from __future__ import annotations

import subprocess
import sys

import anyio

from tests.services.instance import NotStarted
from tests.services.programs import is_ci, locked
from tests.services.shared import KINDS, obtain_all, running, services_folder, start_all, stop_all

USAGE = """python -m tests.services start [NAME ...]      install, start, seed; writes .services/env
python -m tests.services stop [NAME ...]       stop, and wait until all are gone
python -m tests.services obtain [NAME ...]     install and build only
python -m tests.services run COMMAND ...       start, run a command; then under CI=true stop"""


def say(text: str) -> None:
    """Shows progress."""
    print(text, file=sys.stderr, flush=True)


def show_missing(missing: dict[str, str]) -> int:
    """Names what cannot be had here; under CI=true that is an error."""
    for text in missing.values():
        say(f"missing {text}")
    return 1 if missing and is_ci() else 0


def start(names: list[str]) -> int:
    """Starts servers; two who start at the same time wait for each other."""
    with locked(services_folder() / "lock"):
        try:
            missing = anyio.run(start_all, names, say)
        except NotStarted as error:
            say(str(error))
            return 1
    return show_missing(missing)


def stop(names: list[str]) -> int:
    """Stops servers."""
    with locked(services_folder() / "lock"):
        anyio.run(stop_all, names, say)
    return 0


def obtain(names: list[str]) -> int:
    """Installs and builds."""
    return show_missing(anyio.run(obtain_all, names, say))


def around(command: list[str]) -> int:
    """Runs a command with all servers; its status is ours."""
    before = running()
    status = start(list(KINDS))
    if status == 0:
        status = subprocess.run(command, check=False).returncode
    begun = [name for name in running() if name not in before]
    if begun and is_ci():
        stop(begun)
    elif begun:
        say(f"{', '.join(begun)} stay running for the next time; `make services-stop` stops them.")
    return status


def main(arguments: list[str]) -> int:
    """One verb, then names or a command."""
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb == "run" and rest:
        return around(rest)
    unknown = [name for name in rest if name not in KINDS]
    names = rest or list(KINDS)
    verbs = {"start": start, "stop": stop, "obtain": obtain}
    if unknown or verb not in verbs:
        say(USAGE)
        return 2
    return verbs[verb](names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
