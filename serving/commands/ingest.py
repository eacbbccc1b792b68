"""parley ingest: files, folders and globs into the knowledge, with progress and a summary."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from knowledge import ingest as ingestion
from knowledge.types import IngestReport
from serving.commands.shell import DONE, CommandFailed, Shell, console, say, write_json
from serving.principal import Principal

if TYPE_CHECKING:
    from serving.runtime import Runtime

PATH = 40
"""Characters of a file's path beside the bar."""


def ingest(shell: Shell, paths: list[str]) -> int:
    """Takes the paths in.

    Raises:
        CommandFailed: a named path does not exist, or nothing could be read.
    """
    return shell.run(lambda runtime: _ingest(shell, runtime, paths))


async def _ingest(shell: Shell, runtime: Runtime, paths: list[str]) -> int:
    report = await take_in(runtime, shell.principal, paths)
    if shell.json:
        write_json(_json(report))
    else:
        _summary(report)
    if report.failed and not report.new + report.unchanged + report.updated + report.removed:
        raise CommandFailed("nothing could be read")
    return DONE


async def take_in(runtime: Runtime, principal: Principal, paths: list[str]) -> IngestReport:
    """Ingests with a progress bar on stderr, where that is a terminal; says how far it came when it is cancelled.

    Raises:
        CommandFailed: a named path does not exist.
    """
    err = console(stderr=True)
    report, waiting = IngestReport(), ""
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:>4.0f} passages/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[path]}", markup=False),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    ) as bars:
        bar = bars.add_task("files", total=None, speed=0.0, path="")

        def follow(progress: ingestion.Progress) -> None:
            nonlocal report, waiting
            report = progress.report
            speed, path = progress.passages_per_second, progress.path[-PATH:]
            if progress.waiting:
                path = f"waiting: {progress.waiting}"
                if progress.waiting != waiting and not err.is_terminal:
                    say(path)
                waiting = progress.waiting
            bars.update(bar, completed=progress.done, total=progress.total, speed=speed, path=path)

        try:
            return await runtime.ingest.paths(principal.tenant, paths, progress=follow)
        except ingestion.NotFound as error:
            raise CommandFailed(str(error)) from error
        except asyncio.CancelledError:
            say(f"stopped; what was finished is kept ({_counts(report)}); the same command goes on from there")
            raise


def _summary(report: IngestReport) -> None:
    out = console()
    out.print(Text(f"{_counts(report)}; {report.passages} passages in {report.seconds:.1f} s"))
    for failure in report.failed:
        out.print(Text(f"failed: {failure.path}: {failure.reason}"), style="red")


def _counts(report: IngestReport) -> str:
    counts = {
        "new": report.new,
        "unchanged": report.unchanged,
        "updated": report.updated,
        "removed": report.removed,
        "skipped": report.skipped,
        "failed": len(report.failed),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to take in"


def _json(report: IngestReport) -> dict[str, object]:
    return {
        "new": report.new,
        "unchanged": report.unchanged,
        "updated": report.updated,
        "removed": report.removed,
        "skipped": report.skipped,
        "failed": [{"path": failure.path, "reason": failure.reason} for failure in report.failed],
        "passages": report.passages,
        "seconds": round(report.seconds, 3),
    }
