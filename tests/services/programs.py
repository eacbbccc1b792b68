"""Where the servers' programs come from: the machine, Debian's packages, or builds cached outside the repository."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.services.instance import Missing

BUILD_SECONDS = 1_500.0
OUTPUT_LINES = 15


def is_ci() -> bool:
    """Whether a missing server is a failure."""
    return os.environ.get("CI", "").lower() in ("true", "1")


def cache() -> Path:
    """The folder of what was built here once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parley" / "servers"


def cached(name: str) -> Path | None:
    """A finished build, such as "weaviate-1.35.2"."""
    folder = cache() / name
    return folder if (folder / "complete").exists() else None


def build(name: str, make: Callable[[Path], None]) -> Path:
    """A finished build: the one that is there, or a new one. Two processes never build the same at once."""
    folder = cache() / name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        if not (folder / "complete").exists():
            make(folder)
            (folder / "complete").touch()
    return folder


@contextmanager
def locked(file: Path) -> Generator[None]:
    """Holds a lock between processes; whoever dies lets go of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run(what: str, argv: Sequence[str], cwd: Path | None = None, **environ: str) -> None:
    """Runs one command of an installation.

    Raises:
        Missing: it failed; the text holds the end of what it said.
    """
    try:
        ended = subprocess.run(
            argv, cwd=cwd, env=os.environ | environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=BUILD_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Missing(f"{what} took more than {BUILD_SECONDS:g} s: {' '.join(argv)}") from None
    if ended.returncode:
        said = "\n".join(f"    {line}" for line in ended.stdout.splitlines()[-OUTPUT_LINES:])
        raise Missing(f"{what} failed: {' '.join(argv)}\n{said}")


def can_install() -> bool:
    """Whether Debian's packages can be installed without asking anybody."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(package: str) -> None:
    """Installs a Debian package.

    Raises:
        Missing: not as root on a Debian, or it failed.
    """
    if not can_install():
        raise Missing(f"{package} can be installed by root on Debian only")
    with locked(cache() / "apt.lock"):  # apt refuses to run twice at once
        try:
            _apt_install(package)
        except Missing:  # a new machine has no lists of packages, an old one may have old ones
            run("the list of packages", ["apt-get", "-q", "update"])
            _apt_install(package)


def _apt_install(package: str) -> None:
    argv = ["apt-get", "install", "-q", "-y", "--no-install-recommends", package]
    run(f"the installation of {package}", argv, DEBIAN_FRONTEND="noninteractive")


def system_how(package: str, formula: str) -> str:
    """How a user has a server that systems package."""
    return f"install it (`sudo apt-get install -y {package}`, or `brew install {formula}`)"
