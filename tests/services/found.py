"""The one door of tests to the shared servers."""

from __future__ import annotations

from typing import NoReturn

import pytest

from tests.services.shared import KINDS, is_ci, running_urls, services_folder

LACKS = "lacks the server"
"""How the message of a test that was taken out begins; the run's last lines look for it."""


def service(name: str) -> dict[str, str]:
    """The lines of `.services/env` that reach a shared server, such as {"PARLEY_REDIS_URL": "redis://..."}.

    Postgres has two, nginx none: it is of use as `private("nginx", config=...)`.
    A test whose server does not run here fails under CI=true; elsewhere it is taken out, and the run's last lines
    name the server and how to have it.
    """
    urls = running_urls(name)
    env = services_folder() / "env"
    written = env.read_text(encoding="utf-8").splitlines() if env.exists() else []
    available = KINDS[name].found() if name == "nginx" else bool(urls)
    if available and all(f"{line}={value}" in written for line, value in urls.items()):
        return urls
    lack(name)


def lack(name: str) -> NoReturn:
    """Ends a test whose server is not to be had: as a failure under CI=true, else by taking it out."""
    how = "run `make services`" if KINDS[name].found() else f"{KINDS[name].how}, then run `make services`"
    if is_ci():
        pytest.fail(f"{LACKS} {name}: {how}", pytrace=False)
    pytest.skip(f"{LACKS} {name}: {how}")
