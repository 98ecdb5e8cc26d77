"""Times and memory of several ways to do the same thing, so that their ratios can be trusted on a busy machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from napari_sam.workflows.estimate import peak_rss_bytes

Way = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured, and what it should reach."""

    title: str
    ways: dict[str, Callable[[], Way]]
    """Name to a function that prepares a way (builds networks and so on) and returns what is timed."""
    alike: Callable[[], None] | None = None
    """Gives the networks of all ways the same weights; left out where the memory of one way is measured."""
    baseline: str | None = None
    """The way that the others are compared with."""
    least_ratios: dict[str, float] = field(default_factory=dict)
    """How many times faster than the baseline a way should be."""
    most_seconds: dict[str, float] = field(default_factory=dict)
    most_megabytes: dict[str, float] = field(default_factory=dict)
    check: Callable[[dict[str, object]], None] | None = None
    """Raises where the results of the ways, by name, are not equal."""
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class Seconds:
    """The best of several repetitions."""

    clock: float
    processor: float
    """Of all threads together; what else the machine does changes it less than the clock."""


def measure(case: Case, repeats: int | None = None) -> dict[str, Seconds]:
    """The best times of each way; repetitions are interleaved, so that a busy machine is busy for all."""
    ready = {name: prepare() for name, prepare in case.ways.items()}
    if case.alike is not None:
        case.alike()
    results: dict[str, object] = {}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ready}
    for _ in range(repeats or case.repeats):
        for name, way in ready.items():
            clock, processor = time.perf_counter(), _processor_seconds()
            results[name] = way()
            times[name].append((time.perf_counter() - clock, _processor_seconds() - processor))
    if case.check is not None:
        case.check(results)
    return {name: Seconds(*(min(column) for column in zip(*rows, strict=True))) for name, rows in times.items()}


def ratio(times: dict[str, Seconds], baseline: str, way: str) -> float:
    """How many times less of the processor `way` takes than `baseline`."""
    return times[baseline].processor / times[way].processor


def peak_megabytes(case: Case, way: str) -> float:
    """Peak memory of this process after one run of `way`: to be asked in a process of its own."""
    case.ways[way]()()
    return peak_rss_bytes() / 1e6


def machine() -> dict[str, object]:
    """What the figures depend on."""
    import numpy as np
    import torch

    import napari_sam

    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "load": [round(x, 1) for x in os.getloadavg()],
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "napari_sam": napari_sam.__version__,
    }


def _processor_seconds() -> float:
    spent = os.times()
    return time.process_time() + spent.children_user + spent.children_system


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
