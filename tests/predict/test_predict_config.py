from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from pathlib import Path

import pytest

from napari_sam.errors import ConfigError
from napari_sam.predict import PRESETS, AutoMaskConfig, preset_config
from oracles.reference import import_segment_anything

NAN = float("nan")
WRONG = {
    "prompts": ("boxes", "prompts must be one of auto, grid, adaptive, proposals, instances, got 'boxes'"),
    "mask_choice": ("second", "mask_choice must be one of all, best, got 'second'"),
    "points_per_side": (0, "points_per_side must be at least 1, got 0"),
    "points_per_batch": (0, "points_per_batch must be at least 1"),
    "pred_iou_thresh": (-0.1, "pred_iou_thresh must be at least 0, got -0.1"),
    "stability_score_thresh": (1.5, r"stability_score_thresh must lie in \[0, 1\], got 1.5"),
    "stability_score_offset": (0, "stability_score_offset must be above 0"),
    "box_nms_thresh": (NAN, r"box_nms_thresh must lie in \[0, 1\], got nan"),
    "mask_nms_thresh": (2, r"mask_nms_thresh must lie in \[0, 1\]"),
    "cover_thresh": (1.2, r"cover_thresh must lie in \[0, 1\], got 1.2"),
    "crop_n_layers": (-1, "crop_n_layers must be at least 0"),
    "crop_nms_thresh": (-1, r"crop_nms_thresh must lie in \[0, 1\]"),
    "crop_overlap_ratio": (1, r"crop_overlap_ratio must lie in \[0, 1\), got 1"),
    "crop_n_points_downscale_factor": (0, "crop_n_points_downscale_factor must be at least 1"),
    "min_mask_region_area": (-5, "min_mask_region_area must be at least 0"),
    "max_mask_fraction": (0, r"max_mask_fraction must lie in \(0, 1\], got 0"),
    "proposal_thresh": (7, r"proposal_thresh must lie in \[0, 1\]"),
    "proposal_min_distance_px": (-1, "proposal_min_distance_px must be at least 0"),
    "one_piece": ("no", "one_piece must be True or False, got 'no'"),
    "max_proposals": (0, "max_proposals must be at least 1"),
}


def test_defaults_and_names_are_the_published_ones():
    published = inspect.signature(import_segment_anything().SamAutomaticMaskGenerator).parameters
    ours = {f.name: f.default for f in dataclasses.fields(AutoMaskConfig)}
    left_out = {"model", "point_grids", "output_mode"}  # an argument of its own; the grid is ours; RLE always
    assert {name: p.default for name, p in published.items() if name not in left_out}.items() <= ours.items()


def test_every_field_has_a_check():
    assert set(WRONG) == {f.name for f in dataclasses.fields(AutoMaskConfig)}


@pytest.mark.parametrize(("name", "value", "message"), [(n, *v) for n, v in WRONG.items()], ids=list(WRONG))
def test_a_setting_out_of_its_range_is_named(name, value, message):
    with pytest.raises(ConfigError, match=message):
        AutoMaskConfig(**{name: value})


def test_every_field_has_help():
    body = next(
        n for n in ast.parse(Path(inspect.getfile(AutoMaskConfig)).read_text()).body if isinstance(n, ast.ClassDef)
    ).body
    for field, following in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(following, ast.Expr), f"{ast.unparse(field)} has no docstring"


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ConfigError, match=r"no setting named 'pred_iou_tresh'. Did you mean pred_iou_thresh?"):
        AutoMaskConfig.from_settings({"pred_iou_tresh": 0.5})


def test_an_unknown_setting_without_a_near_one_lists_all():
    with pytest.raises(ConfigError, match=r"'xyz'. There are: prompts, points_per_side"):
        AutoMaskConfig.from_settings({"xyz": 1})


def test_the_presets_are_there():
    assert list(PRESETS) == ["cells", "nuclei", "aerial", "everything"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_says_what_it_is_for(name):
    preset = PRESETS[name]
    config = preset_config(name)
    assert preset.name == name
    assert 10 < len(preset.description) < 100
    assert all(getattr(config, key) == value for key, value in preset.settings.items())


def test_the_user_outdoes_the_preset_and_the_preset_the_model():
    config = preset_config(
        "nuclei",
        defaults={"mask_choice": "all", "pred_iou_thresh": 0.6, "points_per_side": 16},
        overrides={"points_per_side": 8},
    )
    assert (config.mask_choice, config.pred_iou_thresh, config.points_per_side) == ("best", 0.6, 8)


def test_without_preset_the_published_values_stay():
    assert preset_config(None) == AutoMaskConfig()


def test_a_preset_cannot_be_changed_by_accident():
    with pytest.raises(TypeError, match=r"does not support item assignment"):
        PRESETS["cells"].settings["points_per_side"] = 1


def test_an_unknown_preset_is_named():
    with pytest.raises(ConfigError, match=r"no preset is named 'cell'; there are cells, nuclei.*Did you mean 'cells'"):
        preset_config("cell")
