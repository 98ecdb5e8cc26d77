"""The command line: `napari-sam COMMAND`.

Each command is loaded when it is called, and imports what does its work when it runs: help and the answer to a mistyped
option need the settings alone, and come at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from cyclopts import App, CycloptsError

from napari_sam import __version__
from napari_sam.errors import DownloadError, NapariSamError, RunInterrupted
from napari_sam.workflows.allocator import keep_freed_memory

EXIT_FAILED = 1
EXIT_REFUSED = 2
EXIT_TILES_FAILED = 3
EXIT_INTERRUPTED = 130
DEBUG_VARIABLE = "NAPARI_SAM_DEBUG"
"""Set to anything, an unexpected error is shown with its traceback."""

app = App(
    name="napari-sam",
    help="Segment Anything for huge microscopy and aerial images.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.command("napari_sam.cli.segment:segment", name="segment", help="Outline all objects of an image of any size.")
app.command(
    "napari_sam.cli.stack:segment_stack_command",
    name="segment-stack",
    help="Outline all objects of a stack or film, linked from plane to plane.",
)
app.command("napari_sam.cli.boxes:boxes", name="boxes", help="Turn the boxes of a detector into instances.")
app.command("napari_sam.cli.edges:edges", name="edges", help="Write the edges of everything in an image.")
app.command("napari_sam.cli.propose:propose", name="propose", help="Propose objects of an image, ranked.")
app.command("napari_sam.cli.batch:batch", name="batch", help="Outline all objects of many images.")
app.command("napari_sam.cli.evaluate:evaluate", name="evaluate", help="Measure a model on images with known labels.")
app.command("napari_sam.cli.measure:app", name="measure", help="Measure edges, proposals and instances from boxes.")
app.command("napari_sam.cli.train:train", name="train", help="Train a model on images with known labels.")
app.command("napari_sam.cli.models:app", name="models", help="List, download, verify and export models.")
app.command("napari_sam.cli.replay:replay", name="replay", help="Write the labels of an annotation session.")
app.command("napari_sam.cli.export:export", name="export", help="Write finished objects in other formats.")
app.command("napari_sam.cli.dataset:app", name="dataset", help="Write, read, count and describe data sets.")
app.command("napari_sam.cli.text:text", name="text", help="Outline the objects that a text means.")
app.command("napari_sam.cli.doctor:doctor", name="doctor", help="Check this machine: device, models, memory, disk.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code says complete 0, failed 1, refused 2, tiles failed 3, interrupted 130."""
    if arguments is None:  # the process is ours, and nothing heavy is loaded yet
        keep_freed_memory()
        signal.signal(signal.SIGINT, _interrupted)
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(given, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        words = ["napari-sam", *app.parse_commands(given)[0], "--help"]
        return _told(f"{' '.join(str(error).split())} See: {' '.join(words)}", EXIT_REFUSED)
    except RunInterrupted as stopped:
        return _told(str(stopped), EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        return _told("interrupted; give the same command again to start it once more.", EXIT_INTERRUPTED)
    except NapariSamError as error:
        return _told(str(error), EXIT_FAILED if isinstance(error, DownloadError) else EXIT_REFUSED)
    except Exception as error:
        if DEBUG_VARIABLE in os.environ:
            raise
        hint = f"This is not expected; set {DEBUG_VARIABLE}=1 to see where it comes from, and report it."
        return _told(f"{type(error).__name__}: {error}. {hint}", EXIT_FAILED)
    return code if isinstance(code, int) else 0


def _told(text: str, code: int) -> int:
    print(f"napari-sam: {text}", file=sys.stderr)
    return code


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """The first Ctrl-C ends the work in order: what is being segmented is saved. The second one ends at once."""
    signal.signal(signal.SIGINT, _interrupted_again)
    raise KeyboardInterrupt


def _interrupted_again(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"napari-sam: stopped at once; finished tiles are kept, and the same command goes on from there.\n")
    os._exit(EXIT_INTERRUPTED)
