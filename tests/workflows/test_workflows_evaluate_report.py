"""The report of a measurement: tables, plots, pictures and CSV, and how automatic masks are asked for."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import napari_sam
from napari_sam.errors import ConfigError, OutputError
from napari_sam.predict import AutoMaskConfig
from napari_sam.tiling import TilingConfig
from napari_sam.workflows import EvaluateConfig
from napari_sam.workflows.evaluating import evaluation
from napari_sam.workflows.evaluating.cases import MATCHED, MAX_PANEL_PX, UNMATCHED, outlined, pick_cases
from napari_sam.workflows.evaluating.plots import Series, line_plot, row_plot
from workflows.workflows_scenes import KEEP_ALL, stand_in, tiny_model, write_pairs


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A folder with a report of everything, and what was measured."""
    pairs = write_pairs(tmp_path_factory.mktemp("pairs"))
    (pairs / "0.labels.png").rename(pairs / "lost.png")
    config = EvaluateConfig(
        tasks=("points", "boxes", "automatic", "clicks"), max_objects=2, group_by="tissue", skip_bad=True
    )
    folder = tmp_path_factory.mktemp("report") / "new"
    return folder, napari_sam.evaluate(pairs, model=tiny_model(), config=config, report=folder)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_the_page_shows_is_there(reported):
    folder, _ = reported
    page = (folder / "report.md").read_text()
    shown = re.findall(r"\]\(([^)]+)\)", page)
    assert {"images.csv", "objects.csv", "figures.json", "iou_by_clicks.svg", "ap_by_threshold.svg"} <= set(shown)
    assert {"groups.svg"} <= set(shown)
    assert all((folder / name).is_file() for name in shown)
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*")) == sorted({*shown, "report.md"})


def test_the_page_names_figures_groups_and_what_was_left_out(reported):
    page = (reported[0] / "report.md").read_text()
    assert "# tiny: 2 images, 4 prompted objects" in page
    for line in (
        "| IoU after 1 click |",
        "| automatic: mSA",
        "| clicks to IoU 0.85 |",
        "## By tissue",
        "| skin | 1 / 2 |",
    ):
        assert line in page
    assert re.search(r"## Left out\n\n- `0`: .*0.image.png has no labels", page)
    assert "| automatic: points_per_side | 3 |" in page


def test_the_json_of_the_report_holds_the_figures_and_the_settings(reported):
    folder, report = reported
    assert json.loads((folder / "figures.json").read_text()) == json.loads(json.dumps(report.figures))
    settings = report.figures["settings"]
    assert settings["automatic"]["prompts"] == "grid"
    assert settings["tiling"]["core_px"] == 48
    assert settings["max_objects"] == 2


def test_the_tables_have_a_row_an_image_and_an_object_and_give_the_figures_again(reported):
    folder, report = reported
    images, objects = rows_of(folder / "images.csv"), rows_of(folder / "objects.csv")
    assert [row["image"] for row in images] == ["1", "2"]
    assert [(row["image"], row["group"]) for row in objects] == [("1", "skin")] * 2 + [("2", "lung")] * 2
    figures = report.figures
    for column, expected in {
        "click_1": figures["points"]["1"]["miou"],
        "click_9": figures["points"]["9"]["miou"],
        "random_1_click_3": figures["points"]["3"]["miou_random"],
        "oracle": figures["points"]["1"]["miou_oracle"],
        "box": figures["boxes"]["miou"],
        "noised_box": figures["boxes"]["miou_noised"],
        "noc85": figures["clicks"]["noc85"],
    }.items():
        assert np.mean([float(row[column]) for row in objects]) == pytest.approx(expected, abs=1e-4), column
    for column in ("ap_0.50", "ap_0.95", "msa", "f1", "pq", "precision", "recall", "count_error"):
        kind = figures["automatic"]
        expected = kind["ap"][column[3:]] if column.startswith("ap_") else kind[column]
        assert np.mean([float(row[column]) for row in images]) == pytest.approx(expected, abs=1e-4), column


def test_the_place_and_area_of_an_object_are_those_of_the_labels(reported):
    _, report = reported
    row = report.object_rows()[0]
    assert (row["y1"] - row["y0"], row["x1"] - row["x0"], row["area_px"]) == (16, 16, 256)


def test_only_what_was_measured_is_reported(tmp_path, monkeypatch):
    stand_in(monkeypatch)
    pairs = write_pairs(tmp_path)
    report = napari_sam.evaluate(
        pairs, model=tiny_model(), config=EvaluateConfig(tasks=("automatic",)), report=tmp_path / "report"
    )
    page = (tmp_path / "report" / "report.md").read_text()
    assert "AP at IoU 0.50 | 1.000" in page
    assert not any(word in page for word in ("click", "Left out", "By "))
    assert (tmp_path / "report" / "objects.csv").read_text().strip() == ""
    assert report.image_rows()[0]["true_objects"] == report.image_rows()[0]["found_objects"] > 0


def test_the_same_measurement_gives_the_same_figures(tmp_path):
    pairs = write_pairs(tmp_path, 2)
    config = EvaluateConfig(tasks=("points", "boxes"), max_objects=1)
    first, second = (napari_sam.evaluate(pairs, model=tiny_model(), config=config) for _ in range(2))
    assert first.figures == second.figures
    assert [o.label for image in first.images for o in image.objects] == [
        o.label for image in second.images for o in image.objects
    ]


def test_an_image_is_asked_the_same_whichever_others_are_judged(tmp_path):
    pairs = write_pairs(tmp_path, 3)
    settings = {"tasks": ("boxes",), "max_objects": 1}
    whole = napari_sam.evaluate(pairs, model=tiny_model(), config=EvaluateConfig(**settings))
    part = napari_sam.evaluate(pairs, model=tiny_model(), config=EvaluateConfig(max_images=1, **settings))
    assert part.images[0].objects == whole.images[0].objects


def test_clicks_alone_end_when_the_goal_is_reached(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(evaluation, "iter_object_scores", lambda *_, **how: asked.append(how) or iter(()))
    pairs = write_pairs(tmp_path, 1)
    for tasks in (("clicks",), ("points", "clicks"), ("points",), ("boxes",)):
        napari_sam.evaluate(pairs, model=tiny_model(), config=EvaluateConfig(tasks=tasks))
    assert [(how["clicks"], how["max_clicks"], how["random_draws"], how["boxes"]) for how in asked] == [
        (1, 20, 0, False),
        (9, 20, 1, False),
        (9, 0, 1, False),
        (0, 0, 0, True),
    ]
    assert {how["goal"] for how in asked} == {0.9}


@pytest.fixture
def segmented(monkeypatch):
    """What `segment_array` was asked with."""
    asked = []

    def segment_array(image, model, **how):
        asked.append(how)
        return np.zeros(image.shape[:2], np.uint32)

    monkeypatch.setattr(evaluation, "segment_array", segment_array)
    return asked


def test_automatic_masks_are_asked_for_as_wanted(tmp_path, segmented):
    pairs = write_pairs(tmp_path, 1)
    config = EvaluateConfig(tasks=("automatic",))
    napari_sam.evaluate(pairs, model=tiny_model(), config=config, automatic={"prompts": "proposals"})
    whole = AutoMaskConfig(points_per_side=5)
    napari_sam.evaluate(
        pairs, model=tiny_model(), config=config, automatic=whole, tiling=TilingConfig(core_px=32, halo_px=8)
    )
    assert segmented[0] == {
        "automatic": AutoMaskConfig(**KEEP_ALL | {"prompts": "proposals"}),
        "tiling": TilingConfig(),
    }
    assert segmented[1] == {"automatic": whole, "tiling": TilingConfig(core_px=32, halo_px=8)}


def test_untiled_shows_the_image_whole(tmp_path, segmented):
    pairs = write_pairs(tmp_path, 1)
    config = EvaluateConfig(tasks=("automatic",), untiled=True)
    report = napari_sam.evaluate(pairs, model=tiny_model(), config=config)
    assert segmented[0]["tiling"] == TilingConfig(core_px=64, halo_px=0)
    assert report.figures["settings"]["tiling"] is None
    with pytest.raises(ConfigError, match="untiled shows each image whole: give no core_px"):
        napari_sam.evaluate(pairs, model=tiny_model(), config=config, tiling=TilingConfig(core_px=32))


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    model = stand_in(monkeypatch)
    pairs = write_pairs(tmp_path)
    with pytest.raises(OutputError, match=r"cannot write .*manifest.csv.*is a file, not a folder"):
        napari_sam.evaluate(pairs, model=tiny_model(), report=pairs / "manifest.csv" / "r")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match=r"it is read-only\. Choose a folder"):
        napari_sam.evaluate(pairs, model=tiny_model(), report=tmp_path / "r")
    assert model.segmented == 0


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 30])
def test_cases_are_best_median_and_worst_and_none_twice(count):
    scores = np.random.default_rng(count).permutation(count) / count
    picked = pick_cases(scores.tolist())
    chosen = [i for numbers in picked.values() for i in numbers]
    assert len(set(chosen)) == len(chosen)
    assert picked["best"][0] == np.argmax(scores)
    if count > 1:
        assert picked["worst"][0] == np.argmin(scores)
    if count == 30:
        assert sorted(scores[picked["median"]] * 30) == [13, 14, 15]


def test_scores_that_are_no_numbers_are_no_cases():
    assert pick_cases([np.nan, 0.5]) == {"best": [1], "median": [], "worst": []}
    assert pick_cases([]) == {"best": [], "median": [], "worst": []}


def test_outlines_tell_matched_objects_from_others():
    labels = np.zeros((300, 400), int)
    labels[20:60, 20:60], labels[100:140, 100:180] = 5, 9
    picture = outlined(np.zeros((300, 400, 3), np.uint8), labels, np.array([9]))
    assert tuple(picture[20, 30]) == UNMATCHED
    assert tuple(picture[100, 150]) == MATCHED
    assert not picture[40, 40].any()


@pytest.mark.parametrize("size", [(1500, 900), (40, 30)], ids=["reduced", "enlarged"])
def test_panels_are_of_a_size_to_look_at(size):
    labels = np.zeros(size, int)
    labels[10:20, 10:20] = 1
    picture = outlined(np.full((*size, 3), 50, np.uint8), labels, np.array([1]))
    assert 300 <= max(picture.shape[:2]) <= MAX_PANEL_PX
    assert (picture == MATCHED).all(axis=2).any()


def test_plots_are_xml_with_a_dot_a_value_and_a_bar_an_interval():
    series = [Series("a < b", [0.1, 0.5], [[0.0, 0.2], None])]
    for text in (
        line_plot(series, ["1", "2"], title="t", x_label="x", y_label="y"),
        row_plot(series, ["first", "second"], title="t", x_label="x"),
    ):
        root = ET.fromstring(text)
        tags = [element.tag.split("}")[1] for element in root.iter()]
        assert tags.count("circle") == 2 + 1  # and the legend's
        assert tags.count("line") == 6 + 1  # the grid's, and one interval
        assert "a < b" in "".join(root.itertext())
