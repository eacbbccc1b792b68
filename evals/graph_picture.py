"""The picture in docs/studio.md: the compiled chat graph, drawn here (docs/graph.svg) without asking anyone.

Steps of one column run at the same time. A full arrow is always taken, a dashed one is chosen in graphs/routes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from graphs.chat import build

ROOT = Path(__file__).resolve().parent.parent
START, END = "__start__", "__end__"
WIDTH, HEIGHT = 92, 34
"""Of a step's box, in pixels, as all that follows."""
COLUMN, ROW = 124, 62
MARGIN = 24
RISE = 30
"""Height that an arrow over one column gains."""
STYLE = """
  text { font: 14px ui-sans-serif, system-ui, sans-serif; text-anchor: middle; fill: #1d2733 }
  rect { fill: #eef3fb; stroke: #4a6fa5 } circle { fill: #4a6fa5 }
  path { fill: none; stroke: #4a6fa5; stroke-width: 1.4 }
  .chosen { stroke-dasharray: 5 4 } marker path { fill: #4a6fa5; stroke: none }
  .page { fill: #ffffff; stroke: none }"""


class Arrow(NamedTuple):
    """One way from a step to another."""

    source: str
    target: str
    chosen: bool
    """By a route; else it is always taken."""


def draw() -> str:
    """The graph as SVG."""
    arrows = _arrows()
    columns = _columns(arrows)
    last = max(columns.values())
    places: dict[str, tuple[float, float]] = {}
    for column in range(last + 1):
        steps = [step for step, at in columns.items() if at == column]
        # what goes on furthest is on top, where the arrows pass
        steps.sort(key=lambda step: -max((columns[one.target] for one in arrows if one.source == step), default=0))
        for row, step in enumerate(steps):
            places[step] = (MARGIN + WIDTH / 2 + column * COLUMN, (row - (len(steps) - 1) / 2) * ROW)
    drawn = [_arrow(arrow, places, columns, number) for number, arrow in enumerate(_long_last(arrows, columns))]
    top = min(y for _, y in drawn) - MARGIN
    bottom = max(places[step][1] for step in places) + HEIGHT + MARGIN
    width = 2 * MARGIN + WIDTH + last * COLUMN
    parts = [path for path, _ in drawn] + [_step(step, *place) for step, place in places.items()]
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{bottom - top:.0f}" \
viewBox="0 {top:.0f} {width:.0f} {bottom - top:.0f}" role="img" aria-label="The chat graph">
<style>{STYLE}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 L8 4 L0 8 Z"/></marker></defs>
<rect class="page" y="{top:.0f}" width="100%" height="100%"/>
{body}
</svg>
"""


def _arrows() -> list[Arrow]:
    """The graph's arrows, but those of steps that only end while another of their column goes on."""
    found = [Arrow(edge.source, edge.target, edge.conditional) for edge in build().get_graph().edges]
    ways = {arrow.source: {other.target for other in found if other.source == arrow.source} for arrow in found}
    columns = _columns(found)
    going_on = {columns[step] for step, targets in ways.items() if targets != {END}}
    ended = {step for step, targets in ways.items() if targets == {END} and columns[step] in going_on}
    return [arrow for arrow in found if arrow.source not in ended]


def _columns(arrows: Sequence[Arrow]) -> dict[str, int]:
    """A step stands right of all that lead to it."""
    columns = dict.fromkeys([step for arrow in arrows for step in (arrow.source, arrow.target)], 0)
    for _ in columns:
        for arrow in arrows:
            columns[arrow.target] = max(columns[arrow.target], columns[arrow.source] + 1)
    return columns


def _long_last(arrows: Sequence[Arrow], columns: dict[str, int]) -> list[Arrow]:
    return sorted(arrows, key=lambda arrow: (columns[arrow.target] - columns[arrow.source], arrow))


def _arrow(
    arrow: Arrow, places: dict[str, tuple[float, float]], columns: dict[str, int], number: int
) -> tuple[str, float]:
    """The arrow, and how high it rises: one that passes columns goes over them."""
    (x1, y1), (x2, y2) = places[arrow.source], places[arrow.target]
    span = columns[arrow.target] - columns[arrow.source]
    style = ' class="chosen"' if arrow.chosen else ""
    if span == 1:
        x1, x2 = x1 + _reach(arrow.source), x2 - _reach(arrow.target)
        bend = (x2 - x1) / 2
        way, high = f"M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}", min(y1, y2)
    else:
        high = -ROW - RISE * (span - 1) - 6 * (number % 3)
        y1, y2 = y1 - HEIGHT / 2, y2 - (HEIGHT / 2 if arrow.target != END else 8)
        x1 += 14
        way = f"M{x1} {y1} C{x1 + 20} {high} {x2 - 20} {high} {x2} {y2}"
        high = (min(y1, y2) + 3 * high) / 4
    return f'<path{style} marker-end="url(#tip)" d="{way}"/>', high


def _reach(step: str) -> float:
    return 8 if step in (START, END) else WIDTH / 2


def _step(step: str, x: float, y: float) -> str:
    if step in (START, END):
        return f'<circle cx="{x}" cy="{y}" r="7"/>'
    box = f'<rect x="{x - WIDTH / 2}" y="{y - HEIGHT / 2}" width="{WIDTH}" height="{HEIGHT}" rx="7"/>'
    return f'{box}<text x="{x}" y="{y}" dy=".35em">{escape(step)}</text>'


if __name__ == "__main__":
    target = ROOT / "docs" / "graph.svg"
    target.write_text(draw(), encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")
