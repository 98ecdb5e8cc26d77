"""All benchmarks in one run: how fast each piece is beside the plain way or the public reference, and its memory.

    python -m benchmarks [--only NAME ...] [--small] [--threads N] [--markdown FILE] [--json FILE]

Run it from the repository's root. Repetitions are interleaved and the best counts; ratios are of processor time, which
a busy machine changes less than the clock. Memory is measured in a process of its own for each way. "automatic_vit_b"
alone takes some minutes; `--small` leaves it out and takes small networks in the place of the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from benchmarks.cases import all_cases
from benchmarks.measuring import Case, machine, measure, peak_megabytes, ratio


def rows_of(name: str, case: Case, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each way of a case: seconds, ratio to the baseline, memory, and the limits that it should keep."""
    times = measure(case, arguments.repeats)
    rows = []
    for way, seconds in times.items():
        times_faster = None if case.baseline in (None, way) else ratio(times, str(case.baseline), way)
        wants_memory = way in case.most_megabytes or (case.most_megabytes and way == case.baseline)
        megabytes = _peak_in_own_process(name, way, arguments) if wants_memory else None
        limits = _limits(case, way)
        figures = {"ratio": times_faster, "seconds": min(seconds.clock, seconds.processor), "megabytes": megabytes}
        rows.append(
            {
                "case": name,
                "title": case.title,
                "way": way,
                "processor_s": seconds.processor,
                "clock_s": seconds.clock,
                "ratio": times_faster,
                "peak_mb": megabytes,
                "limits": limits,
                "kept": all(_keeps(figures[kind], kind, limit) for kind, limit in limits.items()),
            }
        )
    return rows


def _limits(case: Case, way: str) -> dict[str, float]:
    given = {"ratio": case.least_ratios, "seconds": case.most_seconds, "megabytes": case.most_megabytes}
    return {kind: values[way] for kind, values in given.items() if way in values}


def _keeps(figure: float | None, kind: str, limit: float) -> bool:
    return figure is None or (figure >= limit if kind == "ratio" else figure <= limit)


def _peak_in_own_process(name: str, way: str, arguments: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "benchmarks", "--only", name, "--peak-of", way]
    command += ["--threads", str(arguments.threads), "--points-per-side", str(arguments.points_per_side)]
    command += ["--small"] if arguments.small else []
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def markdown(rows: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """The table for people."""
    lines = [
        ", ".join(f"{key} {value}" for key, value in about.items()),
        "",
        "| what | way | processor | clock | times faster | peak memory | wanted | kept |",
        "|---|---|---|---|---|---|---|---|",
    ]
    words = {"ratio": "{:g} times faster", "seconds": "{:g} s", "megabytes": "{:g} MB"}
    for row in rows:
        wanted = ", ".join(words[kind].format(limit) for kind, limit in row["limits"].items())
        faster = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
        memory = "" if row["peak_mb"] is None else f"{row['peak_mb']:.0f} MB"
        kept = "" if not row["limits"] else "yes" if row["kept"] else "no"
        seconds = f"{_seconds(row['processor_s'])} | {_seconds(row['clock_s'])}"
        lines.append(f"| {row['title']} | {row['way']} | {seconds} | {faster} | {memory} | {wanted} | {kept} |")
    return "\n".join(lines) + "\n"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.5 else f"{1000 * value:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases to run, all if left out")
    parser.add_argument("--small", action="store_true", help="small networks, as the tests run them")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--points-per-side", type=int, default=32, help="of automatic masks; fewer take less time")
    parser.add_argument("--repeats", type=int, help="instead of each case's own number")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak-of", metavar="WAY", help="print the peak memory in MB of one way of one case")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cases = all_cases(small=arguments.small, points_per_side=arguments.points_per_side)
    chosen = arguments.only or list(cases)
    for name in chosen:
        if name not in cases:
            parser.error(f"no case is named {name!r}; there are {', '.join(cases)}.")
    if arguments.peak_of:
        print(peak_megabytes(cases[chosen[0]], arguments.peak_of))
        return
    about, rows = machine(), []
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows += rows_of(name, cases[name], arguments)
        if arguments.json:  # after each case: the last one takes minutes
            arguments.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1), encoding="utf-8")
        if arguments.markdown:
            arguments.markdown.write_text(markdown(rows, about), encoding="utf-8")
    print(markdown(rows, about))


if __name__ == "__main__":
    main()
