"""The benchmark of answers without a model, on a tiny set of our own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from evals.bench.answers import Figure, run, table

FERRY = "The Lunda ferry crosses the sound at dawn. It was built by Greta Holm in 1911. The fare is two coins."
BELL = "The Odden bell weighs nine tons. Monks cast the Odden bell in 1402. It rings at noon."
BEES = ["Bees of Velden nest in clay.", "The bees are counted by Nils Aker every May.", "Their honey is dark."]


def _write(path: Path, rows: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _sets(folder: Path) -> None:
    folder.mkdir()
    _write(
        folder / "squad2-passages.jsonl",
        [{"id": "p0", "title": "Lunda ferry", "text": FERRY}, {"id": "p1", "title": "Odden bell", "text": BELL}],
    )

    def asked(question: str, passage: str, text: str, answer: str, impossible: bool = False) -> object:
        answers = [] if impossible else [{"start": text.index(answer), "text": answer}]
        return {"id": question, "question": question, "passage": passage, "impossible": impossible, "answers": answers}

    _write(
        folder / "squad2-questions.jsonl",
        [
            asked("Who built the Lunda ferry?", "p0", FERRY, "Greta Holm"),
            asked("When did monks cast the Odden bell?", "p1", BELL, "1402"),
            asked("Who sank the Lunda ferry?", "p0", FERRY, "", impossible=True),
        ],
    )
    _write(
        folder / "selqa.jsonl",
        [
            {
                "id": f"s{number}",
                "question": question,
                "article": "Bees of Velden",
                "section": section,
                "topic": "NATURE",
                "paraphrase": bool(number),
                "sentences": BEES,
                "answers": [answer],
            }
            for number, (question, section, answer) in enumerate(
                [("Who counts the bees of Velden?", "Abstract", 1), ("Where do the bees of Velden nest?", "Nests", 0)]
            )
        ],
    )
    _write(
        folder / "docs-passages.jsonl",
        [
            {
                "id": "d0",
                "title": "Kestrel",
                "headings": ["Kestrel", "Install"],
                "blocks": [
                    {"kind": "para", "text": "To install Kestrel, fetch it:"},
                    {"kind": "code", "text": "fetch kestrel\n```\n"},
                ],
            },
            {
                "id": "d1",
                "title": "Kestrel",
                "headings": ["Kestrel", "Options"],
                "blocks": [
                    {"kind": "item", "text": "`keep_links` - Copies links as links."},
                    {"kind": "item", "text": "`dry` - Shows what would be done."},
                    {"kind": "row", "text": "Port: 7311; Use: transfer"},
                    {"kind": "row", "text": "Port: 7312; Use: discovery | search"},
                    {"kind": "row", "text": "no columns"},
                ],
            },
        ],
    )
    _write(
        folder / "docs-questions.jsonl",
        [
            {
                "id": "q0",
                "form": "howto",
                "question": "How do I install Kestrel?",
                "sentence": ["To install Kestrel"],
                "answer_holds": [["fetch kestrel"]],
            },
            {
                "id": "q1",
                "form": "option",
                "question": "What does keep_links do?",
                "sentence": ["`keep_links` - Copies"],
                "answer_holds": [["links as links", "nothing"]],
            },
            {"id": "q2", "form": "none", "question": "Who founded the hotel?", "sentence": [], "answer_holds": []},
            {
                "id": "q3",
                "form": "nearnone",
                "question": "Does Kestrel dance?",
                "sentence": [],
                "answer_holds": [],
            },
        ],
    )


async def test_every_set_is_taken_in_asked_and_measured_beside_its_target(tmp_path: Path) -> None:
    _sets(tmp_path / "qa")
    said: list[str] = []
    folder = tmp_path / "kept"
    figures = await run(tmp_path, every=True, folder=folder, say=said.append)
    values = {figure.name: figure.value for figure in figures}
    assert [values[f"{name}: best sentence right"] for name in ("squad", "selqa")] == [100.0, 100.0]
    assert [values[f"{name}: first quote right"] for name in ("squad", "selqa", "docs")] == [100.0, 100.0, 100.0]
    assert values["docs: whole answer complete"] == 100.0
    assert values["docs: foreign questions answered"] == 0.0
    assert values["squad: selqa's questions answered"] == 0.0
    assert values["squad: article absent, 95 % kept"] == 0.0
    assert values["squad: right file alone, best sentence right"] == 100.0
    assert values["selqa, paraphrased: the same"] == 100.0
    assert values["answer after retrieval, p95"] > 0
    assert len(table(figures).splitlines()) == len(figures)
    assert [line.partition(":")[0] for line in said] == ["squad", "selqa", "docs"]


def test_a_missed_target_is_marked() -> None:
    met, missed = Figure("a", 80.0, 74.0), Figure("b", 3.0, 2.5, most=True)
    assert (met.met, missed.met) == (True, False)
    assert table([met, missed]).endswith("<= 2.5   MISSED")
    assert "MISSED" not in table([met])
    assert table([Figure("c", 1.0, None)]).endswith("1.0 %")
