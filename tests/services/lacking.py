"""What becomes of a test whose server is not to be had on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import pytest

from tests.services.programs import is_ci

LACKS = "lacks the server"


def lack(name: str, how: str) -> NoReturn:
    """Ends a test: as a failure under CI=true, else by taking it out; `how` says how to have the server."""
    if is_ci():
        pytest.fail(f"{LACKS} {name}: {how}", pytrace=False)
    pytest.skip(f"{LACKS} {name}: {how}")


def missing_servers(reports: Iterable[pytest.TestReport]) -> list[str]:
    """The servers for whose lack tests were taken out, each with how to have it."""
    reasons = (report.longrepr[2] for report in reports if isinstance(report.longrepr, tuple))
    return sorted({reason.partition(LACKS)[2].strip() for reason in reasons if LACKS in reason})
