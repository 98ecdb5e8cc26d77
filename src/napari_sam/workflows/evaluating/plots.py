"""Plots of a measurement as SVG text: means with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Told apart by colour-blind readers as well."""
WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 60, 48
ROW_PX = 24
NAME_PX = 190
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

Interval = Sequence[float] | None


@dataclass(frozen=True, slots=True)
class Series:
    """Means in [0, 1], at places along x or of named rows, and the interval of each."""

    name: str
    values: Sequence[float]
    intervals: Sequence[Interval]


def line_plot(series: Sequence[Series], ticks: Sequence[str], *, title: str, x_label: str, y_label: str) -> str:
    """Lines over `ticks`, which stand at equal distances, with a bar for each interval."""
    step = (WIDTH - LEFT - RIGHT) / len(ticks)

    def x_of(number: int, shift: float = 0) -> float:
        return LEFT + (number + 0.5) * step + shift

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM)

    parts = [_line(LEFT, y_of(v), WIDTH - RIGHT, y_of(v), "#dddddd") for v in TICKS]
    parts += [_text(LEFT - 8, y_of(v) + 4, f"{v:.1f}", "end") for v in TICKS]
    parts += [_text(x_of(i), HEIGHT - BOTTOM + 18, tick, "middle") for i, tick in enumerate(ticks)]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, "middle"))
    parts.append(_text(16, (HEIGHT - BOTTOM + TOP) / 2, y_label, "middle", turned=True))
    for number, of in enumerate(series):
        colour, shift = COLOURS[number % len(COLOURS)], 4 * (number - (len(series) - 1) / 2)
        places = [(x_of(i, shift), y_of(v)) for i, v in enumerate(of.values)]
        parts.append(f'<polyline points="{_points(places)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), interval in zip(places, of.intervals, strict=True):
            if interval is not None:
                parts.append(_line(x, y_of(interval[0]), x, y_of(interval[1]), colour))
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    return _svg(HEIGHT, title, [*parts, *_legend(series)])


def row_plot(series: Sequence[Series], rows: Sequence[str], *, title: str, x_label: str) -> str:
    """A line for each of `rows`, a dot and an interval for each series on it."""
    height = TOP + ROW_PX * len(rows) + BOTTOM

    def x_of(value: float) -> float:
        return NAME_PX + value * (WIDTH - NAME_PX - RIGHT)

    bottom = height - BOTTOM
    parts = [_line(x_of(v), TOP, x_of(v), bottom, "#dddddd") for v in TICKS]
    parts += [_text(x_of(v), bottom + 18, f"{v:.1f}", "middle") for v in TICKS]
    parts += [_text(NAME_PX - 10, TOP + ROW_PX * (i + 0.5) + 4, name, "end") for i, name in enumerate(rows)]
    parts.append(_text((NAME_PX + WIDTH - RIGHT) / 2, height - 8, x_label, "middle"))
    for number, of in enumerate(series):
        colour, shift = COLOURS[number % len(COLOURS)], 6 * (number - (len(series) - 1) / 2)
        for i, (value, interval) in enumerate(zip(of.values, of.intervals, strict=True)):
            y = TOP + ROW_PX * (i + 0.5) + shift
            if interval is not None:
                parts.append(_line(x_of(interval[0]), y, x_of(interval[1]), y, colour))
            parts.append(f'<circle cx="{x_of(value):.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    return _svg(height, title, [*parts, *_legend(series)])


def _legend(series: Sequence[Series]) -> list[str]:
    step = (WIDTH - LEFT - RIGHT) / max(len(series), 1)
    return [
        f'<circle cx="{LEFT + i * step:.1f}" cy="40" r="4" fill="{COLOURS[i % len(COLOURS)]}"/>'
        + _text(LEFT + 10 + i * step, 44, of.name, "start")
        for i, of in enumerate(series)
    ]


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" font-family="sans-serif" '
        f'font-size="12"><title>{escape(title)}</title><rect width="{WIDTH}" height="{height:.0f}" fill="white"/>\n'
        + f'<text x="{LEFT}" y="20" font-size="14" font-weight="bold">{escape(title)}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _line(x0: float, y0: float, x1: float, y1: float, colour: str) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str, anchor: str, *, turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'
