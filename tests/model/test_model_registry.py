"""The registry's entries are complete, distinct and found by name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from napari_sam.errors import CheckpointError
from napari_sam.model import registry
from napari_sam.model.presets import PRESETS
from napari_sam.model.registry import REGISTRY, find_entry, size_text

DIGITS = {"sha256": 64, "md5": 32, "xxh128": 32}
PUBLISHED = [entry for entry in REGISTRY.values() if not entry.built_in]


def test_the_registry_knows_the_published_models_and_nano():
    assert {"nano", "vit_b", "vit_l", "vit_h", "vit_t", "vit_b_lm", "vit_b_em_organelles"} <= set(REGISTRY)
    assert [name for name, entry in REGISTRY.items() if entry.built_in] == ["nano"]


def test_names_and_file_names_are_unique():
    assert all(name == entry.name for name, entry in REGISTRY.items())
    assert len({entry.file_name for entry in REGISTRY.values()}) == len(REGISTRY)
    assert len({entry.digest for entry in PUBLISHED}) == len(PUBLISHED)


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: entry.name)
def test_a_published_entry_pins_a_well_formed_hash_and_says_where_it_comes_from(entry):
    assert re.fullmatch(f"[0-9a-f]{{{DIGITS[entry.hash_kind]}}}", entry.digest)
    assert entry.pin == f"{entry.hash_kind}:{entry.digest}"
    assert entry.urls
    assert all(url.startswith("https://") for url in entry.urls)
    assert entry.architecture in PRESETS
    assert entry.name.startswith(entry.architecture)
    assert entry.licence
    assert entry.good_at


def test_the_sha256_is_given_only_where_it_is_known():
    assert find_entry("vit_b").sha256 == find_entry("vit_b").digest
    assert find_entry("vit_b_lm").sha256 is None
    assert find_entry("nano").pin is None


def test_the_names_of_metas_files_begin_their_md5_so_they_stay_as_published():
    assert find_entry("vit_h").urls == ("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth",)
    assert find_entry("vit_h").file_name == "sam_vit_h_4b8939.pth"


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("vit-b", "vit_b"), ("VIT_T_LM", "vit_t_lm"), ("nanno", "nano"), ("histopathology", "vit_b_hist")],
)
def test_an_unknown_name_is_answered_with_near_ones(wrong, near):
    with pytest.raises(CheckpointError, match=rf"no model called '{wrong}'\. Did you mean .*{near}.*\? Known models: "):
        find_entry(wrong)


def test_an_unknown_name_like_no_other_is_answered_with_all():
    with pytest.raises(
        CheckpointError, match=r"'qqq'\. Known models: nano, vit_b, .*vit_b_medical_imaging\. A checkpoint"
    ):
        find_entry("qqq")


@pytest.mark.parametrize(
    ("size", "text"),
    [(12, "12 B"), (999_600, "1 MB"), (375_042_383, "375 MB"), (2_564_550_879, "2.6 GB"), (0, "0 B")],
    ids=str,
)
def test_sizes_are_written_for_people(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize("module", ["registry", "storage", "downloads", "catalogue"])
def test_listing_and_downloading_import_no_torch(module):
    tree = ast.parse((Path(registry.__file__).with_name(f"{module}.py")).read_text())
    imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert not [name for name in imported if re.match(r"torch|safetensors|napari_sam\.model\.(sam|checkpoints)", name)]
    assert "napari_sam.errors" in imported
