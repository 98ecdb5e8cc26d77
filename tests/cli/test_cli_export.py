"""`napari-sam export`, `napari-sam models export`, and the measurements of `napari-sam segment`."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from napari_sam.cli import EXIT_REFUSED, main
from napari_sam.export import read_table
from workflows.workflows_scenes import KEEP_ALL

FLAGS = [word for name, value in KEEP_ALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.mark.usefixtures("place")
def test_a_run_measures_every_object_when_asked_and_exports_again(capsys):
    run = ["segment", "image.tif", "-o", "out.ome.zarr", "--model", "tiny.safetensors", *FLAGS]
    assert main([*run, "--table", "out.csv", "--intensities", "--shapes"]) == 0
    columns = read_table("out.csv")
    assert {"intensity_mean_red", "intensity_min_green", "intensity_max_blue", "concavity"} <= set(columns)
    assert len(columns["label"]) > 0
    capsys.readouterr()
    assert main(["export", "out.ome.zarr", "-o", "b.csv", "-o", "b.geojson", "--shapes"]) == 0
    assert capsys.readouterr().out.split() == ["b.csv", "b.geojson"]
    assert np.isin(read_table("b.csv")["label"], columns["label"]).all()


@pytest.mark.usefixtures("place")
def test_measurements_without_a_table_are_refused_before_the_work(capsys):
    run = ["segment", "image.tif", "-o", "out.ome.zarr", "--model", "tiny.safetensors", "--intensities"]
    assert main(run) == EXIT_REFUSED
    assert "intensities would be columns of the object table, which is not asked for" in capsys.readouterr().err


def test_a_model_becomes_two_onnx_files(place, capsys):
    assert main(["models", "export", "tiny.safetensors", "-o", "d.onnx", "--encoder", "e.onnx"]) == 0
    assert capsys.readouterr().out.split() == ["d.onnx", "e.onnx"]
    inputs = [given.name for given in onnxruntime.InferenceSession("d.onnx").get_inputs()]
    assert inputs == ["image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input"]
    assert [given.name for given in onnxruntime.InferenceSession("e.onnx").get_inputs()] == ["image"]
    assert not list(place.glob("*.partial"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to write; name a file for the decoder, the encoder or both"),
        (["-o", "d.pth"], "an ONNX file ends in .onnx, got d.pth"),
        (["-o", "d.onnx", "--encoder", "d.onnx"], "decoder and encoder go to different files"),
    ],
)
@pytest.mark.usefixtures("place")
def test_onnx_files_that_cannot_be_written_are_refused(flags, message, capsys):
    assert main(["models", "export", "tiny.safetensors", *flags]) == EXIT_REFUSED
    assert message in capsys.readouterr().err
