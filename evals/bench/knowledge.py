"""How good and how fast retrieval is, and the answers without a model beside it: `make bench-knowledge`.

2WikiMultiHopQA (6,119 passages, 985 questions) is written as one Markdown file a passage, its title as heading,
taken in by `parley ingest` and asked by POST /api/search of a started `parley serve`, one question after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import run as run_process
from tempfile import TemporaryDirectory

import aiohttp
import numpy as np
import orjson

from evals.bench import answers
from evals.bench.answers import Figure, default_data, table
from evals.bench.latency import started
from memory.minilm import MiniLM

SET = "2wiki"
DEPTHS = (2, 5, 10)
TARGETS = {2: 78.0, 5: 93.0, 10: 95.0}
_FOUND = 15
"""Hits asked for: a long passage may come as several of one file."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the ids of the passages that its answer rests on."""

    text: str
    gold: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reply:
    """The files found for a question, best first, and how long it took."""

    files: list[str]
    milliseconds: float


def questions(folder: Path) -> list[Question]:
    """The questions of a set."""
    rows: list[dict[str, str | list[str]]] = [orjson.loads(line) for line in _lines(folder / "questions.jsonl")]
    return [Question(str(row["question"]), frozenset(row["gold"])) for row in rows]


def write(folder: Path, out: Path) -> None:
    """The passages of a set as Markdown files named by their ids."""
    out.mkdir(parents=True, exist_ok=True)
    for line in _lines(folder / "corpus.jsonl"):
        passage: dict[str, str] = orjson.loads(line)
        (out / f"{passage['id']}.md").write_text(f"# {passage['title']}\n\n{passage['text']}\n", encoding="utf-8")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def recall(asked: Sequence[Question], replies: Sequence[Reply], depth: int) -> float:
    """Share of a question's gold passages among the first files, averaged, in percent."""
    shares = [
        len(question.gold & set(reply.files[:depth])) / len(question.gold)
        for question, reply in zip(asked, replies, strict=True)
    ]
    return 100 * float(np.mean(shares))


async def ask(url: str, asked: Sequence[Question]) -> list[Reply]:
    """Asks a running server, over one kept connection."""
    replies: list[Reply] = []
    async with aiohttp.ClientSession() as session:
        for question in asked:
            body = orjson.dumps({"query": question.text, "limit": _FOUND})
            begun = time.perf_counter()
            async with session.post(
                f"{url}/api/search", data=body, headers={"Content-Type": "application/json"}
            ) as got:
                answer = await got.read()
            milliseconds = (time.perf_counter() - begun) * 1000
            got.raise_for_status()
            hits: dict[str, list[dict[str, str]]] = orjson.loads(answer)
            files = dict.fromkeys(Path(hit["path"]).stem for hit in hits["hits"])
            replies.append(Reply(list(files), milliseconds))
    return replies


async def embed(asked: Sequence[Question]) -> list[float]:
    """Milliseconds of each question's embedding with nothing beside it: how fast this machine is just now."""
    embedder = MiniLM(threads=min(2, os.cpu_count() or 1))
    times: list[float] = []
    for question in (asked[0], *asked):
        begun = time.perf_counter()
        await embedder.embed_query(question.text)
        times.append((time.perf_counter() - begun) * 1000)
    embedder.close()
    return times[1:]


def retrieval(data: Path, work: Path) -> list[Figure]:
    """Takes the set in (what `work` holds already is left as it is) and measures search over HTTP."""
    source = data / "retrieval" / SET
    write(source, work / SET)
    environment = {"PARLEY_DATA_DIR": str(work / "data"), "PARLEY_PORT": "0"}
    parley = Path(sys.executable).with_name("parley")
    command = [str(parley), "ingest", str(work / SET)]
    with ExitStack() as stack:
        begun = time.perf_counter()
        run_process(command, env={**os.environ, **environment}, check=True)  # noqa: S603 - our own words
        print(f"{SET}: taken in within {time.perf_counter() - begun:.0f} s")
        server = stack.enter_context(started([str(parley), "serve"], environment, "Parley is ready on http"))
        asked = questions(source)
        asyncio.run(ask(server.url, asked[:20]))
        replies = asyncio.run(ask(server.url, asked))
    times = [reply.milliseconds for reply in replies]
    alone = asyncio.run(embed(asked))
    return [
        *(Figure(f"{SET}: R@{depth}", recall(asked, replies, depth), TARGETS[depth]) for depth in DEPTHS),
        Figure("search over HTTP, p50", float(np.percentile(times, 50)), 20, most=True, unit="ms"),
        Figure("search over HTTP, p95", float(np.percentile(times, 95)), 40, most=True, unit="ms"),
        Figure("of it the question's embedding alone, p50", float(np.percentile(alone, 50)), None, unit="ms"),
    ]


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data(), help="folder that holds retrieval/ and qa/")
    parser.add_argument("--work", type=Path, help="keep files and index here: a second run need not ingest again")
    parser.add_argument("--only", choices=["retrieval", "answers"], help="one half")
    options = parser.parse_args()
    with TemporaryDirectory() as temporary:
        if options.only != "answers":
            print(table(retrieval(options.data, options.work or Path(temporary))))
    if options.only != "retrieval":
        print(table(asyncio.run(answers.run(options.data))))


if __name__ == "__main__":
    main()
