"""A small form of the benchmarks: ratios of processor time, with room for a busy machine, and the table they make.

`python -m benchmarks` is the large form; docs/speed.md tells what it measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import batches
from benchmarks.__main__ import markdown, rows_of
from benchmarks.cases import all_cases
from benchmarks.measuring import Case, measure, ratio

# Measured: 2.9, 2.6, 6 to 11, 183 and 52. Beside two trainings less is left: of the last once 7.
LEAST_RATIOS = {
    "encoder_vit_b": {"ours": 1.0},
    "encoder_vit_t": {"ours": 1.2},
    "decoder_vit_b": {"all masks": 1.5, "one in nine": 2.0, "ratings only": 2.5},
    "upsampling": {"ours": 4.0},
    "mask_nms": {"ours": 4.0},
}
ARGUMENTS = argparse.Namespace(repeats=1, threads=1, small=True, points_per_side=2)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.timeout(300)  # beside other work
@pytest.mark.parametrize("name", LEAST_RATIOS)
def test_what_was_made_fast_is_as_fast_as_it_was_and_gives_the_same(name):
    case = all_cases(small=True)[name]
    times = measure(case, repeats=3)  # raises where the results differ
    reached = {way: ratio(times, case.baseline, way) for way in LEAST_RATIOS[name]}
    assert all(reached[way] >= least for way, least in LEAST_RATIOS[name].items()), reached


def test_the_table_tells_each_way_its_ratio_and_whether_its_limits_are_kept():
    case = Case(
        title="counting",
        ways={"slow": lambda: lambda: sum(range(3_000_000)), "fast": lambda: lambda: 2_999_999 * 1_500_000},
        baseline="slow",
        least_ratios={"fast": 2.0},
        most_seconds={"slow": 0.0},
        check=lambda results: None,
    )
    rows = rows_of("counting", case, ARGUMENTS)
    assert [row["kept"] for row in rows] == [False, True]
    assert rows[0]["ratio"] is None
    assert rows[1]["ratio"] > 2
    table = markdown(rows, {"cores": 2}).splitlines()
    assert table[0] == "cores 2"
    assert "| counting | slow |" in table[4]
    assert table[4].endswith("| 0 s | no |")
    assert table[5].endswith("| 2 times faster | yes |")


def test_ways_that_differ_are_told():
    def check(results: dict[str, object]) -> None:
        assert results["one"] == results["two"]

    case = Case(title="differ", ways={"one": lambda: lambda: 1, "two": lambda: lambda: 2}, check=check)
    with pytest.raises(AssertionError):
        measure(case, repeats=1)


def test_the_repetitions_of_all_ways_are_interleaved_and_the_best_counts():
    calls: list[str] = []
    ways = {name: (lambda name=name: lambda: calls.append(name)) for name in "ab"}
    measure(Case(title="order", ways=ways), repeats=3)
    assert calls == ["a", "b"] * 3


def test_batches_are_measured_by_the_encoder_alone_and_in_whole_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["batches.py", "--models", "nano", "--device", "cpu", "--side", "256"])
    sys.argv += ["--sizes", "1", "2", "--seconds", "0.01"]
    batches.main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| nano")]
    assert [row[2:4] for row in rows] == [[f, n] for n in "12" for f in ("auto", "fp32")] + [
        ["auto", "1"],
        ["auto", "2"],
    ]
    assert all(float(row[4].split()[0]) > 0 for row in rows)
