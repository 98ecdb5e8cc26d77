"""What a commit does where others are, in labels one can read."""

from __future__ import annotations

import numpy as np
import pytest
from annotate_scenes import drawn, lines, picture

from napari_sam.annotate.labels import SparseLabels
from napari_sam.annotate.policies import painted_pixels
from napari_sam.errors import ConfigError
from napari_sam.geometry import Mask

BEFORE = """
    ..........
    ...11.....
    ...11.....
    ...11.....
    ....2.....
"""
MASK = """
    ..........
    .9999999..
    .9999999..
    ..........
    ...999....
"""
AFTER = {
    "overwrite": """
        ..........
        .9999999..
        .9999999..
        ...11.....
        ...999....
    """,
    "keep_pixels": """
        ..........
        .9911999..
        .9911999..
        ...11.....
        ...929....
    """,
    # The upper piece of the mask is cut in two by object 1: its larger part stays. Of the lower piece, cut by object 2,
    # the two parts are equal: the first stays.
    "keep_objects": """
        ..........
        ...11999..
        ...11999..
        ...11.....
        ...92.....
    """,
}


@pytest.mark.parametrize("policy", AFTER)
def test_a_commit_over_others(policy):
    before, mask = picture(BEFORE), Mask.from_array(picture(MASK) > 0)
    labels = SparseLabels(before.shape, chunk_px=16)
    labels[...] = before
    patch = labels.paint((), mask, 9, policy)
    assert drawn(labels) == lines(AFTER[policy])
    labels.revert(patch)
    assert drawn(labels) == lines(BEFORE)


def test_pieces_that_nobody_cuts_are_all_kept():
    mask = picture("11.11\n.....\n1...1") > 0
    taken = painted_pixels(mask, picture("5....\n.....\n....."), 9, "keep_objects")
    assert drawn(taken.astype(int)) == ".1.11\n.....\n1...1"


def test_its_own_pixels_are_in_nobody_s_way():
    mask = np.ones((1, 3), bool)
    for policy in ("keep_pixels", "keep_objects"):
        assert painted_pixels(mask, np.array([[9, 0, 9]]), 9, policy).all()


def test_where_nothing_is_free_nothing_is_taken():
    for policy in ("keep_pixels", "keep_objects"):
        assert not painted_pixels(np.ones((2, 2), bool), np.full((2, 2), 3), 9, policy).any()


def test_an_unknown_policy_is_named():
    with pytest.raises(ConfigError, match="overwrite, keep_pixels, keep_objects, got 'all'"):
        painted_pixels(np.ones((1, 1), bool), np.zeros((1, 1), int), 1, "all")
