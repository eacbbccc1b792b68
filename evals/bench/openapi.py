"""Every route under schemathesis, all its phases, at a real server: `python -m evals.bench.openapi [examples]`.

The short version of it is tests/serving/test_openapi.py. Prints schemathesis' own report; 1 when a response broke or
was not described.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from evals.bench.latency import started

EXAMPLES = "100"
FLAGS = (
    "--no-color", "--continue-on-failure", "--request-timeout", "30", "--suppress-health-check", "all",
    "--phases", "examples,coverage,fuzzing,stateful", "--exclude-checks", "positive_data_acceptance",
)  # fmt: skip
"""A cursor that no page gave, or a model that does not exist, fits its schema and is refused all the same."""


def main() -> int:
    """Serves an empty data folder and lets schemathesis at it."""
    programs = Path(sys.executable).parent
    examples = sys.argv[1] if len(sys.argv) > 1 else EXAMPLES
    with TemporaryDirectory(prefix="parley-bench-") as folder:
        environment = {"PARLEY_DATA_DIR": f"{folder}/data", "PARLEY_PORT": "0"}
        with started([str(programs / "parley"), "serve"], environment, "Parley is ready on http") as server:
            command = [str(programs / "schemathesis"), "run", f"{server.url}/openapi.json", *FLAGS, "-n", examples]
            return subprocess.run(command, cwd=folder, check=False).returncode  # noqa: S603 - our own words


if __name__ == "__main__":
    sys.exit(main())
