"""Bad pairs are named, all of them and before a training starts, and left out only if asked."""

from __future__ import annotations

import pytest
import tifffile

from napari_sam.errors import TrainingError
from napari_sam.training.checking import find_bad_pairs, usable_pairs
from napari_sam.training.data import find_pairs
from training.training_scenes import write_pair


@pytest.fixture
def pairs(tmp_path):
    """A good pair and one of each bad kind."""
    write_pair(tmp_path, "good")
    write_pair(tmp_path, "empty", objects=0)
    write_pair(tmp_path, "mismatch", labels_shape=(20, 31))
    write_pair(tmp_path, "broken")
    (tmp_path / "broken.image.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    image, _ = write_pair(tmp_path, "lonely")
    (tmp_path / "lonely.labels.png").unlink()
    write_pair(tmp_path, "real")
    (tmp_path / "real.labels.png").unlink()
    tifffile.imwrite(tmp_path / "real.labels.tif", image.astype("float32"))
    return find_pairs(tmp_path, allow_missing=True)


REASONS = {
    "broken": r"broken\.image\.png cannot be read",
    "empty": r"empty\.labels\.png is empty: it holds no object",
    "lonely": r"lonely\.image\.png has no labels: .*lonely\.labels\.png does not exist",
    "mismatch": r"mismatch\.labels\.png has shape \(20, 31\), its image \(20, 30\)",
    "real": r"real\.labels\.tif holds float32; labels must be integers",
}


@pytest.mark.parametrize("name", REASONS)
def test_each_bad_pair_is_named_with_its_reason(pairs, name):
    with pytest.raises(TrainingError, match=r"5 of 6 pairs cannot be trained with:\n(.|\n)*" + REASONS[name]):
        usable_pairs(pairs, skip_bad=False)


def test_bad_pairs_are_left_out_and_told_if_asked(pairs):
    told = []
    assert [pair.name for pair in usable_pairs(pairs, skip_bad=True, tell=told.append)] == ["good"]
    assert len(told) == 5
    assert all(line.startswith("left out: ") for line in told)


def test_images_of_background_are_kept_if_they_are_meant_so(pairs):
    assert [pair.name for pair in usable_pairs(pairs, skip_bad=True, allow_empty=True)] == ["empty", "good"]


def test_a_folder_of_bad_pairs_alone_is_refused(pairs):
    bad = [item.pair for item in find_bad_pairs(pairs)]
    with pytest.raises(TrainingError, match=r"all of the 5 pairs are bad, the first: .*broken"):
        usable_pairs(bad, skip_bad=True)
