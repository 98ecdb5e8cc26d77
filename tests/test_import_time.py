"""`import napari_sam` is cheap, loads nothing heavy, and yet offers every public name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import napari_sam

SRC = Path(__file__).resolve().parents[1] / "src"
LIMIT_S = 0.2
HELP_LIMIT_S = 0.5
COMMAND_HELP_LIMIT_S = 1.0
HEAVY = ("torch", "numpy", "napari", "qtpy", "magicgui", "dask", "zarr", "skimage", "scipy")
NOT_FOR_HELP = (*(name for name in HEAVY if name != "numpy"), "distributed", "tifffile", "imagecodecs", "matplotlib")
WALK = f"""
import contextlib, io, json
from napari_sam.cli import app, main

def walk(level, words):
    for name in level:
        if not name.startswith("-"):
            yield from walk(level[name], [*words, name])
    yield words

answers, before = [], set()
for words in walk(app, []):
    for option in "--help", "--no-such-option":
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            code = main([*words, option])
        loaded = {{*{NOT_FOR_HELP}}} & {{*sys.modules}}
        answers.append([" ".join([*words, option]), code, text.getvalue(), sorted(loaded - before)])
        before |= loaded
print(json.dumps(answers))
"""
"""Asks every command for help, and mistypes an option of it, subcommands first: what each answers, and what heavy it is
the first to load."""


def run_python(code: str) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SRC)!r}); {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_importing_the_package_takes_less_than_the_limit():
    measure = "import time; t = time.perf_counter(); import napari_sam; print(time.perf_counter() - t)"
    # The best of three: a busy machine makes one of them slow, a heavy import all of them.
    assert min(float(run_python(measure)) for _ in range(3)) < LIMIT_S


def seconds_of_help(*words: str) -> float:
    """Of the processor: what else runs on the machine is not the command's fault."""
    begun = os.times()
    assert "Usage: napari-sam" in run_python(f"from napari_sam.cli import main; sys.exit(main({[*words, '--help']}))")
    done = os.times()
    return done.children_user + done.children_system - begun.children_user - begun.children_system


def test_help_of_the_command_line_takes_less_than_the_limit():
    assert min(seconds_of_help() for _ in range(3)) < HELP_LIMIT_S
    assert min(seconds_of_help("segment-stack") for _ in range(3)) < COMMAND_HELP_LIMIT_S


def test_help_and_a_mistyped_option_of_every_command_load_no_heavy_library():
    answers = json.loads(run_python(WALK))
    assert {"--help", "segment --help", "measure edges --no-such-option"} <= {given for given, *_ in answers}
    for given, code, text, loaded in answers:
        assert loaded == [], f"napari-sam {given} loads {', '.join(loaded)}; import them where the command runs"
        own_help = "See: " + f"napari-sam {given}".replace("--no-such-option", "--help")
        expected = (0, "Usage: napari-sam") if given.endswith("--help") else (2, own_help)
        assert (code, expected[1] in text) == (expected[0], True), f"napari-sam {given} ends with {code}: {text}"


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
