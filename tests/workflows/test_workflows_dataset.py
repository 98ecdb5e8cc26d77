"""Data sets from folders and back, what they are like, and the quality of their masks."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import shapely
import tifffile

from annotate.annotate_scenes import new_session, rectangle
from export.scenes import blobs, flattened
from napari_sam.cli import EXIT_REFUSED, main
from napari_sam.errors import ConfigError, ImageError, JournalError, TrainingError
from napari_sam.export import Sa1bWriter, iter_sa1b, trace_polygons
from napari_sam.geometry import Mask
from napari_sam.workflows.datasets.card import TO_FILL_IN, data_card
from napari_sam.workflows.datasets.folders import read_dataset, write_dataset
from napari_sam.workflows.datasets.mask_quality import mask_quality, write_quality
from napari_sam.workflows.datasets.plots import write_statistics
from napari_sam.workflows.datasets.statistics import CONCAVITY_BINS, SIZE_BINS, DatasetStatistics, dataset_statistics
from workflows.workflows_scenes import tiny_checkpoint

SIZE = (48, 64)


def write_pair(folder, name, objects, *, seed=0):
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)
    tifffile.imwrite(folder / f"{name}.image.tif", pixels)
    tifffile.imwrite(folder / f"{name}.labels.tif", flattened(objects).astype(np.uint16))
    return pixels


@pytest.fixture
def pairs(tmp_path):
    """A folder of three pairs, the third without objects."""
    folder = tmp_path / "pairs"
    for i, count in enumerate((4, 9, 0)):
        write_pair(folder, f"field{i}", blobs(SIZE, count, seed=i), seed=i)
    return folder


def test_label_images_become_a_data_set_and_label_images_again(pairs, tmp_path):
    seen = []
    summary = write_dataset(pairs, tmp_path / "set", images_per_shard=2, progress=lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert summary.images == 3
    back = read_dataset(tmp_path / "set", tmp_path / "back")
    assert (back.images, back.masks) == (summary.images, summary.masks)
    for i in range(3):
        before = tifffile.imread(pairs / f"field{i}.labels.tif")
        after = tifffile.imread(tmp_path / "back" / f"sa_{i + 1}.labels.tif")
        np.testing.assert_array_equal(after > 0, before > 0)
        # One label there for each one here.
        assert len(np.unique(np.stack([before, after]).reshape(2, -1), axis=1).T) == len(np.unique(before))


def test_images_without_labels_get_the_masks_of_a_model(pairs, tmp_path):
    (pairs / "field1.labels.tif").unlink()
    with pytest.raises(TrainingError, match=r"1 images in .* have no labels.*A model \(--model nano\) finds"):
        write_dataset(pairs, tmp_path / "set")
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    write_dataset(pairs, tmp_path / "set", model=tmp_path / "tiny.safetensors", device="cpu")
    items = list(iter_sa1b(tmp_path / "set"))
    assert [item.file.source_name for item in items] == [f"field{i}.image.tif" for i in range(3)]
    assert len(items[0].file.masks) == len(np.unique(tifffile.imread(pairs / "field0.labels.tif"))) - 1


def test_statistics_are_those_of_a_plain_count(tmp_path):
    objects = [blobs(SIZE, 6, seed=1), blobs(SIZE, 12, seed=2)]
    with Sa1bWriter(tmp_path / "set") as writer:
        for one in objects:
            writer.add(np.zeros(SIZE, np.uint8), one, "a.tif")
    found = dataset_statistics(tmp_path / "set")
    sizes, concavities, centres = [], [], []
    for one in objects:
        for _, mask in one.iter_masks():
            (polygons,) = trace_polygons([mask])
            hull = shapely.MultiPolygon([shapely.Polygon(p.exterior) for p in polygons]).convex_hull
            sizes.append(np.sqrt(mask.area / (SIZE[0] * SIZE[1])))
            concavities.append(1 - mask.area / hull.area)
            centres.append(((mask.box.y0 + mask.box.y1) / 2 / SIZE[0], (mask.box.x0 + mask.box.x1) / 2 / SIZE[1]))
    np.testing.assert_allclose(found.relative_sizes, np.histogram(sizes, SIZE_BINS, (0, 1))[0] / 18)
    np.testing.assert_allclose(found.concavities(), np.histogram(concavities, CONCAVITY_BINS, (0, 1))[0] / 18)
    want, _, _ = np.histogram2d(*np.array(centres).T, bins=32, range=((0, 1), (0, 1)))
    np.testing.assert_array_equal(found.centres, want)
    np.testing.assert_array_equal(found.masks_per_image, [0.5, 0.5, 0, 0, 0])


def test_concavities_are_compared_at_equal_sizes():
    ring = np.zeros((40, 40), bool)
    ring[:12, :12], ring[2:10, 2:10] = True, False
    small, large, square = np.zeros((40, 40), bool), np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    small[:2, :2], large[:30, :30], square[:6, :6] = True, True, True
    one, other = DatasetStatistics("one"), DatasetStatistics("other")
    one.add("a", (40, 40), [Mask.from_array(m) for m in (small, ring)])
    other.add("b", (40, 40), [Mask.from_array(m) for m in (small, small, small, ring)])
    assert one.concavities()[0] == 0.5
    assert other.concavities()[0] == 0.75
    # Weighted to the sizes of `one`, the three small ones count as one.
    np.testing.assert_allclose(other.concavities(one.relative_sizes), one.concavities())


def test_a_folder_of_pairs_has_the_statistics_of_its_data_set(pairs, tmp_path):
    write_dataset(pairs, tmp_path / "set")
    of_pairs, of_set = dataset_statistics(pairs), dataset_statistics(tmp_path / "set")
    np.testing.assert_array_equal(of_pairs.sizes_and_concavities, of_set.sizes_and_concavities)
    np.testing.assert_array_equal(of_pairs.centres, of_set.centres)
    assert of_pairs.images == of_set.images


def test_plots_and_tables_of_several_data_sets_are_written(pairs, tmp_path, capsys):
    write_dataset(pairs, tmp_path / "set")
    assert main(["dataset", "stats", str(pairs), str(tmp_path / "set"), "-o", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *(f"{name}.csv" for name in ("images", "masks_per_image", "relative_size", "concavity", "centres")),
        *(f"{name}.svg" for name in ("masks_per_image", "relative_size", "concavity", "centres")),
    }
    assert len(capsys.readouterr().out.splitlines()) == len(names)
    for path in (tmp_path / "out").glob("*.svg"):
        assert ET.parse(path).getroot().tag.endswith("svg")
    rows = list(csv.DictReader((tmp_path / "out" / "masks_per_image.csv").read_text().splitlines()))
    assert [row["masks"] for row in rows] == ["0-10", "11-50", "51-100", "101-200", "201+"]
    assert sum(float(row["pairs"]) for row in rows) == pytest.approx(1)
    assert rows[0]["pairs"] == rows[0]["set"]


def test_data_sets_of_one_name_cannot_be_compared(pairs, tmp_path):
    found = dataset_statistics(pairs)
    with pytest.raises(ConfigError, match="need different names, got pairs, pairs"):
        write_statistics([found, found], tmp_path)
    with pytest.raises(ConfigError, match="got none"):
        write_statistics([], tmp_path)
    with pytest.raises(ImageError, match=r"there is no data set .*nowhere; check the name"):
        dataset_statistics(tmp_path / "nowhere")


def test_a_card_tells_what_the_files_know_and_asks_for_the_rest(pairs, tmp_path):
    (pairs / "LICENSE.txt").write_text("\nCC BY 4.0\n\nfull text")
    assert main(["dataset", "card", str(pairs), "-o", str(tmp_path / "card.md")]) == 0
    text = (tmp_path / "card.md").read_text()
    found = dataset_statistics(pairs)
    assert f"| images | 3 |\n| masks | {found.masks} |" in text
    assert "| images without masks | 1 |" in text
    assert "64 x 48 to 64 x 48 pixels" in text
    assert "Licence: CC BY 4.0 (`LICENSE.txt`)" in text
    assert text.count(TO_FILL_IN) == 13
    (pairs / "LICENSE.txt").unlink()
    assert data_card(found, pairs).count(TO_FILL_IN) == 14


def test_the_command_line_writes_and_reads_data_sets(pairs, tmp_path, capsys):
    assert main(["dataset", "write", str(pairs), "-o", str(tmp_path / "set"), "--picture", "jpg"]) == 0
    assert main(["dataset", "read", str(tmp_path / "set"), "-o", str(tmp_path / "back")]) == 0
    assert capsys.readouterr().out.count("3 images with") == 2
    assert main(["dataset", "read", str(tmp_path / "set"), "-o", str(tmp_path / "back")]) == EXIT_REFUSED
    assert "sa_1.image.png already exists; choose an empty folder" in capsys.readouterr().err


@pytest.fixture
def journal(tmp_path):
    """Six automatic masks: accepted, changed, fixed, rejected, deleted and not looked at; and a prefill taken back."""
    path = tmp_path / "session.jsonl"
    with new_session(path) as session:
        session.prefill([rectangle(0, 8, 4, 12)])
        session.undo()
        session.prefill([rectangle(2 * i, 0, 2 * i + 2, 4, predicted_iou=0.9) for i in range(6)])
        session.review(2, "accepted")
        session.labels[0, 2:4] = 0  # a quarter of object 3
        session.record_painting()
        session.labels[:2, 4:6] = 0  # half of object 4
        session.record_painting()
        session.review(4, "fixed")
        session.review(5, "rejected")
        session.delete([6])
    return path


def test_automatic_masks_are_compared_with_what_became_of_them(journal):
    quality = mask_quality([journal])
    found = {pair.label: (pair.verdict, pair.iou) for pair in quality.pairs}
    assert found == {
        2: ("accepted", 1.0),
        3: ("changed", 0.75),
        4: ("fixed", 0.5),
        5: ("rejected", 1.0),
        6: ("removed", 0.0),
    }
    assert quality.unseen == 1
    summary = quality.summary()
    assert (summary["pairs"], summary["removed"], summary["rejected"]) == (3, 1, 1)
    assert summary["mean_iou"] == 0.75
    assert summary["above_0.75"] == pytest.approx(1 / 3)


def test_a_part_that_other_objects_kept_from_a_mask_is_no_error_of_it(tmp_path):
    with new_session(tmp_path / "a.jsonl") as session:
        session.prefill([rectangle(0, 0, 4, 4), rectangle(2, 0, 6, 4)], policy="keep_pixels")
        session.review(2, "accepted")
    (pair,) = mask_quality([tmp_path / "a.jsonl"]).pairs
    assert (pair.label, pair.iou) == (2, 1.0)


def test_the_study_is_written_as_table_figures_and_plot(journal, tmp_path, capsys):
    assert main(["dataset", "quality", str(journal), "-o", str(tmp_path / "study")]) == 0
    told = capsys.readouterr().out
    assert "3 automatic masks compared with what people made of them; 1 were removed, 1 rejected, 1 not looked" in told
    assert "mean IoU         0.750 [" in told
    assert json.loads((tmp_path / "study" / "quality.json").read_text())["pairs"] == 3
    assert len((tmp_path / "study" / "pairs.csv").read_text().splitlines()) == 6
    assert ET.parse(tmp_path / "study" / "iou.svg").getroot().tag.endswith("svg")


def test_journals_without_automatic_masks_are_refused(tmp_path):
    with new_session(tmp_path / "a.jsonl"):
        pass
    with pytest.raises(JournalError, match="there is no automatic mask in these journals"):
        mask_quality([tmp_path / "a.jsonl"])
    with pytest.raises(JournalError, match="no journal was given"):
        mask_quality([])


def test_a_study_in_which_nothing_was_kept_has_no_plot(tmp_path):
    with new_session(tmp_path / "a.jsonl") as session:
        session.prefill([rectangle(0, 0, 4, 4)])
        session.delete([1])
    quality = mask_quality([tmp_path / "a.jsonl"])
    assert [path.name for path in write_quality(quality, tmp_path)] == ["pairs.csv", "quality.json"]
    assert quality.summary()["mean_iou"] is None
