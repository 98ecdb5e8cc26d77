"""What holds for all tests: marks that need something the machine may lack, and saying out loud what was left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a failure is one that anyone can repeat.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


@pytest.fixture
def shared_data() -> Path:
    """The folder of real labelled images beside the checkout; only for tests marked `shared_data`."""
    return SHARED_DATA


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu and not _has_gpu():
        for item in gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA or MPS device on this machine"))
    if not SHARED_DATA.is_dir():
        for item in items:
            if item.get_closest_marker("shared_data"):
                item.add_marker(pytest.mark.skip(reason=f"the images of {SHARED_DATA} are not on this machine"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out = len(terminalreporter.stats.get("skipped", []))
    if left_out:
        terminalreporter.write_line(f"LEFT OUT: {left_out} tests did not run; the reasons stand in the summary above.")
