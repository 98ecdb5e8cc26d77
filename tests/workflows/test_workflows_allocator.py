"""Allocator settings: what is set, what the user's own settings change, and that a bound is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from napari_sam.workflows.allocator import (
    ARENAS,
    MMAP_THRESHOLD_BYTES,
    TRIM_THRESHOLD_BYTES,
    give_back_freed_memory,
    keep_freed_memory,
)

VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(TRIM_THRESHOLD_BYTES),
    "MALLOC_ARENA_MAX": str(ARENAS),
}


class RecordingLibc:
    """Takes every setting but those it refuses, and remembers them."""

    def __init__(self, *refused: int) -> None:
        self.refused, self.asked = refused, {}

    def mallopt(self, parameter: int, value: int) -> int:
        self.asked[parameter] = value
        return 0 if parameter in self.refused else 1


def test_this_process_and_those_it_starts_are_set_alike():
    environment, libc = {}, RecordingLibc()
    assert keep_freed_memory(environment, libc)
    assert environment == VARIABLES
    assert libc.asked == {-3: MMAP_THRESHOLD_BYTES, -1: TRIM_THRESHOLD_BYTES, -8: ARENAS}


def test_what_the_user_has_set_stays():
    environment, libc = {"MALLOC_TRIM_THRESHOLD_": "1000"}, RecordingLibc()
    assert keep_freed_memory(environment, libc)
    assert environment == VARIABLES | {"MALLOC_TRIM_THRESHOLD_": "1000"}
    assert libc.asked == {-3: MMAP_THRESHOLD_BYTES, -8: ARENAS}


def test_a_setting_that_is_refused_is_told():
    assert not keep_freed_memory({}, RecordingLibc(-3))


def test_freed_memory_is_given_back_where_the_c_library_can():
    assert give_back_freed_memory(SimpleNamespace(malloc_trim=lambda pad: 1))
    assert not give_back_freed_memory(SimpleNamespace(malloc_trim=lambda pad: 0))
    assert not give_back_freed_memory(SimpleNamespace())


def test_without_glibc_nothing_is_changed():
    environment = {}
    assert not keep_freed_memory(environment, SimpleNamespace())
    assert environment == {}


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_are_left_alone(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    environment = {}
    assert not keep_freed_memory(environment)
    assert environment == {}


def test_the_command_line_sets_its_own_process_before_torch_is_loaded():
    script = """
import json, os, sys
import napari_sam.cli as cli
from napari_sam.workflows import allocator
seen = []
cli.keep_freed_memory = lambda: seen.append("torch" in sys.modules)
sys.argv = ["napari-sam", "--version"]
cli.main()
cli.main(["--version"])  # called from a program: its memory is its own affair
print(json.dumps(seen))
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(told.splitlines()[-1]) == [False]
