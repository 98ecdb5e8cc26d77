"""`make demo` without its model: the composed image, the comparison with known labels, what is printed."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_sam.errors import TrainingError
from napari_sam.workflows.samples.demo import compare, main, run_demo
from napari_sam.workflows.samples.images import FIELD_PX, REAL_IMAGES, Sample, coins, mosaic, nuclei

SMALL = (1, 2)


def squares(*corners: tuple[int, int], side: int = 4, shape: tuple[int, int] = (20, 20)) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


def sample_of(labels: np.ndarray, known: np.ndarray | None = None) -> Sample:
    return Sample(np.zeros(labels.shape, np.uint8), labels, known)


def test_labels_that_are_right_match_whatever_their_numbers():
    labels = squares((2, 2), (10, 12))
    overlaps = compare(labels * 41, sample_of(labels))
    assert (overlaps.n_true, overlaps.n_found) == (2, 2)
    np.testing.assert_array_equal(overlaps.best_iou(), [1.0, 1.0])


def test_objects_found_mostly_where_nothing_is_known_do_not_count():
    known = np.ones((20, 20), np.bool_)
    known[:, 10:] = False
    found = squares((2, 2), (2, 14), (10, 7), (15, 9))  # the third lies mostly where something is known
    overlaps = compare(found, sample_of(squares((2, 2)), known))
    assert (overlaps.n_true, overlaps.n_found) == (1, 2)


@pytest.mark.parametrize("found", [squares(), np.ones((20, 20), np.int32)], ids=["nothing", "one object of all pixels"])
def test_finding_nothing_or_everything_fits_nothing(found):
    overlaps = compare(found, sample_of(squares((2, 2)), np.ones((20, 20), np.bool_)))
    assert overlaps.best_iou()[0] < 0.5


def test_a_sample_without_labels_cannot_be_compared_with():
    with pytest.raises(TrainingError, match="nothing is known about the objects of this sample; take one with labels"):
        compare(squares(), coins())


def test_the_mosaic_is_the_same_for_the_same_seed_and_has_unique_labels():
    first, second = mosaic(seed=3, fields=SMALL), mosaic(seed=3, fields=SMALL)
    np.testing.assert_array_equal(first.image, second.image)
    assert first.image.shape == (FIELD_PX, 2 * FIELD_PX, 3)
    ids = np.unique(first.labels)
    np.testing.assert_array_equal(ids, np.arange(len(ids)))


def test_the_mosaic_says_nothing_about_its_real_images():
    sample = mosaic(fields=SMALL)
    assert (0, 0) in REAL_IMAGES
    assert not sample.known[:, :FIELD_PX].any()
    assert not sample.labels[:, :FIELD_PX].any()
    assert sample.known[:, FIELD_PX:].all()
    assert sample.image[:, :FIELD_PX].std() > 10


@pytest.mark.parametrize("name", REAL_IMAGES.values())
def test_the_real_images_are_inside_the_wheel_of_scikit_image(name, monkeypatch):
    import skimage.data

    monkeypatch.setattr("skimage.data._fetchers._image_fetcher", None)  # what would download
    assert getattr(skimage.data, name)().dtype == np.uint8


def test_the_nuclei_sample_has_an_object_for_each_label():
    sample = nuclei()
    assert sample.image.shape[:2] == sample.labels.shape == (FIELD_PX, FIELD_PX)
    assert sample.labels.max() > 5


def test_the_demo_writes_its_image_and_says_where_everything_is(tmp_path, capsys):
    asked = {}

    def segment(image, output, **options):
        asked.update(options, output=output, pixels=tifffile.imread(image))
        return SimpleNamespace(labels=mosaic(fields=SMALL).labels, table=range(7))

    overlaps = run_demo(tmp_path / "out", segment=segment, fields=SMALL)
    said = capsys.readouterr().out
    assert np.all(overlaps.best_iou() == 1)
    np.testing.assert_array_equal(asked["pixels"], mosaic(fields=SMALL).image)
    assert asked["model"] == "nano"
    assert "Found 7 objects" in said
    assert "AP at IoU 0.5  1.00" in said
    for path in (asked["output"], asked["table"], asked["overlay"]):
        assert str(path) in said


def test_the_demo_can_be_run_again(tmp_path, capsys):
    for _ in range(2):
        run_demo(tmp_path, fields=(1, 1))
        os.utime(tmp_path / "image.tif", (0, 0))
    assert capsys.readouterr().out.count("Found") == 2


def test_the_help_of_the_demo_says_what_it_does(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "the main job on a large composed image" in capsys.readouterr().out
