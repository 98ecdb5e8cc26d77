import time
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from napari_sam.errors import TrainingError
from napari_sam.geometry import Box
from napari_sam.training.generated import GENERATORS, GeneratedImage, generate_image
from napari_sam.training.generators.scene import Scene, connected_labels
from napari_sam.training.generators.shapes import blob, curve, joined, lens, polygon, rectangle, tube
from napari_sam.training.generators.textures import cells, fibres, fractal_noise, network, smooth_noise, strands

SIZE = (96, 128)
IN_COLOUR = {"stained_tissue", "fields", "trees_and_roofs", "leaves"}
EITHER = {"collage"}


@pytest.fixture(scope="module")
def samples() -> dict[str, list[GeneratedImage]]:
    return {kind: [generate_image(seed, SIZE, kind) for seed in range(6)] for kind in GENERATORS}


@pytest.fixture(params=list(GENERATORS))
def kind(request) -> str:
    return request.param


def test_image_and_labels_have_the_size_and_types_promised(kind, samples):
    for sample in samples[kind]:
        assert sample.kind == kind
        assert sample.image.dtype == np.uint8
        assert sample.labels.dtype == np.int32
        assert sample.labels.shape == SIZE
        if kind not in EITHER:
            assert sample.image.shape == ((*SIZE, 3) if kind in IN_COLOUR else SIZE)


def test_labels_are_consecutive_and_each_is_one_region_that_is_no_sliver(kind, samples):
    for sample in samples[kind]:
        n = int(sample.labels.max())
        assert np.unique(sample.labels[sample.labels > 0]).tolist() == list(range(1, n + 1))
        for label, window in enumerate(ndimage.find_objects(sample.labels), start=1):
            mask = sample.labels[window] == label
            assert ndimage.label(mask)[1] == 1
            assert mask.sum() >= 12


def test_the_same_seed_gives_the_same_image_and_another_seed_another(kind, samples):
    again = generate_image(2, SIZE, kind)
    np.testing.assert_array_equal(again.image, samples[kind][2].image)
    np.testing.assert_array_equal(again.labels, samples[kind][2].labels)
    assert any(a.image.shape != b.image.shape or (a.image != b.image).any() for a, b in pairwise(samples[kind]))


def test_most_images_hold_objects_and_are_not_flat(kind, samples):
    assert sum(sample.labels.max() > 0 for sample in samples[kind]) >= 3
    assert all(sample.image.std() > 0.3 for sample in samples[kind])


def test_outlines_lie_where_the_image_changes(kind, samples):
    # across an outline neighbours differ more than elsewhere: labels and image are of one scene
    steeper = []
    for sample in samples[kind]:
        gray = sample.image.astype(float) if sample.image.ndim == 2 else sample.image.mean(axis=2)
        smooth = ndimage.gaussian_filter(gray, 0.7)
        change = np.abs(np.diff(smooth, axis=1))
        outline = np.diff(sample.labels, axis=1) != 0
        if outline.any() and not outline.all():
            steeper.append(change[outline].mean() > change[~outline].mean())
    assert np.mean(steeper) > 0.6


@pytest.mark.parametrize(("name", "sign"), [("fluorescent_nuclei", 1), ("particles", 1), ("stained_tissue", -1)])
def test_objects_are_brighter_or_darker_than_the_background_as_their_kind_is(name, sign):
    right = []
    for seed in range(12):
        sample = generate_image(seed, SIZE, name)
        inside = sample.labels > 0
        if inside.any() and not inside.all():
            right.append(np.sign(sample.image[inside].mean() - sample.image[~inside].mean()) == sign)
    assert np.mean(right) >= 0.7  # a few are inverted on purpose


def test_images_without_objects_exist_and_are_few(monkeypatch):
    empty = sum(not generate_image(seed, (32, 32), "polished_grains").labels.any() for seed in range(300))
    assert 0 < empty < 45


def test_an_image_that_shall_be_empty_is_empty(kind, monkeypatch):
    monkeypatch.setattr("napari_sam.training.generators.scene.EMPTY_SHARE", 1.0)
    sample = generate_image(0, (64, 64), kind)
    assert not sample.labels.any()
    assert sample.image.std() > 0


@pytest.mark.parametrize("size", [(32, 32), (32, 200), (201, 47)], ids=str)
def test_small_and_oblong_images_can_be_made(kind, size):
    for seed in range(2):
        assert generate_image(seed, size, kind).labels.shape == size


def test_a_large_image_takes_well_under_a_second(kind):
    start = time.process_time()
    generate_image(3, (512, 512), kind)
    assert time.process_time() - start < 1.5  # about 0.1 s on an idle core


def test_without_a_kind_one_is_drawn():
    assert {generate_image(seed, (32, 32)).kind for seed in range(40)} > {"bacteria", "leaves"}


def test_an_unknown_kind_is_named_with_those_there_are():
    with pytest.raises(TrainingError, match=r"of the kinds fluorescent_nuclei, .*collage, got 'cats'"):
        generate_image(0, (64, 64), "cats")


def test_an_image_too_small_is_refused():
    with pytest.raises(TrainingError, match=r"at least 32 x 32 pixels, got \(31, 64\)"):
        generate_image(0, (31, 64))


SHAPES = {
    "blob": lambda rng, at, size: blob(rng, at, 8, size, aspect=1.5, angle=0.5),
    "polygon": lambda rng, at, size: polygon(rng, at, 8, size),
    "rectangle": lambda rng, at, size: rectangle(at, (9, 5), 0.3, size),
    "lens": lambda rng, at, size: lens(at, 20, 8, 0.4, size),
    "tube": lambda rng, at, size: tube(curve(rng, at, 20, 0.3, 0.5, 1.0), np.full(20, 3.0), size),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_cut_by_the_image_and_absent_outside(shape):
    size = (40, 50)
    for at in [(25, 20), (0, 0), (49, 39)]:
        stamp = SHAPES[shape](np.random.default_rng(0), at, size)
        assert Box.of_size(size).contains_box(stamp.box)
        assert stamp.level.shape == stamp.box.size
        assert stamp.mask.any()
    assert SHAPES[shape](np.random.default_rng(0), (500.0, 20.0), size) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_keeps_its_pixels_when_the_image_cuts_it(shape):
    whole = SHAPES[shape](np.random.default_rng(1), (30.0, 30.0), (60, 60))
    cut = SHAPES[shape](np.random.default_rng(1), (30.0, 30.0), (60, 32))
    in_whole, in_cut = np.zeros((60, 60), dtype=bool), np.zeros((60, 32), dtype=bool)
    in_whole[whole.box.slices], in_cut[cut.box.slices] = whole.mask, cut.mask
    np.testing.assert_array_equal(in_whole[:, :32], in_cut)


def test_an_ellipse_has_the_area_of_an_ellipse():
    stamp = blob(np.random.default_rng(0), (50.0, 50.0), 20, (100, 100), aspect=2.0, angle=0.7, roughness=0.0)
    assert stamp.mask.sum() == pytest.approx(np.pi * 20**2, rel=0.02)
    assert stamp.soft(1.0).sum() == pytest.approx(np.pi * 20**2, rel=0.02)


def test_joined_shapes_cover_what_each_of_them_covers():
    a, b = rectangle((10, 10), (5, 5), 0, (40, 40)), rectangle((18, 12), (6, 3), 0, (40, 40))
    both, expected = joined([a, None, b], (40, 40)), np.zeros((40, 40), dtype=bool)
    for stamp in (a, b):
        expected[stamp.box.slices] |= stamp.mask
    found = np.zeros((40, 40), dtype=bool)
    found[both.box.slices] = both.mask
    np.testing.assert_array_equal(found, expected)
    assert joined([None, None], (40, 40)) is None


def test_objects_beside_each_other_do_not_overlap_and_those_on_top_hide():
    size = (20, 30)
    square, beside, far = (rectangle((x, 9.5), (5, 5), 0, size) for x in (9.5, 12.5, 20.5))
    scene = Scene(size)
    assert scene.beside(square).sum() == 100
    assert scene.beside(beside) is None  # most of it is taken
    assert scene.beside(far) is not None
    assert scene.beside(None) is None
    assert scene.on_top(None) is None
    scene.on_top(beside)
    assert scene.finished().max() == 3
    assert (scene.labels[beside.box.slices][beside.mask] == 3).all()


def test_pieces_cut_apart_become_objects_and_slivers_background():
    labels = np.zeros((8, 9), dtype=np.int32)
    labels[1:7, 0:8] = 7
    labels[:, 3] = 9
    labels[0, 8] = 7
    found = connected_labels(labels, 5)
    assert np.unique(found).tolist() == [0, 1, 2, 3]
    assert found[0, 8] == 0
    assert found[2, 0] != found[2, 5]


@pytest.mark.parametrize(
    "texture",
    [
        lambda rng, size: smooth_noise(rng, size, 6),
        lambda rng, size: fractal_noise(rng, size, 12),
        lambda rng, size: fibres(rng, size, 6, angle=0.4),
        lambda rng, size: strands(rng, size, 4, angle=0.4),
        lambda rng, size: network(rng, size, 15),
    ],
    ids=["smooth", "fractal", "fibres", "strands", "network"],
)
def test_textures_have_about_mean_0_and_deviation_1(texture):
    field = texture(np.random.default_rng(0), (128, 160))
    assert field.shape == (128, 160)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.35
    assert 0.5 < field.std() < 1.6


def test_cells_cover_everything_and_walls_are_between_them():
    ids, distance = cells(np.random.default_rng(0), (90, 120), 20)
    assert ids.min() >= 1
    assert (distance[:, 1:][ids[:, 1:] != ids[:, :-1]] == 0).all()
    assert distance.max() > 5
