"""kill -9 in every stage of a run: the same call goes on, and ends with the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workflows.workflows_scenes import digest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_run_that_was_killed_again_and_again_ends_with_the_same_bytes(tmp_path):
    script = Path(__file__).with_name("workflows_killed.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "calm ended 0",
        "at some moment killed",
        "in the tiles killed",
        "in the merge killed",
        "in the labels killed",
        "at last ended 0",
    ], done.stderr
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert digest(killed / "out.ome.zarr") == digest(calm / "out.ome.zarr")
    assert (killed / "t.csv").read_bytes() == (calm / "t.csv").read_bytes()
    assert (calm / "t.csv").read_bytes().count(b"\n") > 5
    assert sorted(path.name for path in killed.iterdir()) == ["out.ome.zarr", "out.ome.zarr.run", "t.csv"]
