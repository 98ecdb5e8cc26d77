"""Automatic masks as objects of a session: thresholds, what is there already, results on disk, interruptions."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.session import AnnotationSession
from napari_sam.errors import AnnotationError, ConfigError, ImageError, JournalError, RunInterrupted
from napari_sam.geometry import Box, Mask
from napari_sam.workflows import segment
from napari_sam.workflows.annotating.data_engine import (
    FoundMasks,
    ObjectFilterConfig,
    automatic_output,
    batches,
    prefill,
    prefill_automatic,
    read_masks,
)
from napari_sam.workflows.annotating.result_review import open_review, review_journal
from napari_sam.workflows.annotating.review import (
    Place,
    PlaceCount,
    ReviewRecord,
    ReviewRound,
    read_record,
    record_path,
    review_queue,
    write_record,
)
from workflows.workflows_scenes import TILES, scene, squares, stand_in, tiny_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def result(tmp_path, monkeypatch):
    """An automatic run of a stand-in on a colour image of many shapes: image, labels."""
    stand_in(monkeypatch)
    made = segment(scene(), tmp_path / "run.ome.zarr", tiny_model(), tiling=TILES, table=tmp_path / "run.csv")
    assert len(made.table) > 10
    return scene(), tmp_path / "run.ome.zarr", made


def test_prefilled_objects_are_the_masks_of_the_run_and_one_undo_takes_them_back(monkeypatch, tmp_path):
    stand_in(monkeypatch)
    image = scene()
    with AnnotationSession(AnnotatedImage.open(image), tmp_path / "a.annotation.jsonl") as session:
        told = []
        report = prefill_automatic(
            session, tiny_model(), mode="automatic", progress=lambda stage, done, total: told.append(stage)
        )
        assert report.prefilled == report.passed == report.found == len(session.objects) > 10
        alone = segment(image, tmp_path / "alone.ome.zarr", tiny_model())
        np.testing.assert_array_equal(np.asarray(session.labels), np.asarray(alone.labels))
        assert (session.mode, "tiles" in told) == ("automatic", True)
        assert {known.origin for known in session.objects.values()} == {"prefilled"}
        assert automatic_output(session, tiny_model()) == tmp_path / "a.automatic-tiny.ome.zarr"
        assert automatic_output(session, tiny_model()).is_dir()
        session.undo()
        assert not session.objects


def test_thresholds_choose_and_objects_that_are_there_stay(result):
    image, labels, made = result
    best = ObjectFilterConfig(min_area_px=int(np.median(made.table.area_px)))
    found = read_masks(labels, image.shape[:2], best, mode="semi-automatic")
    assert 0 < len(found.masks) < found.total == len(made.table)
    with AnnotationSession(AnnotatedImage.open(image)) as session:
        first = found.masks[0].mask
        session.prefill([first])
        report = prefill(session, found)
        assert report.prefilled == report.passed - 1
        assert (np.asarray(session.labels) == 1).sum() == first.area
        assert session.mode == "semi-automatic"
        assert prefill(session, found).prefilled == 0


def test_batches_hold_everything_once_in_order():
    masks = tuple(range(40))
    parts = batches(FoundMasks(masks, 50, "automatic"), 16)
    assert [len(part.masks) for part in parts] == [16, 16, 8]
    assert sum((part.masks for part in parts), ()) == masks
    assert [part.total for part in batches(FoundMasks((), 50, "automatic"))] == [50]


def test_a_result_becomes_a_session_with_its_labels_scores_and_seams(result):
    image, labels, made = result
    table = labels.with_name("run.csv")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[4]["touches_seam"] = "True"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    opened = open_review(image, labels, segmenter(), axes="YXS")
    session = opened.session
    np.testing.assert_array_equal(np.asarray(session.labels), np.asarray(made.labels))
    assert review_queue(session.objects)[0].label == 5
    assert session.mode == "review"
    scores = [session.objects[label].predicted_iou for label in made.table.label.tolist() if label in session.objects]
    assert scores == pytest.approx(made.table.predicted_iou[[label - 1 for label in session.objects]])
    session.review(5, "rejected")
    session.close()
    again = open_review(image, labels, segmenter(), axes="YXS")
    assert again.was_resumed
    assert again.session.objects[5].verdict == "rejected"
    again.session.close()
    assert review_journal(labels).is_file()


def segmenter():
    from napari_sam.workflows.annotating.sessions import make_segmenter

    return make_segmenter(tiny_model())


def test_a_review_that_was_killed_at_its_beginning_is_filled_when_it_is_opened_again(result):
    image, labels, made = result
    AnnotationSession(AnnotatedImage.open(image, axes="YXS"), review_journal(labels)).close()
    opened = open_review(image, labels, segmenter(), axes="YXS")
    assert opened.was_resumed
    assert len(opened.session.objects) == len(np.unique(np.asarray(made.labels))) - 1
    opened.session.close()


def test_a_stopped_reading_leaves_no_session_open(result):
    image, labels, _ = result
    asked = []

    def stop_while_reading():
        asked.append(1)
        return len(asked) > 5

    with pytest.raises(RunInterrupted, match="reading the result was stopped"):
        open_review(image, labels, segmenter(), axes="YXS", should_stop=stop_while_reading)
    open_review(image, labels, segmenter(), axes="YXS").session.close()


def test_what_does_not_fit_is_refused(result, tmp_path):
    _, labels, _ = result
    with pytest.raises(ImageError, match=r"\(200, 230\) rows and columns, the image \(200, 229\); choose the image"):
        read_masks(labels, (200, 229))
    labels.with_name("run.csv").rename(tmp_path / "elsewhere.csv")
    with pytest.raises(ImageError, match=r"cannot read the table .*run\.csv"):
        read_masks(labels, (200, 230))
    with AnnotationSession(AnnotatedImage.open(squares())) as session:
        assert automatic_output(session, "nano") is None
        with pytest.raises(ConfigError, match="semi-automatic and automatic, got 'review'"):
            prefill_automatic(session, tiny_model(), mode="review")
        with pytest.raises(ConfigError, match="one of this package's models, got int"):
            prefill_automatic(session, 3)


def test_a_stack_is_not_a_result(result, tmp_path):
    _, labels, _ = result
    with pytest.raises(ImageError, match="has 3 planes; take that plane as a layer of its own"):
        open_review(np.zeros((3, 200, 230), np.uint8), labels, segmenter(), axes="ZYX", journal=tmp_path / "j.jsonl")


def round_of(count=4):
    session = AnnotationSession(AnnotatedImage.open(np.zeros((20, 40), np.uint8)))
    masks = [
        Mask.from_window(np.ones((4, 4), bool), Box(5 * i, 2, 5 * i + 4, 6), (20, 40), predicted_iou=0.9 - 0.1 * i)
        for i in range(count)
    ]
    session.prefill(masks)
    return ReviewRound(session, [item.label for item in review_queue(session.objects)])


def test_a_round_follows_the_session_through_verdicts_undo_deletion_and_skips():
    running = round_of()
    session = running.session
    assert running.current.label == 4
    running.judge("accepted", 9)
    assert (session.objects[4].rating, running.current.label, running.done) == (9, 3, 1)
    session.undo()
    assert (running.current.label, running.done) == (4, 0)
    running.skip()
    session.delete([3])
    assert running.current.label == 2
    running.judge("fixed")
    running.judge("rejected")
    assert running.current is None
    assert (running.done, running.skipped) == (3, 1)
    with pytest.raises(AnnotationError, match="every object of this round was looked at; begin another one"):
        running.judge("accepted")


def test_the_record_of_audits_is_kept_and_counts_what_was_deleted_as_wrong(tmp_path):
    journal = tmp_path / "j.jsonl"
    assert read_record(journal) == read_record(None) == ReviewRecord()
    place, other = Place((), Box(0, 0, 9, 9)), Place((1, 2), Box(3, 4, 5, 6))
    record = ReviewRecord(sample=(1, 2, 3)).with_count(PlaceCount(place, 4, 0)).with_count(PlaceCount(other, 1, 2))
    write_record(journal, record)
    assert read_record(journal) == record
    assert record.complete == (place,)
    assert (record.recall().count, record.recall().total) == (5, 7)
    running = round_of(3)
    running.session.review(1, "accepted")
    running.session.delete([2])
    assert (record.precision(running.session.objects).count, record.precision(running.session.objects).total) == (1, 2)
    record_path(journal).write_text("{}")
    with pytest.raises(JournalError, match=r"delete it to audit anew. Objects and verdicts are in the journal"):
        read_record(journal)
