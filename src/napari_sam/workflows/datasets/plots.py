"""The paper's figures 5 and 6 of any data sets, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ConfigError
from napari_sam.tiling.writing import write_bytes
from napari_sam.workflows.datasets.statistics import (
    CENTRE_BINS,
    CONCAVITY_BINS,
    MASKS_PER_IMAGE,
    SIZE_BINS,
    DatasetStatistics,
    write_counts,
)
from napari_sam.workflows.evaluating.plots import COLOURS

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 60, 48
MAP_PX = 200
DARKEST = np.array([8, 48, 107])
"""Of a map: where the most masks have their centre; white is none."""


def write_statistics(found: Sequence[DatasetStatistics], folder: Path) -> list[Path]:
    """Write the counts as CSV and four plots as SVG into `folder`, which is made if missing.

    Raises
    ------
    ConfigError
        If no data set is given, or two have one name.
    OutputError
        If something cannot be written.
    """
    names = [statistics.name for statistics in found]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"data sets to compare need different names, got {', '.join(names) or 'none'}.")
    plots = {
        "centres": centres_plot(found),
        "masks_per_image": share_plot(
            {s.name: s.masks_per_image for s in found},
            [f"{low}-{high}" if high else f"> {low - 1}" for low, high in MASKS_PER_IMAGE],
            title="Number of masks per image",
            x_label="masks per image",
            y_label="% of images",
        ),
        "relative_size": share_plot(
            {s.name: s.relative_sizes for s in found},
            _numbered(SIZE_BINS),
            title="Relative size of masks",
            x_label="square root of mask area / image area",
            y_label="% of masks",
        ),
        "concavity": share_plot(
            {s.name: s.concavities(found[0].relative_sizes) for s in found},
            _numbered(CONCAVITY_BINS),
            title="Concavity of masks" + (" at equal sizes" if len(found) > 1 else ""),
            x_label="1 - mask area / area of its convex hull",
            y_label="% of masks",
        ),
    }
    written = write_counts(found, folder)
    for name, text in plots.items():
        write_bytes(folder / f"{name}.svg", text.encode())
    return [*written, *(folder / f"{name}.svg" for name in plots)]


def share_plot(
    shares: dict[str, NDArray[np.float64]], ticks: Sequence[str], *, title: str, x_label: str, y_label: str
) -> str:
    """Lines of shares (each of `len(ticks)` values in [0, 1]) over bins; an empty tick has no text."""
    highest = _round_up(max(float(values.max(initial=0)) for values in shares.values()))
    step = (WIDTH - LEFT - RIGHT) / len(ticks)
    bottom = HEIGHT - BOTTOM

    def place(i: int, value: float) -> tuple[float, float]:
        return LEFT + (i + 0.5) * step, bottom - value / highest * (bottom - TOP)

    parts = []
    for part in (0, 0.25, 0.5, 0.75, 1):
        _, y = place(0, part * highest)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{100 * part * highest:.3g}", "end"))
    parts += [_text(place(i, 0)[0], bottom + 18, tick, "middle") for i, tick in enumerate(ticks) if tick]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, "middle"))
    parts.append(_text(16, (bottom + TOP) / 2, y_label, "middle", turned=True))
    for number, (name, values) in enumerate(shares.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join("{:.1f},{:.1f}".format(*place(i, float(value))) for i, value in enumerate(values))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x = LEFT + number * (WIDTH - LEFT - RIGHT) / len(shares)
        parts.append(f'<circle cx="{x:.1f}" cy="40" r="4" fill="{colour}"/>' + _text(x + 10, 44, name, "start"))
    return _svg(WIDTH, HEIGHT, title, parts)


def centres_plot(found: Sequence[DatasetStatistics]) -> str:
    """A map of each data set: the darker a place, the more masks have their centre there."""
    cell = MAP_PX / CENTRE_BINS
    parts = []
    for number, statistics in enumerate(found):
        left = 20 + number * (MAP_PX + 20)
        # The square root shows thin places as well: the middle of most data sets outshines all else.
        strength = np.sqrt(statistics.centres / max(1, statistics.centres.max()))
        for (row, column), value in np.ndenumerate(strength):
            if value > 0:
                red, green, blue = np.round(255 + value * (DARKEST - 255)).astype(int)
                parts.append(
                    f'<rect x="{left + column * cell:.2f}" y="{60 + row * cell:.2f}" width="{cell:.2f}" '
                    f'height="{cell:.2f}" fill="rgb({red},{green},{blue})"/>'
                )
        parts.append(f'<rect x="{left}" y="60" width="{MAP_PX}" height="{MAP_PX}" fill="none" stroke="#444444"/>')
        parts.append(_text(left, 50, f"{statistics.name} ({statistics.masks} masks)", "start"))
    return _svg(20 + len(found) * (MAP_PX + 20), MAP_PX + 80, "Centres of masks in the image", parts)


def _numbered(bins: int) -> list[str]:
    """The lower edges of equal bins of 0 to 1, every fourth one shown."""
    return [f"{i / bins:.1f}" if i % 4 == 0 else "" for i in range(bins)]


def _round_up(value: float) -> float:
    """The end of the axis: the next share that four ticks divide evenly."""
    return next((end for end in (0.04, 0.08, 0.2, 0.4, 0.6, 0.8) if value <= end), 1.0)


def _text(x: float, y: float, text: str, anchor: str, *, turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" '
        f'font-size="12"><title>{escape(title)}</title><rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="20" y="20" font-size="14" font-weight="bold">{escape(title)}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
