"""Runs: what is finished is kept, what fails is listed, and no order or interruption changes the outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiling_synthetic import Picture, blobs, key_of, reprompt, segment

from napari_sam.errors import OutputError, TilingError
from napari_sam.geometry import Box, Mask
from napari_sam.tiling import Ledger, TilePlan, TilingConfig, merge_tiles, plan_tiles, run_tiles

PICTURE = Picture(blobs((120, 150), 5, n=60, radius=(2, 12)))
CONFIG = TilingConfig(core_px=40, halo_px=8)


@pytest.fixture
def plan() -> TilePlan:
    return plan_tiles(PICTURE.size, CONFIG)


def opened(folder: Path, plan: TilePlan, **changes: object) -> Ledger:
    return Ledger.open(folder, key_of(PICTURE, plan, CONFIG, **changes), PICTURE.size)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def undisturbed(tmp_path, plan) -> dict[str, bytes]:
    with opened(tmp_path / "undisturbed", plan) as ledger:
        run_tiles(PICTURE.read, plan, segment, ledger)
        merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
    return files(tmp_path / "undisturbed")


class Fails:
    """Segments, but raises `error` at the given calls (counted from 0)."""

    def __init__(self, error: type[BaseException], *calls: int) -> None:
        self._error, self._calls, self._n = error, calls, -1

    def __call__(self, pixels: np.ndarray) -> list[Mask]:
        self._n += 1
        if self._n in self._calls:
            raise self._error("on purpose")
        return segment(pixels)


@pytest.mark.parametrize("stops", [(0,), (3, 1, 2), (1, 1, 1, 1), (11, 0)], ids=str)
def test_a_run_interrupted_anywhere_ends_with_the_same_bytes(tmp_path, plan, undisturbed, stops):
    finished = 0
    for stop in stops:
        with opened(tmp_path / "run", plan) as ledger:
            summary = run_tiles(PICTURE.read, plan, Fails(KeyboardInterrupt, stop), ledger)
            assert summary.interrupted
            assert (summary.finished, summary.reused) == (finished + stop, finished)
            finished += stop
    with opened(tmp_path / "run", plan) as ledger:
        assert run_tiles(PICTURE.read, plan, segment, ledger).is_complete
        merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
    assert files(tmp_path / "run") == undisturbed


def test_a_merge_interrupted_while_prompting_again_ends_with_the_same_bytes(tmp_path, plan, undisturbed):
    asked = []

    def stops_later(pixels: np.ndarray, fragment: Mask) -> Mask | None:
        asked.append(fragment.box)
        if len(asked) in (1, 2):
            raise KeyboardInterrupt
        return reprompt(pixels, fragment)

    with opened(tmp_path / "run", plan) as ledger:
        run_tiles(PICTURE.read, plan, segment, ledger)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                merge_tiles(ledger, plan, PICTURE.read, stops_later, CONFIG)
        n_asked = len(asked)
        objects = merge_tiles(ledger, plan, PICTURE.read, stops_later, CONFIG)
    assert n_asked == 2
    assert len(asked) - 2 == objects.summary.cut_objects_reprompted
    assert files(tmp_path / "run") == undisturbed


def test_a_finished_merge_is_read_back_without_asking(tmp_path, plan):
    def never(*_: object) -> None:
        pytest.fail("asked again")

    with opened(tmp_path, plan) as ledger:
        run_tiles(PICTURE.read, plan, segment, ledger)
        first = merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
        again = merge_tiles(ledger, plan, never, never, CONFIG)
    assert again.summary == first.summary
    assert list(again.iter_masks()) == list(first.iter_masks())


def test_a_changed_threshold_merges_again_but_segments_nothing(tmp_path, plan):
    with opened(tmp_path, plan) as ledger:
        run_tiles(PICTURE.read, plan, segment, ledger)
    with opened(tmp_path, plan, merge={"merge_iou_thresh": 0.9}) as ledger:
        summary = run_tiles(PICTURE.read, plan, Fails(RuntimeError, 0), ledger)
        assert (summary.reused, summary.failed) == (len(plan.tiles), {})
        config = TilingConfig(core_px=40, halo_px=8, merge_iou_thresh=0.9)
        assert len(merge_tiles(ledger, plan, PICTURE.read, reprompt, config)) > 0


def test_a_failed_tile_is_listed_and_tried_again_and_the_others_go_on(tmp_path, plan, undisturbed):
    with opened(tmp_path / "run", plan) as ledger:
        summary = run_tiles(PICTURE.read, plan, Fails(ValueError, 2, 5), ledger)
        assert summary.failed == {2: "ValueError: on purpose", 5: "ValueError: on purpose"}
        assert (summary.finished, summary.interrupted, summary.is_complete) == (11, False, False)
        assert ledger.tiles.failures() == summary.failed
        merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
    with opened(tmp_path / "run", plan) as ledger:
        summary = run_tiles(PICTURE.read, plan, segment, ledger)
        assert (summary.failed, summary.reused, summary.is_complete) == ({}, 11, True)
        assert ledger.tiles.failures() == {}
        merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
    mine, theirs = files(tmp_path / "run"), undisturbed
    objects = next(name for name in theirs if name.endswith("objects.npz"))
    assert mine[objects] == theirs[objects]


def test_an_unreadable_part_of_the_image_fails_its_tiles_only(tmp_path, plan):
    def read(box, step):
        if box.contains(75, 60):
            raise OSError("chunk 7 is gone")
        return PICTURE.read(box, step)

    with opened(tmp_path, plan) as ledger:
        summary = run_tiles(read, plan, segment, ledger)
    assert set(summary.failed.values()) == {"OSError: chunk 7 is gone"}
    assert set(summary.failed) == {tile.index for tile in plan.tiles if tile.read.contains(75, 60)}


def test_a_damaged_tile_file_is_made_again(tmp_path, plan, undisturbed):
    with opened(tmp_path / "run", plan) as ledger:
        run_tiles(PICTURE.read, plan, segment, ledger)
        ledger.tiles.path(4).write_bytes(b"PK" + b"x" * 30)
        ledger.tiles.path(6).unlink()
        assert run_tiles(PICTURE.read, plan, segment, ledger).reused == 11
        merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
    assert files(tmp_path / "run") == undisturbed


def test_a_damaged_answer_is_asked_for_again(tmp_path, plan, undisturbed):
    with opened(tmp_path / "run", plan) as ledger:
        run_tiles(PICTURE.read, plan, segment, ledger)
        merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
        answers = sorted(ledger.stage_folder("merge").glob("reprompt-*.npz"))
        answers[0].unlink()
        answers[1].write_bytes(answers[1].read_bytes()[:-200])
        merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
    assert files(tmp_path / "run") == undisturbed


def test_a_damaged_tile_that_fails_when_it_is_made_again_does_not_stop_the_merge(tmp_path, plan):
    with opened(tmp_path, plan) as ledger:
        run_tiles(PICTURE.read, plan, segment, ledger)
        ledger.tiles.path(4).write_bytes(b"PK")
        assert set(run_tiles(PICTURE.read, plan, Fails(ValueError, 0), ledger).failed) == {4}
        assert len(merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)) > 0


def test_masks_in_another_frame_than_the_tile_fail_it_and_say_why(tmp_path, plan):
    with opened(tmp_path, plan) as ledger:
        summary = run_tiles(PICTURE.read, plan, lambda pixels: [Mask.from_array(np.ones((3, 3)))], ledger)
    assert len(summary.failed) == len(plan.tiles)
    assert "masks in the frame of its tile, (56, 56) (H, W), got one in (3, 3)" in summary.failed[0]


def test_a_stop_saves_the_tiles_that_were_begun_and_begins_no_other(tmp_path, plan):
    done = []
    with opened(tmp_path, plan) as ledger:
        summary = run_tiles(
            PICTURE.read,
            plan,
            segment,
            ledger,
            workers=2,
            progress=lambda n, total: done.append((n, total)),
            should_stop=lambda: len(done) >= 3,
        )
        assert summary.interrupted
        assert 3 <= summary.finished < len(plan.tiles)
        assert [tile.index for tile in plan.tiles if ledger.tiles.is_finished(tile.index)] == list(
            range(summary.finished)
        )
    assert done == [(n, len(plan.tiles)) for n in range(1, summary.finished + 1)]


def test_skipped_tiles_are_recorded_and_not_read(tmp_path):
    plan = plan_tiles(PICTURE.size, CONFIG, keep=lambda tile: tile.index % 2 == 0)
    with opened(tmp_path, plan) as ledger:
        summary = run_tiles(PICTURE.read, plan, segment, ledger)
        assert (summary.tiles, summary.finished, summary.skipped) == (7, 7, 6)
        assert ledger.tiles.skipped() == [1, 3, 5, 7, 9, 11]
        assert not ledger.tiles.is_finished(1)


def test_tiles_left_out_by_a_later_region_of_interest_do_not_count_in_the_merge(tmp_path, plan):
    with opened(tmp_path, plan) as ledger:
        run_tiles(PICTURE.read, plan, segment, ledger)
        whole = merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
        part_plan = plan_tiles(PICTURE.size, CONFIG, keep=lambda tile: tile.index == 0)
        part = merge_tiles(ledger, part_plan, PICTURE.read, reprompt, CONFIG)
    assert 0 < len(part) < len(whole)


def test_the_next_tile_is_read_while_one_is_segmented(tmp_path, plan):
    begun = [threading.Event() for _ in plan.tiles]
    met: list[bool] = []

    def read(box: Box, step: int) -> np.ndarray:
        next(event for event in begun if not event.is_set()).set()
        return PICTURE.read(box, step)

    def waits_for_the_next(pixels: np.ndarray) -> list[Mask]:
        following = begun[len(met) + 1 : len(met) + 2]
        met.append(all(event.wait(timeout=20) for event in following))
        return segment(pixels)

    with opened(tmp_path / "run", plan) as ledger:
        assert run_tiles(read, plan, waits_for_the_next, ledger).is_complete
    assert met == [True] * len(plan.tiles)


def test_no_more_tiles_are_in_flight_than_asked_for(tmp_path, plan):
    running, most, lock = [0], [0], threading.Lock()

    def counts(pixels: np.ndarray) -> list[Mask]:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return segment(pixels)

    with opened(tmp_path, plan) as ledger:
        assert run_tiles(PICTURE.read, plan, counts, ledger, workers=3).is_complete
    assert 1 < most[0] <= 3


def test_a_full_disk_ends_the_run_instead_of_failing_every_tile(tmp_path, plan, monkeypatch):
    written = []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 3:
            raise OSError(28, "No space left on device")

    with opened(tmp_path, plan) as ledger:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            run_tiles(PICTURE.read, plan, segment, ledger, workers=2)
        assert ledger.tiles.failures() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"segment": segment, "workers": 0}, r"workers must be at least 1, got 0"),
        ({"segment": None}, r"in this process needs a segment function, got None"),
        ({"segment": None, "cluster": object()}, r"a cluster needs make_segment"),
    ],
    ids=["workers", "no function", "no maker"],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, plan, arguments, message):
    with opened(tmp_path, plan) as ledger, pytest.raises(TilingError, match=message):
        run_tiles(PICTURE.read, plan, ledger=ledger, **arguments)


SCRIPT = """
import sys, time
from pathlib import Path
sys.path[:0] = {paths!r}
from test_tiling_run import CONFIG, PICTURE, opened
from tiling_synthetic import reprompt, segment
from napari_sam.tiling import merge_tiles, plan_tiles, run_tiles

def slowly(pixels):
    time.sleep(0.02)
    return segment(pixels)

plan = plan_tiles(PICTURE.size, CONFIG)
with opened(Path({folder!r}), plan) as ledger:
    run_tiles(PICTURE.read, plan, slowly, ledger)
    merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
"""


def test_a_run_killed_at_once_goes_on_and_ends_with_the_same_bytes(tmp_path, plan, undisturbed):
    folder = tmp_path / "run"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "src")]
    script = SCRIPT.format(paths=paths, folder=str(folder))
    for pattern, n in (("tiles-*/tile-*.npz", 5), ("merge-*/reprompt-*.npz", 2)):
        process = subprocess.Popen([sys.executable, "-c", script])
        while process.poll() is None and len(list(folder.glob(pattern))) < n:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(list(folder.glob(pattern))) >= n
    with opened(folder, plan) as ledger:
        assert run_tiles(PICTURE.read, plan, segment, ledger).is_complete
        merge_tiles(ledger, plan, PICTURE.read, reprompt, CONFIG)
    assert files(folder) == undisturbed
