"""`import napari_sam` is cheap, loads nothing heavy, and yet offers every public name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import napari_sam

SRC = Path(__file__).resolve().parents[1] / "src"
LIMIT_S = 0.2
HELP_LIMIT_S = 0.5
HEAVY = ("torch", "numpy", "napari", "qtpy", "magicgui", "dask", "zarr", "skimage", "scipy")


def run_python(code: str) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SRC)!r}); {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_importing_the_package_takes_less_than_the_limit():
    measure = "import time; t = time.perf_counter(); import napari_sam; print(time.perf_counter() - t)"
    # The best of three: a busy machine makes one of them slow, a heavy import all of them.
    assert min(float(run_python(measure)) for _ in range(3)) < LIMIT_S


def seconds_of_help() -> float:
    """Of the processor: what else runs on the machine is not the command's fault."""
    begun = os.times()
    assert "segment" in run_python("from napari_sam.cli import main; sys.exit(main(['--help']))")
    done = os.times()
    return done.children_user + done.children_system - begun.children_user - begun.children_system


def test_help_of_the_command_line_takes_less_than_the_limit():
    assert min(seconds_of_help() for _ in range(3)) < HELP_LIMIT_S


def test_importing_the_package_loads_no_heavy_library():
    loaded = run_python(f"import sys, napari_sam; print([m for m in {HEAVY} if m in sys.modules])")
    assert loaded == "[]"


def test_the_public_names_are_listed_without_loading_them():
    listed = run_python("import sys, napari_sam; print('segment' in dir(napari_sam), 'torch' in sys.modules)")
    assert listed == "True False"


@pytest.mark.parametrize("name", napari_sam.__all__)
def test_every_public_name_can_be_had(name):
    assert getattr(napari_sam, name) is not None


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"'napari_sam' has no attribute 'segmnt'; public names: .*segment"):
        _ = napari_sam.segmnt
