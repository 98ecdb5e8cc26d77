"""ONNX files of the network, against the network itself; onnxruntime is the judge."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from model.tiny_checkpoints import TINY_CONV, TINY_VIT_B, tiny_sam
from napari_sam.errors import CheckpointError
from napari_sam.model import onnx_export
from napari_sam.model.config import SamConfig, TinyVitConfig
from napari_sam.model.onnx_export import export_decoder, export_encoder

TINY_MOBILE = replace(
    TINY_VIT_B,
    image_size=128,
    encoder=TinyVitConfig(widths=(4, 4, 8, 8), depths=(1, 1, 1, 1), heads=(1, 1, 1, 1), window_sizes=(2, 2, 2, 2)),
)
NETWORKS = pytest.mark.parametrize(
    "config", [TINY_CONV, TINY_VIT_B, TINY_MOBILE], ids=["nano's kind", "the paper's kind", "MobileSAM's kind"]
)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A decoder's file as a function, and its network."""
    sam = tiny_sam(TINY_VIT_B)
    path = tmp_path_factory.mktemp("onnx") / "decoder.onnx"
    export_decoder(sam, path)
    loaded = session(path)

    def run(*arrays):
        given = zip(onnx_export.DECODER_INPUTS, arrays, strict=True)
        return loaded.run(list(onnx_export.DECODER_OUTPUTS), {name: np.asarray(array) for name, array in given})

    return sam, run


def decoded(sam, embedding, **prompts):
    with torch.no_grad():
        sparse, dense = sam.prompt_encoder(**prompts)
        return sam.mask_decoder.predict_all(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense)


def random_embedding(sam, seed):
    torch.manual_seed(seed)
    side = sam.config.embedding_size
    return torch.randn(1, sam.config.prompt_embed_dim, side, side)


def no_masks(sam, count):
    side = 4 * sam.config.embedding_size
    return np.zeros((count, 1, side, side), np.float32), np.zeros(count, np.float32)


@pytest.mark.parametrize(("sets", "points"), [(1, 1), (3, 2), (7, 5)])
def test_any_number_of_points_gives_the_masks_of_the_network(decoder, sets, points):
    sam, run = decoder
    embedding = random_embedding(sam, seed=points)
    places = torch.rand(sets, points, 2) * 64
    labels = torch.randint(-1, 2, (sets, points))
    want, want_iou = decoded(sam, embedding, points=(places, labels))
    # The network itself adds the "no point" that stands for the missing box.
    padded = np.concatenate([places.numpy(), np.zeros((sets, 1, 2), np.float32)], axis=1)
    padded_labels = np.concatenate([labels.numpy(), np.full((sets, 1), -1)], axis=1)
    got, got_iou = run(embedding, padded, padded_labels, *no_masks(sam, sets))
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(got_iou, want_iou, atol=1e-5)


def test_a_box_is_two_corners_with_labels_of_their_own(decoder):
    sam, run = decoder
    embedding = random_embedding(sam, seed=0)
    boxes = torch.tensor([[3.0, 5.0, 40.0, 60.0], [0.0, 0.0, 9.0, 9.0]])
    want, _ = decoded(sam, embedding, boxes=boxes)
    got, _ = run(embedding, boxes.reshape(2, 2, 2), np.array([[2, 3], [2, 3]]), *no_masks(sam, 2))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_mask_counts_only_where_it_is_said_to_be_there(decoder):
    sam, run = decoder
    embedding = random_embedding(sam, seed=0)
    places, labels = torch.full((2, 1, 2), 20.0), torch.ones(2, 1, dtype=torch.long)
    masks = torch.randn(2, 1, 16, 16)
    padded, padded_labels = np.pad(places, ((0, 0), (0, 1), (0, 0))), np.array([[1, -1], [1, -1]])
    with_mask, _ = decoded(sam, embedding, points=(places, labels), masks=masks)
    without, _ = decoded(sam, embedding, points=(places, labels))
    got, _ = run(embedding, padded, padded_labels, masks, np.array([1, 0], np.float32))
    np.testing.assert_allclose(got[0], with_mask[0], atol=1e-5)
    np.testing.assert_allclose(got[1], without[1], atol=1e-5)
    assert not np.allclose(got[0], without[0], atol=1e-3)


@NETWORKS
def test_the_encoder_embeds_images_of_any_aspect(config: SamConfig, tmp_path):
    sam = tiny_sam(config)
    export_encoder(sam, tmp_path / "encoder.onnx")
    loaded = session(tmp_path / "encoder.onnx")
    size = config.image_size
    for height, width in ((size, size), (size, size // 3), (size // 2 + 1, size)):
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.float32)
        with torch.no_grad():
            want = sam.image_encoder(sam.preprocess(torch.from_numpy(image).permute(2, 0, 1)[None]))
        (got,) = loaded.run([onnx_export.ENCODER_OUTPUT], {onnx_export.ENCODER_INPUT: image})
        np.testing.assert_allclose(got, want, atol=2e-4)


def test_a_network_too_large_for_one_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "LARGEST_BYTES", 1000)
    with pytest.raises(CheckpointError, match=r"encoder.onnx: this network has .* one ONNX file holds at most 2 GB"):
        export_encoder(tiny_sam(TINY_VIT_B), tmp_path / "encoder.onnx")


def test_without_the_onnx_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CheckpointError, match=r"needs the package onnx.*napari-sam-tiles\[onnx\]"):
        export_decoder(tiny_sam(TINY_VIT_B), tmp_path / "decoder.onnx")
