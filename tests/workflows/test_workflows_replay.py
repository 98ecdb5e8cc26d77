"""A journal as label image and table: the labels of the session, pixel for pixel."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import tifffile

from napari_sam.annotate.images import AnnotatedImage
from napari_sam.annotate.prompts import BoxPrompt
from napari_sam.annotate.questions import Answer
from napari_sam.annotate.session import AnnotationSession, SessionConfig
from napari_sam.cli import main
from napari_sam.errors import OutputError
from napari_sam.export import read_table
from napari_sam.geometry import Box, Mask
from napari_sam.images import ImageSource, Normalisation, open_image
from napari_sam.workflows.annotating.replay import replay_journal

LIMITS = Normalisation((0.0,), (255.0,))


class Blank:
    """An image that takes no memory."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape):
        self.shape = shape

    def __getitem__(self, key):
        return np.zeros(tuple(len(range(*k.indices(n))) for k, n in zip(key, self.shape, strict=True)), np.uint8)


def annotate(journal, shape, boxes, axes="YX", **image):
    """A session that commits boxes ((plane, x0, y0, x1, y1)); its labels, if the image is small."""
    source = open_image(Blank(shape), axes=axes, **image)
    assert isinstance(source, ImageSource)
    opened = AnnotatedImage.from_source(source, normalisation=LIMITS)
    with AnnotationSession(opened, journal, config=SessionConfig(sync_journal=False)) as session:
        for plane, x0, y0, x1, y1 in boxes:
            question = session.add_prompt(BoxPrompt((x0, y0, x1, y1)), plane)
            mask = Mask.from_window(np.ones((y1 - y0, x1 - x0), bool), Box(x0, y0, x1, y1), shape[-2:])
            session.accept(Answer(question.revision, (mask,), (0.8,)))
            session.commit()
        session.review(1, "accepted", 9)
        return np.asarray(session.labels) if np.prod(shape) < 10**7 else None


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.tif"])
def test_the_label_image_is_the_session_s_pixel_for_pixel(tmp_path, name):
    labels = annotate(
        tmp_path / "a", (700, 900), [((), 10, 20, 60, 90), ((), 50, 50, 800, 600), ((), 899, 699, 900, 700)],
        pixel_size_um=0.5,
    )  # fmt: skip
    result = replay_journal(tmp_path / "a", tmp_path / name)
    written = open_image(result.labels)
    np.testing.assert_array_equal(np.asarray(written.levels[0]), labels)
    assert written.pixel_size_um == (0.5, 0.5)
    table = read_table(result.table)
    assert result.table == tmp_path / "out.csv"
    assert table["label"].tolist() == [1, 2, 3]
    assert table["verified"].tolist() == [True, False, False]
    assert table["prompt"].tolist() == ["box"] * 3
    assert table["area_px"].tolist() == [np.count_nonzero(labels == label) for label in (1, 2, 3)]
    assert table["area_um2"][0] == 50 * 70 / 4


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.ome.tif"])
def test_a_stack_is_written_plane_by_plane(tmp_path, name):
    labels = annotate(tmp_path / "a", (3, 530, 600), [((0,), 5, 5, 40, 50), ((2,), 400, 300, 600, 530)], axes="ZYX")
    result = replay_journal(tmp_path / "a", tmp_path / name)
    written = open_image(result.labels)
    assert written.axes == "ZYX"
    np.testing.assert_array_equal(np.asarray(written.levels[0]), labels)
    if name.endswith("zarr"):
        np.testing.assert_array_equal(np.asarray(written.levels[1]), labels[:, ::2, ::2])
    assert read_table(result.table)["z"].tolist() == [0, 2]


def test_no_array_of_the_image_s_size_is_made(tmp_path):
    annotate(tmp_path / "a", (12_000, 12_000), [((), 10, 20, 60, 90), ((), 5_000, 5_000, 5_300, 5_300)])
    tracemalloc.start()
    try:
        result = replay_journal(tmp_path / "a", tmp_path / "out.ome.zarr")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300e6  # the label image has 576 MB
    assert (np.asarray(open_image(result.labels).levels[0][5_000:5_300, 5_000:5_300]) == 2).all()


def test_a_session_without_objects_gives_empty_labels_and_an_empty_table(tmp_path):
    image = AnnotatedImage.open(np.zeros((20, 30), np.uint8), normalisation=LIMITS)
    AnnotationSession(image, tmp_path / "a").close()
    result = replay_journal(tmp_path / "a", tmp_path / "out.tif")
    assert result.objects == 0
    assert not tifffile.imread(result.labels).any()
    assert len(read_table(result.table)["label"]) == 0


def test_what_is_there_is_not_replaced(tmp_path):
    annotate(tmp_path / "a", (20, 30), [((), 1, 1, 5, 5)])
    with pytest.raises(OutputError, match=r"must be NAME.ome.zarr or NAME.tif, got .*out.png"):
        replay_journal(tmp_path / "a", tmp_path / "out.png")
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"out.csv already exists; name another table"):
        replay_journal(tmp_path / "a", tmp_path / "out.tif")
    replay_journal(tmp_path / "a", tmp_path / "out.tif", table=tmp_path / "other.csv")
    with pytest.raises(OutputError, match=r"out.tif already exists"):
        replay_journal(tmp_path / "a", tmp_path / "out.tif", table=tmp_path / "more.csv")
    assert (tmp_path / "out.csv").read_text() == "mine"


def test_the_command_replays_a_torn_journal_and_says_so(tmp_path, capsys):
    annotate(tmp_path / "a", (20, 30), [((), 1, 1, 5, 5)])
    with (tmp_path / "a").open("ab") as file:
        file.write(b'{"n": 5, "eve')
    assert main(["replay", str(tmp_path / "a"), "-o", str(tmp_path / "out.tif")]) == 0
    told = capsys.readouterr()
    assert "1 objects in" in told.out
    assert "the last line (6) was not complete and is left out" in told.err
    assert np.count_nonzero(tifffile.imread(tmp_path / "out.tif")) == 16


def test_the_command_refuses_a_file_that_is_no_journal(tmp_path, capsys):
    (tmp_path / "a").write_text("hello\n")
    assert main(["replay", str(tmp_path / "a"), "-o", str(tmp_path / "out.tif")]) == 2
    assert "is no journal of napari-sam" in capsys.readouterr().err
    assert not (tmp_path / "out.tif").exists()
