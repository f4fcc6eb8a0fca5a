#!/usr/bin/env python3
"""Draws what growth.py measured, as docs/growth-SWEEP.svg.

    python3 bench/cpu/plot.py .cache/bench-cpu/results.jsonl
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
WIDTH, HEIGHT, LEFT, BELOW, ABOVE, RIGHT = 560, 300, 64, 44, 34, 118
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
AXES = {
    "prompt": "prompt rows in front of each text",
    "batch": "texts in a batch",
    "length": "tokens of a text, beside 20 prompt rows",
    "threads": "threads",
    "tasks": "prompts in the mix",
}


def main() -> int:
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    for sweep, title in AXES.items():
        curves: dict[str, dict[int, float]] = {}
        for line in lines:
            if line["bench"] == "cpu-growth" and line["sweep"] == sweep:
                curves.setdefault(f"{line['model']} {line['precision']}", {})[line["value"]] = line["ms"]
        if curves:
            (DOCS / f"growth-{sweep}.svg").write_text(drawing(title, curves), encoding="utf-8")
    return 0


def drawing(title: str, curves: dict[str, dict[int, float]]) -> str:
    """Both axes logarithmic: a straight line is a power."""
    xs = sorted({x for curve in curves.values() for x in curve})
    ys = [y for curve in curves.values() for y in curve.values()]
    low, high = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys)) + 1e-9)
    share = lambda value, least, most: (math.log(value) - math.log(least)) / max(math.log(most) - math.log(least), 1e-9)  # noqa: E731
    x_of = lambda x: LEFT + share(x, xs[0], xs[-1]) * (WIDTH - LEFT - RIGHT)  # noqa: E731
    y_of = lambda y: HEIGHT - BELOW - share(y, low, high) * (HEIGHT - ABOVE - BELOW)  # noqa: E731
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="18">milliseconds for a text, by {title}</text>',
    ]
    tick = low
    while tick <= high * 1.001:
        y = y_of(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        tick *= 10
    for x in xs:
        parts.append(f'<text x="{x_of(x):.1f}" y="{HEIGHT - BELOW + 18}" text-anchor="middle">{x:,}</text>')
    names = sorted(curves, key=lambda name: -curves[name][max(curves[name])])
    label_y = ABOVE
    for i, name in enumerate(names):
        curve, colour = sorted(curves[name].items()), COLOURS[i % len(COLOURS)]
        path = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in curve)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}"/>' for x, y in curve]
        label_y = max(label_y, y_of(curve[-1][1]))
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{label_y + 4:.1f}" fill="{colour}">{name}</text>')
        label_y += 14
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
