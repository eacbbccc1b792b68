"""The one door of tests to the shared servers."""

from __future__ import annotations

from tests.services.lacking import lack
from tests.services.shared import KINDS, SHARED, running_urls, services_folder


def service(name: str) -> dict[str, str]:
    """The lines of `.services/env` that reach a shared server, such as {"PARLEY_REDIS_URL": "redis://..."}.

    Postgres has two, nginx none: it is of use as `private("nginx", config=...)`.
    A test whose server does not run here fails under CI=true; elsewhere it is taken out, and the run's last lines
    name the server and how to have it.
    """
    if name not in SHARED:
        require(name)
        return {}
    urls = running_urls(name)
    env = services_folder() / "env"
    written = env.read_text(encoding="utf-8").splitlines() if env.exists() else []
    if urls and all(f"{line}={value}" in written for line, value in urls.items()):
        return urls
    require(name)
    lack(name, "run `make services`")


def require(name: str) -> None:
    """Ends a test as lacking its server where that could not even be started."""
    if not KINDS[name].found():
        lack(name, f"{KINDS[name].how}, then run `make services`")
