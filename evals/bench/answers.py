"""How good the answers without a model are: the extractive half of `make bench-knowledge`.

The sets are written as Markdown files, taken in through the product's own ingestion into a temporary data folder
and asked through its search and `agents.quote`, composed by `serving.runtime` as in production.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from agents.quote import Quoted, quote, ranking
from agents.retrieve import PASSAGES
from agents.scoring import Scored
from evals.bench.question_sets import Collection, Question, docs, selqa, squad
from knowledge.sentences import load
from knowledge.types import Found
from memory.types import Scope
from serving.documents import VERSION
from serving.principal import Principal
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings

AMONG = 3
MANY = 60
"""Finds among which five of other articles are looked for."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number beside its target; None where there is none."""

    name: str
    value: float
    target: float | None
    most: bool = False
    """Whether the target is the most that is allowed, not the least."""
    unit: str = "%"

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        if self.target is None:
            return True
        return self.value <= self.target if self.most else self.value >= self.target

    @property
    def line(self) -> str:
        """The figure as a line of the table."""
        aim = "" if self.target is None else f"  target {'<=' if self.most else '>='} {self.target:g}"
        return f"{self.name:44} {self.value:6.1f} {self.unit:2}{aim}{'' if self.met else '   MISSED'}".rstrip()


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of one question."""

    question: Question
    quoted: Quoted
    best: bool
    """Whether the best unit is an answer."""
    among: bool
    """Whether one of the best three is."""
    first: bool
    """Whether the first quote holds an answer."""
    milliseconds: float
    """Question vector and answer, without the search."""


def default_data() -> Path:
    """Folder of the data sets: PARLEY_BENCH_DATA, or beside the repository."""
    beside = Path(__file__).parents[2] / ".." / "shared" / "data"
    return Path(os.environ.get("PARLEY_BENCH_DATA", str(beside))).resolve()


async def run(
    data: Path, *, every: bool = False, folder: Path | None = None, say: Callable[[str], None] = print
) -> list[Figure]:
    """Measures all sets of `data`/qa.

    `every` adds figures with the right file alone and with the article taken out (twice the time); a `folder`
    keeps what was taken in, so that the next run there starts at once.
    """
    if folder is None:
        with TemporaryDirectory() as temporary:
            return await _run(data, every, Path(temporary), say)
    return await _run(data, every, folder, say)


async def _run(data: Path, every: bool, root: Path, say: Callable[[str], None]) -> list[Figure]:
    sets = [squad(data / "qa"), selqa(data / "qa"), docs(data / "qa")]
    (root / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    async with open_runtime(Settings(data_dir=root / "data")) as runtime:
        for each in sets:
            each.write(root / each.name)
            report = await runtime.ingest.paths(each.name, [str(root / each.name)])
            say(
                f"{each.name}: {report.new} files new, {report.unchanged} unchanged, "
                f"{report.passages} passages in {report.seconds:.0f} s"
            )
        bench = Bench(runtime, *sets)
        figures = await bench.measure()
        return figures + await bench.with_and_without() if every else figures


class Bench:
    """The three sets, each a tenant of one runtime."""

    def __init__(self, runtime: Runtime, squad: Collection, selqa: Collection, docs: Collection) -> None:
        self._runtime = runtime
        self._squad, self._selqa, self._docs = squad, selqa, docs
        self._asked: dict[str, list[Asked]] = {}

    async def measure(self) -> list[Figure]:
        """The figures of every set, its own questions and those of others."""
        for each in (self._squad, self._selqa, self._docs):
            self._asked[each.name] = [await self._ask(each, question) for question in each.questions]
        squad, selqa, docs = (self._asked[name] for name in ("squad", "selqa", "docs"))
        paraphrased = [each for each in selqa if each.question.kind == "paraphrased"]
        own, foreign, misses = (
            [each for each in docs if each.question.kind == kind] for kind in ("own", "foreign", "near miss")
        )
        far_squad = [(await self._ask(self._squad, question)).quoted for question in self._selqa.questions]
        far_selqa = [(await self._ask(self._selqa, question)).quoted for question in self._squad.questions]
        times = [each.milliseconds for each in (*squad, *selqa, *docs)]
        return [
            Figure("squad: best sentence right", _share(each.best for each in squad), 74),
            Figure("selqa: best sentence right", _share(each.best for each in selqa), 83),
            Figure("selqa, paraphrased: best sentence right", _share(each.best for each in paraphrased), None),
            Figure("squad: one of the best three right", _share(each.among for each in squad), 87.5),
            Figure("selqa: one of the best three right", _share(each.among for each in selqa), 93),
            Figure("squad: first quote right", _share(each.first for each in squad), 74),
            Figure("selqa: first quote right", _share(each.first for each in selqa), 83),
            Figure("squad: own questions answered", _answered(each.quoted for each in squad), 86),
            Figure("selqa: own questions answered", _answered(each.quoted for each in selqa), 93),
            Figure("squad: selqa's questions answered", _answered(far_squad), 2.5, most=True),
            Figure("selqa: squad's questions answered", _answered(far_selqa), 11, most=True),
            Figure("docs: best unit right", _share(each.best for each in own), 75),
            Figure("docs: first quote right", _share(each.first for each in own), 75),
            Figure("docs: whole answer complete", _share(each.question.complete(each.quoted.text) for each in own), 85),
            Figure("docs: foreign questions answered", _answered(each.quoted for each in foreign), 0, most=True),
            Figure("docs: near misses answered", _answered(each.quoted for each in misses), 62.5, most=True),
            Figure("answer after retrieval, p50", float(np.percentile(times, 50)), 8, most=True, unit="ms"),
            Figure("answer after retrieval, p95", float(np.percentile(times, 95)), 15, most=True, unit="ms"),
        ]

    async def with_and_without(self) -> list[Figure]:
        """Best sentences of the right file alone; and questions whose own article is taken out, at thresholds
        that keep 95 and 90 % of the own answers."""
        figures: list[Figure] = []
        for each, hit, limits in ((self._squad, 86, (12.0, 7.5)), (self._selqa, 87.5, (19.0, 10.0))):
            alone: list[tuple[Question, bool]] = []
            absent: list[float] = []
            files = await self._files(each)
            for question in each.questions:
                found = await self._found(each, question.text, MANY)
                own = files[question.file]
                others = [one for one in found if one.document.title != each.title(question.file)][:PASSAGES]
                ranked = await self._ranked(each, question, own)
                alone.append((question, any(_unit_right(question, own[one.found], one.unit) for one in ranked[:1])))
                absent.append((await self._answer(each, question, others)).confidence)
            figures.append(
                Figure(f"{each.name}: right file alone, best sentence right", _share(ok for _, ok in alone), hit)
            )
            paraphrased = [ok for question, ok in alone if question.kind == "paraphrased"]
            if paraphrased:
                figures.append(Figure(f"{each.name}, paraphrased: the same", _share(paraphrased), 85))
            confidences = [asked.quoted.confidence for asked in self._asked[each.name]]
            for kept, limit in zip((95, 90), limits, strict=True):
                threshold = float(np.percentile(confidences, 100 - kept))
                share = _share(confidence >= threshold for confidence in absent)
                figures.append(Figure(f"{each.name}: article absent, {kept} % kept", share, limit, most=True))
        return figures

    async def _ask(self, collection: Collection, question: Question) -> Asked:
        found = await self._found(collection, question.text, PASSAGES)
        started = time.perf_counter()
        quoted = await self._answer(collection, question, found)
        milliseconds = (time.perf_counter() - started) * 1000
        ranked = await self._ranked(collection, question, found)
        right = [_unit_right(question, found[scored.found], scored.unit) for scored in ranked[:AMONG]]
        first = any(question.right(cited.path, cited.start, cited.end, cited.quote) for cited in quoted.citations[:1])
        return Asked(question, quoted, any(right[:1]), any(right), first, milliseconds)

    async def _answer(self, collection: Collection, question: Question, found: Sequence[Found]) -> Quoted:
        scope, deps = Scope(collection.name, "passages"), self._runtime.deps
        vector = await deps.embedder.embed_query(question.text)
        return await quote(question.text, vector, found, memory=deps.memory, scope=scope, words=deps.words)

    async def _ranked(self, collection: Collection, question: Question, found: Sequence[Found]) -> list[Scored]:
        scope, deps = Scope(collection.name, "passages"), self._runtime.deps
        vector = await deps.embedder.embed_query(question.text)
        _, ranked = await ranking(question.text, vector, found, memory=deps.memory, scope=scope, words=deps.words)
        return ranked

    async def _files(self, collection: Collection) -> dict[str, list[Found]]:
        """All passages of every file, by its name, as if a search had found them."""
        files: dict[str, list[Found]] = {}
        for document in await self._runtime.catalog.below(collection.name, ""):
            ids = [f"{document.id}.{document.sha256[:VERSION]}.{index}" for index in range(document.passages)]
            records = await self._runtime.memory.get(Scope(collection.name, "passages"), ids)
            files[Path(document.path).name] = [
                Found(document, load(record.payload), 0.0, {}, record.label, record.parts) for record in records
            ]
        return files

    async def _found(self, collection: Collection, question: str, limit: int) -> list[Found]:
        return await self._runtime.search(Principal(tenant=collection.name), question, limit)


def _unit_right(question: Question, found: Found, unit: int) -> bool:
    passage = found.passage
    this = passage.units[unit]
    quoted = passage.text[this.start : this.end]
    return question.right(found.document.path, passage.start + this.start, passage.start + this.end, quoted)


def _share(values: Iterable[bool]) -> float:
    return 100 * float(np.mean([float(value) for value in values]))


def _answered(quoted: Iterable[Quoted]) -> float:
    return _share(each.outcome == "answered" for each in quoted)


def table(figures: Sequence[Figure]) -> str:
    """The figures as lines, each beside its target."""
    return "\n".join(figure.line for figure in figures)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data(), help="folder that holds qa/")
    parser.add_argument("--every", action="store_true", help="also the right file alone, and the collection without it")
    parser.add_argument("--folder", type=Path, help="keep what was taken in here, for the next run")
    options = parser.parse_args()
    print(table(asyncio.run(run(options.data, every=options.every, folder=options.folder))))


if __name__ == "__main__":
    main()
