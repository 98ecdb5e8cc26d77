"""The curves of a training as a picture (SVG), drawn from its logs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 130, 28, 34
COLOURS = ("#1f6fb4", "#d9541e", "#2a9d4a", "#8450b0", "#8a6d3b", "#c2388c", "#607080", "#b8a100")
POINTS_AT_MOST = 50

Row = Mapping[str, str]
Curve = tuple[Sequence[float], Sequence[float]]
"""Places along x and values."""


def write_plot(path: Path, losses: Sequence[Row], validations: Sequence[Row]) -> None:
    """Write curves of the log's rows and of the validations' over the steps; columns without values are left out."""
    panels = [
        ("losses", _curves(losses, ("offset", "foreground", "border", "heat", "mask1", "mask2", "mask3"))),
        ("IoU in training, by round", _curves(losses, ("iou1", "iou2", "iou3", "iou5", "iou8", "iou11"))),
        ("validation", _curves(validations, ("score", "one_click", "box", "ap50", "msa"))),
    ]
    drawn = [(title, curves) for title, curves in panels if curves]
    body = "".join(_panel(title, curves, i * HEIGHT) for i, (title, curves) in enumerate(drawn))
    size = f'width="{WIDTH}" height="{HEIGHT * max(1, len(drawn))}"'
    text = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">{body}</svg>\n'
    part = path.with_suffix(".tmp")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _curves(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, Curve]:
    curves = {}
    for column in columns:
        filled = [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
        if filled:
            x, y = zip(*filled, strict=True)
            curves[column] = _thinned(x, y)
    return curves


def _thinned(x: Sequence[float], y: Sequence[float]) -> Curve:
    """Medians of neighbours: crops differ more than a network changes, and one odd crop would set the scale."""
    parts = min(len(x), POINTS_AT_MOST)
    return tuple([float(np.median(p)) for p in np.array_split(np.asarray(v), parts)] for v in (x, y))  # type: ignore[return-value]


def _panel(title: str, curves: Mapping[str, Curve], top: int) -> str:
    last = max(max(x) for x, _ in curves.values()) or 1.0
    highest = max(max(y) for _, y in curves.values()) or 1.0
    right, bottom = WIDTH - RIGHT, top + HEIGHT - BOTTOM

    def place(x: float, y: float) -> str:
        return f"{LEFT + x / last * (right - LEFT):.1f},{bottom - y / highest * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [
        f'<text x="{LEFT}" y="{top + 18}" font-weight="bold">{escape(title)}</text>',
        f'<path d="M{LEFT},{top + TOP}V{bottom}H{right}" fill="none" stroke="#444"/>',
        f'<text x="{LEFT - 6}" y="{top + TOP + 4}" text-anchor="end">{highest:.3g}</text>',
        f'<text x="{LEFT - 6}" y="{bottom + 4}" text-anchor="end">0</text>',
        f'<text x="{right}" y="{bottom + 16}" text-anchor="end">step {last:.0f}</text>',
    ]
    for i, (name, (x, y)) in enumerate(curves.items()):
        colour, line = COLOURS[i % len(COLOURS)], " ".join(map(place, x, y))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(
            f'<circle cx="{line.split()[-1].split(",")[0]}" cy="{line.split(",")[-1]}" r="2" fill="{colour}"/>'
        )
        parts.append(
            f'<text x="{right + 10}" y="{top + TOP + 4 + 15 * i}" fill="{colour}">{escape(name)} {y[-1]:.3f}</text>'
        )
    return "".join(parts)
